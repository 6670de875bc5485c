"""The changes that plans are made of, each with a sentence that says what it is for."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from django.apps import apps
from django.conf import settings
from django.db import models

from .schedules import declaration

if TYPE_CHECKING:
    from collections.abc import Mapping

    from .project import FileField, Project

LOCAL = ("django.core.files.storage.FileSystemStorage", "django.core.files.storage.filesystem.FileSystemStorage")
#: Backends of ``STORAGES`` that storage has a driver for.
DRIVEN = (*LOCAL, "storages.backends.s3.S3Storage")
_BEATS = ("celery.beat", "django_celery_beat.")


@dataclass
class Plan:
    """For one app: the extra that pip installs, what the diff does and why, and what remains to be decided."""

    app: str
    extra: str = ""
    changes: list[str] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)


def install(project: Project, plan: Plan, app: str, why: str) -> None:
    """Install ``app``, unless it is there."""
    if not apps.is_installed(app) and app not in project.wanted_apps:
        project.wanted_apps.append(app)
        plan.changes.append(f"INSTALLED_APPS: {app}: {why}")


def addresses(project: Project, plan: Plan, module: str, prefix: str, what: str) -> None:
    """Serve the addresses of ``module`` below ``prefix``."""
    found = project.urls()
    if found is None:
        plan.notes.append(
            f'ROOT_URLCONF has no list of patterns: add path("{prefix}", include("{module}")) for {what}.'
        )
        return
    source, patterns = found
    if module not in source.text:
        source.add_import("django.urls", "include")
        source.add_import("django.urls", "path")
        source.add_first(patterns, f'path("{prefix}", include("{module}"))')
        plan.changes.append(f"urlpatterns: {what}; first, so that no pattern of yours hides them")


def log(project: Project, plan: Plan) -> None:
    """Give the records of the project's handlers their context."""
    source = project.settings("LOGGING")
    statements = source.statements("LOGGING")
    if not statements:
        plan.notes.append("LOGGING is not set. koan_django.core.logs.ContextFilter gives a record its correlation_id.")
    elif "koan_django.core.logs" not in str(settings.LOGGING):
        source.after(
            statements[-1],
            'LOGGING.setdefault("filters", {})["koan"] = {"()": "koan_django.core.logs.ContextFilter"}\n'
            'for _handler in LOGGING.get("handlers", {}).values():\n'
            '    _handler["filters"] = [*_handler.get("filters", []), "koan"]',
        )
        plan.changes.append("LOGGING: each record has correlation_id and tenant, for formats: %(correlation_id)s")


def backend(alias: str) -> str:
    """Return the dotted path of a backend of ``STORAGES``."""
    storages: Any = settings.STORAGES
    return str(storages.get(alias, {}).get("BACKEND", ""))


def profiles(project: Project, plan: Plan) -> None:
    """Give every alias of ``STORAGES`` a profile, where one would not do."""
    aliases = [alias for alias in settings.STORAGES if alias != "staticfiles"]
    driven = [alias for alias in aliases if backend(alias) in DRIVEN]
    for alias in sorted(set(aliases) - set(driven)):
        plan.notes.append(
            f"STORAGES[{alias!r}] is {backend(alias)}: see the reference whether storage has a driver for it, then add"
            f' "{alias}": {{"STORAGE": "{alias}"}} to the profiles.'
        )
    if driven == ["default"] or "STORAGE" in getattr(settings, "KOAN", {}) or not driven:
        return
    source = project.settings("KOAN") if hasattr(settings, "KOAN") else project.settings("STORAGES")
    behind = source.statements("KOAN") or source.statements("STORAGES")
    lines = [f'        "{alias}": {{"STORAGE": "{alias}"}},' for alias in driven]
    default = "default" if "default" in driven else driven[0]
    opening = "KOAN = {**KOAN, " if hasattr(settings, "KOAN") else "KOAN = {"
    text = [
        f'{opening}"STORAGE": {{',
        f'    "DEFAULT_PROFILE": "{default}",',
        '    "PROFILES": {',
        *lines,
        "    },",
        "}}",
    ]
    source.after(behind[-1] if behind else None, "\n".join(text))
    plan.changes.append(f"KOAN: a profile for each of {', '.join(driven)}, on the same files as before")


def own_bytes(each: FileField, plan: Plan) -> None:
    """Let a plain ``FileField`` own its bytes."""
    if each.kind is not models.FileField:
        return
    if each.has_storage:
        plan.notes.append(f"{each.name} names a storage of its own: give that a profile, then use StoredFileField.")
        return
    each.source.replace(each.call.func, "StoredFileField")
    each.source.add_import("koan_django.storage", "StoredFileField")
    plan.changes.append(
        f"{each.name}: a StoredFileField, on the same files under the same names (makemigrations: longer and indexed)."
        " From then on a file is removed when its row goes or gets another; leave this hunk out where others use it"
    )


def tie(project: Project, plan: Plan) -> None:
    """Call ``install(app)`` behind what configures the Celery app."""
    found = project.celery()
    source = project.module(found.module) if found else None
    if found is None or source is None:
        plan.notes.append("no Celery app of the project was found: call koan_django.celery.install(app) where it is.")
        return
    if "koan_django.celery" in source.result():
        return
    source.add_import("koan_django.celery", "install")
    configured = [
        node
        for node in source.tree.body
        if any(f"{found.attribute}.{call}(" in _line(source.text, node) for call in _CONFIGURING)
    ]
    source.after(configured[-1] if configured else None, f"install({found.attribute})")
    plan.changes.append(f"{found.module}: install() ties the worker and beat that you run to the apps")
    package = found.module.rpartition(".")[0]
    init = project.module(package) if package else None
    if init is not None and found.module.rpartition(".")[2] not in init.text:
        name = "celery_app" if found.attribute == "app" else found.attribute
        init.after(None, f"from .{found.module.rpartition('.')[2]} import {found.attribute} as {name}  # noqa: F401")
        plan.changes.append(f"{package}: imports the Celery app, so that web processes send through it")


_CONFIGURING = ("config_from_object", "autodiscover_tasks")


def _line(text: str, node: Any) -> str:
    return "\n".join(text.splitlines()[node.lineno - 1 : node.end_lineno])


def sqlite(project: Project, plan: Plan, alias: str, database: Mapping[str, Any]) -> None:
    """Let several processes write to an SQLite database."""
    options = database.get("OPTIONS", {})
    if database.get("ENGINE") != "django.db.backends.sqlite3" or options.get("transaction_mode") == "IMMEDIATE":
        return
    source = project.settings("DATABASES")
    statements = source.statements("DATABASES")
    source.after(
        statements[-1] if statements else None,
        f'DATABASES["{alias}"]["OPTIONS"] = {{\n'
        f'    **DATABASES["{alias}"].get("OPTIONS", {{}}),\n'
        '    "transaction_mode": "IMMEDIATE",\n'
        '    "timeout": 20,\n'
        '    "init_command": "PRAGMA journal_mode=WAL; PRAGMA synchronous=NORMAL;",\n'
        "}",
    )
    plan.changes.append(f"DATABASES[{alias!r}]: SQLite lets a web process and a worker write side by side")


def beat(project: Project, plan: Plan, app: Any) -> None:
    """Let ``install(app)`` choose the scheduler, and say what becomes of the schedule."""
    if str(app.conf.beat_scheduler).startswith(_BEATS):
        for name in ("CELERY_BEAT_SCHEDULER", "CELERYBEAT_SCHEDULER"):
            source = project.settings(name)
            for statement in source.statements(name):
                source.remove(statement)
                plan.changes.append(f"{name} goes: install() chooses a scheduler for beat's tasks and ours")
    for name, entry in sorted((app.conf.beat_schedule or {}).items()):
        if not str(entry.get("task", "")).startswith("koan_"):
            plan.notes.append(
                f"the entry {name!r} of the beat schedule ({entry.get('task')}) keeps running. To have its runs"
                f" recorded: remove it and write {declaration(entry.get('schedule'))} in a schedules.py."
            )
