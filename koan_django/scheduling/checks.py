"""System checks of scheduling. None opens a socket."""

from __future__ import annotations

from typing import Any

from django.apps import apps
from django.core.checks import CheckMessage, Error, Warning, register

from koan_django.core.checks import section_check
from koan_django.core.registry import origin_of

from . import declarations
from .conf import options


def check_names(app_configs: object, **kwargs: object) -> list[CheckMessage]:
    """E002: two places declare a task of the same name."""
    return [
        Error(
            error.what, hint=f"{error.why}. Rename one, or give it a name: @scheduled(..., name=...).", id=_id("E002")
        )
        for error in declarations.conflicts
    ]


def check_beat_installed(app_configs: object, **kwargs: object) -> list[CheckMessage]:
    """E003: django-celery-beat, on which the scheduler stands, is not installed."""
    if apps.is_installed("django_celery_beat"):
        return []
    return [
        Error(
            "'django_celery_beat' is not in INSTALLED_APPS",
            hint="The beat of koan-django goes on running its periodic tasks, and needs its tables: add it.",
            id=_id("E003"),
        )
    ]


def check_triggers(app_configs: object, **kwargs: object) -> list[CheckMessage]:
    """E004: a trigger cannot be, so its task does not run."""
    return [
        Error(
            f"the scheduled task {each.name!r} has a trigger that cannot be: {each.trigger!r}",
            hint=f"{each.trigger.problem()}. See {origin_of(each.target)}.",
            id=_id("E004"),
        )
        for each in declarations.broken
    ]


def check_scheduler(app_configs: object, **kwargs: object) -> list[CheckMessage]:
    """W001: there are scheduled tasks, and beat would not look at them."""
    if not len(declarations.declared) or not apps.is_installed("django_celery_beat"):
        return []
    chosen = chosen_scheduler()
    if is_ours(chosen):
        return []
    return [
        Warning(
            f"beat uses {chosen!r}, which does not fire what @scheduled declares",
            hint="Call koan_django.celery.install(app) in the project's celery.py, import that module in the "
            "project's __init__.py, and leave CELERY_BEAT_SCHEDULER out of the settings.",
            id=_id("W001"),
        )
    ]


def register_all() -> None:
    """Register the checks of this app."""
    options_check = section_check(options, _id("E001"))
    for check in (options_check, check_names, check_beat_installed, check_triggers, check_scheduler):
        register(check)


def _id(number: str) -> str:
    return f"koan_scheduling.{number}"


def chosen_scheduler() -> Any:
    """Return the scheduler that the project's Celery app gives to beat."""
    from celery import current_app

    return current_app.conf.beat_scheduler


def is_ours(chosen: Any) -> bool:
    """Whether ``chosen`` fires scheduled tasks."""
    from celery.utils.imports import symbol_by_name

    from .beat import Scheduler

    try:
        found = symbol_by_name(chosen)
    except (ImportError, AttributeError, ValueError):
        return False
    return isinstance(found, type) and issubclass(found, Scheduler)
