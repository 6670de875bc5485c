"""django-celery-beat's own screens, registered again: its actions ask for no permission, these do.

A project that registered screens of its own keeps them.
"""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

from celery import current_app
from django.apps import apps
from django.contrib import admin
from django.utils.translation import gettext_lazy as _

from koan_django.core.admin.kit import Audited, operation
from koan_django.scheduling.exceptions import UnknownTaskError

if TYPE_CHECKING:
    from django.http import HttpRequest


def register() -> None:
    """Put our screens in the place of the package's own."""
    from django_celery_beat import admin as beat

    _replace(beat.PeriodicTask, beat.PeriodicTaskAdmin, _periodic_admin(beat.PeriodicTaskAdmin))
    for name in ("IntervalSchedule", "CrontabSchedule", "SolarSchedule", "ClockedSchedule"):
        stock = getattr(beat, f"{name}Admin")
        _replace(getattr(beat, name), stock, type(f"{name}Admin", (_Listed, stock), {"__module__": __name__}))


class _Listed(Audited[Any]):
    """What every screen of ours keeps to."""

    show_full_result_count = False
    list_per_page = 50


def _replace(model: Any, stock: type, ours: type) -> None:
    registered = admin.site._registry.get(model)
    if registered is not None and type(registered) is stock:
        admin.site.unregister(model)
        admin.site.register(model, ours)


def _periodic_admin(stock: Any) -> type:
    class PeriodicTaskAdmin(_Listed, stock):  # type: ignore[misc]  # the package is not typed
        """Whoever may change a periodic task may run it: its task and arguments can be changed, too."""

        #: The package's template has an inline script.
        change_form_template = None
        actions = ("enable_tasks", "disable_tasks", "toggle_tasks", "run_tasks")

        @operation(permission="change", description=_("Enable selected tasks"))
        def enable_tasks(self, request: HttpRequest, task: Any) -> str:
            return _set_enabled(task, True)

        @operation(permission="change", description=_("Disable selected tasks"))
        def disable_tasks(self, request: HttpRequest, task: Any) -> str:
            return _set_enabled(task, False)

        @operation(permission="change", description=_("Toggle activity of selected tasks"))
        def toggle_tasks(self, request: HttpRequest, task: Any) -> str:
            return _set_enabled(task, not task.enabled)

        @operation(permission="change", description=_("Run selected tasks"))
        def run_tasks(self, request: HttpRequest, task: Any) -> str:
            return _send(task)

    return PeriodicTaskAdmin


def _set_enabled(task: Any, enabled: bool) -> str:
    from django_celery_beat.models import PeriodicTasks

    changes: dict[str, Any] = {"enabled": enabled} if enabled else {"enabled": False, "last_run_at": None}
    type(task).objects.filter(pk=task.pk).update(**changes)
    PeriodicTasks.update_changed()
    return "enabled" if enabled else "disabled"


def _send(task: Any) -> str:
    current_app.loader.import_default_modules()
    known = current_app.tasks.get(task.task)
    if known is None:
        raise UnknownTaskError(f"Celery knows no task {task.task!r}", fix="Correct the name, or import its module.")
    options = {"queue": task.queue} if task.queue else {}
    sent = known.apply_async(
        json.loads(task.args or "[]"),
        json.loads(task.kwargs or "{}"),
        headers={"periodic_task_name": task.name},
        **options,
    )
    return f"sent: {sent.id}"


if apps.is_installed("django_celery_beat"):
    register()
