"""What live processes say about themselves: in their log when they start, and in rows as long as they live."""

from __future__ import annotations

import json
import sys
import urllib.request
from typing import Any

import pytest

from koan_django.core import facts
from tests.live.conftest import ROOT
from tests.services import wait_until

pytestmark = [pytest.mark.acceptance, pytest.mark.django_db(transaction=True)]


def roles() -> dict[str, dict[str, str]]:
    """The selections of every process that lives, by its role."""
    return {
        name.rpartition(":")[2]: {fact.subject: fact.selection for fact in found}
        for name, found in facts.of_all().items()
    }


def test_worker_beat_and_web_report_at_their_start_and_are_known_as_long_as_they_live(
    site: Any, process: Any, free_port: int
) -> None:
    command = [sys.executable, "manage.py", "runserver", "--noreload", f"127.0.0.1:{free_port}"]
    web = process("web", command, env=site.env | {"PYTHONUNBUFFERED": "1"}, cwd=ROOT)
    beat, worker = site.beat(), site.worker("-c", "1")
    web.expect("Quit the server", timeout=30)
    assert "core.environment" not in web.output
    for _ in range(2):
        with urllib.request.urlopen(f"http://127.0.0.1:{free_port}/health/live") as answer:
            assert answer.status == 200
    wait_until(lambda: set(roles()) == {"web", "beat", "worker"}, 20, "the facts of all three")
    for made in (web, beat, worker):
        assert made.output.count("core.environment") == 1
        assert "storage.profile.hot" in made.output
    assert {found["core.jobs"] for found in roles().values()} == {"Celery"}
    assert roles()["beat"]["scheduling.beat"] == "koan_django.scheduling.beat:Scheduler"
    doctor = site.manage("koan_doctor", "--format", "json")
    found = {each["name"]: each["level"] for each in json.loads(doctor.output[doctor.output.index("{") :])["findings"]}
    assert (found["process.worker"], found["bus.main"], found["storage.hot"]) == ("ok", "ok", "ok")
    assert doctor.returncode == 1  # the warnings of a project that has chosen nothing
    worker.stop()
    beat.stop()
    assert set(roles()) == {"web"}
