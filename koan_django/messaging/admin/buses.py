"""The buses: where each is and why, what it can do, what waits in its groups and who handles it."""

from __future__ import annotations

from dataclasses import asdict
from typing import TYPE_CHECKING, Any

from django.contrib import admin
from django.core.exceptions import PermissionDenied
from django.template.response import TemplateResponse
from django.utils.translation import gettext_lazy as _

from koan_django.core import facts
from koan_django.core.admin.kit import RecordAdmin
from koan_django.messaging import lifecycle
from koan_django.messaging.buses import registry
from koan_django.messaging.models import ConfiguredBus, RegisteredHandler
from koan_django.messaging.statistics.status import BusStatus, Status, status

from .handlers import COLOURS

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from django.http import HttpRequest

    from koan_django.core.facts import Fact
    from koan_django.messaging.buses.base import Depth

_STAGES = {"live": "healthy", "waiting": "unhealthy"}
_BREAKERS = {"closed": "healthy", "half-open": "degraded", "open": "unhealthy"}


@admin.register(ConfiguredBus)
class ConfiguredBusAdmin(RecordAdmin[ConfiguredBus]):
    """Shows the buses where another model would list its rows."""

    def changelist_view(self, request: HttpRequest, extra_context: Any = None) -> TemplateResponse:
        if not self.has_view_permission(request):
            raise PermissionDenied
        found = status()
        chosen, stages = _choices(), lifecycle.of_all()
        context = {
            **self.admin_site.each_context(request),
            "title": _("Buses"),
            "opts": self.opts,
            "buses": [_shown(bus, found, chosen, stages) for bus in found.buses],
            "troubles": found.troubles,
            "may_see_handlers": request.user.has_perm("koan_messaging.view_registeredhandler"),
            "handlers_opts": RegisteredHandler._meta,
        }
        return TemplateResponse(request, "admin/koan_messaging/buses.html", context)


def _shown(
    bus: BusStatus, found: Status, chosen: Mapping[str, Fact], stages: Mapping[str, Sequence[tuple[str, Fact]]]
) -> dict[str, Any]:
    depths = {depth.group: depth for depth in bus.depths}
    groups = {each.row.group for each in found.handlers if each.row.bus == bus.alias} | depths.keys()
    made = registry.get(bus.alias)
    return {
        "status": bus,
        "capabilities": asdict(made.capabilities).items(),
        "fact": chosen.get(f"messaging.bus.{bus.alias}"),
        "stages": [_stage(*each) for each in stages.get(bus.alias, ())],
        "breaker_colour": _BREAKERS.get(bus.breaker, "unknown"),
        "groups": [_group(group, depths.get(group), bus, found) for group in sorted(groups)],
    }


def _stage(process: str, fact: Fact) -> dict[str, str]:
    return {
        "process": process,
        "name": fact.subject,
        "state": fact.selection,
        "colour": _STAGES.get(fact.selection, "degraded"),
        "reason": fact.reason,
    }


def _group(group: str, depth: Depth | None, bus: BusStatus, found: Status) -> dict[str, Any]:
    members = [each for each in found.handlers if (each.row.bus, each.row.group) == (bus.alias, group)]
    return {
        "name": group,
        "depth": depth,
        "handlers": [{"standing": each, "colour": COLOURS.get(each.state, "unknown")} for each in members],
    }


def _choices() -> dict[str, Fact]:
    """Why each bus is where it is: what a worker says who elected it stands before what this process knows."""
    found: dict[str, Fact] = {}
    for told in (facts.own(), *facts.of_all().values()):
        found |= {fact.subject: fact for fact in told if fact.alternatives or fact.subject not in found}
    return found
