"""What is Redis's own: a server that is away, that lost everything, or that answers in text."""

from __future__ import annotations

import uuid
from collections.abc import Iterator
from datetime import timedelta
from typing import Any

import pytest
from django.contrib.auth.models import User
from django.core.checks import run_checks
from django.test import Client, override_settings
from django_redis import get_redis_connection

from koan_django.core import health
from koan_django.core.exceptions import StoreUnavailableError
from koan_django.core.leases import acquire
from koan_django.core.process import identity
from koan_django.core.stores import lease_store
from koan_django.testing import override_koan
from tests.contracts.stores.stores import redis_cache, redis_stores
from tests.services.redis import Redis
from tests.services.waiting import free_port

LONG = timedelta(minutes=1)


@pytest.fixture
def prefix() -> str:
    return f"koan-test-{uuid.uuid4().hex[:8]}"


@pytest.fixture
def on_redis(redis: Redis, prefix: str) -> Iterator[Any]:
    """Every store in Redis; yields a client."""
    with override_settings(CACHES=redis_cache(redis.url)), override_koan(CORE=redis_stores(prefix)):
        yield get_redis_connection("redis")


@pytest.fixture
def away(prefix: str) -> Iterator[None]:
    """Every store in a Redis that is not there."""
    cache = redis_cache(f"redis://127.0.0.1:{free_port()}/0")
    with override_settings(CACHES=cache), override_koan(CORE=redis_stores(prefix)):
        yield


class TestAway:
    pytestmark = pytest.mark.usefixtures("away")

    def test_every_verb_raises_a_transient_error_that_says_what_to_do(self) -> None:
        store = lease_store()
        for verb in (
            lambda: acquire("beat", LONG),
            lambda: store.holds("beat", 1),
            lambda: health.report("broker", "healthy"),
            health.retract,
        ):
            with pytest.raises(
                StoreUnavailableError, match=r"cache 'redis'\) does not answer.*See that Redis"
            ) as caught:
                verb()
            assert caught.value.transient

    def test_health_says_so_and_never_that_all_is_well(
        self, client: Client, db: None, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr(health, "PROBE_CACHE_SECONDS", 0)
        report = health.aggregate()
        assert (report.status, report.findings[0].name) == ("unhealthy", "health")
        assert client.get("/health").status_code == 503
        [found] = [each for each in health.ready().findings if each.name == "stores"]
        assert (found.status, found.critical) == ("unhealthy", False)
        assert client.get("/health/ready").status_code == 200

    def test_the_overview_opens(self, client: Client, db: None) -> None:
        client.force_login(User.objects.create_superuser("root"))
        response = client.get("/admin/koan_core/overview/")
        assert response.status_code == 200
        assert response.content.decode().count("does not answer") == 2


def test_tokens_rise_though_redis_has_lost_everything(on_redis: Any, prefix: str) -> None:
    first = acquire("beat", LONG)
    assert first is not None
    on_redis.delete(f"{prefix}:leases")
    second = acquire("beat", LONG)
    assert second is not None
    assert second.token > first.token
    assert not lease_store().holds("beat", first.token)


def test_an_answer_that_was_lost_on_the_way_is_given_again(on_redis: Any) -> None:
    """redis-py sends a command once more when the connection broke: the first one may have been carried out."""
    token = lease_store().acquire("beat", "me", LONG)
    assert token is not None
    assert lease_store().acquire("beat", "me", LONG) == token
    assert lease_store().acquire("beat", "you", LONG) is None


def test_a_server_that_forgot_the_scripts_is_told_them_again(on_redis: Any) -> None:
    held = acquire("beat", LONG)
    assert held is not None
    on_redis.script_flush()
    held.renew()


def test_a_cache_that_decodes_answers_will_do(redis: Redis, prefix: str, db: None) -> None:
    cache = redis_cache(redis.url)
    cache["redis"]["OPTIONS"] = {"CONNECTION_POOL_KWARGS": {"decode_responses": True}}
    with override_settings(CACHES=cache), override_koan(CORE=redis_stores(prefix)):
        held = acquire("beat", LONG)
        assert held is not None
        held.renew()
        health.report("broker «λ»", "degraded", "slow")
        assert [(each.name, each.status) for each in health.aggregate().findings] == [("broker «λ»", "degraded")]
        assert lease_store().leases()[0].token == held.token


def test_the_overview_shows_who_holds_what(on_redis: Any, client: Client, db: None) -> None:
    client.force_login(User.objects.create_superuser("root"))
    health.report("broker", "degraded", "slow")
    acquire("beat", LONG)
    page = client.get("/admin/koan_core/overview/").content.decode()
    assert "broker" in page
    assert "beat" in page
    assert identity() in page
    assert "healthfact" not in page.partition("koan-overview")[2]


def test_what_it_keeps_does_not_stay_for_ever(on_redis: Any, prefix: str) -> None:
    health.report("broker", "healthy")
    assert 0 < on_redis.ttl(f"{prefix}:health") <= 86400


@pytest.mark.parametrize(
    ("core", "text"),
    [
        ({"LEASES": {"BACKEND": "koan_django.contrib.redis.RedisHealth"}}, "RedisHealth keeps no leases"),
        ({"LEASES": {"BACKEND": "koan_django.contrib.redis.Nothing"}}, "KOAN['CORE']['LEASES']['BACKEND']: Module"),
        ({"HEALTH": {"BACKEND": "koan_django.contrib.redis.RedisHealth"}}, "CACHES['default'] is not a cache of"),
        (
            {"HEALTH": {"BACKEND": "koan_django.contrib.redis.RedisHealth", "OPTIONS": {"CACHE": "radis"}}},
            "settings.CACHES has no alias 'radis'; did you mean 'redis'?",
        ),
        (
            {"HEALTH": {"BACKEND": "koan_django.contrib.redis.RedisHealth", "OPTIONS": {"PREFX": "a"}}},
            "KOAN['CORE']['HEALTH']['OPTIONS']['PREFX']: unknown option",
        ),
        (
            {"HEALTH": {"BACKEND": "koan_django.contrib.redis.RedisHealth", "OPTIONS": {"PREFIX": "a b"}}},
            "PREFIX must be text",
        ),
        ({"HEALTH": {"BACKEND": "koan_django.core.stores.rows.RowHealth", "OPTIONS": {"A": 1}}}, "unknown option"),
    ],
)
def test_a_store_that_cannot_be_is_a_check_error(core: dict[str, Any], text: str) -> None:
    with override_settings(CACHES=redis_cache("redis://127.0.0.1:1/0")), override_koan(CORE=core):
        found = [str(each.msg) for each in run_checks() if each.id == "koan_core.E020"]
    assert len(found) == 1
    assert text in found[0]
