"""The section MESSAGING: what is wrong with it is said in one go."""

from __future__ import annotations

from datetime import timedelta
from typing import Any

import pytest

from koan_django.core.exceptions import RegistrationError
from koan_django.messaging.buses import registry
from koan_django.messaging.conf import options
from koan_django.testing import override_koan


def errors(**koan: Any) -> list[str]:
    with override_koan(MESSAGING=koan):
        return [str(error) for error in options.errors()]


def bus(**koan: Any) -> str:
    (error,) = errors(BUSES={"main": koan})
    return error


def test_nothing_need_be_configured() -> None:
    found = options()
    assert (found.default_bus, found.default_group, found.trail) == ("main", "workers", "all")
    assert found.buses["main"].scheme == "database"
    assert found.drain_timeout == timedelta(seconds=20)


@pytest.mark.parametrize(
    ("url", "expected"),
    [
        ("ampq://guest:hunter2@h/", "no bus has the scheme 'ampq': use database://, memory://, amqp://, amqps://"),
        ("ampq://h/", "did you mean 'amqp'?"),
        ("guest:hunter2@h/", "the URL has no scheme"),
        ("hunter2", "the URL has no scheme"),
        ("amqp", "the URL has no scheme"),
        ("{{secret:amqp-url}}", "the URL has no scheme"),
    ],
)
def test_a_url_that_names_no_bus_is_refused_and_not_shown(url: str, expected: str) -> None:
    text = bus(URL=url)
    assert "KOAN['MESSAGING']['BUSES']['main']" in text
    assert expected in text
    assert "hunter2" not in text


@pytest.mark.parametrize(
    "options",
    [
        {"URL": "amqp://u:hunter2@h:port/v"},
        {"URL": "amqp://u:hunter2@[h/v"},
        {"URL": "amqp://u:hunter2/2@h/v"},
        {"URL": "redis://:hunter2@h:99999/0"},
        {"URL": "amqp://h/", "FAILOVER": ["amqp://u:hunter2@i:port/"]},
        {"URL": "amqp://h/", "TENANTS": {"acme": "amqp://u:hunter2@i:port/"}},
    ],
    ids=["port", "bracket", "reserved", "large", "failover", "tenant"],
)
def test_a_url_that_cannot_be_read_is_refused_and_not_shown(options: dict[str, Any]) -> None:
    text = bus(**options)
    assert "a URL cannot be read: its port is a number" in text
    assert "hunter2" not in text


def test_a_url_that_a_secret_completes_is_read_when_it_is_known() -> None:
    assert (
        errors(BUSES={"main": {"URL": "amqp://{{secret:user}}:{{secret:password}}@{{secret:host}}:{{secret:port}}/"}})
        == []
    )


@pytest.mark.parametrize("management", ["host:15672", "amqp://host", "host"])
def test_a_management_api_is_on_the_web(management: str) -> None:
    assert "MANAGEMENT must begin with http://" in bus(URL="amqp://h/", MANAGEMENT=management)


@pytest.mark.parametrize(
    ("option", "value", "expected"),
    [
        ("PARTITIONS", 0, "PARTITIONS must be between 1 and 1024"),
        ("PARTITIONS", 1025, "PARTITIONS must be between 1 and 1024"),
        ("BATCH", 0, "BATCH must be between 1 and 1000"),
        ("MAX_BODY", 100, "MAX_BODY must be between 1024 and 536870912 bytes"),
        ("LEASE", 1, "LEASE must be at least 2 s"),
        ("POLL_INTERVAL", 0.001, "POLL_INTERVAL must be at least 5 ms"),
        ("CONFIRM_TIMEOUT", 0, "CONFIRM_TIMEOUT must be at least 100 ms"),
        ("DELIVERY_LIMIT", 4, "DELIVERY_LIMIT must be at least 5"),
        ("TIME_LIMIT", 0, "TIME_LIMIT and SOFT_TIME_LIMIT must be above 0"),
        ("PREFIX", "", "PREFIX must be"),
        ("PREFIX", "amq.koan", "PREFIX must be"),
        ("PREFIX", "a b", "PREFIX must be"),
        ("RETRY", {"MAX_ATEMPTS": 5}, "did you mean 'MAX_ATTEMPTS'?"),
        ("PARTITION", 5, "unknown option; did you mean 'PARTITIONS'?"),
    ],
)
def test_an_option_of_a_bus_that_cannot_be_is_named(option: str, value: object, expected: str) -> None:
    assert expected in bus(**{option: value})


def test_a_soft_time_limit_that_the_hard_one_makes_pointless_is_refused() -> None:
    assert "SOFT_TIME_LIMIT must be shorter" in bus(TIME_LIMIT=10, SOFT_TIME_LIMIT=10)


@pytest.mark.parametrize(
    ("koan", "expected"),
    [
        ({"DEFAULT_BUS": "mian"}, "DEFAULT_BUS 'mian' is not in BUSES; did you mean 'main'?"),
        ({"DEFAULT_GROUP": "my group"}, "DEFAULT_GROUP 'my group' is not usable in a queue name"),
        ({"BUSES": {"main": {}, "a.b": {}}}, "the bus 'a.b' must be called by letters"),
        ({"TRAIL": "some"}, "'some' is not one of"),
        ({"DRAIN_TIMEOUT": -1}, "-1 is not a duration"),
        ({"RETENTION": 0}, "RETENTION must be at least 1 h"),
    ],
)
def test_an_option_that_cannot_be_is_named(koan: dict[str, Any], expected: str) -> None:
    assert any(expected in error for error in errors(**koan)), errors(**koan)


def test_the_url_is_not_part_of_what_options_show_of_themselves() -> None:
    with override_koan(MESSAGING={"BUSES": {"main": {"URL": "amqp://guest:hunter2@h/"}}}):
        assert "hunter2" not in repr(options())


@pytest.mark.parametrize(
    ("option", "form"),
    [
        ("FAILOVER", str),
        ("TENANTS", lambda url: [url]),
        ("TENANTS", lambda url: {url: "queues"}),
        ("PROVISIONING", str),
        ("LEASE", str),
        ("URL", str.encode),
    ],
    ids=["failover", "tenants", "tenant", "provisioning", "lease", "url"],
)
@pytest.mark.parametrize("password", ["s3cr3t", "s3cr3t@s3cr3t/s3cr3t"], ids=["plain", "reserved"])
def test_a_password_in_the_wrong_place_is_not_shown(option: str, form: Any, password: str) -> None:
    error = bus(**{"URL": "amqp://b/", option: form(f"amqp://shop:{password}@b.example/shop")})
    assert "s3cr3t" not in error
    assert option in error


def test_a_bus_that_is_not_configured_is_named_with_a_suggestion() -> None:
    with pytest.raises(RegistrationError, match="there is no bus 'mian'; did you mean 'main'"):
        registry.get("mian")


def test_a_changed_setting_makes_new_buses() -> None:
    before = registry.get("main")
    with override_koan(MESSAGING={"BUSES": {"main": {"URL": "memory://"}}}):
        assert registry.get("main") is not before
        assert type(registry.get("main")).__name__ == "MemoryBus"
    assert type(registry.get("main")).__name__ == "ElectedBus"
