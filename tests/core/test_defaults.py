"""``check --deploy`` names what is for development, one by one, until somebody says that it is meant."""

from __future__ import annotations

from typing import Any

import pytest
from celery import Celery
from django.conf import settings as django_settings
from django.core import checks
from django.test import override_settings

from koan_django.celery.checks import check_broker
from koan_django.core.checks import check_deployment
from koan_django.testing import override_koan

#: Django's own check of JSON columns asks the database, since 6.1 without being told which.
pytestmark = pytest.mark.django_db
STORES = {
    "default": {"BACKEND": "django.core.files.storage.FileSystemStorage"},
    "staticfiles": {"BACKEND": "django.contrib.staticfiles.storage.StaticFilesStorage"},
}


def named() -> dict[str, str]:
    messages = checks.run_checks(include_deployment_checks=True)
    return {message.id or "": f"{message.msg} {message.hint}" for message in messages if "Development" in message.msg}


@pytest.fixture
def untouched(settings: Any) -> None:
    """A project that has chosen nothing."""
    settings.KOAN = {}
    settings.STORAGES = STORES
    settings.DATABASES = {"default": {"ENGINE": "django.db.backends.sqlite3", "NAME": ":memory:"}}


@pytest.mark.filterwarnings("ignore:Overriding setting DATABASES")
@pytest.mark.usefixtures("untouched")
class TestZeroConfiguration:
    def test_each_default_has_a_line_of_its_own(self) -> None:
        found = named()
        assert {"koan_core.W003", "koan_storage.W002", "koan_secrets.W005"} <= set(found)
        assert "the default database is SQLite" in found["koan_core.W003"]
        assert "the storage profile 'default' keeps its objects in a folder" in found["koan_storage.W002"]
        assert "Set KOAN['SECRETS']['CHAIN'], to ['env'] if that is meant." in found["koan_secrets.W005"]
        assert all("ALLOW_DEV_DEFAULTS_IN_PRODUCTION" in text for text in found.values())

    def test_none_is_named_without_deploy(self) -> None:
        assert not [each for each in checks.run_checks() if "Development" in each.msg]

    def test_one_word_allows_them_all(self) -> None:
        with override_koan(CORE={"ALLOW_DEV_DEFAULTS_IN_PRODUCTION": True}):
            assert named() == {}


def test_what_was_chosen_is_not_named() -> None:
    with override_koan(SECRETS={"CHAIN": ["env"]}):
        assert "koan_secrets.W005" not in named()


def test_another_database_is_not_named(monkeypatch: Any) -> None:
    monkeypatch.setitem(django_settings.DATABASES, "default", {"ENGINE": "django.db.backends.postgresql"})
    assert check_deployment(None) == []


@pytest.mark.parametrize(
    ("url", "ids"),
    [("filesystem://", ["koan_celery.W001"]), ("memory://", ["koan_celery.W001"]), ("amqp://rabbitmq//", [])],
)
def test_the_broker_of_celery(url: str, ids: list[str]) -> None:
    assert [message.id for message in check_broker(Celery("x", broker=url))(None)] == ids


@pytest.mark.parametrize(("value", "text"), [("yes", "'yes' is not True or False"), (1, "1 is not True or False")])
def test_the_flag_itself_is_checked(value: Any, text: str) -> None:
    with override_settings(KOAN={"CORE": {"ALLOW_DEV_DEFAULTS_IN_PRODUCTION": value}}):
        found = [str(each.msg) for each in checks.run_checks() if each.id == "koan_core.E003"]
    assert found == [f"KOAN['CORE']['ALLOW_DEV_DEFAULTS_IN_PRODUCTION']: {text}"]
