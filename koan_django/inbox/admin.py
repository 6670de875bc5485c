"""The inbox in the admin."""

from __future__ import annotations

from typing import TYPE_CHECKING

from django.contrib import admin
from django.db.models import Count, Q, Sum
from django.db.models.functions import Coalesce
from django.utils.translation import gettext_lazy as _

from koan_django.core.admin import figures
from koan_django.core.admin.figures import Figure, Figured, Row, up_to
from koan_django.core.admin.kit import RecordAdmin, Styled, badge, operation
from koan_django.core.functions import Now

from .conf import options
from .exceptions import InboxError
from .models import InboxEntry

if TYPE_CHECKING:
    from collections.abc import Iterable

    from django.http import HttpRequest
    from django.utils.safestring import SafeString


def _suppressed(is_part: bool) -> object:
    if is_part:
        return _("duplicates suppressed of the last %d") % figures.MOST
    return _("duplicates suppressed")


@admin.register(InboxEntry)
class InboxEntryAdmin(Figured, Styled, RecordAdmin[InboxEntry]):
    list_display = ("key", "handler", "group", "shown_state", "attempts", "duplicates", "first_seen_at", "processed_at")
    list_filter = ("state", "bus", "group", "tenant")
    search_fields = ("key", "handler", "alias", "correlation_id")
    date_hierarchy = "processed_at"
    fields = (
        ("tenant", "bus", "group"),
        ("handler", "alias"),
        "key",
        "trail",
        ("shown_state", "attempts", "duplicates"),
        ("first_seen_at", "processed_at"),
        ("lease_owner", "lease_token", "lease_until"),
    )
    readonly_fields = ("shown_state", "trail")
    actions = ("release", "forget")

    def figures(self) -> Iterable[Row]:
        """What is remembered and for how long, and work whose worker has gone: its lease has ended.

        Each figure reads some thousand rows at most, by an index: an inbox may remember millions.
        """
        most, entries = figures.MOST, InboxEntry.objects.order_by("-id")
        newest = entries[:most].aggregate(
            rows=Count("pk"),
            processed=Count("pk", filter=Q(state="processed")),
            duplicates=Coalesce(Sum("duplicates"), 0),
        )
        is_part = newest["rows"] == most and entries[most : most + 1].exists()
        unfinished = (
            InboxEntry.objects.unfinished()
            .order_by("processed_at")[: most + 1]
            .aggregate(
                at_work=Count("pk", filter=Q(lease_until__gt=Now())),
                left=Count("pk", filter=Q(lease_until__isnull=True) | Q(lease_until__lte=Now())),
            )
        )
        yield Row(
            _("Inbox"),
            (
                Figure(_("remembered"), up_to(most + 1) if is_part else newest["processed"]),
                Figure(_("for"), _("%d days") % options().retention.days),
                Figure(_("being handled"), up_to(unfinished["at_work"])),
                Figure(_("given up"), up_to(unfinished["left"]), "degraded" if unfinished["left"] else ""),
                Figure(_suppressed(is_part), newest["duplicates"]),
            ),
        )

    @admin.display(description=_("state"), ordering="state")
    def shown_state(self, entry: InboxEntry) -> SafeString:
        return badge(entry.state)

    @operation(permission="release", description=_("Release selected work for another worker"), destructive=True)
    def release(self, request: HttpRequest, entry: InboxEntry) -> str:
        """End the lease of a worker that hangs; the token keeps its late result out."""
        held = InboxEntry.objects.filter(pk=entry.pk, state="processing").held(entry.lease_token)
        if not held.update(lease_until=None, lease_token=entry.lease_token + 1):
            raise InboxError(f"{entry} was not released", why="nobody holds it, or another worker does now")
        return f"released from {entry.lease_owner}"

    @operation(permission="forget", description=_("Forget selected entries: duplicates run again"), destructive=True)
    def forget(self, request: HttpRequest, entry: InboxEntry) -> str:
        """Let the next duplicate be handled as if it were new."""
        if not InboxEntry.objects.filter(pk=entry.pk, state="processed").delete()[0]:
            raise InboxError(f"{entry} was not forgotten", why="it is being handled, or forgotten already")
        return f"forgotten: {entry.handler} {entry.key}"
