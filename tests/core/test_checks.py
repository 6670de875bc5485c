"""What ``check`` says of ``KOAN`` as a whole and of a core that is missing."""

from __future__ import annotations

from typing import Any

import pytest
from django.conf import settings
from django.core import checks
from django.test import override_settings

from koan_django.core.checks import check_environments, check_references, check_setting


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


def test_e004_the_overlay_of_another_environment_is_checked_here_and_now() -> None:
    overlays = {"production": {"INBOX": {"RETENTON": "7d"}, "MESAGING": {}}, "laptop": {}}
    with override_settings(KOAN={"ENVIRONMENTS": overlays, "INBOX": {"LEASE": "soon"}}):
        found = {str(message.msg): message.id for message in check_environments(None)}
    assert found == {
        "In the environment 'production', KOAN['MESAGING']: unknown section; did you mean 'MESSAGING'?": (
            "koan_core.E004"
        ),
        "In the environment 'production', KOAN['INBOX']['RETENTON']: unknown option; did you mean 'RETENTION'?": (
            "koan_core.E004"
        ),
    }


def test_e005_a_reference_that_no_app_resolves_is_named_and_no_section_that_nobody_reads() -> None:
    buses = {"main": {"URL": "amqp://a:{{other:b}}@c/", "FAILOVER": ["amqp://a@d/", "amqp://a:{{other:e}}@f/"]}}
    overlays = {"here": {"MESSAGING": {"BUSES": buses}}}
    with override_settings(KOAN={"ENVIRONMENT": "here", "ENVIRONMENTS": overlays, "MEDAI": {"X": "{{other:x}}"}}):
        found = check_references(None)
    assert [(message.id, str(message.msg).partition(" ")[0]) for message in found] == [
        ("koan_core.E005", "KOAN['MESSAGING']['BUSES']['main']['URL']"),
        ("koan_core.E005", "KOAN['MESSAGING']['BUSES']['main']['FAILOVER'][1]"),
    ]
    assert "of the kind 'other'" in str(found[0].msg)
    assert "INSTALLED_APPS" in str(found[0].hint)
    buses = {"main": {"URL": r"amqp://a:{{secret:b}}@c/\{{other:x}}"}}
    with override_settings(KOAN={"MESSAGING": {"BUSES": buses}}):
        assert check_references(None) == []


def test_w002_a_variable_that_the_settings_overrule_is_named(monkeypatch: Any) -> None:
    monkeypatch.setenv("KOAN_ENVIRONMENT", "staging")
    with override_settings(KOAN={"ENVIRONMENT": "production"}):
        [message] = check_environments(None)
    assert (message.id, message.msg) == (
        "koan_core.W002",
        "KOAN_ENVIRONMENT=staging is not read: KOAN['ENVIRONMENT'] is 'production'",
    )
    with override_settings(KOAN={}):
        assert check_environments(None) == []


def test_the_checks_are_registered() -> None:
    with override_settings(KOAN={"SECRET": {}}):
        assert "koan_core.E001" in {message.id for message in checks.run_checks()}
