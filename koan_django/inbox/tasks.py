"""Jobs of the inbox."""

from __future__ import annotations

from datetime import timedelta

from django.utils import timezone

from koan_django.core.dispatch import job

from .conf import options
from .models import InboxEntry

BATCH = 1000


@job("koan_inbox.forget_expired", every=timedelta(hours=1))
def forget_expired() -> None:
    """Delete what was processed before the retention, in batches that hold no long lock."""
    before = timezone.now() - options().retention
    while True:
        pks = list(InboxEntry.objects.all().expired(before).values_list("pk", flat=True)[:BATCH])
        if not pks:
            return
        InboxEntry.objects.filter(pk__in=pks).delete()
