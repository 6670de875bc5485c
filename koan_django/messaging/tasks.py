"""Jobs of messaging."""

from __future__ import annotations

from datetime import timedelta

from django.db import transaction
from django.utils import timezone

from koan_django.core.dispatch import job

from . import events
from .conf import options
from .outgoing import databases
from .statistics.sampling import KEPT

BATCH = 1000
#: Messages with their bodies.
PARKED_BATCH = 100


@job("koan_messaging.forget_old", every=timedelta(hours=1))
def forget_old() -> None:
    """Delete events and samples, and dead letters that were settled, when they are old enough; in batches that hold
    no long lock.
    """
    from .models import DeadLetter, DepthSample, HandlerSample, MessageEvent

    now = timezone.now()
    before = now - options().retention
    for rows in (
        MessageEvent.objects.filter(at__lt=before),
        DeadLetter.objects.filter(dead_at__lt=before).exclude(state="dead"),
        HandlerSample.objects.filter(minute__lt=now - KEPT),
        DepthSample.objects.filter(at__lt=now - KEPT),
    ):
        while pks := list(rows.values_list("pk", flat=True)[:BATCH]):
            rows.model._base_manager.filter(pk__in=pks).delete()


@job("koan_messaging.forget_parked", every=timedelta(hours=1))
def forget_parked() -> None:
    """Delete what has been parked in the outbox for longer than ``PARKED_RETENTION``, and say so in the trail."""
    from .models import OutboxMessage

    kept = options().parked_retention
    if kept is None:
        return
    detail = f"parked for longer than PARKED_RETENTION, {kept}"
    for using in databases.every():
        old = OutboxMessage.objects.using(using).parked_before(timezone.now() - kept)
        gone = PARKED_BATCH
        while gone == PARKED_BATCH:
            with transaction.atomic(using=using):
                rows = old.forget(PARKED_BATCH)
                told = (events.event("cancelled", row.bus, row.envelope(), detail=detail) for row in rows)
                events.record(told, of=using)
            gone = len(rows)
