"""The bridges to Prometheus and OpenTelemetry: real registry, real SDK, real work."""

from __future__ import annotations

import re
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
from opentelemetry import baggage as otel_baggage
from opentelemetry import context, trace
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter
from prometheus_client import CollectorRegistry, generate_latest

from koan_django.contrib.opentelemetry.tracing import (
    Tracing,
    current_baggage,
    current_traceparent,
    current_tracestate,
)
from koan_django.contrib.prometheus.metrics import LABELS, Metrics
from koan_django.core import redaction, telemetry
from koan_django.core.context import baggage, correlation, restore, snapshot, tenant, traceparent, tracestate

CARRIED = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"


class TestPrometheus:
    @pytest.fixture
    def registry(self) -> Iterator[CollectorRegistry]:
        made = CollectorRegistry()
        end = telemetry.subscribe(Metrics(made))
        yield made
        end()

    def test_work_is_timed_by_outcome(self, registry: CollectorRegistry) -> None:
        labels = {"bus": "main", "group": "stock", "handler": "stock.move"}
        with telemetry.span("messaging.handle", **labels, alias="a", attempt=1):
            assert registry.get_sample_value("koan_in_progress", {"event": "messaging.handle"}) == 1
        with pytest.raises(ZeroDivisionError), telemetry.span("messaging.handle", **labels):
            1 / 0  # noqa: B018
        name = "koan_messaging_handle_seconds_count"
        assert registry.get_sample_value(name, {**labels, "outcome": "ok"}) == 1
        assert registry.get_sample_value(name, {**labels, "outcome": "error"}) == 1
        assert registry.get_sample_value("koan_in_progress", {"event": "messaging.handle"}) == 0

    def test_facts_are_counted(self, registry: CollectorRegistry) -> None:
        for _ in range(3):
            telemetry.emit("inbox.duplicate", handler="x")
        telemetry.emit("scheduling.fired", task="t", trigger="schedule", run="7")
        assert registry.get_sample_value("koan_inbox_duplicate_total") == 3
        assert registry.get_sample_value("koan_scheduling_fired_total", {"task": "t", "trigger": "schedule"}) == 1

    def test_no_id_becomes_a_time_series(self, registry: CollectorRegistry) -> None:
        for number in range(20):
            with telemetry.span("storage.put", profile="hot", key=f"key-{number}"):
                pass
            telemetry.emit("unheard.of", id=number)
        text = generate_latest(registry).decode()
        assert "key-" not in text
        assert text.count("koan_storage_put_seconds_count") == 1
        assert "koan_unheard_of_total 20.0" in text

    def test_labels_are_given_to_events_that_there_are(self) -> None:
        reference = (Path(__file__).parents[2] / "docs" / "reference" / "events.md").read_text()
        assert set(LABELS) <= set(re.findall(r"^\(event-([^)]+)\)=$", reference, re.MULTILINE))


@contextmanager
def attached(value: context.Context) -> Iterator[None]:
    token = context.attach(value)
    yield
    context.detach(token)


class TestOpenTelemetry:
    @pytest.fixture
    def spans(self) -> Iterator[InMemorySpanExporter]:
        exporter, provider = InMemorySpanExporter(), TracerProvider(shutdown_on_exit=False)
        provider.add_span_processor(SimpleSpanProcessor(exporter))
        tracing = Tracing(provider)
        end = telemetry.subscribe(tracing)
        asked = {traceparent: current_traceparent, tracestate: current_tracestate, baggage: current_baggage}
        for value, source in asked.items():
            value.ask_first(source)
        yield exporter
        for value in asked:
            value.ask_first(None)
        end()

    def test_spans_nest_and_say_what_they_are_about(self, spans: InMemorySpanExporter) -> None:
        with (
            correlation.use("story-1"),
            tenant.use("acme"),
            telemetry.span("messaging.handle", handler="h", messages=2) as outcome,
        ):
            with telemetry.span("storage.put", profile="hot", list=["a"]):
                telemetry.emit("inbox.duplicate", handler="h")
            outcome["duplicates"] = 1
        inner, outer = spans.get_finished_spans()
        assert (inner.name, outer.name, outer.kind) == ("storage.put", "messaging.handle", trace.SpanKind.CONSUMER)
        assert inner.parent.span_id == outer.context.span_id
        assert dict(outer.attributes) == {
            "koan.handler": "h",
            "koan.messages": 2,
            "koan.duplicates": 1,
            "koan.correlation_id": "story-1",
            "koan.tenant": "acme",
        }
        assert [event.name for event in inner.events] == ["inbox.duplicate"]
        assert not trace.get_current_span().get_span_context().is_valid, "nothing is left open"

    def test_a_message_goes_on_with_the_trace_that_it_carries(self, spans: InMemorySpanExporter) -> None:
        with restore({"traceparent": CARRIED}), telemetry.span("messaging.handle"):
            carried_on = snapshot()["traceparent"]
        [span] = spans.get_finished_spans()
        assert f"{span.context.trace_id:032x}" == CARRIED.split("-")[1]
        assert f"{span.parent.span_id:016x}" == CARRIED.split("-")[2]
        assert carried_on.split("-")[2] == f"{span.context.span_id:016x}", "what it sends carries its own span"

    def test_vendor_state_and_baggage_of_a_message_are_those_of_opentelemetry_while_it_is_handled(
        self, spans: InMemorySpanExporter
    ) -> None:
        carried = {"traceparent": CARRIED, "tracestate": "vendor=a:1", "baggage": "plan=gold"}
        with restore(carried), telemetry.span("messaging.handle"):
            assert otel_baggage.get_all() == {"plan": "gold"}
            with attached(otel_baggage.set_baggage("region", "eu")), telemetry.span("messaging.send"):
                sent = snapshot()
        assert otel_baggage.get_all() == {}
        assert sent["tracestate"] == "vendor=a:1"
        assert sorted(sent["baggage"].split(",")) == ["plan=gold", "region=eu"]
        assert [span.context.trace_state.to_header() for span in spans.get_finished_spans()] == ["vendor=a:1"] * 2

    def test_vendor_state_of_another_trace_is_not_mixed_in(self, spans: InMemorySpanExporter) -> None:
        mine = trace.NonRecordingSpan(trace.SpanContext(1, 2, is_remote=False, trace_flags=trace.TraceFlags(1)))
        with restore({"traceparent": CARRIED, "tracestate": "vendor=a:1"}), trace.use_span(mine):
            assert "tracestate" not in snapshot()

    def test_a_message_that_is_sent_once_more_begins_a_trace_linked_to_the_one_before(
        self, spans: InMemorySpanExporter
    ) -> None:
        with telemetry.span("messaging.handle", link=CARRIED):
            pass
        [span] = spans.get_finished_spans()
        assert span.parent is None
        assert [f"{link.context.trace_id:032x}" for link in span.links] == [CARRIED.split("-")[1]]

    def test_an_open_span_of_the_project_is_the_parent(self, spans: InMemorySpanExporter) -> None:
        mine = trace.NonRecordingSpan(trace.SpanContext(1, 2, is_remote=False, trace_flags=trace.TraceFlags(1)))
        with restore({"traceparent": CARRIED}), trace.use_span(mine), telemetry.span("messaging.send"):
            pass
        [span] = spans.get_finished_spans()
        assert (span.context.trace_id, span.parent.span_id) == (1, 2)

    def test_a_failure_is_told_without_secrets(self, spans: InMemorySpanExporter) -> None:
        redaction.register_value("correct-horse")
        try:
            with pytest.raises(ValueError), telemetry.span("storage.put", password="p", key="at correct-horse"):
                raise ValueError("amqp://u:hunter2@h and correct-horse")
        finally:
            redaction.forget_value("correct-horse")
        [span] = spans.get_finished_spans()
        told = f"{span.attributes} {span.events[0].attributes} {span.status.description}"
        assert not span.status.is_ok
        assert "ValueError" in told
        for secret in ("correct-horse", "hunter2", "'p'"):
            assert secret not in told

    def test_one_that_began_before_anybody_listened_is_left_alone(self, spans: InMemorySpanExporter) -> None:
        Tracing()(telemetry.Event("storage.put", "stop", {}, 0.1))
        assert spans.get_finished_spans() == ()


INSTALLED: dict[str, str] = {
    "prometheus": """
from prometheus_client import REGISTRY
assert REGISTRY.get_sample_value("koan_core_job_seconds_count", {"job": "t.x", "outcome": "ok"}) == 1
""",
    "opentelemetry": "from koan_django.core.context import traceparent; assert traceparent._first is not None",
}


@pytest.mark.parametrize("name", INSTALLED)
def test_each_is_an_app_that_needs_no_more_than_core(name: str) -> None:
    code = f"""
import django
from django.conf import settings
settings.configure(INSTALLED_APPS=["koan_django.core", "koan_django.contrib.{name}"], SECRET_KEY="x",
    DATABASES={{"default": {{"ENGINE": "django.db.backends.sqlite3", "NAME": ":memory:"}}}}, USE_TZ=True)
django.setup()
from koan_django.core.dispatch import Job
Job("t.x", lambda: None)()
{INSTALLED[name]}
"""
    done: Any = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=60, check=False)
    assert done.returncode == 0, done.stderr
