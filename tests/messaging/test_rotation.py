"""Credentials that rotate while messages flow, on a real broker."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import pytest

from koan_django.core import rotation, templating
from koan_django.messaging.buses.amqp.link import Link
from koan_django.messaging.exceptions import BusUnavailableError
from koan_django.messaging.models import DeadLetter, OutboxMessage
from koan_django.testing import static_secrets
from tests.messaging.conftest import UseBus, running
from tests.messaging.shop import OrderPlaced, listening
from tests.messaging.test_amqp_consumer import effect, effects
from tests.services.rabbitmq import Vhost
from tests.services.waiting import wait_until

pytestmark = [pytest.mark.django_db(transaction=True), pytest.mark.services]


class Users:
    """Users of the broker who may do everything in one virtual host."""

    def __init__(self, vhost: Vhost) -> None:
        self._vhost = vhost
        self._known: set[str] = set()

    def set(self, name: str, password: str) -> None:
        name, api = self.name(name), self._vhost.broker.api
        api("PUT", f"users/{name}", {"password": password, "tags": ""})
        api("PUT", f"permissions/{self._vhost.name}/{name}", {"configure": ".*", "write": ".*", "read": ".*"})
        self._known.add(name)

    def delete(self, name: str) -> None:
        self._vhost.broker.api("DELETE", f"users/{self.name(name)}")
        self._known.discard(self.name(name))

    def name(self, name: str) -> str:
        return f"{name}-{self._vhost.name}"

    def connections(self) -> dict[str, str]:
        """The users of the open connections, by a name that no other connection has."""
        found = self._vhost.broker.api("GET", f"vhosts/{self._vhost.name}/connections")
        return {each["name"]: each.get("user", "") for each in found if "trial" not in str(each)}

    def close(self) -> None:
        for name in tuple(self._known):
            self._vhost.broker.api("DELETE", f"users/{name}")


@pytest.fixture
def users(vhost: Vhost) -> Iterator[Users]:
    made = Users(vhost)
    yield made
    made.close()


@pytest.fixture(autouse=True)
def often(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(rotation, "PERIOD_SECONDS", 0.2)


@contextmanager
def sending() -> Iterator[list[Any]]:
    """Send one message after another for the block, on another thread; yield the receipts."""
    receipts: list[Any] = []
    enough = threading.Event()

    def send() -> None:
        from django.db import connections

        while not enough.wait(0.005):
            receipts.append(OrderPlaced(len(receipts)).send())
        connections.close_all()

    thread = threading.Thread(target=send)
    thread.start()
    try:
        wait_until(lambda: len(receipts) > 20, 30, "the first messages")
        yield receipts
        before = len(receipts)
        wait_until(lambda: len(receipts) > before + 20, 30, "the last messages")
    finally:
        enough.set()
        thread.join(30)


def url_of(vhost: Vhost, credentials: str) -> str:
    return vhost.url.replace("guest:guest@", f"{credentials}@")


def test_a_password_that_rotates_while_messages_flow_is_used_within_seconds_and_costs_nothing(
    use_bus: UseBus, vhost: Vhost, users: Users
) -> None:
    users.set("shop", "first")
    use_bus(url_of(vhost, f"{users.name('shop')}:{{{{secret:broker-password}}}}"))
    with (
        static_secrets({"broker-password": "first"}) as secrets,
        listening(OrderPlaced, effect, group="billing"),
        running(),
    ):
        with sending() as receipts:
            wait_until(lambda: len(users.connections()) == 2, 30, "publisher and consumer")
            before = set(users.connections())
            users.set("shop", "second")
            secrets.set("broker-password", "second")
            wait_until(lambda: len(set(users.connections()) - before) == 2, 30, "two new connections")
            wait_until(lambda: not before & set(users.connections()), 30, "the end of the old ones")
        wait_until(lambda: len(effects()) == len(receipts), 30, "every message to be handled")
        assert {receipt.state for receipt in receipts} == {"published"}
    assert not DeadLetter.objects.exists()
    assert not OutboxMessage.objects.exists()


def test_a_user_who_is_replaced_may_be_deleted_and_until_the_broker_knows_the_new_one_the_old_serves(
    use_bus: UseBus, vhost: Vhost, users: Users, caplog: pytest.LogCaptureFixture
) -> None:
    users.set("one", "p-one")
    use_bus(url_of(vhost, "{{secret:broker#user}}:{{secret:broker#password}}"))
    given = {"broker": {"user": users.name("one"), "password": "p-one"}}
    with static_secrets(given) as secrets, listening(OrderPlaced, effect, group="billing"), running():
        with sending() as receipts:
            secrets.set("broker", f'{{"user": "{users.name("two")}", "password": "p-two"}}')
            wait_until(lambda: "cannot be used yet" in caplog.text, 30, "the warning")
            assert set(users.connections().values()) <= {users.name("one")}
            before = len(receipts)
            wait_until(lambda: len(receipts) > before + 20, 30, "messages by the old user")
            users.set("two", "p-two")
            wait_until(lambda: set(users.connections().values()) == {users.name("two")}, 30, "the new user")
            users.delete("one")
        wait_until(lambda: len(effects()) == len(receipts), 30, "every message to be handled")
        assert {receipt.state for receipt in receipts} == {"published"}
    assert "p-two" not in caplog.text


def test_a_value_that_was_kept_is_asked_for_once_more_when_the_broker_refuses_it(vhost: Vhost, users: Users) -> None:
    users.set("shop", "second")
    kept = ["first"]
    templating.register("kept", lambda body, in_authority: kept[0], lambda: kept.__setitem__(0, "second"))
    link = Link(url_of(vhost, f"{users.name('shop')}:{{{{kept:password}}}}"), "test")
    try:
        link.connect()
        assert link.connected
    finally:
        link.disconnect()
        templating._resolvers.pop("kept")
        templating._forgets.pop("kept")


def test_a_wrong_password_is_said_without_it(vhost: Vhost, users: Users) -> None:
    users.set("shop", "right")
    with static_secrets({"broker-password": "wrong-one"}):
        link = Link(url_of(vhost, f"{users.name('shop')}:{{{{secret:broker-password}}}}"), "test")
        try:
            with pytest.raises(BusUnavailableError, match="it refuses the user or the password") as caught:
                link.connect()
        finally:
            link.disconnect()
    assert "wrong-one" not in str(caught.value)
    assert "secrets that it refers to" in caught.value.fix
