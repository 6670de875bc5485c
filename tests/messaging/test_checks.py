"""System checks name what is wrong with messages, handlers and settings, and how to put it right."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import replace
from datetime import datetime
from typing import Annotated, Any

import pytest
from django.apps import apps
from django.contrib.auth.models import Group
from django.core import checks
from django.test import override_settings

from koan_django.messaging import (
    AwareDatetime,
    Header,
    IdempotencyKey,
    Message,
    PartitionKey,
    Sensitive,
    handlers,
    messages,
    upcaster,
)
from koan_django.messaging.buses import registry as buses
from koan_django.messaging.checks import check_mysql, check_sqlite
from koan_django.messaging.handlers import handler
from koan_django.testing import override_koan

MARK = "check_me"


@pytest.fixture
def declare() -> Iterator[Callable[..., Any]]:
    """Make a message class for this test alone, with one field ``check_me`` of the given type."""
    classes, known = dict(messages._classes), dict(handlers._handlers)

    def make(hint: Any = int, name: str = "Checked", **meta: Any) -> Any:
        body = {"__module__": __name__, "__annotations__": {MARK: hint}}
        return type(Message)(name, (Message,), {**body, "Meta": type("Meta", (), {"alias": f"tests.{name}", **meta})})

    yield make
    for registry, before in ((messages._classes, classes), (handlers._handlers, known)):
        registry.clear()  # type: ignore[attr-defined]
        registry.update(before)  # type: ignore[attr-defined]
    messages._by_alias.clear()


def found(*, deploy: bool = False, mentioning: str = "") -> dict[str, str]:
    """What the checks say of messaging, by id."""
    reports = checks.run_checks(apps.get_app_configs(), include_deployment_checks=deploy)
    ours = [each for each in reports if (each.id or "").startswith("koan_messaging.") and mentioning in each.msg]
    return {str(each.id): f"{each.msg} | {each.hint}" for each in ours}


def test_what_the_tests_declare_is_right(declare: Callable[..., Any]) -> None:
    declare(int)
    assert found(mentioning="Checked") == {}


def test_e001_a_wrong_option() -> None:
    with override_koan(MESSAGING={"DEFALT_BUS": "x"}):
        assert "did you mean 'DEFAULT_BUS'?" in found()["koan_messaging.E001"]


def test_e002_an_alias_that_two_classes_claim(declare: Callable[..., Any]) -> None:
    declare(name="One", alias="tests.same")
    declare(name="Two", alias="tests.same")
    text = found()["koan_messaging.E002"]
    assert "'tests.same' belongs to" in text
    assert "One" in text
    assert "Two" in text
    assert messages.by_alias("tests.same") is not None  # the admin still shows rows


@pytest.mark.parametrize(("alias", "expected"), [("a.p3", "looks like a partition"), ("a.*", "joined by dots")])
def test_e002_an_alias_that_cannot_be_one(declare: Callable[..., Any], alias: str, expected: str) -> None:
    declare(alias=alias)
    assert expected in found()["koan_messaging.E002"]


def test_e002_a_class_in_no_app(declare: Callable[..., Any]) -> None:
    type(Message)("Homeless", (Message,), {"__module__": __name__, "__annotations__": {}})
    assert "Homeless is in no installed app: set Meta.alias" in found()["koan_messaging.E002"]


@pytest.mark.parametrize(
    ("hint", "expected"),
    [
        ("Missing", "cannot be read: name 'Missing' is not defined"),
        (datetime | str, "cannot be read"),
        (Group, "is annotated with a model"),
        (list[Group], "is annotated with a model"),
    ],
)
def test_e003_a_type_that_cannot_be_read(declare: Callable[..., Any], hint: Any, expected: str) -> None:
    declare(hint)
    assert expected in found(mentioning="Checked")["koan_messaging.E003"]


@pytest.mark.parametrize(
    "hint", [PartitionKey[str] | None, list[PartitionKey[str]], PartitionKey[float], PartitionKey[str | None]]
)
def test_e004_a_partition_key_that_cannot_be_one(declare: Callable[..., Any], hint: Any) -> None:
    declare(hint)
    assert "neither optional nor inside a container" in found(mentioning="Checked")["koan_messaging.E004"]


def test_e004_two_partition_keys(declare: Callable[..., Any]) -> None:
    body = {"__module__": __name__, "__annotations__": {"a": PartitionKey[str], "b": PartitionKey[int]}}
    type(Message)("Checked", (Message,), {**body, "Meta": type("Meta", (), {"alias": "tests.two"})})
    assert "has two partition keys: a, b" in found(mentioning="Checked")["koan_messaging.E004"]


def test_e004_an_idempotency_key_inside_a_container(declare: Callable[..., Any]) -> None:
    declare(list[IdempotencyKey[str]])
    assert "cannot be an idempotency key" in found(mentioning="Checked")["koan_messaging.E004"]
    declare(IdempotencyKey[str] | None, name="Fine")
    assert found(mentioning="Fine") == {}


def test_e005_a_gap_between_upcasters(declare: Callable[..., Any]) -> None:
    cls = declare(version=4)
    upcaster(cls, from_version=1)(lambda body: body)
    upcaster(cls, from_version=3)(lambda body: body)
    assert "no upcaster from version 2" in found(mentioning="Checked")["koan_messaging.E005"]


def test_e006_two_handlers_for_one_alias_in_a_group(declare: Callable[..., Any]) -> None:
    cls = declare()
    handler(cls, group="g", name="tests.one")(lambda message: None)
    handler("tests.Checked", group="g", name="tests.two")(lambda envelope: None)
    handler("tests.*", group="g", name="tests.pattern")(lambda envelope: None)
    handler(cls, group="other", name="tests.elsewhere")(lambda message: None)
    assert "both receive 'tests.Checked' in the group 'g'" in found()["koan_messaging.E006"]


def test_e007_a_bus_that_is_not_configured(declare: Callable[..., Any]) -> None:
    handler(declare(), bus="mian", name="tests.one")(lambda message: None)
    assert "listens on the unknown bus 'mian'" in found()["koan_messaging.E007"]


@pytest.mark.parametrize(
    ("hint", "expected"),
    [
        (Annotated[str, Header("koan-tenant")], "has a meaning already"),
        (Annotated[str, Header("Traceparent")], "has a meaning already"),
        (Annotated[str, Header("x-death")], "has a meaning already"),
        (Annotated[str, Header("CC")], "RabbitMQ would route by that header"),
        (Annotated[str, Header("a b")], "a header is a letter and"),
        (Annotated[Sensitive[str], Header("x-token")], "the field is sensitive"),
    ],
)
def test_e008_a_header_that_cannot_be_one(declare: Callable[..., Any], hint: Any, expected: str) -> None:
    declare(hint)
    assert expected in found(mentioning="Checked")["koan_messaging.E008"]


@pytest.mark.parametrize("hint", [datetime, datetime | None, list[datetime]])
def test_w001_a_time_without_a_zone(declare: Callable[..., Any], hint: Any) -> None:
    declare(hint)
    assert "AwareDatetime" in found(mentioning="Checked")["koan_messaging.W001"]
    with override_settings(USE_TZ=False):
        assert found(mentioning="Checked") == {}
    declare(AwareDatetime | None, name="Aware")
    assert found(mentioning="Aware") == {}


def test_w002_long_work_without_an_inbox(declare: Callable[..., Any], settings: Any) -> None:
    handler(declare(), atomic=False, name="tests.one")(lambda message: None)
    assert "koan_messaging.W002" not in found()
    settings.INSTALLED_APPS = [app for app in settings.INSTALLED_APPS if app != "koan_django.inbox"]
    assert "has atomic=False and there is no inbox" in found()["koan_messaging.W002"]


def test_w003_a_partition_key_on_a_bus_that_keeps_no_order(
    declare: Callable[..., Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    declare(PartitionKey[str])
    assert "koan_messaging.W003" not in found(mentioning="Checked")
    bus = type(buses.get("main"))
    monkeypatch.setattr(bus, "capabilities", replace(bus.capabilities, ordered=False))
    assert "the bus 'main' does not keep order" in found(mentioning="Checked")["koan_messaging.W003"]


@pytest.mark.parametrize("asked", [{"ordered": True}, {"on_failure": "stop"}], ids=["ordered", "stop"])
def test_e009_order_on_a_bus_that_keeps_none(
    declare: Callable[..., Any], monkeypatch: pytest.MonkeyPatch, asked: dict[str, Any]
) -> None:
    handler(declare(PartitionKey[str]), name="tests.one", **asked)(lambda message: None)
    assert "koan_messaging.E009" not in found()
    bus = type(buses.get("main"))
    monkeypatch.setattr(bus, "capabilities", replace(bus.capabilities, ordered=False))
    assert "asks the bus 'main' for 'ordered'" in found()["koan_messaging.E009"]


WAL = "PRAGMA journal_mode=WAL; PRAGMA synchronous=NORMAL;"


@pytest.mark.parametrize(
    ("given", "warned"),
    [
        ({}, True),
        ({"transaction_mode": "IMMEDIATE", "timeout": 20}, True),
        ({"transaction_mode": "IMMEDIATE", "init_command": WAL}, True),
        ({"timeout": 20, "init_command": WAL}, True),
        ({"transaction_mode": "IMMEDIATE", "timeout": 20, "init_command": WAL}, False),
        ({"transaction_mode": "IMMEDIATE", "timeout": 30, "init_command": "pragma JOURNAL_MODE = wal"}, False),
    ],
)
def test_w004_sqlite_that_will_be_locked(given: dict[str, Any], warned: bool) -> None:
    databases = {"default": {"ENGINE": "django.db.backends.sqlite3", "NAME": "x", "OPTIONS": given}}
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("django.conf.settings.DATABASES", databases)
        reports = check_sqlite(None)
    assert [each.id for each in reports] == ["koan_messaging.W004"] * warned


@pytest.mark.parametrize(
    ("given", "level"),
    [
        ({}, None),
        ({"isolation_level": "Read Committed"}, None),
        ({"isolation_level": "repeatable read"}, "repeatable read"),
        ({"isolation_level": None}, "that of the server"),
    ],
)
def test_w009_mysql_that_reads_the_past(given: dict[str, Any], level: str | None) -> None:
    databases = {"default": {"ENGINE": "django.db.backends.mysql", "NAME": "x", "OPTIONS": given}}
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("django.conf.settings.DATABASES", databases)
        reports = check_mysql(None)
    assert [each.id for each in reports] == ["koan_messaging.W009"] * (level is not None)
    assert all(f"is {level}" in each.msg for each in reports)


def test_w005_and_w006_names_that_a_refactoring_would_change(declare: Callable[..., Any]) -> None:
    made: Any = type(Message)("Floating", (Message,), {"__module__": "koan_django.inbox.x", "__annotations__": {}})

    @handler(made, group="g")
    def floating(message: Any) -> None: ...

    before = found()
    assert "koan_messaging.W005" not in before
    assert (
        "Pin it with Meta.alias = 'koan_inbox.Floating'"
        in found(deploy=True, mentioning="Floating")["koan_messaging.W005"]
    )
    assert "Pin it with name=" in found(deploy=True, mentioning="floating")["koan_messaging.W006"]


def test_w007_a_bus_that_forgets() -> None:
    with override_koan(MESSAGING={"BUSES": {"main": {"URL": "memory://"}}}):
        assert "koan_messaging.W007" not in found()
        assert "lost when the process ends" in found(deploy=True)["koan_messaging.W007"]
