"""Runs in a process of its own: one app with what it requires, and nothing else that could be imported.

``python alone.py <app> <apps that it requires> <third-party packages of its row>``, the last two joined by commas.
"""

from __future__ import annotations

import sys
from importlib import import_module
from pathlib import Path
from tempfile import TemporaryDirectory

ROOT = Path(__file__).parents[2]
PACKAGES = {
    "msgspec": {"msgspec"},
    "pillow": {"PIL"},
    "celery": {"celery", "kombu", "amqp", "billiard", "vine"},
    "beat": {"django_celery_beat", "cron_descriptor", "timezone_field", "crontab"},
    "storages": {"storages", "boto3", "botocore", "azure", "google"},
    "others": {"hvac", "cryptography", "redis", "django_redis", "psycopg", "hypothesis", "pytest", "playwright"},
}


class Refuse:
    """A finder that knows nothing outside the row: neither siblings nor packages."""

    def __init__(self, apps: set[str], packages: set[str]) -> None:
        self._siblings = {path.stem for path in (ROOT / "koan_django").iterdir()} - apps
        self._packages = set().union(*PACKAGES.values()).difference(*(PACKAGES[name] for name in packages))

    def find_spec(self, name: str, path: object = None, target: object = None) -> None:
        top, _, rest = name.partition(".")
        if top in self._packages or (top == "koan_django" and rest.partition(".")[0] in self._siblings):
            raise ModuleNotFoundError(f"{name} is outside the row of this app", name=name)


def configure(apps: list[str], packages: set[str], folder: Path) -> None:
    """Make settings on the spot: Django's admin, these apps, a database in ``folder``."""
    import django
    from django.conf import settings

    middleware = ("sessions.middleware.SessionMiddleware", "auth.middleware.AuthenticationMiddleware")
    settings.configure(
        SECRET_KEY="alone",
        USE_TZ=True,
        ALLOWED_HOSTS=["*"],
        ROOT_URLCONF="alone_urls",
        STATIC_URL="static/",
        MEDIA_ROOT=folder / "media",
        INSTALLED_APPS=[
            *(f"django.contrib.{name}" for name in ("admin", "auth", "contenttypes", "messages", "sessions")),
            "django.contrib.staticfiles",
            *(["django_celery_beat"] if "beat" in packages else []),
            *(f"koan_django.{name}" for name in apps),
        ],
        MIDDLEWARE=[
            *(f"django.contrib.{name}" for name in (*middleware, "messages.middleware.MessageMiddleware")),
            "koan_django.core.middleware.ContextMiddleware",
        ],
        TEMPLATES=[
            {
                "BACKEND": "django.template.backends.django.DjangoTemplates",
                "APP_DIRS": True,
                "OPTIONS": {
                    "context_processors": [
                        "django.template.context_processors.request",
                        "django.contrib.auth.context_processors.auth",
                        "django.contrib.messages.context_processors.messages",
                    ]
                },
            }
        ],
        DATABASES={
            "default": {
                "ENGINE": "django.db.backends.sqlite3",
                "NAME": folder / "db.sqlite3",
                "OPTIONS": {
                    "transaction_mode": "IMMEDIATE",
                    "timeout": 20,
                    "init_command": "PRAGMA journal_mode=WAL; PRAGMA synchronous=NORMAL;",
                },
            }
        },
    )
    django.setup()


def commands(app: str) -> None:
    """``check`` has nothing to say, ``migrate`` works, and no migration is missing."""
    from django.core.management import call_command

    call_command("check", fail_level="WARNING")
    call_command("migrate", verbosity=0)
    call_command("makemigrations", f"koan_{app}", check=True, dry_run=True, verbosity=0)


def face(app: str) -> None:
    """Every public name can be imported from the face, under no other name's module."""
    module = import_module(f"koan_django.{app}")
    assert module.__all__, f"koan_django.{app} exports nothing"
    for name in module.__all__:
        getattr(module, name)


def pages(app: str) -> list[str]:
    """Open the index, the Overview and every list of the app; return the addresses."""
    from django.apps import apps
    from django.contrib import admin
    from django.contrib.auth.models import User
    from django.test import Client
    from django.urls import reverse

    client = Client()
    client.force_login(User.objects.create_superuser("root"))
    models = [model for model in admin.site._registry if model._meta.app_config is apps.get_app_config(f"koan_{app}")]
    lists = [reverse(f"admin:{model._meta.app_label}_{model._meta.model_name}_changelist") for model in models]
    opened = ["/admin/", reverse("admin:koan_core_overview_changelist"), *lists, "/health", "/health/ready"]
    for address in opened:
        response = client.get(address)
        assert response.status_code == 200, f"{address}: {response.status_code} {response.content!r}"
        assert b"ModuleNotFoundError" not in response.content, f"{address} shows a failure"
    return opened


def main(app: str, requires: list[str], packages: set[str]) -> None:
    """Prove that ``app`` stands on its own; raises what fails."""
    apps = list(dict.fromkeys(["core", *requires, app]))
    sys.meta_path.insert(0, Refuse(set(apps), packages))  # type: ignore[arg-type]  # it needs find_spec only
    sys.path.insert(0, str(ROOT))
    with TemporaryDirectory() as folder:
        configure(apps, packages, Path(folder))
        commands(app)
        face(app)
        print("\n".join(pages(app)))


def _split(text: str) -> list[str]:
    return [part for part in text.split(",") if part]


if __name__ == "__main__":
    main(sys.argv[1], _split(sys.argv[2]), set(_split(sys.argv[3])))
