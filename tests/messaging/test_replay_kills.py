"""Whoever replays dead letters may be killed, or not be the only one; each letter is sent once."""

from __future__ import annotations

import os
import signal
import sys
from collections import Counter
from pathlib import Path

import pytest
from django.db import connection

from koan_django.messaging.models import DeadLetter, QueuedDelivery
from tests.messaging.test_deadletters import dead
from tests.services.fixtures import StartProcess
from tests.services.process import Process
from tests.services.waiting import wait_until

pytestmark = [pytest.mark.django_db(transaction=True), pytest.mark.database]

ROOT = Path(__file__).parents[2]
PROGRAM = """
import django, sys
django.setup()
from django.core.management import call_command
from tests.messaging.shop import OrderPlaced, listening

with listening(OrderPlaced, group="billing"):
    print("ready", flush=True)
    call_command("koan_deadletters", *sys.argv[1:])
"""
COUNT = 450


@pytest.fixture(autouse=True)
def letters() -> None:
    first = dead(0)
    fields = [each.name for each in DeadLetter._meta.concrete_fields if not each.primary_key]
    kept = {name: getattr(first, name) for name in fields}
    DeadLetter.objects.bulk_create(DeadLetter(**kept | {"message_id": f"m{number}"}) for number in range(1, COUNT))


def replaying(process: StartProcess, *words: str) -> Process:
    env = {
        **os.environ,
        "DJANGO_SETTINGS_MODULE": "tests.messaging.child_settings",
        "KOAN_CHILD_DATABASE": str(connection.settings_dict["NAME"]),
    }
    return process("replay", [sys.executable, "-c", PROGRAM, "replay", "--all", *words], env=env, cwd=ROOT)


def sent() -> Counter[str]:
    return Counter(QueuedDelivery.objects.values_list("message_id", flat=True))


def replayed() -> set[str]:
    return set(DeadLetter.objects.filter(state="replayed").values_list("message_id", flat=True))


def test_a_replay_that_is_killed_has_sent_what_it_says_and_the_next_one_sends_the_rest(process: StartProcess) -> None:
    child = replaying(process, "--rate", "60")
    wait_until(lambda: len(replayed()) >= 60, 60, "the first to be replayed")
    child.send(signal.SIGKILL)
    assert child.wait() == -signal.SIGKILL
    before = replayed()
    assert 0 < len(before) < COUNT
    assert sent() == Counter(before)
    assert replaying(process).wait(60) == 0
    assert sent() == Counter(f"m{number}" for number in range(COUNT))


def test_two_who_replay_the_same_at_once_send_each_once_and_neither_fails(process: StartProcess) -> None:
    children = [replaying(process, "--rate", "150") for _ in range(2)]
    codes = [child.wait(120) for child in children]
    assert sent() == Counter(f"m{number}" for number in range(COUNT))
    assert codes == [0, 0], [child.tail() for child in children]
