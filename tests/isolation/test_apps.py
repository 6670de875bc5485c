"""What proves that an app stands alone can fail. The proof itself is ``python -m tests.isolation``."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

from tests.isolation.rows import MODULES, ROWS, nameless

HERE = Path(__file__).parent


def run(*arguments: str) -> subprocess.CompletedProcess[str]:
    environ = {**os.environ, "PYTHONPATH": str(HERE.parents[1])}  # the tree, also where nothing is installed
    return subprocess.run(
        [sys.executable, *arguments], cwd=HERE, env=environ, capture_output=True, text=True, timeout=60
    )


def test_every_app_has_a_row_and_uses_itself() -> None:
    assert nameless(HERE.parents[1]) == set()
    assert {name for name in ROWS if not (HERE / "domain" / name / "verb.py").exists()} == set()


def test_what_no_row_asks_for_must_be_absent() -> None:
    assert {"celery", "kombu", "msgspec", "hvac", "PIL"} <= ROWS["secrets"].absent()
    assert ROWS["inbox"].absent() == ROWS["storage"].absent() == set().union(*MODULES.values())
    assert "PIL" not in ROWS["media"].absent()


def test_the_tree_is_no_wheel_and_a_package_too_many_is_seen() -> None:
    # The wheel that is installed beside the tests is the tree itself.
    here = "import alone, koan_django; alone.ROOT = alone.Path(koan_django.__file__).parents[1]"
    done = run("-c", f"{here}; alone.surroundings(alone.ROWS['core'])")
    assert done.returncode == 1
    assert "is not from the wheel" in done.stderr
    done = run("-c", "import alone; alone.ROOT = alone.Path('/elsewhere'); alone.surroundings(alone.ROWS['core'])")
    assert done.returncode == 1
    assert "'celery'" in done.stderr and "which the row does not name" in done.stderr


def test_a_sibling_is_out_of_reach() -> None:
    reach = "import sys, alone; sys.meta_path.insert(0, alone.Refuse({'core', 'secrets'})); import koan_django."
    assert run("-c", reach + "secrets").returncode == 0
    assert "koan_django.storage is outside the row" in run("-c", reach + "storage").stderr
