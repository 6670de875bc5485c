"""The system checks of scheduling."""

from __future__ import annotations

import pytest
from celery import Celery, current_app
from django.core import checks
from django.test import override_settings

from koan_django.celery import DEFAULT_BEAT
from koan_django.scheduling.checks import check_beat_installed
from koan_django.testing import override_koan


def found(number):
    return [each for each in checks.run_checks() if each.id == f"koan_scheduling.{number}"]


@pytest.mark.parametrize(
    "options", [{"LEASE": "0.1s"}, {"RETENTION": "1s"}, {"LEESE": 5}, {"LEASE": "soon"}, {"RETENTION": None}]
)
def test_wrong_options_are_reported(options):
    with override_koan(SCHEDULING=options):
        assert found("E001")
    assert not found("E001")


def test_a_missing_beat_app_is_an_error():
    from django.conf import settings

    assert check_beat_installed(None) == []
    without = [app for app in settings.INSTALLED_APPS if app != "django_celery_beat"]
    with override_settings(INSTALLED_APPS=[app for app in without if app != "koan_django.scheduling"]):
        (error,) = check_beat_installed(None)
    assert error.id == "koan_scheduling.E003"


class Ours:
    pass


@pytest.fixture
def scheduler():
    """Set the scheduler of the current Celery app."""
    app = Celery("checks", broker="memory://")
    before = current_app._get_current_object()
    app.set_current()

    def choose(value):
        app.conf.beat_scheduler = value

    yield choose
    before.set_current()


@pytest.mark.parametrize(
    ("chosen", "warns"),
    [
        (DEFAULT_BEAT, True),
        ("django_celery_beat.schedulers:DatabaseScheduler", True),
        ("nowhere.at:All", True),
        ("koan_django.scheduling.beat:Scheduler", False),
        ("koan_django.scheduling.beat.Scheduler", False),
    ],
)
def test_a_beat_that_would_fire_nothing_is_warned_about(declare, scheduler, chosen, warns):
    scheduler(chosen)
    assert not found("W001")  # nothing is declared yet
    declare(lambda: None, name="tests.checked")
    assert bool(found("W001")) is warns
