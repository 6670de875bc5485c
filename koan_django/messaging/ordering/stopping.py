"""Partitions that have stopped for a message, and the two ways on."""

from __future__ import annotations

from typing import TYPE_CHECKING

from django.db import transaction

from koan_django.core import audit
from koan_django.messaging.exceptions import MessagingError

if TYPE_CHECKING:
    from koan_django.messaging.models import Partition
    from koan_django.messaging.querysets import PartitionQuerySet


def stopped(group: str = "") -> PartitionQuerySet:
    """Return the partitions that wait for a decision, of all groups or of one."""
    from koan_django.messaging.models import Partition

    found = Partition.objects.all().primary().stopped()
    return found.filter(group=group) if group else found


def go_on(partition: Partition, *, skip: bool) -> None:
    """Let ``partition`` go on: its message is tried again with a fresh count of attempts, or becomes a dead letter.

    Raises :class:`MessagingError` unless it has stopped.
    """
    rows = stopped().filter(pk=partition.pk)
    with transaction.atomic(using=rows.db):
        if not rows.go_on(skip=skip):
            raise MessagingError(f"{partition} has not stopped", why="somebody let it go on already")
        data = {"message": partition.message_id, "alias": partition.alias}
        audit.record("messaging.skip" if skip else "messaging.retry", partition, data=data)
