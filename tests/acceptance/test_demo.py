"""The demo from the outside: what a person gets who types ``make demo EXIT=1``."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from tests.acceptance import pictures
from tests.acceptance.demo import ROOT, Demo

pytestmark = pytest.mark.acceptance


def run(demo: Demo, timeout: float = 240, **env: str) -> subprocess.CompletedProcess[str]:
    environment = {**os.environ, **demo.environment(), "EXIT": "1", **env}
    argv = [sys.executable, "-m", "sampleproject.demo"]
    return subprocess.run(argv, cwd=ROOT, env=environment, capture_output=True, text=True, timeout=timeout)


def test_a_folder_of_all_kinds_is_published_and_what_is_no_picture_is_refused(tmp_path: Path) -> None:
    folder = tmp_path / "my photos & more"
    good = pictures.kinds(folder)
    photos = pictures.photographs(folder, 2)
    bad = pictures.hostile(folder)
    demo = Demo(tmp_path / "demo", {})
    done = run(demo, PHOTOS=str(folder))
    assert done.returncode == 0, done.stdout[-4000:] + done.stderr[-2000:]
    report = demo.report
    outcomes = {each["name"]: each for each in report["inputs"]}
    assert set(outcomes) == {*good, *bad, *(path.name for path in photos)}
    assert {name: outcomes[name].get("stage") for name in bad} == bad
    assert all(outcomes[name]["reason"] for name in bad)
    for name in (*good, *(path.name for path in photos)):
        assert outcomes[name]["outcome"] == "published", outcomes[name]
        assert [Path(path).stem.rpartition("-")[2] for path in outcomes[name]["derivations"]] == [
            "thumbnail",
            "card",
            "web",
        ]
        assert all(Path(path).is_file() for path in outcomes[name]["derivations"])
    assert report["messages"]["dead"] == 0
    assert report["messages"]["retried"] == 0
    assert report["duplicates_suppressed"] == 1
    assert report["archived"] == len(good) + len(photos)
    assert report["health"] == "healthy"
    assert report["runs"]["gallery.archive"]["succeeded"] >= 1
    left = [path for path in (tmp_path / "demo" / "hot" / "gallery" / "incoming").rglob("*") if path.is_file()]
    assert left == [], "bytes of settled uploads are removed"


@pytest.mark.long
def test_a_second_demo_says_whether_it_resets_or_reuses_and_a_taken_port_is_no_obstacle(
    tmp_path: Path, free_port: int
) -> None:
    import socket

    folder = tmp_path / "photos"
    pictures.photographs(folder, 1, width=800, height=600)
    demo = Demo(tmp_path / "demo", {"PHOTOS": str(folder)})
    with socket.create_server(("127.0.0.1", free_port)):
        first = run(demo, PORT=str(free_port))
    assert first.returncode == 0, first.stdout[-3000:]
    assert "A fresh demo" in first.stdout
    assert f"Port {free_port} is taken" in first.stdout
    second = run(demo, KEEP="1")
    assert second.returncode == 0, second.stdout[-3000:]
    assert "Reusing the demo" in second.stdout
    assert [each["name"] for each in demo.report["inputs"]] == ["photo 00.jpg", "photo 00.jpg"]
    third = run(demo)
    assert third.returncode == 0, third.stdout[-3000:]
    assert "is reset" in third.stdout
    assert len(demo.report["inputs"]) == 1


def test_a_folder_that_is_not_there_is_an_error(tmp_path: Path) -> None:
    done = run(Demo(tmp_path / "demo", {}), PHOTOS=str(tmp_path / "nothing"))
    assert done.returncode == 2
    assert "is no folder" in done.stdout
