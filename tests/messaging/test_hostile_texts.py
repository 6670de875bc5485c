"""What strangers and exceptions write stays theirs: it makes no line in a log, and says nothing to a terminal."""

from __future__ import annotations

import contextlib
import io
import logging
from typing import Any

import pytest
from django.core.management import call_command

from koan_django.core import PermanentError
from koan_django.core.logs import log_event
from koan_django.core.telemetry import Event
from koan_django.core.texts import one_line
from koan_django.messaging.models import DeadLetter, MessageEvent
from tests.messaging.conftest import UseBus, running
from tests.messaging.shop import OrderPlaced, listening
from tests.messaging.wire import Wire
from tests.services.rabbitmq import Vhost
from tests.services.waiting import wait_until

pytestmark = pytest.mark.django_db(transaction=True)

#: A line of a log that nobody wrote, a terminal's title and colour, a turned direction of writing, a format.
EVIL = "a\n2026-01-01 CRITICAL koan: all is lost\r\x1b]0;owned\x07\x1b[31m\u202etxt.exe\u2028%s%(x)d{y}\x85\x9b2J"


def written(*words: str) -> str:
    out = io.StringIO()
    with contextlib.suppress(SystemExit):
        call_command(*words, stdout=out, stderr=out)
    return out.getvalue()


def is_plain(text: str) -> bool:
    return all(each.isprintable() or each == "\n" for each in text)


def test_a_line_is_one_line_whatever_is_in_it() -> None:
    assert one_line("Grüße, 東京 🙂") == "Grüße, 東京 🙂"
    text = one_line(EVIL)
    assert text.isprintable()
    assert text.startswith("a\\n2026-01-01 CRITICAL")
    assert len(one_line("x" * 1_000_000)) == 2000
    assert one_line("\ud800") == "\\ud800"


def test_an_event_is_one_line_of_the_log(caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.DEBUG, "koan_django.core"):
        log_event(Event("core.x", "exception", {"alias": EVIL}, 0.1, ValueError(EVIL)))
        log_event(Event("core.x", "fact", {"alias": "x" * 1_000_000}))
    assert all(record.getMessage().isprintable() for record in caplog.records)
    assert len(caplog.records[1].getMessage()) < 3000


def test_a_message_whose_every_text_is_hostile_leaves_no_line_of_its_own(
    use_bus: UseBus, vhost: Vhost, wire: Wire, caplog: pytest.LogCaptureFixture
) -> None:
    bus = use_bus(vhost.url)

    def refuse(message: Any) -> None:
        raise PermanentError(f"no {EVIL}")

    caplog.set_level(logging.DEBUG, "koan_django")
    headers = {"koan-tenant": EVIL, "koan-correlation": EVIL, "koan-partition-key": EVIL, EVIL: EVIL, "x" * 100: EVIL}
    with listening(OrderPlaced, refuse, group="billing"), running():
        queue = bus.names.group("billing")
        wire.publish(queue, b"{}", type=EVIL, message_id=EVIL, application_headers=headers)
        wire.publish(queue, b'{"number": 1}', type="order.placed", message_id=EVIL, application_headers=headers)
        wait_until(lambda: DeadLetter.objects.count() == 2, 30, "both to be dead letters")
    ours = [record for record in caplog.records if record.name.startswith("koan_django")]
    assert any("all is lost" in record.getMessage() for record in ours)
    assert [record.getMessage() for record in ours if not record.getMessage().isprintable()] == []
    for words in (("list",), ("causes",), ("replay", "--all", "--dry-run")):
        text = written("koan_deadletters", *words)
        assert is_plain(text)
        assert len(text.splitlines()) <= 2
    assert is_plain(written("koan_status"))
    assert is_plain(written("koan_handlers", "list"))
    assert MessageEvent.objects.filter(kind="dead").count() == 2


def test_pages_and_exports_show_hostile_texts_as_texts(use_bus: UseBus, admin_client: Any) -> None:
    script = "<script>alert(1)</script>"
    use_bus("memory://")
    dead = DeadLetter.objects.create(
        bus="main",
        group="billing",
        alias=f"=cmd|{EVIL}{script}"[:200],
        message_id=f"@{script}",
        version=1,
        routing_key=script,
        headers={script: EVIL},
        body=script.encode(),
        reason="permanent",
        error=f"{script}{EVIL}",
        traceback=script,
        error_type=script,
        fingerprint="f" * 32,
        correlation_id=f"c{script}",
        tenant=script,
        handler=script,
    )
    for path in ("", f"{dead.pk}/change/"):
        page = admin_client.get(f"/admin/koan_messaging/deadletter/{path}")
        assert page.status_code == 200
        assert script not in page.content.decode()
