"""Runs, to read."""

from __future__ import annotations

from typing import TYPE_CHECKING

from django.contrib import admin
from django.utils.html import format_html
from django.utils.translation import gettext_lazy as _

from koan_django.core.admin.guidance import Guided
from koan_django.core.admin.kit import RecordAdmin, Styled, pretty_json
from koan_django.scheduling.models import TaskRun

from .tasks import state_badge

if TYPE_CHECKING:
    from django.utils.safestring import SafeString


@admin.register(TaskRun)
class TaskRunAdmin(Guided, Styled, RecordAdmin[TaskRun]):
    error_column = "error"
    list_display = ("uuid", "task", "shown_state", "trigger", "planned_at", "duration", "attempt", "worker", "error")
    list_filter = ("state", "trigger", "task")
    list_select_related = ("task",)
    search_fields = ("uuid", "task__name", "correlation_id", "error")
    date_hierarchy = "planned_at"
    fieldsets = (
        (None, {"fields": ("uuid", "task", "trigger", "shown_state", "attempt", "trail", "sends")}),
        (_("Time"), {"fields": ("planned_at", "started_at", "finished_at", "duration", "deadline")}),
        (_("Worker"), {"fields": ("worker", "lease_until", "lease_token")}),
        (
            _("What it said"),
            {"fields": ("shown_progress", "shown_result", "shown_log", "error", "guidance", "shown_traceback")},
        ),
    )
    readonly_fields = (
        *("trail", "shown_state", "shown_progress", "shown_result", "shown_log"),
        *("guidance", "shown_traceback", "uuid"),
    )

    @admin.display(description=_("state"), ordering="state")
    def shown_state(self, run: TaskRun) -> SafeString:
        return state_badge(run.state)

    @admin.display(description=_("progress"))
    def shown_progress(self, run: TaskRun) -> SafeString | str:
        return pretty_json(run.progress) if run.progress else "-"

    @admin.display(description=_("result"))
    def shown_result(self, run: TaskRun) -> SafeString | str:
        return pretty_json(run.result) if run.result else "-"

    @admin.display(description=_("log"))
    def shown_log(self, run: TaskRun) -> SafeString | str:
        return _preformatted(run.log)

    @admin.display(description=_("traceback"))
    def shown_traceback(self, run: TaskRun) -> SafeString | str:
        return _preformatted(run.traceback)


def _preformatted(text: str) -> SafeString | str:
    return format_html('<pre class="koan-json">{}</pre>', text) if text else "-"
