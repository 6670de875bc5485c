"""The partitions of ordered groups: who has them, and which wait for a decision."""

from __future__ import annotations

from typing import TYPE_CHECKING

from django.contrib import admin
from django.utils.translation import gettext_lazy as _

from koan_django.core.admin.kit import RecordAdmin, Styled, badge, brief, operation
from koan_django.messaging.models import Partition, PartitionWorker
from koan_django.messaging.ordering import stopping

if TYPE_CHECKING:
    from django.http import HttpRequest
    from django.utils.safestring import SafeString

_COLOURS = {"open": "healthy", "blocked": "retried", "stopped": "failed"}


@admin.register(Partition)
class PartitionAdmin(Styled, RecordAdmin[Partition]):
    list_display = ("group", "number", "bus", "shown_state", "alias", "attempt", "shown_error", "since", "lease_owner")
    list_filter = ("state", "bus", "group")
    search_fields = ("message_id", "group")
    fields = (
        ("bus", "group", "number", "shown_state"),
        ("message_id", "alias", "handler"),
        ("attempt", "error", "since", "skip"),
        ("lease_owner", "lease_token", "lease_until"),
    )
    readonly_fields = ("shown_state", "lease_owner", "lease_token", "lease_until")
    actions = ("retry", "skip_message")

    @admin.display(description=_("state"), ordering="state")
    def shown_state(self, row: Partition) -> SafeString:
        return badge(_COLOURS[row.state], row.get_state_display())

    @admin.display(description=_("error"))
    def shown_error(self, row: Partition) -> str:
        return brief(row.error)

    @operation(permission="release", description=_("Let selected partitions go on: try their message again"))
    def retry(self, request: HttpRequest, row: Partition) -> str:
        """Start again with a fresh count of attempts."""
        return self._go_on(row, skip=False)

    @operation(
        permission="release",
        description=_("Let selected partitions go on: make their message a dead letter"),
        destructive=True,
    )
    def skip_message(self, request: HttpRequest, row: Partition) -> str:
        """The message becomes a dead letter, which can be replayed out of order."""
        return self._go_on(row, skip=True)

    def _go_on(self, row: Partition, *, skip: bool) -> str:
        stopping.go_on(row, skip=skip)
        return f"{row}: {'skips' if skip else 'tries again'} {row.message_id}"


@admin.register(PartitionWorker)
class PartitionWorkerAdmin(Styled, RecordAdmin[PartitionWorker]):
    list_display = ("worker", "group", "bus", "until")
    list_filter = ("bus", "group")
