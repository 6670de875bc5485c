"""The facts of core itself: where the process runs, and on what."""

from __future__ import annotations

import platform
from typing import TYPE_CHECKING

import django
from django.db import connection

import koan_django

from . import conf, dispatch, environment, policy
from .facts import Fact, source

if TYPE_CHECKING:
    from collections.abc import Iterator


@source("core")
def core_facts() -> Iterator[Fact]:
    """The versions, the environment, the database and who runs jobs."""
    here = environment.current()
    versions = f"Django {django.get_version()}, Python {platform.python_version()}"
    yield Fact("core.version", koan_django.__version__, versions)
    _, origin = conf.environment_name()
    yield Fact("core.environment", here.name or "none", origin if here.name else "no environment is named")
    for name in ("container", "kubernetes", "ci"):
        trait = getattr(here, name)
        yield Fact(f"core.{name}", "yes" if trait else "no", trait.sign)
    yield Fact("core.debug", "on" if here.debug else "off", "settings.DEBUG")
    yield Fact("core.database", connection.vendor, "settings.DATABASES['default']")
    yield Fact("core.jobs", *dispatch.described())
    if (change := policy.watch.last_change) is not None:
        yield Fact("core.policy", f"version {change[0]}", f"the last change: {change[1]}")
