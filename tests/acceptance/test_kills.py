"""Workers and their children die in mid-flow; no photograph is lost and none is made twice."""

from __future__ import annotations

import os
import signal
import sys
import time
from pathlib import Path

import pytest

from tests.acceptance import pictures
from tests.acceptance.demo import ROOT, Demo
from tests.services.fixtures import StartProcess
from tests.services.waiting import wait_until

pytestmark = pytest.mark.acceptance

DEMO = (sys.executable, "-m", "sampleproject.demo")
PHOTOS = 10
#: Of children, and of workers.
KILLS = 2


# The walk kills a worker of the embedded demo as well.
@pytest.fixture(
    params=[pytest.param("embedded", marks=pytest.mark.long), pytest.param("servers", marks=pytest.mark.services)]
)
def stack(request: pytest.FixtureRequest) -> dict[str, str]:
    """The embedded defaults, or PostgreSQL with the bus and Celery on RabbitMQ."""
    if request.param == "embedded":
        return {}
    vhost = request.getfixturevalue("vhost")
    return {
        "GALLERY_DATABASE_URL": request.getfixturevalue("postgres_database"),
        "GALLERY_BUS_URL": vhost.url,
        "GALLERY_BROKER_URL": vhost.url,
    }


def test_nothing_is_lost_and_nothing_done_twice(stack: dict[str, str], process: StartProcess, tmp_path: Path) -> None:
    folder = tmp_path / "photos"
    pictures.photographs(folder, PHOTOS, width=1600, height=1200)  # the kills hit renditions of any size
    demo = Demo(tmp_path / "demo", {**stack, "PHOTOS": str(folder), "EXIT": "1"})
    live = process(
        "demo", [sys.executable, "-m", "sampleproject.demo"], env={**os.environ, **demo.environment()}, cwd=ROOT
    )
    wait_until(lambda: "worker" in demo.supervised["pids"], 60, "the worker")
    wait_until(lambda: (tmp_path / "demo" / "hot" / "gallery" / "photos").exists(), 90, "the first photograph")
    for _ in range(KILLS):
        demo.kill_child()
        _wait_for_progress(tmp_path / "demo")
        demo.kill_worker()
        _wait_for_progress(tmp_path / "demo")
    code = live.wait(240)
    report = demo.report
    outcomes = [each["outcome"] for each in report["inputs"]]
    assert outcomes == ["published"] * PHOTOS, report
    assert code == 0, live.tail()
    assert len(demo.killed) == 2 * KILLS
    exits = [each for each in report["inputs"] if len(each["derivations"]) != 3]
    assert exits == []
    assert report["archived"] == PHOTOS
    assert report["messages"]["dead"] == 0


def _wait_for_progress(folder: Path) -> None:
    """Wait until another rendition was written, or there is nothing left to render."""

    def count() -> int:
        return len(list((folder / "hot").rglob("*-*.webp")))

    before, end = count(), time.monotonic() + 60
    while count() == before and before < PHOTOS * 3 and time.monotonic() < end:
        time.sleep(0.05)


def test_ctrl_c_ends_everything(process: StartProcess, tmp_path: Path) -> None:
    folder = tmp_path / "photos"
    pictures.photographs(folder, 1, width=800, height=600)
    demo = Demo(tmp_path / "demo", {"PHOTOS": str(folder)})
    live = process(
        "demo", [sys.executable, "-m", "sampleproject.demo"], env={**os.environ, **demo.environment()}, cwd=ROOT
    )
    wait_until(lambda: "Ctrl-C ends the demo" in live.tail(), 120, "the demo to serve")
    pids = list(demo.supervised["pids"].values())
    os.kill(live.pid, signal.SIGINT)
    assert live.wait(40) == 0, live.tail()
    assert [pid for pid in pids if Path(f"/proc/{pid}").exists()] == []
