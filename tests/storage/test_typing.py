"""The public types, as mypy sees them."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest


def test_mypy_infers_and_refuses_what_the_sample_says() -> None:
    pytest.importorskip("mypy")
    sample = Path(__file__).with_name("typing_sample.py")
    command = [sys.executable, "-m", "mypy", "--strict", "--warn-unused-ignores", str(sample)]
    done = subprocess.run(command, capture_output=True, text=True)
    assert [line for line in done.stdout.splitlines() if sample.name in line] == []
    assert "1 source file" in done.stdout, done.stdout + done.stderr
