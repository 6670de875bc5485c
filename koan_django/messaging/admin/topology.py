"""What stands on the brokers: what was made there, and the page of what differs."""

from __future__ import annotations

import time
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from django.contrib import admin, messages
from django.core.exceptions import PermissionDenied
from django.http import HttpResponseRedirect
from django.template.response import TemplateResponse
from django.urls import reverse
from django.utils.translation import gettext_lazy as _

from koan_django.core import audit
from koan_django.core.admin.kit import RecordAdmin, Styled, pretty_json
from koan_django.core.audit.actors import of_user
from koan_django.core.exceptions import KoanError
from koan_django.core.redaction import redact_text
from koan_django.core.stores import Status
from koan_django.messaging.buses import registry
from koan_django.messaging.buses.elected import ElectedBus
from koan_django.messaging.models import Topology, TopologyObject

if TYPE_CHECKING:
    from collections.abc import Iterator

    from django.http import HttpRequest, HttpResponse
    from django.utils.safestring import SafeString

    from koan_django.messaging.provisioning.plans import Change  # noqa: TC004  # it needs a broker's client
    from koan_django.messaging.provisioning.targets import Target

#: For the whole page; a broker that would be asked later is shown as unknown.
BUDGET_SECONDS = 8.0


@dataclass(frozen=True, slots=True)
class Shown:
    """One virtual host as the page draws it."""

    bus: str
    place: str
    mode: str
    status: Status
    text: str = ""
    broker: str = ""
    changes: tuple[Change, ...] = ()
    missing: int = 0


@admin.register(TopologyObject)
class TopologyObjectAdmin(Styled, RecordAdmin[TopologyObject]):
    list_display = ("name", "kind", "source", "routing_key", "bus", "vhost", "created_by", "wanted_at")
    list_filter = ("kind", "bus")
    search_fields = ("name", "source", "routing_key")
    date_hierarchy = "created_at"
    fields = (
        ("kind", "name"),
        ("source", "routing_key", "destination_type"),
        ("bus", "broker", "vhost"),
        "shown_arguments",
        ("created_by", "created_at", "wanted_at"),
    )
    readonly_fields = ("shown_arguments",)

    @admin.display(description=_("arguments"))
    def shown_arguments(self, row: TopologyObject) -> SafeString:
        return pretty_json(row.arguments)


@admin.register(Topology)
class TopologyAdmin(RecordAdmin[Topology]):
    """Shows what differs where another model would list its rows, and makes what is missing."""

    def changelist_view(self, request: HttpRequest, extra_context: Any = None) -> HttpResponse:
        if not self.has_view_permission(request):
            raise PermissionDenied
        may_apply = self._has("apply_topology", request)
        if request.method == "POST":
            if not may_apply:
                raise PermissionDenied
            self._apply(request, request.POST.get("bus", ""))
            return HttpResponseRedirect(reverse("admin:koan_messaging_topology_changelist"))
        context = {
            **self.admin_site.each_context(request),
            "title": _("Topology"),
            "opts": self.opts,
            "buses": list(_shown()),
            "may_apply": may_apply,
        }
        return TemplateResponse(request, "admin/koan_messaging/topology.html", context)

    def _apply(self, request: HttpRequest, bus: str) -> None:
        """Make what is missing on the brokers of ``bus``. What is there stays as it is."""
        from koan_django.messaging.provisioning.applying import apply

        for target in _targets():
            if target.bus != bus:
                continue
            try:
                done = apply(target)
            except KoanError as error:
                self.message_user(request, redact_text(str(error)), messages.ERROR)
                continue
            told = {"made": [str(each) for each in done.made], "refused": done.refused}
            reference = audit.Reference("bus", bus)
            audit.record("admin.apply_topology", reference, actor=of_user(request.user), data=told)
            for text in done.refused:
                self.message_user(request, redact_text(text), messages.ERROR)
            self.message_user(request, _("%d made.") % len(done.made), messages.SUCCESS)


def _targets() -> list[Target]:
    """The virtual hosts of the buses on RabbitMQ; without its client there are none."""
    buses = (bus.current if isinstance(bus, ElectedBus) else bus for bus in registry.all_buses())
    if all(bus.options.scheme not in ("amqp", "amqps") for bus in buses):
        return []
    from koan_django.messaging.provisioning.targets import targets

    return targets()


def _shown() -> Iterator[Shown]:
    end = time.monotonic() + BUDGET_SECONDS
    for target in _targets():
        if time.monotonic() < end:
            yield _one(target)
        else:
            text = str(_("not asked: the others took too long to answer"))
            yield Shown(target.bus, target.place, target.options.provisioning, "unknown", text)


def _one(target: Target) -> Shown:
    mode = target.options.provisioning
    try:
        plan = target.plan()
    except KoanError as error:
        return Shown(target.bus, target.place, mode, "unknown", redact_text(str(error)))
    return Shown(
        target.bus,
        target.place,
        mode,
        "degraded" if plan.has_changes else "healthy",
        "" if plan.changes else str(_("All is as it is wanted.")),
        plan.standing.broker,
        plan.changes,
        sum(change.drift == "missing" for change in plan.changes),
    )
