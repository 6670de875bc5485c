"""What ``settings.py`` may import needs no Django: proven in an interpreter that cannot import it."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import koan_django

ROOT = Path(koan_django.__file__).parents[1]
RING = [
    "koan_django",
    *(
        f"koan_django.core{name}"
        for name in (
            "",
            ".templating",
            ".conf",
            ".context",
            ".exceptions",
            ".options",
            ".redaction",
            ".durations",
            ".audit",
        )
    ),
    "koan_django.core.environment",
    "koan_django.secrets",
    *(f"koan_django.secrets.{name}" for name in ("types", "exceptions", "references", "resolver", "namespace", "conf")),
    "koan_django.secrets.providers",
]
REFUSE = """
import sys
class Refuse:
    def find_spec(self, name, path=None, target=None):
        if name.partition(".")[0] in ("django", "asgiref", "celery", "kombu", "msgspec", "PIL", "hvac"):
            raise ImportError(f"{name} is not allowed here")
sys.meta_path.insert(0, Refuse())
sys.path.insert(0, sys.argv[1])
"""
SETTINGS = """
import os
os.environ["APP_DB__PASSWORD"] = "p@ss"
from koan_django import secrets
URL = "amqp://u:{{secret:app/db#password}}@h"
HERE = secrets.get("app/db#password").reveal()
names = secrets.resolve_settings(globals())
assert names == ["URL"], names
from koan_django.core.environment import detect
assert detect().container.sign
assert URL == "amqp://u:p%40ss@h" and HERE == "p@ss"
for name in secrets.__all__:
    getattr(secrets, name)
import asyncio
from koan_django.core import tenant
with tenant.use("acme"):
    assert asyncio.run(secrets.aresolve("{{secret:app/db#password}}")) == "p@ss"
"""


def bare(code: str) -> None:
    """Run ``code`` where Django cannot be imported."""
    command = [sys.executable, "-I", "-c", REFUSE + code, str(ROOT)]
    environ = {name: value for name, value in os.environ.items() if name != "DJANGO_SETTINGS_MODULE"}
    done = subprocess.run(command, env=environ, capture_output=True, text=True, timeout=60, check=False)
    assert done.returncode == 0, done.stderr


def providers() -> list[str]:
    folder = ROOT / "koan_django/secrets/providers"
    return [f"koan_django.secrets.providers.{path.stem}" for path in folder.glob("*.py") if path.stem != "__init__"]


def test_the_interpreter_is_bare() -> None:
    bare("try:\n    import django\nexcept ImportError:\n    pass\nelse:\n    raise SystemExit('django was imported')")


def test_every_module_of_the_ring_imports_without_django() -> None:
    names = [*RING, *providers()]
    assert len(names) > 15
    bare(f"from importlib import import_module\nfor name in {names}:\n    import_module(name)")


def test_settings_resolve_without_django() -> None:
    bare(SETTINGS)
