"""Storage needs core and nothing else: in a project with no ``KOAN`` at all, and without what other apps bring."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).parents[2]

PROJECT = """
import sys

class Refuse:
    def find_spec(self, name, path=None, target=None):
        others = ("messaging", "secrets", "media", "scheduling", "inbox", "celery", "testing")
        if name.partition(".")[0] in ("celery", "kombu", "msgspec", "PIL", "storages", "boto3", "hvac") or any(
            name == f"koan_django.{other}" for other in others
        ):
            raise ImportError(f"{name} is not allowed here")

sys.meta_path.insert(0, Refuse())

import types
import django
from django.conf import settings

shop = types.ModuleType("shop")
shop.__path__ = [sys.argv[1]]
sys.modules["shop"] = shop
settings.configure(
    SECRET_KEY="x",
    USE_TZ=True,
    DEFAULT_AUTO_FIELD="django.db.models.BigAutoField",
    DATABASES={"default": {"ENGINE": "django.db.backends.sqlite3", "NAME": sys.argv[1] + "/db.sqlite3"}},
    MEDIA_ROOT=sys.argv[1] + "/media",
    ROOT_URLCONF="koan_django.core.urls",
    INSTALLED_APPS=["shop", "django.contrib.contenttypes", "django.contrib.auth", "django.contrib.admin",
                    "django.contrib.messages", "django.contrib.sessions",
                    "koan_django.core", "koan_django.storage"],
    MIDDLEWARE=["django.contrib.sessions.middleware.SessionMiddleware",
                "django.contrib.auth.middleware.AuthenticationMiddleware",
                "django.contrib.messages.middleware.MessageMiddleware"],
    TEMPLATES=[{"BACKEND": "django.template.backends.django.DjangoTemplates", "APP_DIRS": True,
                "OPTIONS": {"context_processors": ["django.template.context_processors.request",
                                                   "django.contrib.auth.context_processors.auth",
                                                   "django.contrib.messages.context_processors.messages"]}}],
)
django.setup()
from django.core.management import call_command

call_command("check", fail_level="WARNING")
call_command("migrate", verbosity=0, run_syncdb=True)
from shop.models import Letter
from koan_django.storage.models import StorageProfile, Tombstone

letter = Letter.objects.create_text("Dear all.txt", "hello")
print(letter.profile, letter.key.split("/")[:2], letter.read_text())
letter.delete()
print(Tombstone.objects.count(), list(StorageProfile.objects.values_list("name", "is_default")))
"""

MODELS = """
from koan_django.storage import StoredFile

class Letter(StoredFile):
    pass
"""


def test_a_project_without_settings_of_ours_stores_files(tmp_path: Path) -> None:
    (tmp_path / "models.py").write_text(MODELS)
    environ = {name: value for name, value in os.environ.items() if name != "DJANGO_SETTINGS_MODULE"}
    found = subprocess.run(
        [sys.executable, "-W", "error", "-c", PROJECT, str(tmp_path)],
        cwd=ROOT,
        env=environ,
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    assert found.returncode == 0, found.stderr
    assert found.stdout.splitlines()[1:] == ["default ['shop', 'letter'] hello", "0 [('default', True)]"]
    assert not [path for path in (tmp_path / "media").rglob("*") if path.is_file()]
