"""The public types, as mypy sees them."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest


def test_mypy_infers_and_refuses_what_the_sample_says():
    pytest.importorskip("mypy")
    sample = Path(__file__).with_name("typing_sample.py")
    done = subprocess.run(
        [sys.executable, "-m", "mypy", "--strict", "--warn-unused-ignores", str(sample)], capture_output=True, text=True
    )
    about_it = [line for line in done.stdout.splitlines() if sample.name in line]
    assert about_it == []
    assert "1 source file" in done.stdout, done.stdout + done.stderr
