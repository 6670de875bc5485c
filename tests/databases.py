"""A second database for the tests of a module, of the same kind as the default one."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import django
import pytest
from django.db import connection, connections

ALIAS = "orders"


@pytest.fixture(scope="session")
def second_database(
    django_db_setup: None,
    django_db_blocker: Any,
    tmp_path_factory: pytest.TempPathFactory,
    pytestconfig: pytest.Config,
) -> Iterator[dict[str, Any]]:
    """Its settings. It has the tables of all apps."""
    known: dict[str, Any] = connections.databases
    name = connection.settings_dict["NAME"]
    is_file = connection.vendor == "sqlite"
    name = str(tmp_path_factory.mktemp("orders") / "orders.sqlite3") if is_file else f"{name}_orders"
    known[ALIAS] = {**known["default"], "NAME": name, "TEST": {"NAME": name, "MIGRATE": False}}
    connections.configure_settings(known)
    creation = connections[ALIAS].creation
    with django_db_blocker.unblock():
        # Django 6.1 does not by itself, and warns who says so.
        spared: dict[str, Any] = {"serialize": False} if django.VERSION < (6, 1) else {}
        creation.create_test_db(verbosity=0, autoclobber=True, **spared)
        connections[ALIAS].close()
        settings = known.pop(ALIAS)
        yield settings
        # Behind a pooler, which keeps connections to it, it goes with its server as the first one does.
        creation.destroy_test_db(verbosity=0, keepdb=pytestconfig.getvalue("reuse_db"))


@pytest.fixture(scope="module")
def orders(second_database: dict[str, Any]) -> Iterator[str]:
    """The alias of a second database, which is there for this module alone. Its tests name both:
    ``@pytest.mark.django_db(databases=["default", "orders"])``.
    """
    known: dict[str, Any] = connections.databases
    known[ALIAS] = second_database
    yield ALIAS
    connections[ALIAS].close()
    del connections[ALIAS], known[ALIAS]
