"""``koan_adopt`` on projects as they are found: its diff applies, and what comes of it checks and migrates."""

from __future__ import annotations

import ast
import hashlib
import json
import os
import re
import shutil
import subprocess
import sys
from collections.abc import Callable
from datetime import timedelta
from pathlib import Path

import pytest
from celery.schedules import crontab
from celery.schedules import schedule as celery_schedule

from koan_django.core.adoption.diffing import diff
from koan_django.core.adoption.project import Project
from koan_django.core.adoption.schedules import declaration
from koan_django.core.adoption.sources import Source

HERE = Path(__file__).parent
ROOT = HERE.parents[1]
SETTINGS = {"notes": "notes.settings", "shop": "shop.settings", "clinic": "config.settings.local"}


def run(folder: Path, *argv: str | Path, stdin: str = "") -> subprocess.CompletedProcess[str]:
    environ = {name: value for name, value in os.environ.items() if not name.startswith(("DJANGO_", "KOAN_"))}
    environ |= {"PYTHONPATH": str(ROOT), "PYTHONDONTWRITEBYTECODE": "1"}
    return subprocess.run(
        [str(word) for word in argv], cwd=folder, env=environ, input=stdin, capture_output=True, text=True, timeout=120
    )


def adopt(folder: Path, *options: str) -> subprocess.CompletedProcess[str]:
    settings = ["--settings", SETTINGS[folder.name]]
    return run(folder, sys.executable, "-m", "koan_django", "koan_adopt", *settings, *options)


def state(folder: Path) -> dict[str, str]:
    files = [path for path in sorted(folder.rglob("*")) if path.is_file()]
    return {str(path.relative_to(folder)): hashlib.sha256(path.read_bytes()).hexdigest() for path in files}


@pytest.fixture
def project_of(tmp_path: Path) -> Callable[[str], Path]:
    """Copy a project to where it may be changed."""
    return lambda name: Path(shutil.copytree(HERE / "projects" / name, tmp_path / name))


@pytest.fixture(params=SETTINGS)
def project(request: pytest.FixtureRequest, project_of: Callable[[str], Path]) -> Path:
    return project_of(request.param)


def test_the_diff_makes_a_project_that_checks_and_migrates_and_has_nothing_left_to_change(project: Path) -> None:
    before = state(project)
    found = adopt(project)
    assert found.returncode == 1, found.stderr
    assert state(project) == before, "nothing is written"
    assert not re.search(r"secret-?(one|two|three|four)?\b[\"'@]", found.stdout), "no secret is shown"

    patched = run(project, "patch", "-p1", "--no-backup-if-mismatch", stdin=found.stdout)
    assert patched.returncode == 0, patched.stdout
    assert "fuzz" not in patched.stdout and "offset" not in patched.stdout
    applied = run(project, sys.executable, HERE / "applied.py", SETTINGS[project.name])
    assert applied.returncode == 0, applied.stdout + applied.stderr
    assert applied.stdout.count("nothing to change") == 7


def test_it_reads_tasks_schedule_fields_and_storages(project_of: Callable[[str], Path]) -> None:
    found = adopt(project_of("shop"), "--format", "json")
    assert found.returncode == 1
    report = json.loads(found.stdout)
    said = {plan["app"]: "\n".join(plan["changes"] + plan["notes"]) for plan in report["apps"]}
    assert report["install"] == 'pip install "path/to/koan-django[media,messaging,scheduling]"'
    assert "these tasks stay as they are: orders.tasks.count, orders.tasks.report." in said["messaging"]
    assert "(orders.tasks.report) keeps running" in said["scheduling"]
    assert '@scheduled(Cron("0 3 * * *"))' in said["scheduling"]
    assert "@scheduled(Every(minutes=5))" in said["scheduling"]
    assert "orders.models.Order.proof_of_payment: a StoredFileField" in said["storage"]
    assert "orders.models.Order.invoice names a storage of its own" in said["storage"]
    assert "a profile for each of default, invoices" in said["storage"]
    assert "holds secrets in the lines 5, 15, 33, 48" in said["secrets"]
    assert {each["path"] for each in report["files"]} == {
        "orders/models.py",
        "shop/celery.py",
        "shop/settings.py",
        "shop/urls.py",
    }


def test_one_app_alone_and_a_project_that_cannot_be_read(project_of: Callable[[str], Path]) -> None:
    notes = project_of("notes")
    found = adopt(notes, "--app", "inbox")
    assert '"koan_django.inbox"' in found.stdout and "koan_django.storage" not in found.stdout
    assert "pip install path/to/koan-django\n" in found.stdout
    elsewhere = run(notes / "papers", sys.executable, "-c", ELSEWHERE, notes)
    assert elsewhere.returncode == 2, elsewhere.stderr
    assert "notes.settings is no file below" in elsewhere.stderr


ELSEWHERE = """
import sys
sys.path.insert(0, sys.argv[1])
from koan_django.__main__ import main
main(["", "koan_adopt", "--settings", "notes.settings"])
"""


def changed(text: str, act: Callable[[Source], object]) -> str:
    source = Source(Path("x.py"), text, ast.parse(text))
    act(source)
    return source.result()


@pytest.mark.parametrize(
    ("before", "after"),
    [
        ("A = ['x']\n", "A = ['x', \"new\"]\n"),
        ("A = (\n    'x',  # why\n)\n", "A = (\n    'x',  # why\n    \"new\",\n)\n"),
        ("A = [\n    'x'\n]\n", "A = [\n    'x',\n    \"new\",\n]\n"),
        ("A = ['ü',\n     'x']", "A = ['ü',\n     'x',\n     \"new\",\n]"),
        ("A = []\n", 'A = []\nA = [*A, "new"]\n'),
        ("A = B + C\nD = 1\n", 'A = B + C\nA = [*A, "new"]\nD = 1\n'),
        ("A = ['x']\nA += ['y']\n", "A = ['x']\nA += ['y']\nA = [*A, \"new\"]\n"),
        ("D = 1", 'D = 1\nA = [*A, "new"]\n'),
    ],
)
def test_a_list_gets_an_item_however_it_is_written(before: str, after: str) -> None:
    found = changed(before, lambda source: source.add_items("A", ["new"]))
    assert ast.dump(ast.parse(found)) == ast.dump(ast.parse(after)), found
    assert [line for line in before.splitlines() if "#" in line] == [line for line in found.splitlines() if "#" in line]


def test_imports_come_behind_those_that_are_there_and_once() -> None:
    def act(source: Source) -> None:
        for _ in range(2):
            source.add_import("django.urls", "path")
            source.add_import("django.urls", "include")

    assert changed('"""Doc."""\nX = 1\n', act).splitlines()[1:3] == [
        "from django.urls import path",
        "from django.urls import include",
    ]
    text = "from django.urls import (\n    path,\n)\nX = 1\n"
    assert changed(text, act) == text.replace(")\n", ")\nfrom django.urls import include\n")


@pytest.mark.parametrize(
    "line",
    [
        "SECRET_KEY = 'hush'",
        "X = {'PASSWORD': 'hush'}",
        "X['API_KEY'] = 'hush'",
        "X = dict(token='hush')",
        "SECRET_KEY = env('SECRET_KEY', 'hush')",
        "SECRET_KEY = (\n    'hush'\n)",
        "URL = 'amqp://me:hush@host/'",
        "URL = f'amqp://me:hush@{host}/'",
    ],
)
def test_a_secret_beside_a_change_is_not_shown(line: str) -> None:
    text = f"from os import path\n{line}\nA = ['x']\n"
    source = Source(Path("x.py"), text, ast.parse(text))
    source.add_items("A", ["new"])
    source.add_import("os", "sep")
    found = diff(source, "x.py")
    assert "hush" not in found
    assert "+from os import sep" in found


@pytest.mark.parametrize(
    ("schedule", "expected"),
    [
        (90, "@scheduled(Every(seconds=90))"),
        (timedelta(hours=2), "@scheduled(Every(hours=2))"),
        (celery_schedule(timedelta(days=1)), "@scheduled(Every(days=1))"),
        (crontab(minute="*/5", day_of_week="mon-fri"), '@scheduled(Cron("*/5 * * * mon-fri"))'),
        (object(), "@scheduled(...)"),
    ],
)
def test_a_schedule_of_celery_is_written_as_ours(schedule: object, expected: str) -> None:
    assert declaration(schedule) == expected


@pytest.mark.django_db
def test_the_rows_of_beat_are_read(tmp_path: Path) -> None:
    from django_celery_beat.models import IntervalSchedule, PeriodicTask

    interval = IntervalSchedule.objects.create(every=1, period="hours")
    for name in ("celery.backend_cleanup", "clean up"):
        PeriodicTask.objects.create(name=name, task="shop.clean", interval=interval)
    assert Project(tmp_path).beat_rows() == ["clean up"]


def test_a_project_of_two_settings_files_is_read_through_both(project_of: Callable[[str], Path]) -> None:
    found = adopt(project_of("clinic"), "--app", "secrets", "--format", "json")
    files = {each["path"]: each["diff"] for each in json.loads(found.stdout)["files"]}
    assert set(files) == {"config/settings/base.py", "config/settings/local.py", "config/urls.py"}
    assert "+INSTALLED_APPS = [*INSTALLED_APPS, " in files["config/settings/base.py"]
    assert files["config/settings/local.py"].endswith("+secrets.resolve_settings(globals())\n")
