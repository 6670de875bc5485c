"""What is Redis' own: one round trip for many, how long keys are kept, and a server that goes away."""

from __future__ import annotations

import uuid
from collections.abc import Callable, Iterator
from datetime import timedelta
from itertools import takewhile

import pytest
from django.contrib.auth.models import User
from django.db import transaction
from django.test import override_settings
from django_redis import get_redis_connection
from redis import Redis as Client

from koan_django import inbox
from koan_django.core import health
from koan_django.core.exceptions import StoreUnavailableError
from koan_django.core.telemetry import Event, subscribe
from koan_django.inbox import condition
from koan_django.inbox.claiming import claiming
from koan_django.inbox.scopes import Scope
from koan_django.inbox.stores import configured
from koan_django.messaging.buses import registry
from koan_django.messaging.envelope import Delivery, Envelope
from koan_django.messaging.handling.invocation import handle
from koan_django.testing import override_koan
from tests.contracts.inbox.inboxes import redis_inbox
from tests.contracts.stores.stores import redis_cache
from tests.messaging.shop import OrderPlaced, listening
from tests.services.proxy import Proxy
from tests.services.redis import Redis

pytestmark = [pytest.mark.django_db(transaction=True), pytest.mark.services("redis")]
LONG = timedelta(seconds=60)


@pytest.fixture
def prefix() -> str:
    return f"koan-test-{uuid.uuid4().hex[:8]}"


@pytest.fixture
def proxy(redis: Redis, prefix: str) -> Iterator[Proxy]:
    """The inbox is in Redis, behind a network that the test may break."""
    with Proxy.before(redis.url) as made:
        cache = redis_cache(made.url(redis.url))
        with (
            override_settings(CACHES=cache),
            override_koan(INBOX=redis_inbox(prefix), MESSAGING={"BUSES": {"main": {"URL": "memory://"}}}),
        ):
            yield made
        registry.reset()


@pytest.fixture
def events() -> Iterator[list[Event]]:
    heard: list[Event] = []
    unsubscribe = subscribe(heard.append, "inbox.")
    yield heard
    unsubscribe()


def scopes(count: int) -> list[Scope]:
    return [Scope("", "main", "g", "h", "a", f"k{number}") for number in range(count)]


def delivery(identifier: str = "m1") -> Delivery:
    return Delivery(Envelope(identifier, "order.placed", 1, b'{"number": 1}', {}, "order.placed.p", "g"), "main", "g")


def commands(url: str, prefix: str, act: Callable[[], object]) -> list[str]:
    """The commands about keys of ``prefix`` that clients send while ``act`` runs; those of scripts are Redis' own."""
    with Client.from_url(url) as other, Client.from_url(url) as client:
        other.ping()  # what opens a connection is none of it
        with client.monitor() as monitor:
            act()
            other.echo("over")
            sent = takewhile(lambda each: each["command"] != "ECHO over", monitor.listen())
            return [
                each["command"].split()[0]
                for each in sent
                if each["client_type"] != "lua" and prefix in each["command"]
            ]


@pytest.mark.usefixtures("proxy")
def test_however_many_are_claimed_confirmed_and_marked_each_is_one_round_trip(redis: Redis, prefix: str) -> None:
    def work() -> None:
        with transaction.atomic(), claiming(scopes(100), using="default") as fresh:
            assert fresh == [True] * 100

    def again() -> None:
        assert [each.status for each in configured().begin(scopes(100), LONG)] == ["processed"] * 100

    with transaction.atomic(), claiming([Scope("", "main", "g", "h", "a", "first")], using="default"):
        pass  # the server knows the scripts now
    assert commands(redis.url, prefix, work) == ["EVALSHA"] * 3
    assert commands(redis.url, prefix, again) == ["EVALSHA"]


@pytest.mark.usefixtures("proxy")
def test_keys_are_kept_for_the_retention_and_in_one_slot(prefix: str) -> None:
    store, client = configured(), get_redis_connection("redis")
    (begun,) = store.begin(scopes(1), LONG)
    assert begun.lease is not None
    key = f"{{{prefix}:inbox}}:{begun.lease.fingerprint}"
    week, minute = 7 * 24 * 3600 * 1000, 60 * 1000
    for act in (store.renew, store.release, store.finish):
        act([begun.lease])
        assert week - minute < client.pttl(key) <= week
    assert client.get(key) == b"processed"


@pytest.mark.usefixtures("proxy")
def test_tokens_rise_though_redis_has_lost_everything(prefix: str) -> None:
    store, client = configured(), get_redis_connection("redis")
    (first,) = store.begin(scopes(1), LONG)
    client.delete(*client.keys(f"{{{prefix}:inbox}}:*"))
    (second,) = store.begin(scopes(1), LONG)
    assert first.lease is not None and second.lease is not None
    assert second.lease.token > first.lease.token


def away(proxy: Proxy) -> None:
    proxy.shut()
    proxy.cut()


def test_while_redis_is_away_messages_wait_and_lose_no_attempt(proxy: Proxy, events: list[Event]) -> None:
    with listening(OrderPlaced, group="g", name="tests.h", max_attempts=1) as arrived:
        away(proxy)
        for _ in range(2):
            (verdict,) = handle("main", "g", [delivery()])
            assert verdict.outcome == "postpone"
            assert "the store of inbox in Redis (the cache 'redis') does not answer" in verdict.error
        assert arrived == []
        with pytest.raises(StoreUnavailableError), inbox.claim("stripe", "evt-1"):
            User.objects.create_user("paid")
        assert not User.objects.exists()
        proxy.open()
        assert handle("main", "g", [delivery()])[0].outcome == "handled"
        assert handle("main", "g", [delivery()])[0].outcome == "duplicate"
    unavailable = [(each.metadata["policy"], each.metadata["messages"]) for each in events if "un" in each.name]
    assert unavailable == [("raise", 1)] * 3


def test_by_policy_work_is_done_without_a_claim_and_health_says_how_much(
    proxy: Proxy, events: list[Event], prefix: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(condition, "_unclaimed", condition._Unclaimed())
    with (
        override_koan(INBOX={**redis_inbox(prefix), "UNAVAILABLE": "process"}),
        listening(OrderPlaced, group="g", name="tests.h") as arrived,
    ):
        away(proxy)
        assert handle("main", "g", [delivery()])[0].outcome == "handled"
        assert handle("main", "g", [delivery()])[0].outcome == "handled"
        with inbox.claim("stripe", "evt-1") as claim:
            assert not claim.duplicate
        (found,) = [each for each in health.aggregate().findings if each.name == "inbox.unclaimed"]
        assert (found.status, found.message) == (
            "degraded",
            "1 pieces of work were done without a claim since this process began",
        )
        proxy.open()
        assert handle("main", "g", [delivery()])[0].outcome == "handled"
        assert handle("main", "g", [delivery()])[0].outcome == "duplicate"
    assert len(arrived) == 3
    assert [each.metadata["policy"] for each in events if each.name == "inbox.unavailable"] == ["process"] * 3


def test_a_mark_that_redis_did_not_take_costs_no_second_run(proxy: Proxy, events: list[Event]) -> None:
    with listening(OrderPlaced, lambda message: away(proxy), group="g", name="tests.h", atomic=False) as arrived:
        assert handle("main", "g", [delivery()])[0].outcome == "handled"
    assert len(arrived) == 1
    assert [(each.name, each.metadata["messages"]) for each in events] == [("inbox.unmarked", 1)]


def test_a_claim_that_cannot_be_confirmed_before_the_commit_is_rolled_back(proxy: Proxy, prefix: str) -> None:
    def work() -> None:
        with inbox.claim("stripe", "evt-1"):
            User.objects.create_user("paid")
            away(proxy)

    with pytest.raises(StoreUnavailableError):
        work()
    assert not User.objects.exists()
    proxy.open()
    with override_koan(INBOX={**redis_inbox(f"{prefix}-2"), "UNAVAILABLE": "process"}):
        work()
    assert User.objects.exists()


def test_readiness_and_the_facts_of_workers_say_that_the_store_is_away(proxy: Proxy, prefix: str) -> None:
    assert condition.probe() is None
    assert condition.fact() is None
    away(proxy)
    probed, fact = condition.probe(), condition.fact()
    assert probed is not None and fact is not None
    assert "nothing is handled until it does" in probed.message
    assert (fact.name, fact.status) == ("inbox.store", "degraded")
    with override_koan(INBOX={**redis_inbox(prefix), "UNAVAILABLE": "process"}):
        other = condition.probe()
    assert other is not None
    assert "duplicates are handled meanwhile" in other.message
    health._cache.pop("inbox", None)
    assert next(each for each in health.ready().findings if each.name == "inbox").status == "unhealthy"
