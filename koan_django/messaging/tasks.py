"""Jobs of messaging."""

from __future__ import annotations

from datetime import timedelta

from django.utils import timezone

from koan_django.core.dispatch import job

from .conf import options
from .statistics.sampling import KEPT

BATCH = 1000


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
