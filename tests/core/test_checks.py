"""What ``check`` says of ``KOAN`` as a whole and of a core that is missing."""

from __future__ import annotations

from typing import Any

import pytest
from django.conf import settings
from django.core import checks
from django.test import override_settings

from koan_django.core.checks import check_core, check_setting


def messages(koan: Any) -> list[tuple[str, str]]:
    with override_settings(KOAN=koan):
        return [(str(message.id), str(message.msg)) for message in check_setting(None)]


def test_nothing_written_is_fine() -> None:
    assert messages({}) == []


@pytest.mark.parametrize(
    ("koan", "text"),
    [
        ({"SECRET": {}}, "KOAN['SECRET']: unknown section; did you mean 'SECRETS'?"),
        ([], "KOAN: list is not a dict"),
        (
            {"ENVIRONMENT": "prodction", "ENVIRONMENTS": {"production": {}}},
            "KOAN['ENVIRONMENT']: 'prodction' is not in KOAN['ENVIRONMENTS']; did you mean 'production'?",
        ),
        (
            {"ENVIRONMENT": "production", "ENVIRONMENTS": {"production": {"MESAGING": {}}}},
            "KOAN['MESAGING']: unknown section; did you mean 'MESSAGING'?",
        ),
        ({"ENVIRONMENTS": []}, "KOAN['ENVIRONMENTS']: [] is not a dict"),
        ({3: {}}, "KOAN[3]: unknown section"),
    ],
)
def test_e001_names_what_is_wrong(koan: Any, text: str) -> None:
    assert messages(koan) == [("koan_core.E001", text)]


def test_all_errors_come_at_once() -> None:
    assert len(messages({"A1": {}, "B2": {}, "ENVIRONMENTS": 3})) == 3


def test_w001_names_a_section_that_nobody_reads() -> None:
    apps = [app for app in settings.INSTALLED_APPS if not app.startswith("koan_django.") or app.endswith(".core")]
    with override_settings(INSTALLED_APPS=apps, KOAN={"STORAGE": {}}):
        [message] = check_setting(None)
    assert (message.id, message.level) == ("koan_core.W001", checks.WARNING)
    assert "'koan_django.storage' is not installed" in str(message.msg)
    assert "Add 'koan_django.storage' to INSTALLED_APPS" in str(message.hint)


def test_e002_a_missing_core_says_so() -> None:
    assert check_core(None) == []
    apps = [app for app in settings.INSTALLED_APPS if not app.startswith("koan_django.")]
    with override_settings(INSTALLED_APPS=apps):
        [message] = check_core(None)
    assert (message.id, message.level) == ("koan_core.E002", checks.ERROR)


def test_the_checks_are_registered() -> None:
    with override_settings(KOAN={"SECRET": {}}):
        assert "koan_core.E001" in {message.id for message in checks.run_checks()}
