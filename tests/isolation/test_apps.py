"""Each app works with what it requires and nothing else: neither a sibling nor a package outside its row."""

from __future__ import annotations

import os
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

import pytest

import koan_django

ALONE = Path(__file__).parent / "alone.py"
APPS = {path.parent.name for path in Path(koan_django.__file__).parent.glob("*/apps.py")}


@dataclass(frozen=True)
class Row:
    """What an app requires: other apps, and third-party packages."""

    requires: tuple[str, ...] = ()
    packages: tuple[str, ...] = ()


ROWS = {
    "core": Row(),
    "secrets": Row(),
    "storage": Row(),
    "messaging": Row(packages=("msgspec",)),
    "inbox": Row(),
    "media": Row(requires=("storage",), packages=("pillow",)),
    "scheduling": Row(packages=("celery", "beat")),
}


def run(*arguments: str) -> subprocess.CompletedProcess[str]:
    """Run in a process that knows nothing of the settings of these tests."""
    environ = {name: value for name, value in os.environ.items() if not name.startswith(("DJANGO_", "KOAN_"))}
    command = [sys.executable, "-W", "error", *arguments]
    return subprocess.run(command, env=environ, capture_output=True, text=True, timeout=120, check=False)


def test_the_table_holds_every_app() -> None:
    assert set(ROWS) >= APPS


@pytest.mark.parametrize("app", sorted(APPS))
def test_it_checks_migrates_imports_and_shows_itself_alone(app: str) -> None:
    row = ROWS[app]
    done = run(str(ALONE), app, ",".join(row.requires), ",".join(row.packages))
    assert done.returncode == 0, done.stdout + done.stderr
    assert "/admin/" in done.stdout.splitlines()


REACH = """
import sys
sys.path.insert(0, sys.argv[1])
import alone
sys.meta_path.insert(0, alone.Refuse({"core", "secrets"}, {"msgspec"}))
sys.path.insert(0, str(alone.ROOT))
import koan_django.core, koan_django.secrets, msgspec
ours = [f"koan_django.{name}" for name in ("messaging", "testing", "celery")]
for name in [*ours, "celery", "kombu", "PIL", "storages"]:
    try:
        __import__(name)
    except ModuleNotFoundError as error:
        assert "outside the row" in str(error), error
    else:
        raise SystemExit(f"{name} can be imported")
"""


def test_what_is_outside_the_row_is_out_of_reach() -> None:
    done = run("-c", REACH, str(ALONE.parent))
    assert done.returncode == 0, done.stderr
