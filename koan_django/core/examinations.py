"""Core's own examinations: the system checks, the databases, their migrations, and what other processes say."""

from __future__ import annotations

from typing import TYPE_CHECKING

from django.apps import apps
from django.conf import settings
from django.core import checks
from django.db import DEFAULT_DB_ALIAS, Error, connections
from django.db.migrations.executor import MigrationExecutor

from . import health
from .doctor import examination
from .health import Finding

if TYPE_CHECKING:
    from collections.abc import Iterator


@examination("core.checks")
def system_checks() -> Iterator[Finding]:
    """What ``check`` says of koan-django, and every error of the project; in production ``check --deploy``."""
    found = [each for each in checks.run_checks(include_deployment_checks=not settings.DEBUG) if not each.is_silenced()]
    shown = [each for each in found if each.level >= checks.ERROR or (each.id or "").startswith("koan_")]
    for each in shown:
        status: health.Status = "unhealthy" if each.level >= checks.ERROR else "degraded"
        yield Finding(f"check.{each.id}", status, str(each.msg), remedy=str(each.hint or "Correct it."))
    if not shown:
        yield Finding("check", "healthy", "no system check complains")


@examination("core.databases")
def databases() -> Iterator[Finding]:
    """Each database answers."""
    for alias in connections:
        name, connection = f"database.{alias}", connections[alias]
        try:
            with connection.cursor() as cursor:
                cursor.execute("SELECT 1")
        except Error as error:
            remedy = f"Start the server, or correct DATABASES[{alias!r}]."
            yield Finding(name, "unhealthy", f"{type(error).__name__}: {error}", remedy=remedy)
        else:
            yield Finding(name, "healthy", f"{connection.vendor} answers")
            if connection.vendor == "mysql":
                yield _collation(alias)


def _collation(alias: str) -> Finding:
    """Names that differ in case only are two on every other database."""
    with connections[alias].cursor() as cursor:
        cursor.execute("SELECT @@collation_database")
        (collation,) = cursor.fetchone()
    name, text = f"database.{alias}.collation", f"tables are made with {collation}"
    if collation.endswith(("_bin", "_cs")):
        return Finding(name, "healthy", text)
    remedy = (
        "Make the database with utf8mb4_bin, or give groups, aliases and files names that differ in more than case."
    )
    return Finding(name, "degraded", text, remedy=remedy)


@examination("core.migrations")
def migrations() -> Iterator[Finding]:
    """The tables of koan-django are up to date in the default database."""
    labels = {config.label for config in apps.get_app_configs() if config.name.startswith("koan_django.")}
    executor = MigrationExecutor(connections[DEFAULT_DB_ALIAS])
    plan = executor.migration_plan(executor.loader.graph.leaf_nodes())
    missing = [f"{migration.app_label}.{migration.name}" for migration, _ in plan if migration.app_label in labels]
    if missing:
        text = f"not applied: {', '.join(missing)}"
        yield Finding("migrations", "unhealthy", text, remedy="Run `python manage.py migrate`.")
    else:
        yield Finding("migrations", "healthy", "all are applied")


@examination("core.health")
def others() -> Iterator[Finding]:
    """What other processes say of themselves and is not well."""
    for found in health.aggregate().findings:
        if found.status != "healthy":
            remedy = "Look at the log of that process; one that is gone is forgotten after five minutes."
            yield Finding(f"health.{found.name}", found.status, found.message, found.critical, remedy=remedy)
