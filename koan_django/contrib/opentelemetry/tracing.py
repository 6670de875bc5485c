"""Telemetry events as spans, in the trace that the message, the job or the request belongs to.

A span is opened at ``start`` and closed at ``stop`` or ``exception`` in the same context, so spans of other libraries
(a database driver's) become its children. Where no span is open, as in a worker, the parent is the ``traceparent`` that
came with the message; what is sent while one is open carries that span's. Baggage of a message is that of OpenTelemetry
while it is handled. A message that is sent once more has a trace of its own, with a link to the one before.
"""

from __future__ import annotations

import contextvars
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from opentelemetry import baggage as otel_baggage
from opentelemetry import context, trace
from opentelemetry.baggage.propagation import W3CBaggagePropagator
from opentelemetry.trace import Link, Span, SpanKind, Status, StatusCode
from opentelemetry.trace.propagation.tracecontext import TraceContextTextMapPropagator

from koan_django import __version__
from koan_django.core import telemetry
from koan_django.core.context import baggage, correlation, tenant, traceparent, tracestate
from koan_django.core.redaction import redact, redact_text

if TYPE_CHECKING:
    from opentelemetry.trace import TracerProvider

    from koan_django.core.telemetry import Event

_KINDS = {
    "messaging.send": SpanKind.PRODUCER,
    "messaging.handle": SpanKind.CONSUMER,
    "secrets.fetch": SpanKind.CLIENT,
    "storage.get": SpanKind.CLIENT,
    "storage.put": SpanKind.CLIENT,
}
_PROPAGATOR = TraceContextTextMapPropagator()
_BAGGAGE = W3CBaggagePropagator()
HEADER, STATE, BAGGAGE = "traceparent", "tracestate", "baggage"


@dataclass(frozen=True, slots=True)
class _Open:
    """A span that was begun here, and what gives the context before it back."""

    name: str
    span: Span
    token: contextvars.Token[Any]


_open: contextvars.ContextVar[tuple[_Open, ...]] = contextvars.ContextVar("koan_spans", default=())


class Tracing:
    """A subscriber. ``provider`` stands in for the global one."""

    def __init__(self, provider: TracerProvider | None = None) -> None:
        self._tracer = trace.get_tracer("koan_django", __version__, tracer_provider=provider)

    def install(self) -> None:
        """Subscribe, and let messages and jobs carry the span that is open when they are sent."""
        traceparent.ask_first(current_traceparent)
        tracestate.ask_first(current_tracestate)
        baggage.ask_first(current_baggage)
        telemetry.subscribe(self)

    def __call__(self, event: Event) -> None:
        """Take one event."""
        if event.phase == "start":
            self._begin(event)
        elif event.phase == "fact":
            trace.get_current_span().add_event(event.name, _attributes(event.metadata))
        else:
            _end(event)

    def _begin(self, event: Event) -> None:
        kind, attributes = _KINDS.get(event.name, SpanKind.INTERNAL), _attributes(event.metadata)
        parent = _parent()
        span = self._tracer.start_span(event.name, parent, kind, attributes, _links(event.metadata.get("link")))
        for name, value in (("koan.correlation_id", correlation.current()), ("koan.tenant", tenant.current())):
            if value:
                span.set_attribute(name, value)
        token = context.attach(trace.set_span_in_context(span, parent))
        _open.set((*_open.get(), _Open(event.name, span, token)))


def current_traceparent() -> str | None:
    """Return the W3C ``traceparent`` of the span that is open here, if there is one."""
    carrier: dict[str, str] = {}
    _PROPAGATOR.inject(carrier)
    return carrier.get(HEADER)


def current_tracestate() -> str | None:
    """Return the W3C ``tracestate`` of the span that is open here; empty for one without, ``None`` without a span."""
    found = trace.get_current_span().get_span_context()
    return found.trace_state.to_header() if found.is_valid else None


def current_baggage() -> str | None:
    """Return OpenTelemetry's baggage as a W3C header, if there is any."""
    carrier: dict[str, str] = {}
    _BAGGAGE.inject(carrier)
    return carrier.get(BAGGAGE)


def _parent() -> context.Context | None:
    """``None`` is the span that is open here; else it is what came with the message."""
    if trace.get_current_span().get_span_context().is_valid:
        return None
    carried = {HEADER: traceparent.current(), STATE: tracestate.current(), BAGGAGE: baggage.current()}
    found = {name: value for name, value in carried.items() if value}
    parent = _PROPAGATOR.extract(found) if HEADER in found else context.get_current()
    return parent if otel_baggage.get_all(parent) else _BAGGAGE.extract(found, parent)


def _links(carried: object) -> list[Link]:
    """The trace that goes before this one."""
    if not isinstance(carried, str):
        return []
    before = trace.get_current_span(_PROPAGATOR.extract({HEADER: carried}, context.Context()))
    return [Link(before.get_span_context())] if before.get_span_context().is_valid else []


def _end(event: Event) -> None:
    opened = _open.get()
    if not opened or opened[-1].name != event.name:
        return  # it was begun before anybody subscribed
    found = opened[-1]
    _open.set(opened[:-1])
    found.span.set_attributes(_attributes(event.metadata))
    if event.error is not None:
        _fail(found.span, event.error)
    context.detach(found.token)
    found.span.end()


def _fail(span: Span, error: BaseException) -> None:
    """As ``record_exception`` does, without the traceback and with secrets masked."""
    text = redact_text(str(error))
    span.add_event("exception", {"exception.type": type(error).__qualname__, "exception.message": text})
    span.set_status(Status(StatusCode.ERROR, f"{type(error).__name__}: {text}"))


def _attributes(metadata: dict[str, Any]) -> dict[str, Any]:
    return {f"koan.{name}": _plain(redact(value, name)) for name, value in metadata.items() if value is not None}


def _plain(value: Any) -> Any:
    return value if isinstance(value, str | bool | int | float) else redact_text(str(value))
