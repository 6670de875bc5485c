"""Events of work, and the subscribers that may fail without disturbing it."""

from __future__ import annotations

import logging
from collections.abc import Iterator

import pytest

from koan_django.core import redaction
from koan_django.core.context import correlation, tenant
from koan_django.core.logs import ContextFilter, RedactionFilter, log_event
from koan_django.core.telemetry import Event, emit, span, subscribe

SECRET = "correct-horse/battery"


@pytest.fixture
def events() -> Iterator[list[Event]]:
    seen: list[Event] = []
    end = subscribe(seen.append, "core.test")
    yield seen
    end()


class TestEvents:
    def test_work_starts_and_stops_with_its_duration(self, events: list[Event]) -> None:
        with span("core.test", a=1) as metadata:
            metadata["found"] = 2
        start, stop = events
        assert (start.phase, start.metadata, start.duration) == ("start", {"a": 1}, None)
        assert (stop.phase, stop.metadata, stop.error) == ("stop", {"a": 1, "found": 2}, None)
        assert stop.duration is not None
        assert 0 <= stop.duration < 5

    @pytest.mark.parametrize("error", [ValueError("x"), KeyboardInterrupt(), SystemExit(1)])
    def test_work_that_fails_says_how_and_the_error_passes(self, events: list[Event], error: BaseException) -> None:
        with pytest.raises(type(error)), span("core.test"):
            raise error
        assert [event.phase for event in events] == ["start", "exception"]
        assert events[1].error is error
        assert events[1].duration is not None

    def test_a_single_fact(self, events: list[Event]) -> None:
        emit("core.test.fact", a=1)
        assert events == [Event("core.test.fact", "fact", {"a": 1})]

    def test_subscribers_hear_their_prefix_until_they_leave(self, events: list[Event]) -> None:
        others: list[Event] = []
        end = subscribe(others.append, "core.tes")
        emit("core.other")
        emit("core.test")
        end()
        end()
        emit("core.test")
        assert (len(events), len(others)) == (2, 1)

    def test_an_event_that_nobody_wants_is_not_made(self, events: list[Event]) -> None:
        asked: list[tuple[str, str]] = []
        ends: list[Event] = []

        def only_ends(name: str, phase: str) -> bool:
            asked.append((name, phase))
            return phase == "stop"

        end = subscribe(ends.append, "core.test", wants=only_ends)
        try:
            with span("core.test", a=1):
                pass
        finally:
            end()
        emit("core.test")
        assert asked == [("core.test", "start"), ("core.test", "stop")]
        assert [event.phase for event in ends] == ["stop"]
        assert [event.phase for event in events] == ["start", "stop", "fact"]

    def test_a_subscriber_that_fails_is_logged_and_disturbs_nobody(
        self, events: list[Event], caplog: pytest.LogCaptureFixture
    ) -> None:
        def fail(event: Event) -> None:
            raise RuntimeError("subscriber")

        end = subscribe(fail, "core.test")
        try:
            with span("core.test"):
                pass
        finally:
            end()
        assert [event.phase for event in events] == ["start", "stop"]
        assert "A subscriber of core.test failed" in caplog.text


class TestLogs:
    @pytest.fixture(autouse=True)
    def _registered(self) -> Iterator[None]:
        redaction.register_value(SECRET)
        yield
        redaction.forget_value(SECRET)

    @pytest.mark.parametrize(
        ("event", "level", "text"),
        [
            (Event("core.x", "start", {"a": 1}), logging.DEBUG, "core.x start a=1"),
            (Event("core.x", "stop", {"a": 1}, 0.25), logging.INFO, "core.x stop a=1 duration_ms=250.0"),
            (Event("core.x", "fact", {"password": "p"}), logging.INFO, "core.x fact password=********"),
            (
                Event("core.x", "exception", {}, 0.001, ValueError(f"at {SECRET}")),
                logging.WARNING,
                "core.x exception duration_ms=1.0 error=ValueError: at ********",
            ),
        ],
    )
    def test_each_phase_has_its_level(
        self, caplog: pytest.LogCaptureFixture, event: Event, level: int, text: str
    ) -> None:
        with caplog.at_level(logging.DEBUG, "koan_django.core"):
            log_event(event)
        [record] = caplog.records
        assert (record.name, record.levelno, record.getMessage()) == ("koan_django.core", level, text)

    def test_what_nobody_wants_to_read_is_not_put_together(self, caplog: pytest.LogCaptureFixture) -> None:
        class Dear:
            def __str__(self) -> str:
                raise AssertionError("it was formatted")

        with caplog.at_level(logging.WARNING, "koan_django.core"):
            emit("core.x", a=Dear())
        with caplog.at_level(logging.INFO, "koan_django.core"):
            emit("core.x", a=1)
        assert [record.getMessage() for record in caplog.records] == ["core.x fact a=1"]

    def test_a_record_gets_its_context(self) -> None:
        record = logging.makeLogRecord({})
        with correlation.use("c-1"), tenant.use("acme"):
            assert ContextFilter().filter(record)
        assert (record.correlation_id, record.tenant) == ("c-1", "acme")  # type: ignore[attr-defined]
        ContextFilter().filter(record)
        assert (record.correlation_id, record.tenant) == ("-", "-")  # type: ignore[attr-defined]

    def test_a_record_is_masked_wherever_the_secret_stands(self, capsys: pytest.CaptureFixture[str]) -> None:
        logger, handler = logging.Logger("test"), logging.StreamHandler()
        handler.addFilter(ContextFilter())
        handler.addFilter(RedactionFilter())
        handler.setFormatter(logging.Formatter("%(message)s %(url)s %(data)s %(password)s %(tenant)s"))
        logger.addHandler(handler)
        try:
            raise ValueError(f"refused {SECRET}")
        except ValueError:
            logger.exception(
                "connect to %s with %r",
                f"amqp://u:{SECRET}@h",
                {"p": SECRET},
                extra={"url": SECRET, "data": {"a": [SECRET]}, "password": "p"},
                stack_info=True,
            )
        written = capsys.readouterr().err
        assert SECRET not in written
        assert written.startswith(
            "connect to amqp://u:********@h with {'p': '********'} ******** {'a': ['********']} ******** -\n"
        )
        assert "ValueError: refused ********" in written
