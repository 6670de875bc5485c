"""The relay as a live process while its broker and its database are killed, stopped and started again."""

from __future__ import annotations

import json
import os
import signal
import sys
from collections import defaultdict
from contextlib import closing
from pathlib import Path
from typing import Any

import psycopg
import pytest

from tests.messaging.wire import wired
from tests.services.fixtures import StartProcess
from tests.services.postgres import Postgres
from tests.services.rabbitmq import RabbitMQ
from tests.services.waiting import wait_until

pytestmark = pytest.mark.services("rabbitmq", "postgres")
ROOT = Path(__file__).parents[2]
QUEUE = "koan.steps"
#: Each step is announced in the transaction that writes it.
SENDER = """
import django, sys
django.setup()
from django.core.management import call_command
from django.db import transaction
from tests.soaks.project.looping import until_stopped
from tests.soaks.project.messages import StepMade
from tests.soaks.project.models import Sent

def act(chance):
    with transaction.atomic():
        row = Sent.objects.create(bus="rabbitmq")
        StepMade(f"key-{row.pk % 10}", row.pk).send_to("steps", bus="rabbitmq")

call_command("migrate", run_syncdb=True, verbosity=0)
print("sending", flush=True)
until_stopped(act, "1", 0.01)
"""


def asked(dsn: str, question: str) -> list[Any]:
    """Ask the database by a connection of its own."""
    with closing(psycopg.connect(dsn, autocommit=True)) as connection:
        return connection.execute(question.encode()).fetchall()


def test_a_relay_outlives_restarts_of_its_broker_and_its_database_while_rows_keep_coming(
    own_rabbitmq: RabbitMQ, own_postgres: Postgres, process: StartProcess
) -> None:
    dsn = own_postgres.dsn

    def waiting() -> int:
        return int(asked(dsn, "SELECT count(*) FROM koan_messaging_outboxmessage")[0][0])

    def told() -> list[Any]:
        return asked(dsn, "SELECT status, message FROM koan_core_healthfact WHERE name = 'messaging.relay.rabbitmq'")

    def is_away(status: str, message: str) -> bool:
        return status == "unhealthy" and "cannot be reached" in message

    with own_rabbitmq.vhost() as vhost:
        with wired(vhost.url) as wire:
            wire.queue(QUEUE)
            wire.channel.exchange_declare("koan.to", "topic", durable=True, auto_delete=False)
            wire.channel.queue_bind(QUEUE, "koan.to", "steps.*")
        stage = {"database": dsn, "bus": vhost.url, "broker": vhost.url, "options": {}}
        env = os.environ | {"DJANGO_SETTINGS_MODULE": "tests.soaks.project.settings", "KOAN_SOAK": json.dumps(stage)}
        sender = process("sender", [sys.executable, "-c", SENDER], env=env, cwd=ROOT)
        sender.expect("sending", timeout=60)
        relay = process("relay", [sys.executable, "-m", "django", "koan_outbox_relay"], env=env, cwd=ROOT)
        wait_until(lambda: told() and waiting() < 20, 60, "the relay to publish")

        own_rabbitmq.kill()
        wait_until(lambda: is_away(*told()[0]), 30, "health to say that the broker is away")
        wait_until(lambda: waiting() > 20, 30, "rows to keep coming")
        own_rabbitmq.revive()
        wait_until(lambda: told() == [("healthy", "publishing")] and waiting() < 20, 60, "the rows to be published")

        own_postgres.restart()
        relay.expect("The outbox of rabbitmq is not published: OperationalError", timeout=30)
        before = asked(dsn, "SELECT max(id) FROM project_sent")
        wait_until(lambda: asked(dsn, "SELECT max(id) FROM project_sent") > before, 30, "rows to come again")
        wait_until(lambda: told() == [("healthy", "publishing")] and waiting() < 20, 60, "the rows to be published")

        sender.stop()
        wait_until(lambda: not waiting(), 60, "the rest to be published")
        relay.send(signal.SIGTERM)
        assert relay.wait(30) == 0, relay.tail()
        assert asked(dsn, "SELECT count(*) FROM koan_messaging_outboxlane WHERE lease_until IS NOT NULL") == [(0,)]
        assert told() == []
        firsts: dict[str, list[int]] = defaultdict(list)
        with wired(vhost.url) as wire:
            for each in wire.take(QUEUE):
                step = json.loads(each.body)
                if step["number"] not in firsts[step["key"]]:
                    firsts[step["key"]].append(step["number"])
        sent = {number for (number,) in asked(dsn, "SELECT id FROM project_sent")}
        assert sorted(number for numbers in firsts.values() for number in numbers) == sorted(sent)
        assert all(numbers == sorted(numbers) for numbers in firsts.values())
