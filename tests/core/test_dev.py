"""``koan_dev`` as a live process on a small project, and the facts that it makes."""

from __future__ import annotations

import os
import signal
import socket
import sys
import urllib.request
from collections.abc import Callable
from pathlib import Path

import pytest
from django.core.management import CommandError, call_command
from django.test import override_settings

from koan_django.core import celeryapps, development
from koan_django.core.celeryapps import CeleryAppError
from koan_django.core.development import Development
from koan_django.core.watching import Watcher, project_folders
from tests.services import wait_until
from tests.services.fixtures import StartProcess
from tests.services.process import Process
from tests.services.traces import mentioning

ROOT = Path(__file__).parents[2]
MANAGE = """
import os, sys
os.environ.setdefault("DJANGO_SETTINGS_MODULE", "shop.settings")
from django.core.management import execute_from_command_line
execute_from_command_line(sys.argv)
"""
SETTINGS = """
from pathlib import Path
SECRET_KEY = "tests-only"
DEBUG = True
ROOT_URLCONF = "shop.urls"
INSTALLED_APPS = ["koan_django.core"]
DATABASES = {"default": {"ENGINE": "django.db.backends.sqlite3", "NAME": Path(__file__).parent / "db.sqlite3"}}
CELERY_BROKER_URL = "memory://"
CELERY_BEAT_SCHEDULE = {"count-the-stock": {"task": "shop.count", "schedule": 3600}}
CELERY_BEAT_SCHEDULE_FILENAME = str(Path(__file__).parent / "beat")
"""
URLS = """
from django.urls import include, path
urlpatterns = [path("", include("koan_django.core.urls"))]
"""
CELERY = """
from celery import Celery
app = Celery("shop")
app.config_from_object("django.conf:settings", namespace="CELERY")
@app.task(name="shop.count")
def count(): pass
"""


@pytest.fixture
def project(tmp_path: Path) -> Path:
    """A project that has Celery and a schedule, and of koan-django the core alone."""
    shop = tmp_path / "site" / "shop"
    shop.mkdir(parents=True)
    (shop.parent / "manage.py").write_text(MANAGE)
    for name, text in (("__init__", ""), ("settings", SETTINGS), ("urls", URLS), ("celery", CELERY)):
        (shop / f"{name}.py").write_text(text)
    return shop.parent


@pytest.fixture
def manage(process: StartProcess, project: Path, tmp_path: Path) -> Callable[..., Process]:
    """Start a management command of the project, from another folder than its own."""
    environment = {name: value for name, value in os.environ.items() if not name.startswith("DJANGO_")}
    environment["PYTHONPATH"] = str(ROOT)
    return lambda *words: process(
        words[0], [sys.executable, project / "manage.py", *map(str, words)], env=environment, cwd=tmp_path
    )


@pytest.mark.acceptance
def test_it_runs_web_worker_and_beat_starts_them_again_and_stops_them(
    manage: Callable[..., Process], project: Path, free_port: int
) -> None:
    assert manage("migrate").wait() == 0
    dev = manage("koan_dev", "--port", free_port, "--pool", "threads", "--concurrency", 1)
    dev.expect("ready.", 60)
    dev.expect("beat: Starting...", 60)
    dev.expect("Starting development server", 60)
    with urllib.request.urlopen(f"http://127.0.0.1:{free_port}/health/live") as answer:
        assert answer.status == 200
    for line in (
        f"web     http://127.0.0.1:{free_port}/  (runserver",
        "worker  celery -A shop.celery  (found beside shop.settings (DJANGO_SETTINGS_MODULE); pool threads, --pool)",
        "beat    celery beat  (1 entry in beat_schedule, the first is count-the-stock)",
        "broker  memory://localhost//  (answers)",
    ):
        assert line in dev.output
    assert "\x1b[" not in dev.output, "colours are for terminals"

    (beat,) = [int(line.split()[0]) for line in mentioning(str(project)) if "shop.celery --quiet beat" in line]
    os.kill(beat, signal.SIGKILL)
    wait_until(lambda: dev.output.count("beat: Starting...") == 2, 30, "beat to run again")
    assert f"beat (pid {beat}) was ended by SIGKILL" in dev.output

    (project / "shop" / "tasks.py").write_text("# more work\n")
    wait_until(lambda: dev.output.count("beat: Starting...") == 3, 30, "beat to run the new code")
    assert "tasks.py changed: worker and beat start again" in dev.output

    os.killpg(dev.pid, signal.SIGINT)  # as a terminal sends Ctrl-C
    assert dev.wait() == 0, dev.tail()
    assert "stopping, within 10 s" in dev.output
    wait_until(lambda: not mentioning(str(project)), what="every process to be gone")


def test_a_taken_port_is_an_error_before_anything_starts(manage: Callable[..., Process]) -> None:
    with socket.create_server(("127.0.0.1", 0)) as other:
        dev = manage("koan_dev", "--port", other.getsockname()[1])
        assert dev.wait() == 1
    assert "is taken by another program. Stop that, or choose another --port." in dev.output
    assert "supervisor" not in dev.output


@pytest.fixture
def package(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, request: pytest.FixtureRequest) -> Callable[..., str]:
    """Write a package whose name is of this test alone, and let the settings of a project seem to be in it."""

    def write(**modules: str) -> str:
        name = f"koan_{abs(hash(request.node.nodeid))}"
        (tmp_path / name).mkdir()
        for module, text in {"__init__": "", "settings": "", **modules}.items():
            (tmp_path / name / f"{module}.py").write_text(text)
        monkeypatch.setenv("DJANGO_SETTINGS_MODULE", f"{name}.settings")
        return name

    monkeypatch.syspath_prepend(str(tmp_path))
    return write


APP = "from celery import Celery\n{} = Celery('x', set_as_current=False)\n"


@pytest.mark.parametrize(
    ("module", "attribute"), [("celery", "app"), ("celery_app", "app"), ("celery", "shop"), ("__init__", "celery_app")]
)
def test_the_celery_app_is_found_where_projects_keep_it(
    package: Callable[..., str], module: str, attribute: str
) -> None:
    name = package(**{module: APP.format(attribute)})
    found = celeryapps.find()
    assert found.module == (name if module == "__init__" else f"{name}.{module}")
    assert found.attribute == attribute
    assert found.reason == f"found beside {name}.settings (DJANGO_SETTINGS_MODULE)"


def test_app_names_it_as_celery_does(package: Callable[..., str]) -> None:
    name = package(jobs=APP.format("first") + APP.format("second"), celery=APP.format("app"))
    assert celeryapps.find(f"{name}.jobs:second").argument == f"{name}.jobs:second"
    assert celeryapps.find(name).argument == f"{name}.celery"
    with pytest.raises(CeleryAppError, match="holds no Celery app"):
        celeryapps.find(f"{name}.settings")


@pytest.mark.django_db
@override_settings(ROOT_URLCONF=None, WSGI_APPLICATION=None)
def test_a_project_without_celery_is_told_where_it_was_looked_for(
    package: Callable[..., str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("koan_django.messaging.messages._classes", {})  # those of other tests are wrong on purpose
    name = package()
    with pytest.raises(CommandError, match=rf"no Celery app: .*{name}\.celery, .*Name it with --app, or write one"):
        call_command("koan_dev")


def test_a_celery_app_that_cannot_be_imported_is_no_absent_one(package: Callable[..., str]) -> None:
    package(celery="import koan_no_such_module")
    with pytest.raises(CeleryAppError, match=r"celery cannot be imported: ModuleNotFoundError: .*koan_no_such_module"):
        celeryapps.find()


def test_beat_runs_when_something_is_scheduled() -> None:
    from celery import Celery

    app = Celery("x", set_as_current=False)
    with override_settings(INSTALLED_APPS=["koan_django.core"]):
        assert development.beat_fact(app) is None
        app.conf.beat_schedule = {"a": {"task": "a", "schedule": 1}}
        fact = development.beat_fact(app)
        assert fact is not None and "beat_schedule" in fact.reason
        assert development.beat_fact(app, wanted=False) is None


def test_a_broker_that_is_away_is_said_without_its_password(free_port: int) -> None:
    from celery import Celery

    app = Celery("x", set_as_current=False, broker=f"amqp://shop:hush-hush@127.0.0.1:{free_port}//")
    fact = development.broker_fact(app)
    assert fact.selection == f"amqp://shop@127.0.0.1:{free_port}//"
    assert "does not answer" in fact.reason
    assert "hush" not in str(fact)


def test_options_reach_the_programs() -> None:
    laptop = Development(app="shop", host="::1", port=81, beat=False, pool="solo", concurrency=3, manage=("manage",))
    web, worker = laptop.programs()
    assert list(web.argv) == ["manage", "runserver", "[::1]:81"]
    assert " ".join(worker.argv[1:]) == (
        "-m celery -A shop --quiet worker --without-gossip --without-mingle --pool solo --concurrency 3"
    )


def test_the_code_of_the_project_is_watched_and_packages_are_not(tmp_path: Path) -> None:
    folders = project_folders("tests.settings")
    assert Path(__file__).parents[1] in folders
    assert not [folder for folder in folders if "site-packages" in folder.parts]
    seen: list[Path] = []
    (tmp_path / ".venv").mkdir()
    (tmp_path / "old.py").touch()
    watcher = Watcher([tmp_path], seen.extend, period=0.01)
    watcher.start()
    for name in (".venv/hidden.py", "data.txt", "new.py"):
        (tmp_path / name).touch()
    wait_until(lambda: seen, what="the new module to be noticed")
    (tmp_path / "old.py").unlink()
    wait_until(lambda: len(seen) == 2, what="the removal to be noticed")
    watcher.stop()
    assert [path.name for path in seen] == ["new.py", "old.py"]
