"""Passwords that rotate twice at once, to wrong ones, and are seen nowhere."""

from __future__ import annotations

import contextlib
import io
import logging
from collections.abc import Callable, Iterator
from dataclasses import asdict
from typing import Any

import pytest
from django.core.management import call_command

from koan_django.core import facts, rotation
from koan_django.core.audit.models import AuditEvent
from koan_django.messaging.buses import registry
from koan_django.messaging.models import DeadLetter, OutboxMessage
from koan_django.testing import static_secrets
from tests.messaging.conftest import UseBus, running
from tests.messaging.shop import OrderPlaced, listening
from tests.messaging.test_amqp_consumer import effect, effects
from tests.messaging.test_rotation import Users, sending, url_of
from tests.services.rabbitmq import Vhost
from tests.services.waiting import wait_until

pytestmark = [pytest.mark.django_db(transaction=True), pytest.mark.services]


@pytest.fixture(name="users")
def users_of_the_broker(vhost: Vhost) -> Iterator[Users]:
    made = Users(vhost)
    yield made
    made.close()


@pytest.fixture(autouse=True)
def often(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(rotation, "PERIOD_SECONDS", 0.2)


def written(*words: str) -> str:
    out = io.StringIO()
    with contextlib.suppress(Exception, SystemExit):
        call_command(*words, stdout=out, stderr=out)
    return out.getvalue()


def everything_that_is_shown(client: Any, runner: Any) -> dict[str, str]:
    """What people get to see of a bus, by where."""
    bus = registry.get("main")
    shown = {
        "repr": repr((bus, bus.options, runner, *runner.consumers)),
        "asdict": str([bus.place, bus.label]),
        "facts": repr([asdict(each) for each in facts.own()]),
        "health": repr([each.finding() for each in (*runner.consumers, *runner.relays)]),
        "audit": repr(list(AuditEvent.objects.values())),
        "outbox": repr(list(OutboxMessage.objects.values())),
        "dead": repr(list(DeadLetter.objects.values())),
    }
    for words in (("koan_doctor",), ("koan_doctor", "--settings"), ("koan_status",), ("koan_topology", "plan")):
        shown[" ".join(words)] = written(*words)
    for page in ("configuredbus", "topology", "traffic", "registeredhandler", "deadletter", "outboxmessage"):
        answer = client.get(f"/admin/koan_messaging/{page}/")
        assert answer.status_code == 200, page
        shown[page] = answer.content.decode()
    return shown


@pytest.mark.parametrize("form", ["{{secret:broker-password}}", "pl4in-and-wr0ng"])
def test_a_password_is_shown_nowhere_neither_good_nor_wrong(
    use_bus: UseBus,
    vhost: Vhost,
    users: Users,
    admin_client: Any,
    caplog: pytest.LogCaptureFixture,
    form: str,
) -> None:
    caplog.set_level(logging.DEBUG)
    passwords = ["f1rst-pa55", "wr0ng-pa55", "pl4in-and-wr0ng"]
    users.set("shop", "f1rst-pa55")
    use_bus(url_of(vhost, f"{users.name('shop')}:{form}"), MANAGEMENT=vhost.broker.management_url)
    with (
        static_secrets({"broker-password": "f1rst-pa55"}) as secrets,
        listening(OrderPlaced, effect, group="billing"),
        running(consuming=form.startswith("{")) as runner,
    ):
        OrderPlaced(1).send()
        secrets.set("broker-password", "wr0ng-pa55")
        is_template = form.startswith("{")
        complaint: Callable[[], bool] = lambda: (  # noqa: E731
            "cannot be used yet" in caplog.text if is_template else "refuses the user" in runner.consumers[0].error
        )
        wait_until(complaint, 30, "the complaint")
        shown = everything_that_is_shown(admin_client, runner) | {"log": caplog.text}
    found = [(where, password) for where, text in shown.items() for password in passwords if password in text]
    assert found == []


def test_two_rotations_with_a_wrong_one_between_cost_no_message(
    use_bus: UseBus, vhost: Vhost, users: Users, caplog: pytest.LogCaptureFixture
) -> None:
    users.set("shop", "first-1")
    use_bus(url_of(vhost, f"{users.name('shop')}:{{{{secret:broker-password}}}}"))
    with (
        static_secrets({"broker-password": "first-1"}) as secrets,
        listening(OrderPlaced, effect, group="billing"),
        running(),
    ):
        with sending() as receipts:
            wait_until(lambda: len(users.connections()) == 2, 30, "publisher and consumer")
            before = set(users.connections())
            for password in ("second-2", "third-3"):
                users.set("shop", password)
                secrets.set("broker-password", password)
            secrets.set("broker-password", "typing-error")
            wait_until(lambda: "cannot be used yet" in caplog.text, 30, "the warning")
            secrets.set("broker-password", "third-3")
            wait_until(lambda: not before & set(users.connections()), 60, "the end of the old connections")
            wait_until(lambda: len(users.connections()) == 2, 30, "both to be connected")
        wait_until(lambda: len(effects()) == len(receipts), 60, "every message to be handled")
    assert not DeadLetter.objects.exists()
    assert not OutboxMessage.objects.exists()
    assert not {"second-2", "third-3", "typing-error"} & set(caplog.text.split())
