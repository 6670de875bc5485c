"""Health facts, facts, elections, leases and the policy version, to read."""

from __future__ import annotations

from typing import TYPE_CHECKING

from django.contrib import admin
from django.utils import timezone
from django.utils.translation import gettext_lazy as _

from koan_django.core.models import Election, HealthFact, Lease, PolicyVersion, ProcessFact

from .kit import RecordAdmin, badge, operation, pretty_json

if TYPE_CHECKING:
    from django.http import HttpRequest
    from django.utils.safestring import SafeString


@admin.register(HealthFact)
class HealthFactAdmin(RecordAdmin[HealthFact]):
    list_display = ("name", "shown_status", "critical", "message", "reporter", "since", "expires_at")
    list_filter = ("status", "critical")
    search_fields = ("name", "reporter", "message")
    fields = (*list_display, "shown_data")
    readonly_fields = ("shown_status", "shown_data")

    @admin.display(description=_("status"), ordering="status")
    def shown_status(self, fact: HealthFact) -> SafeString:
        return badge("unknown" if fact.expires_at <= timezone.now() else fact.status)

    @admin.display(description=_("data"))
    def shown_data(self, fact: HealthFact) -> SafeString:
        return pretty_json(fact.data)


@admin.register(ProcessFact)
class ProcessFactAdmin(RecordAdmin[ProcessFact]):
    list_display = ("subject", "selection", "reason", "reporter", "since", "expires_at")
    search_fields = ("subject", "selection", "reporter")
    fields = (*list_display, "shown_alternatives")
    readonly_fields = ("shown_alternatives",)

    @admin.display(description=_("alternatives"))
    def shown_alternatives(self, fact: ProcessFact) -> SafeString:
        return pretty_json(fact.alternatives)


@admin.register(Election)
class ElectionAdmin(RecordAdmin[Election]):
    list_display = ("subject", "selection", "elected_by", "elected_at", "alive_until")
    fields = list_display


@admin.register(Lease)
class LeaseAdmin(RecordAdmin[Lease]):
    list_display = ("name", "lease_owner", "lease_token", "lease_until")
    search_fields = ("name", "lease_owner")
    fields = list_display
    actions = ("release",)

    @operation(permission="release", description=_("Release selected leases"), destructive=True)
    def release(self, request: HttpRequest, lease: Lease) -> str:
        owner = lease.lease_owner
        Lease.objects.filter(pk=lease.pk, lease_token=lease.lease_token).update(lease_until=None)
        return f"released from {owner}"


@admin.register(PolicyVersion)
class PolicyVersionAdmin(RecordAdmin[PolicyVersion]):
    list_display = ("version", "what", "changed_at")
    fields = list_display
