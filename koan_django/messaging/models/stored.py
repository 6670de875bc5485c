"""What every row that holds a message has in common."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from django.db import models
from django.utils.translation import gettext_lazy as _

from koan_django.messaging.envelope import Envelope

if TYPE_CHECKING:
    from typing import Self


class StoredEnvelope(models.Model):
    """Abstract: an :class:`~koan_django.messaging.envelope.Envelope` in columns."""

    bus = models.CharField(_("bus"), max_length=64)
    group = models.CharField(_("group"), max_length=64, blank=True)
    message_id = models.CharField(_("message id"), max_length=128)
    alias = models.CharField(_("alias"), max_length=200)
    version = models.PositiveIntegerField(_("version"), default=1)
    routing_key = models.CharField(_("routing key"), max_length=255)
    headers = models.JSONField(_("headers"), default=dict)
    body = models.BinaryField(_("body"))
    priority = models.SmallIntegerField(_("priority"), default=0)
    attempt = models.PositiveIntegerField(_("attempt"), default=1)

    class Meta:
        abstract = True

    def __str__(self) -> str:
        return f"{self.alias} {self.message_id}"

    @classmethod
    def holding(cls, bus: str, envelope: Envelope, **columns: Any) -> Self:
        """Return an unsaved row for ``envelope``."""
        return cls(**{**cls.columns_of(bus, envelope), **columns})

    @staticmethod
    def columns_of(bus: str, envelope: Envelope) -> dict[str, Any]:
        """Return the columns that hold ``envelope``."""
        return {
            "bus": bus,
            "group": envelope.group,
            "message_id": envelope.id,
            "alias": envelope.alias,
            "version": envelope.version,
            "routing_key": envelope.routing_key,
            "headers": dict(envelope.headers),
            "body": envelope.body,
            "priority": envelope.priority,
            "attempt": envelope.attempt,
        }

    def envelope(self) -> Envelope:
        """Return what the row holds."""
        return Envelope(
            id=self.message_id,
            alias=self.alias,
            version=self.version,
            body=bytes(self.body),
            headers=self.headers,
            routing_key=self.routing_key,
            group=self.group,
            attempt=self.attempt,
            priority=self.priority,
        )
