"""Scheduled tasks: what people may set, run, enable and disable."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from django.contrib import admin
from django.contrib.admin.utils import flatten_fieldsets
from django.urls import reverse
from django.utils.html import format_html
from django.utils.translation import gettext
from django.utils.translation import gettext_lazy as _

from koan_django.core.admin.kit import KoanAdmin, Styled, badge, operation
from koan_django.scheduling import operations
from koan_django.scheduling.models import ScheduledTask

if TYPE_CHECKING:
    from django.forms import ModelForm
    from django.http import HttpRequest
    from django.utils.safestring import SafeString


_OVERRIDES = ("interval_override", "cron_override")


@admin.register(ScheduledTask)
class ScheduledTaskAdmin(Styled, KoanAdmin[ScheduledTask]):
    list_display = ("name", "in_force", "on", "next_run_at", "shown_state", "last_finished_at", "critical")
    list_filter = ("enabled", "gone", "critical", "last_state")
    search_fields = ("name", "last_error")
    actions = ("run_now", "enable", "disable")
    fieldsets = (
        (None, {"fields": ("name", "on", "interval_override", "cron_override", "next_run_at", "shown_runs")}),
        (
            _("In code"),
            {"fields": ("trigger", "misfire", "on_startup", "critical", "timeout", "max_concurrency", "gone")},
        ),
        (
            _("Last run"),
            {"fields": ("shown_state", "last_error", "last_finished_at", "last_success_at", "interruptions")},
        ),
    )

    def get_fieldsets(self, request: HttpRequest, obj: ScheduledTask | None = None) -> Any:
        """Only what an interval has, or what a cron expression has."""
        absent = ("cron_override", "misfire") if obj is None or obj.interval is not None else ("interval_override",)
        return [
            (title, {**options, "fields": [name for name in options["fields"] if name not in absent]})
            for title, options in self.fieldsets
        ]

    def get_readonly_fields(self, request: HttpRequest, obj: ScheduledTask | None = None) -> list[str]:
        """Everything but the override: code owns the rest, or an operation sets it."""
        return [name for name in flatten_fieldsets(self.fieldsets) if name not in _OVERRIDES]

    def has_add_permission(self, request: HttpRequest) -> bool:
        return False

    def has_delete_permission(self, request: HttpRequest, obj: ScheduledTask | None = None) -> bool:
        return False

    def save_model(self, request: HttpRequest, obj: ScheduledTask, form: ModelForm[Any], change: bool) -> None:
        if obj.interval is None:
            operations.override_cron(obj.name, obj.cron_override)
        else:
            operations.override_interval(obj.name, obj.interval_override)

    @admin.display(description=_("trigger"), ordering="trigger")
    def in_force(self, task: ScheduledTask) -> SafeString | str:
        if not task.drifted:
            return task.trigger
        return format_html("{} {}", task.schedule, badge("degraded", gettext("code: %s") % task.trigger))

    @admin.display(description=_("enabled"), ordering="enabled")
    def on(self, task: ScheduledTask) -> SafeString:
        if task.gone:
            return badge("unknown", gettext("gone"))
        return badge("healthy", gettext("enabled")) if task.enabled else badge("degraded", gettext("disabled"))

    @admin.display(description=_("last state"), ordering="last_state")
    def shown_state(self, task: ScheduledTask) -> SafeString | str:
        return state_badge(task.last_state) if task.last_state else "-"

    @admin.display(description=_("runs"))
    def shown_runs(self, task: ScheduledTask) -> SafeString:
        url = reverse("admin:koan_scheduling_taskrun_changelist")
        return format_html('<a href="{}?task__id__exact={}">{}</a>', url, task.pk, _("all runs of this task"))

    @operation(permission="run", description=_("Run selected tasks now"))
    def run_now(self, request: HttpRequest, task: ScheduledTask) -> str:
        return f"run asked for: {operations.run_now(task.name).uuid}"

    @operation(permission="run", description=_("Enable selected tasks"))
    def enable(self, request: HttpRequest, task: ScheduledTask) -> str:
        operations.enable(task.name)
        return "enabled"

    @operation(permission="run", description=_("Disable selected tasks"))
    def disable(self, request: HttpRequest, task: ScheduledTask) -> str:
        operations.disable(task.name)
        return "disabled"


_COLOURS = {"succeeded": "healthy", "failed": "unhealthy", "timeout": "unhealthy", "interrupted": "degraded"}


def state_badge(state: str) -> SafeString:
    """Return the state of a run in the colour of how good it is."""
    return badge(_COLOURS.get(state, "unknown"), state)
