"""The lanes of the outbox: which relay publishes them."""

from __future__ import annotations

from django.contrib import admin

from koan_django.core.admin.kit import RecordAdmin, Styled
from koan_django.messaging.models import OutboxLane, OutboxRelay


@admin.register(OutboxLane)
class OutboxLaneAdmin(Styled, RecordAdmin[OutboxLane]):
    list_display = ("__str__", "bus", "number", "lease_owner", "lease_until")
    list_filter = ("bus",)
    fields = (("bus", "number"), ("lease_owner", "lease_token", "lease_until"))
    readonly_fields = ("lease_owner", "lease_token", "lease_until")


@admin.register(OutboxRelay)
class OutboxRelayAdmin(Styled, RecordAdmin[OutboxRelay]):
    list_display = ("worker", "bus", "until")
    list_filter = ("bus",)
