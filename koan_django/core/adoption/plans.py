"""What each app would change, and what it leaves to a person. A plan of an app that is there already is empty."""

from __future__ import annotations

from typing import TYPE_CHECKING

from django.conf import settings
from django.db import models

from .changes import LOCAL, Plan, addresses, backend, beat, install, log, own_bytes, profiles, sqlite, tie
from .diffing import secrets as secrets_in

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from .project import Project

_REPORTERS = {
    "DEFAULT_EXCEPTION_REPORTER": "RedactingReporter",
    "DEFAULT_EXCEPTION_REPORTER_FILTER": "RedactingReporterFilter",
}


def core(project: Project) -> Plan:
    """Context, health and logging."""
    plan = Plan("core")
    install(project, plan, "koan_django.core", "options, context, health and the Overview page of the admin")
    middleware = "koan_django.core.middleware.ContextMiddleware"
    if middleware not in settings.MIDDLEWARE:
        behind = "django.contrib.auth.middleware.AuthenticationMiddleware"
        project.settings("MIDDLEWARE").add_items("MIDDLEWARE", [middleware], behind=behind)
        plan.changes.append("MIDDLEWARE: a correlation id for each request, in its response, logs and messages")
    addresses(project, plan, "koan_django.core.urls", "", "/health, /health/live and /health/ready")
    log(project, plan)
    return plan


def secrets(project: Project) -> Plan:
    """References instead of secrets in settings."""
    plan = Plan("secrets")
    install(project, plan, "koan_django.secrets", "{{secret:path#field}} in settings and options")
    source = project.settings()
    if "resolve_settings(" not in source.text:
        source.add_import("koan_django", "secrets")
        for name, kind in _REPORTERS.items():
            if not project.settings(name).statements(name):
                source.after(None, f'{name} = "koan_django.core.error_pages.{kind}"')
        source.after(None, "secrets.resolve_settings(globals())")
        plan.changes.append("the last line of the settings resolves references; error pages mask what was resolved")
    if lines := sorted({node.lineno for node in secrets_in(source.tree)}):
        plan.notes.append(
            f"{source.path.name} holds secrets in the lines {', '.join(map(str, lines))}: put each where a provider"
            ' finds it, and write a reference such as "{{secret:shop/name}}" there. A diff of that would show them.'
        )
    return plan


def storage(project: Project) -> Plan:
    """Profiles over ``STORAGES``, and file fields that own their bytes."""
    plan = Plan("storage")
    install(project, plan, "koan_django.storage", "profiles over STORAGES, verified moves, owned files")
    profiles(project, plan)
    if not settings.MEDIA_ROOT and backend("default") in LOCAL:
        plan.notes.append("MEDIA_ROOT is not set: files would lie in the current folder, and a check warns of it.")
    for each in project.file_fields():
        own_bytes(each, plan)
    return plan


def messaging(project: Project) -> Plan:
    """The message bus, in the worker that the project runs."""
    plan = Plan("messaging", extra="messaging")
    install(project, plan, "koan_django.messaging", "typed messages, committed with your data, handled at least once")
    tie(project, plan)
    for alias, database in settings.DATABASES.items():
        sqlite(project, plan, alias, database)
    if tasks := project.tasks():
        plan.notes.append(
            f"these tasks stay as they are: {', '.join(tasks)}. Where a lost or early .delay() would hurt, send a"
            " message in the same transaction as the data, and do the work in its handler."
        )
    return plan


def inbox(project: Project) -> Plan:
    """Effects once."""
    plan = Plan("inbox")
    install(project, plan, "koan_django.inbox", "a message or webhook that comes twice has its effects once")
    return plan


def media(project: Project) -> Plan:
    """Pictures, checked and derived."""
    plan = Plan("media", extra="media")
    install(project, plan, "koan_django.storage", "media keeps its files there")
    install(project, plan, "koan_django.media", "pictures checked before they are decoded, variants rendered once")
    addresses(project, plan, "koan_django.media.urls", "koan/media/", "pictures and their variants")
    tie(project, plan)
    for each in project.file_fields():
        if issubclass(each.kind, models.ImageField):
            plan.notes.append(
                f"{each.name} stays an ImageField. A model of its own, class Photo(MediaAsset), gives a picture checks,"
                " recipes and variants; point a foreign key at it where you need them."
            )
    return plan


def scheduling(project: Project) -> Plan:
    """Scheduled tasks whose runs are recorded."""
    plan = Plan("scheduling", extra="scheduling")
    install(project, plan, "django_celery_beat", "the scheduler stands on its tables")
    install(project, plan, "koan_django.scheduling", "@scheduled tasks, every run recorded, any number of beats")
    tie(project, plan)
    found = project.celery()
    if found is not None:
        beat(project, plan, found.app)
    rows = project.beat_rows()
    if rows is None:
        plan.notes.append("the rows of django-celery-beat cannot be read: is the database there, and migrated?")
    for name in rows or ():
        plan.notes.append(f"the periodic task {name!r} of the admin keeps running as it is.")
    return plan


PLANS: Mapping[str, Callable[[Project], Plan]] = {
    each.__name__: each for each in (core, storage, messaging, inbox, media, scheduling, secrets)
}


def make(project: Project, names: list[str]) -> list[Plan]:
    """Return the plans of the apps ``names`` and of core, on which all stand; the files of ``project`` are changed."""
    plans = [plan(project) for name, plan in PLANS.items() if name in names or name == "core"]
    if project.wanted_apps:
        project.settings("INSTALLED_APPS").add_items("INSTALLED_APPS", project.wanted_apps)
    return plans
