"""Fixtures of all tests, and how hypothesis runs on machines that are busy."""

from __future__ import annotations

import sys
from importlib.util import find_spec
from typing import Any

import pytest
from django.db import connection
from hypothesis import HealthCheck, settings

from tests import emptying

pytest_plugins = ["tests.services.plugin", "tests.services.fixtures", "tests.databases"]

if find_spec("django_celery_beat") is None:
    collect_ignore = [
        "acceptance",
        "adoption",
        "core/test_dev.py",
        "docs/test_anchors.py",
        "docs/test_examples.py",
        "docs/test_tutorial.py",
        "live",
        "scheduling",
    ]

# How fast examples are made says more about the machine's load than about the code.
settings.register_profile("koan", deadline=None, suppress_health_check=[HealthCheck.too_slow])
settings.load_profile("koan")

emptying.install()


@pytest.fixture(scope="session", autouse=True)
def known_features(django_db_setup: None, django_db_blocker: Any) -> None:
    """Django asks SQLite once whether it knows JSON; since 6.1 a system check does, in tests without a database too."""
    if connection.vendor == "sqlite":
        with django_db_blocker.unblock():
            _ = connection.features.supports_json_field


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Begin with what takes longest: at the end of a run all but one of its processes would wait for it.

    pytest-django has sorted them before: what uses the database stays in its order.
    """
    items.sort(
        key=lambda item: not (item.get_closest_marker("acceptance") and not item.get_closest_marker("django_db"))
    )


def pytest_collection_finish(session: pytest.Session) -> None:
    """A project's Celery in this process would take the jobs of every test, and there is no broker for them."""
    for project in ("sampleproject.celery", "tests.integration.project.celery"):
        if project in sys.modules:
            raise pytest.UsageError(f"a test module imports {project}: use it in a process of its own")
