"""Tasks reach Celery's broker from the outbox where it is not RabbitMQ, and a broker that cannot be used is named."""

from __future__ import annotations

import json
import uuid
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from celery import Celery
from django.db import transaction
from kombu import Connection

from koan_django.celery import folders
from koan_django.messaging.buses import registry
from koan_django.messaging.models import OutboxMessage
from tests.celery.test_outbox_task import declare, relay

pytestmark = [pytest.mark.django_db(transaction=True), pytest.mark.database]


@pytest.mark.parametrize("kind", [pytest.param("redis", marks=pytest.mark.services("redis")), "filesystem", "memory"])
def test_a_task_of_the_outbox_arrives(
    kind: str, celery_app: Callable[..., Celery], request: pytest.FixtureRequest, tmp_path: Path
) -> None:
    url, options = f"{kind}://", dict[str, Any]()
    if kind == "redis":
        url, options = request.getfixturevalue("redis").url, {"global_keyprefix": f"koan-{uuid.uuid4().hex}:"}
    if kind == "filesystem":
        folders.use()  # as install() does
        options = {f"data_folder_{way}": str(tmp_path) for way in ("in", "out")} | {"control_folder": str(tmp_path)}
    pack = declare(celery_app(url, broker_transport_options=options))
    with transaction.atomic():
        result = pack.delay(7)
    relay()
    assert not OutboxMessage.objects.exists()
    with Connection(url, transport_options=options) as connection, connection.SimpleQueue("celery") as queue:
        message = queue.get(timeout=20)
        message.ack()
    assert (message.headers["id"], json.loads(message.body)[0]) == (result.id, [7])


def test_a_broker_of_an_unknown_kind_is_named_where_the_bus_is_told(celery_app: Callable[..., Celery]) -> None:
    celery_app("carrierpigeon://loft")
    assert registry.get("tasks").place == (
        "Celery's broker, which cannot be used: KeyError: 'No such transport: carrierpigeon'"
    )
