"""What somebody reads who has not installed all that an app needs."""

from __future__ import annotations

import os
import subprocess
import sys
import textwrap
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]

#: A project in a process of its own, in which a package is not there.
PROJECT = """
import sys

sys.modules[{missing!r}] = None  # as Python knows what cannot be imported

import django
from django.conf import settings

settings.configure(INSTALLED_APPS={apps!r}, DATABASES={{"default": {{"ENGINE": "django.db.backends.sqlite3"}}}})
{code}
"""
BASE = ["django.contrib.contenttypes", "django.contrib.auth"]


def last_words(missing: str, apps: list[str], code: str = "django.setup()") -> str:
    """Return the last line of what such a project prints as it fails."""
    source = PROJECT.format(missing=missing, apps=[*BASE, *apps], code=textwrap.dedent(code))
    done = subprocess.run([sys.executable, "-c", source], capture_output=True, text=True, check=False)
    assert done.returncode == 1, done.stdout + done.stderr
    return done.stderr.strip().splitlines()[-1]


@pytest.mark.parametrize(
    ("apps", "missing", "extra"),
    [
        (["messaging"], "msgspec", "messaging"),
        (["storage", "media"], "PIL", "media"),
        (["scheduling"], "cronsim", "scheduling"),
    ],
)
def test_an_app_whose_extra_is_not_installed_says_which(apps: list[str], missing: str, extra: str) -> None:
    said = last_words(missing, ["koan_django.core", *(f"koan_django.{app}" for app in apps)])
    assert said.startswith(f"ModuleNotFoundError: koan_django.{apps[-1]} needs '{missing}")
    assert said.endswith(f"which is not installed. Install the extra: pip install 'koan-django[{extra}]'.")


def test_so_does_a_public_name_that_a_project_imports() -> None:
    said = last_words("msgspec", [], "from koan_django.messaging import Message")
    assert said.endswith("Install the extra: pip install 'koan-django[messaging]'.")


def test_a_module_of_ours_that_is_missing_is_no_extra() -> None:
    said = last_words("koan_django.messaging.messages", [], "from koan_django.messaging import Message")
    assert "Install the extra" not in said
    assert "koan_django.messaging.messages" in said


def test_a_module_of_the_projects_own_that_is_missing_is_no_extra(tmp_path: Path) -> None:
    """Some of our modules read the settings as they are imported."""
    (tmp_path / "settings_of_a_project.py").write_text("import environ_that_is_not_installed\n")
    done = subprocess.run(
        [sys.executable, "-c", "from koan_django.testing import drain"],
        env={**os.environ, "DJANGO_SETTINGS_MODULE": "settings_of_a_project", "PYTHONPATH": f"{ROOT}:{tmp_path}"},
        capture_output=True,
        text=True,
        check=False,
    )
    assert (
        done.stderr.strip().splitlines()[-1] == "ModuleNotFoundError: No module named 'environ_that_is_not_installed'"
    )


def test_in_a_project_with_the_admin_too() -> None:
    """It imports the admin of each app before the app itself is ready."""
    apps = ["django.contrib.messages", "django.contrib.sessions", "django.contrib.admin"]
    said = last_words("PIL", [*apps, "koan_django.core", "koan_django.storage", "koan_django.media"])
    assert said.endswith("Install the extra: pip install 'koan-django[media]'.")


@pytest.mark.parametrize(
    ("lacking", "apps"),
    [
        ("koan_django.storage", ["koan_django.core", "koan_django.media"]),
        *(("koan_django.core", [f"koan_django.{app}"]) for app in ("inbox", "messaging", "secrets", "storage")),
    ],
)
def test_an_app_without_the_one_it_stands_on_says_what_to_add(lacking: str, apps: list[str]) -> None:
    assert last_words("nothing", apps) == (
        f"django.core.exceptions.ImproperlyConfigured: {apps[-1]!r} stands on {lacking!r}:"
        " add that to INSTALLED_APPS, above it."
    )
