"""What the apps say of now, asked for with each scrape."""

from __future__ import annotations

from typing import TYPE_CHECKING

from prometheus_client.core import GaugeMetricFamily
from prometheus_client.registry import Collector

from koan_django.core.gauges import readings

if TYPE_CHECKING:
    from collections.abc import Iterable

    from prometheus_client import Metric


class Gauges(Collector):
    """A family of gauges for each name; its labels are those of its first reading."""

    def describe(self) -> Iterable[Metric]:
        """Nothing: a registry would collect, and ask the database, while the project starts."""
        return []

    def collect(self) -> Iterable[Metric]:
        """Ask all sources."""
        families: dict[str, tuple[tuple[str, ...], GaugeMetricFamily]] = {}
        for each in readings():
            if each.name not in families:
                labels = tuple(each.labels)
                families[each.name] = labels, GaugeMetricFamily(each.name, each.help, labels=labels)
            labels, family = families[each.name]
            family.add_metric([each.labels.get(label, "") for label in labels], each.value)
        return [family for _, family in families.values()]
