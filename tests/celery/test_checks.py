"""What is wrong with a task or a bus is said by ``manage.py check``, not by the first call."""

from __future__ import annotations

from importlib import import_module
from typing import Any

import django
import pytest
from celery import Celery
from django.core.exceptions import ImproperlyConfigured
from django.test import override_settings

from koan_django.celery import OutboxTask
from koan_django.celery.checks import check_outbox
from koan_django.messaging.buses import registry
from koan_django.messaging.checks import check_handlers
from koan_django.messaging.conf import options
from koan_django.testing import override_koan
from tests.messaging.shop import OrderPlaced, listening

TASKS = {"main": {}, "tasks": {"URL": "celery://"}}


def found(base: Any, **options: Any) -> list[str]:
    app = Celery("checked", set_as_current=False)

    @app.task(base=base, name="shop.pack", shared=False, **options)
    def pack() -> None: ...

    return [str(message.id) for message in check_outbox(app)(None)]


def test_an_outbox_task_needs_a_bus_that_leads_to_celery() -> None:
    assert found(OutboxTask) == ["koan_celery.E001"]
    assert found(None) == []
    with override_koan(MESSAGING={"BUSES": TASKS}):
        assert found(OutboxTask) == []
    with override_settings(INSTALLED_APPS=["koan_django.core"]):
        assert found(OutboxTask) == ["koan_celery.E001"]


def test_an_outbox_task_is_sent_as_json() -> None:
    with override_koan(MESSAGING={"BUSES": TASKS}):
        assert found(OutboxTask, serializer="pickle") == ["koan_celery.E002"]
        assert found(None, serializer="pickle") == []


def test_a_handler_cannot_listen_where_tasks_travel() -> None:
    with override_koan(MESSAGING={"BUSES": TASKS}), listening(OrderPlaced, group="billing", bus="tasks"):
        assert [message.id for message in check_handlers(None)] == ["koan_messaging.E007"]


@pytest.mark.parametrize(
    "messaging",
    [{"BUSES": {"main": {"URL": "celery://"}}}, {"BUSES": {**TASKS, "more": {"URL": "celery://"}}}],
    ids=["default", "two"],
)
def test_messages_have_a_bus_that_is_not_that_of_tasks(messaging: dict[str, Any]) -> None:
    with override_koan(MESSAGING=messaging), pytest.raises(ImproperlyConfigured, match="messages need another"):
        options()


def test_the_default_bus_is_elected_beside_one_for_tasks() -> None:
    with override_koan(MESSAGING={"BUSES": TASKS}):
        assert options().elected == "main"
        assert [bus.alias for bus in registry.all_buses()] == ["main", "tasks"]


def test_the_backend_of_django_tasks_says_which_django_it_needs() -> None:
    if django.VERSION >= (6, 0):
        assert import_module("koan_django.contrib.django_tasks").CeleryBackend.supports_defer
    else:
        with pytest.raises(ImportError, match=r"needs Django 6\.0"):
            import_module("koan_django.contrib.django_tasks")
