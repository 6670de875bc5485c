"""Which interpreter the Makefile takes, and what it says when there is none."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

FIND = Path(__file__).parents[2] / "bin" / "find-python"


def install(folder: Path, name: str, version: str, lacks: str = "") -> None:
    """Put an interpreter into ``folder`` that answers as one of ``version`` does."""
    old = int(version.split(".")[1]) < 11
    stub = folder / name
    stub.write_text(
        "#!/bin/sh\n"
        'case "$2" in\n'
        f"  *'version_info[:2]'*) echo {version} ;;\n"
        f"  *'sys.exit('*) exit {int(old)} ;;\n"
        f'  *) echo "{lacks}" ;;\n'
        "esac\n"
    )
    stub.chmod(0o755)


def find(folder: Path) -> subprocess.CompletedProcess[str]:
    # Nothing but the folder is on PATH: the script uses built-in commands only.
    return subprocess.run(["/bin/sh", FIND], env={"PATH": str(folder)}, capture_output=True, text=True, check=False)


def test_the_lowest_is_taken(tmp_path: Path) -> None:
    for version in ("3.13", "3.12"):
        install(tmp_path, f"python{version}", version)
    install(tmp_path, "python3", "3.13")
    assert find(tmp_path).stdout == f"{tmp_path}/python3.12\n"


def test_one_that_cannot_make_environments_is_passed_over(tmp_path: Path) -> None:
    install(tmp_path, "python3.11", "3.11", lacks="ensurepip")
    install(tmp_path, "python3.12", "3.12")
    assert find(tmp_path).stdout == f"{tmp_path}/python3.12\n"


def test_a_shim_that_leads_nowhere_is_passed_over(tmp_path: Path) -> None:
    (tmp_path / "python3.11").write_text("#!/bin/sh\nexit 127\n")
    (tmp_path / "python3.11").chmod(0o755)
    install(tmp_path, "python3", "3.14")
    assert find(tmp_path).stdout == f"{tmp_path}/python3\n"


def test_the_real_one_is_recognised(tmp_path: Path) -> None:
    real = tmp_path / f"python3.{sys.version_info.minor}"
    real.symlink_to(Path(sys.base_prefix) / "bin" / f"python3.{sys.version_info.minor}")
    assert find(tmp_path).stdout == f"{real}\n"


@pytest.mark.parametrize(
    ("version", "lacks", "said"),
    [
        ("3.9", "", "found: python3 (3.9)"),
        ("3.11", "venv ensurepip", "python3 (3.11) lacks: venv ensurepip"),
        ("3.11", "ensurepip", "apt-get install python3.11-venv"),
    ],
)
def test_what_is_wrong_is_named_with_its_remedy(tmp_path: Path, version: str, lacks: str, said: str) -> None:
    install(tmp_path, "python3", version, lacks)
    done = find(tmp_path)
    assert done.returncode == 1
    assert said in done.stderr


def test_no_python_at_all_is_said(tmp_path: Path) -> None:
    done = find(tmp_path)
    assert done.returncode == 1
    assert "Python 3.11 or later is needed, found: none" in done.stderr
