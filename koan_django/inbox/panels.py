"""The inbox on the Overview page."""

from __future__ import annotations

from typing import TYPE_CHECKING

from django.db.models import Sum
from django.urls import reverse

from koan_django.core.overview import Line, panel

if TYPE_CHECKING:
    from collections.abc import Iterator


@panel("koan_inbox", "Inbox", order=40)
def inbox_panel() -> Iterator[Line]:
    """How much is remembered and how often that mattered."""
    from .models import InboxEntry

    url = reverse("admin:koan_inbox_inboxentry_changelist")
    yield Line("Remembered", str(InboxEntry.objects.all().processed().count()), "", f"{url}?state__exact=processed")
    processing = InboxEntry.objects.filter(state="processing").count()
    yield Line("Being handled", str(processing), "", f"{url}?state__exact=processing")
    duplicates = InboxEntry.objects.aggregate(total=Sum("duplicates"))["total"] or 0
    yield Line("Duplicates suppressed", str(duplicates), "", url)
