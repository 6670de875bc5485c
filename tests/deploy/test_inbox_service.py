"""The inbox service alone, started as its image starts it, in an environment like its."""

from __future__ import annotations

import json
import os
import re
import signal
import subprocess
import sys
import urllib.error
import urllib.request
import uuid
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from koan_django import inbox
from koan_django.inbox.models import InboxEntry
from koan_django.testing import override_koan
from tests.services.fixtures import StartProcess
from tests.services.process import Process
from tests.services.rabbitmq import Vhost
from tests.services.redis import Redis
from tests.services.waiting import free_port, wait_until

ROOT = Path(__file__).parents[2]
STAGE = (ROOT / "Dockerfile").read_text().partition(" AS inbox\n")[2].partition("\nFROM ")[0]
TOKEN = "service-token-0123456789"

pytestmark = pytest.mark.services("redis")


def command() -> list[str]:
    (line,) = re.findall(r"^CMD (\[.+\])$", STAGE, re.MULTILINE)
    found: list[str] = json.loads(line)
    return found


def environ(redis_url: str, port: int, **more: str) -> dict[str, str]:
    """That of the image and of compose.yaml, with another port and another Redis."""
    return {
        "PATH": f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}",
        "PYTHONPATH": str(ROOT),
        "DJANGO_SETTINGS_MODULE": "sampleproject.inboxservice.settings",
        "PORT": str(port),
        "INBOX_REDIS_URL": redis_url,
        "INBOX_TOKEN": TOKEN,
        "INBOX_PREFIX": f"koan-test-{uuid.uuid4().hex[:8]}",
        **more,
    }


class Service:
    def __init__(self, process: Process, port: int) -> None:
        self.process = process
        self.url = f"http://127.0.0.1:{port}"

    def ask(self, path: str, body: object = None, token: str = TOKEN) -> tuple[int, str]:
        content = None if body is None else json.dumps(body).encode()
        headers = {"Authorization": f"Bearer {token}", "Content-Type": "application/json"}
        request = urllib.request.Request(self.url + path, content, headers)
        try:
            with urllib.request.urlopen(request, timeout=20) as answer:
                return answer.status, answer.read().decode()
        except urllib.error.HTTPError as error:
            return error.code, error.read().decode()

    def post(self, operation: str, **fields: object) -> dict[str, Any]:
        status, text = self.ask(f"/v1/inbox/{operation}", fields)
        assert status == 200, text
        found: dict[str, Any] = json.loads(text)
        return found


@pytest.fixture
def service(redis: Redis, process: StartProcess, tmp_path: Path) -> Iterator[Service]:
    yield started(redis.url, process, tmp_path)


def started(redis_url: str, process: StartProcess, cwd: Path, port: int = 0, **more: str) -> Service:
    port = port or free_port()
    running = process("inbox", command(), env=environ(redis_url, port, **more), cwd=cwd)
    found = Service(running, port)
    wait_until(lambda: not running.running or found.ask("/health/live")[0] == 200, 60, "the service", errors=(OSError,))
    assert running.running, running.tail()
    return found


def test_it_serves_is_healthy_tells_metrics_and_ends_in_order(service: Service) -> None:
    assert service.ask("/health/ready")[0] == 200
    begun = service.post("try-begin", key="main:billing:1")
    assert begun["status"] == "Acquired"
    assert service.post("try-begin", key="main:billing:1")["status"] == "Busy"
    assert service.post("mark-processed", key="main:billing:1", fencingToken=begun["fencingToken"])
    assert service.post("mark-processed", key="main:billing:2")["status"] == "Processed"
    for key in ("1", "2"):
        assert service.post("try-begin", key=f"main:billing:{key}")["status"] == "Processed"
    assert json.loads(service.ask("/v1/inbox/main:billing:3")[1])["status"] == "Unknown"
    status, text = service.ask("/v1/inbox/main:billing:1", token="wrong-token-0123456789")
    assert (status, json.loads(text)["code"]) == (401, "wrong-token")
    assert json.loads(service.ask("/v1/inbox/openapi.json")[1])["openapi"] == "3.1.0"
    scraped = service.ask("/metrics")[1]
    assert 'koan_inbox_serve_seconds_count{operation="try-begin",outcome="ok"} 4.0' in scraped
    assert 'koan_inbox_refused_total{code="wrong-token",operation="look"} 1.0' in scraped
    assert service.process.stop(signal.SIGTERM) == 0
    assert TOKEN not in service.process.output


def test_all_of_it_is_healthy_and_has_nothing_to_log(
    redis: Redis, process: StartProcess, tmp_path: Path, vhost: Vhost
) -> None:
    port = free_port()
    more = {"INBOX_BUS_URL": vhost.url, "INBOX_DISCOVERY_KEY": "k" * 32, "INBOX_URL": f"http://127.0.0.1:{port}"}
    folder = tmp_path / "folder"
    folder.mkdir()
    service = started(redis.url, process, tmp_path, port, TMPDIR=str(folder), **more)
    wait_until(lambda: service.ask("/health")[1] == '{"status": "healthy"}', 30, "all of it to be healthy")
    assert service.ask("/health")[0] == 200
    assert service.ask("/metrics")[0] == 200
    assert list(folder.glob("koan-inbox-*"))
    assert service.process.stop(signal.SIGTERM) == 0
    assert not list(folder.glob("koan-inbox-*"))
    assert not re.search("WARNING|ERROR|Traceback", service.process.output), service.process.output


@pytest.mark.django_db(transaction=True)
def test_another_project_claims_by_it(service: Service) -> None:
    options = {"URL": service.url, "TOKEN": TOKEN}

    def claimed() -> bool:
        with inbox.claim("stripe", "evt-1") as claim:
            return not claim.duplicate

    with override_koan(INBOX={"STORE": "http", "OPTIONS": options}):
        with pytest.raises(ZeroDivisionError), inbox.claim("stripe", "evt-1"):
            raise ZeroDivisionError
        with inbox.claim("stripe", "evt-1"), pytest.raises(inbox.InboxBusyError):
            claimed()
        assert [claimed(), claimed()] == [False, False]
    assert not InboxEntry.objects.exists()


def test_without_redis_it_lives_is_not_ready_nor_announced_and_says_so_to_clients(
    process: StartProcess, tmp_path: Path, vhost: Vhost
) -> None:
    port = free_port()
    more = {"INBOX_BUS_URL": vhost.url, "INBOX_DISCOVERY_KEY": "k" * 32, "INBOX_URL": f"http://127.0.0.1:{port}"}
    service = started(f"redis://127.0.0.1:{free_port()}/0", process, tmp_path, port, **more)
    service.process.expect("'inbox' is not announced: its store does not answer", timeout=60)
    assert service.ask("/health/ready")[0] == 503
    status, text = service.ask("/v1/inbox/try-begin", {"key": "main:billing:1"})
    assert (status, json.loads(text)["code"]) == (503, "unavailable")


@pytest.mark.parametrize(
    "more",
    [{}, {"INBOX_BUS_URL": "amqp://127.0.0.1:1/", "INBOX_DISCOVERY_KEY": "k" * 32, "INBOX_URL": "http://inbox:1"}],
    ids=["alone", "announced"],
)
def test_its_settings_have_nothing_to_complain_about(tmp_path: Path, more: dict[str, str]) -> None:
    done = subprocess.run(
        [sys.executable, "-m", "django", "check", "--fail-level", "ERROR"],
        env=environ("redis://127.0.0.1:1/0", 1, **more),
        cwd=tmp_path,
        capture_output=True,
        text=True,
        timeout=120,
    )
    assert done.returncode == 0, done.stderr
    assert "no issues" in done.stdout + done.stderr
