"""Runs in an environment of its own: one app from the wheel, with its extra, and nothing else that could be imported.

``python alone.py <app>``. It checks and migrates, imports the face, opens the pages of the admin, and uses the app for
its main purpose (``domain/<app>/verb.py``). Raises what fails.
"""

from __future__ import annotations

import sys
from importlib import import_module
from importlib.util import find_spec
from pathlib import Path
from tempfile import TemporaryDirectory

from rows import ROWS, Row

ROOT = Path(__file__).parents[2]


class Refuse:
    """A finder that knows no sibling: the wheel has all apps, this one may not touch the others."""

    def __init__(self, apps: set[str]) -> None:
        self._siblings = set(ROWS) - apps

    def find_spec(self, name: str, path: object = None, target: object = None) -> None:
        top, _, rest = name.partition(".")
        if top == "koan_django" and rest.partition(".")[0] in self._siblings:
            raise ModuleNotFoundError(f"{name} is outside the row of this app", name=name)


def surroundings(row: Row) -> None:
    """The wheel is what is imported, and what the row does not name is not there."""
    import koan_django

    assert not Path(koan_django.__file__).is_relative_to(ROOT), f"{koan_django.__file__} is not from the wheel"
    present = sorted(name for name in row.absent() if find_spec(name) is not None)
    assert not present, f"the extra brought {present}, which the row does not name"


def apps_of(app: str, row: Row) -> list[str]:
    """Return the apps to install, lowest first."""
    return list(dict.fromkeys(["core", *row.requires, app]))


def configure(app: str, row: Row, folder: Path) -> None:
    """Make settings on the spot: Django's admin, the app with what it requires, a database in ``folder``."""
    import django
    from django.conf import settings

    middleware = ("sessions.middleware.SessionMiddleware", "auth.middleware.AuthenticationMiddleware")
    settings.configure(
        SECRET_KEY="alone",
        USE_TZ=True,
        DEFAULT_AUTO_FIELD="django.db.models.BigAutoField",
        ALLOWED_HOSTS=["*"],
        ROOT_URLCONF="alone_urls",
        STATIC_URL="static/",
        MEDIA_ROOT=folder / "media",
        INSTALLED_APPS=[
            *(f"django.contrib.{name}" for name in ("admin", "auth", "contenttypes", "messages", "sessions")),
            "django.contrib.staticfiles",
            *(["django_celery_beat"] if "beat" in row.packages else []),
            *(f"koan_django.{name}" for name in apps_of(app, row)),
            f"domain.{app}",
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
    if "celery" in row.packages:
        from celery import Celery

        from koan_django.celery import install

        install(Celery("domain", broker="memory://"))


def commands(app: str) -> None:
    """``check`` has nothing to say, ``migrate`` works, and no migration is missing."""
    from django.core.management import call_command

    call_command("check", fail_level="WARNING")
    call_command("migrate", run_syncdb=True, verbosity=0)
    call_command("makemigrations", f"koan_{app}", check=True, dry_run=True, verbosity=0)


def face(app: str) -> None:
    """Every public name can be imported from the face, under no other name's module."""
    module = import_module(f"koan_django.{app}")
    assert module.__all__, f"koan_django.{app} exports nothing"
    for name in module.__all__:
        getattr(module, name)


def pages(app: str) -> None:
    """Open the index, the Overview and every list of the app."""
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


def main(app: str) -> None:
    """Prove that ``app`` stands on its own."""
    row = ROWS[app]
    surroundings(row)
    sys.meta_path.insert(0, Refuse(set(apps_of(app, row))))  # type: ignore[arg-type]  # it needs find_spec only
    with TemporaryDirectory() as folder:
        configure(app, row, Path(folder))
        commands(app)
        face(app)
        pages(app)
        import_module(f"domain.{app}.verb").main()


if __name__ == "__main__":
    main(sys.argv[1])
