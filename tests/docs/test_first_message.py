"""The few lines with which a project gets messages, as the README and the guide print them, do what they say."""

from __future__ import annotations

import re
import signal
import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from tests.services.process import plain_environment
from tests.services.waiting import wait_until

if TYPE_CHECKING:
    from collections.abc import Iterator

    from tests.services.fixtures import StartProcess

ROOT = Path(__file__).parents[2]
ENVIRONMENT = plain_environment(PYTHONPATH=str(ROOT))
_BLOCK = re.compile(r"^```python\n(.*?)^```$", re.MULTILINE | re.DOTALL)
_FILE = re.compile(r"^# ([\w/]+\.py)[^\n]*\n", re.MULTILINE)

#: What the reader has before: Celery's own first steps, a model, and what `check` says of SQLite.
CELERY = """
import os
from celery import Celery
os.environ.setdefault("DJANGO_SETTINGS_MODULE", "project.settings")
app = Celery("project")
app.config_from_object("django.conf:settings", namespace="CELERY")
app.autodiscover_tasks()
"""
MODELS = """
from django.db import models

class Order(models.Model):
    shipped = models.BooleanField(default=False)

    def ship(self):
        self.shipped = True
        self.save()
"""
SETTINGS = """
INSTALLED_APPS += ["shop"]
CELERY_BROKER_URL = "memory://"
DATABASES["default"]["OPTIONS"] = {
    "transaction_mode": "IMMEDIATE",
    "timeout": 20,
    "init_command": "PRAGMA journal_mode=WAL; PRAGMA synchronous=NORMAL;",
}
"""
SEND = """
from shop.models import Order
from shop.messages import OrderPaid
order = Order.objects.create()
print(OrderPaid(order_id=order.pk).send().state)
"""


def printed(page: str) -> Iterator[tuple[str, str]]:
    """Yield (file, text) of what the page has a reader add, from the section about adding messages on."""
    text = (ROOT / page).read_text()
    for block in _BLOCK.findall(text):
        parts = _FILE.split(block)
        for name, added in zip(parts[1::2], parts[2::2], strict=True):
            if name in ("settings.py", "project/celery.py", "shop/messages.py", "shop/handlers.py"):
                yield "project/settings.py" if name == "settings.py" else name, added


def manage(folder: Path, *words: str) -> str:
    done = subprocess.run(
        [sys.executable, "manage.py", *words],
        cwd=folder,
        env=ENVIRONMENT,
        capture_output=True,
        text=True,
        check=False,
        timeout=120,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


@pytest.mark.parametrize("page", ["README.md", pytest.param("docs/howto/messaging.md", marks=pytest.mark.long)])
def test_a_project_that_adds_what_is_printed_handles_its_first_message(
    page: str, tmp_path: Path, process: StartProcess
) -> None:
    for words in (["startproject", "project", "."], ["startapp", "shop"]):
        subprocess.run([sys.executable, "-m", "django", *words], cwd=tmp_path, env=ENVIRONMENT, check=True, timeout=60)
    (tmp_path / "shop" / "models.py").write_text(MODELS)
    (tmp_path / "project" / "celery.py").write_text(CELERY)
    with (tmp_path / "project" / "settings.py").open("a") as settings:
        settings.write(SETTINGS)
    added = list(printed(page))
    assert {name for name, _ in added} >= {"project/settings.py", "project/celery.py", "shop/handlers.py"}
    for name, text in added:
        with (tmp_path / name).open("a") as file:
            file.write(f"\n{text}")
    manage(tmp_path, "makemigrations", "shop")
    manage(tmp_path, "migrate")
    argv = [sys.executable, "-m", "celery", "-A", "project", "worker", "-l", "info", "-c", "1"]
    worker = process("worker", argv, env=ENVIRONMENT, cwd=tmp_path)
    assert manage(tmp_path, "shell", "--no-imports", "-c", SEND).strip() == "accepted"
    ask = "from shop.models import Order; print(Order.objects.filter(shipped=True).count())"
    wait_until(
        lambda: manage(tmp_path, "shell", "--no-imports", "-c", ask).strip() == "1", 60, "the order to be shipped"
    )
    assert "0 dead letters" in manage(tmp_path, "koan_status")
    worker.send(signal.SIGTERM)
    assert worker.wait(30) == 0
