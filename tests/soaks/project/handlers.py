"""The work: an effect that is committed with the message, on each bus."""

import os
import signal
import time

from django.db.models import F
from django.utils import timezone

from koan_django.messaging import Context, Envelope, handler

from .messages import Debited, StepChecked, StepMade, Visit, Work
from .models import Account, Effect, Posting, Served, Taken


@handler(Work, group="ledger", bus="database", name="soak.database")
def on_the_database(message: Work, context: Context) -> None:
    _do(message, context)


@handler(Work, group="ledger", bus="rabbitmq", name="soak.rabbitmq")
def on_rabbitmq(message: Work, context: Context) -> None:
    _do(message, context)


@handler("soak.step.*", group="steps", bus="database", name="soak.steps.database", batch=20)
def steps_on_the_database(envelopes: list[Envelope], context: Context) -> None:
    _take(envelopes, context)


@handler("soak.step.*", group="steps", bus="rabbitmq", name="soak.steps.rabbitmq", batch=20)
def steps_on_rabbitmq(envelopes: list[Envelope], context: Context) -> None:
    _take(envelopes, context)


@handler(Visit, group="visits", bus="rabbitmq", name="soak.visits")
def serve(message: Visit, context: Context) -> None:
    assert context.sent_at is not None
    time.sleep(0.005)
    Served.objects.create(tenant=context.tenant, seconds=(timezone.now() - context.sent_at).total_seconds())


@handler(Debited, group="credits", bus="rabbitmq", name="soak.credit")
def credit(message: Debited, context: Context) -> None:
    Account.objects.filter(pk=message.target).update(balance=F("balance") + message.amount)
    Posting.objects.create(source=message.source, target=message.target, amount=message.amount, number=message.number)


def _take(envelopes: list[Envelope], context: Context) -> None:
    rows = []
    for envelope in envelopes:
        step = envelope.decode(StepMade if envelope.alias.endswith("made") else StepChecked)
        if envelope.attempt <= step.fails:
            raise ConnectionError("a failure on purpose")
        rows.append(Taken(bus=context.bus, key=step.key, number=step.number))
    Taken.objects.bulk_create(rows)


def _do(message: Work, context: Context) -> None:
    Effect.objects.create(number=message.number, bus=context.bus)
    if context.attempt <= message.fails:
        raise ConnectionError("a failure on purpose, after the effect")
    if context.attempt <= message.fails + message.dies:
        os.kill(os.getpid(), signal.SIGKILL)
