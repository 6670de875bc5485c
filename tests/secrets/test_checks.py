"""What ``check`` and ``check --deploy`` say, what the Overview page and the readiness probe show."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
from django.core import checks
from django.test import override_settings
from django.utils.functional import lazystr

from koan_django import secrets
from koan_django.core import health
from koan_django.core.overview import panels
from koan_django.secrets.probes import secrets as probe
from koan_django.testing import override_koan, static_secrets

from .conftest import BACKEND

MEMORY = "koan_django.secrets.providers.memory.MemoryProvider"
FILE = "koan_django.secrets.providers.file.FileProvider"


def found(*, deploy: bool = False) -> dict[str, str]:
    """The messages of secrets by id, and what they say."""
    messages = checks.run_checks(include_deployment_checks=deploy)
    return {
        str(message.id): f"{message.msg} {message.hint}" for message in messages if "koan_secrets" in str(message.id)
    }


def test_zero_configuration_is_fine() -> None:
    with override_koan(SECRETS={}):
        assert found() == {}


@pytest.mark.parametrize(
    ("options", "text"),
    [
        ({"CHIAN": ["env"]}, "KOAN['SECRETS']['CHIAN']: unknown option; did you mean 'CHAIN'?"),
        ({"CHAIN": ["vualt"], "PROVIDERS": {"vault": {"BACKEND": FILE}}}, "did you mean 'vault'?"),
        ({"CHAIN": []}, "at least one provider"),
        ({"CHAIN": ["env", "env"]}, "each once"),
        ({"PROVIDERS": {"vault": {}}}, "KOAN['SECRETS']['PROVIDERS']['vault']['BACKEND']: is required"),
        ({"CACHE": {"TTL": "2h", "HARD_TTL": "1h"}}, "HARD_TTL must not be less than TTL"),
    ],
)
def test_e001_wrong_options(options: dict[str, Any], text: str) -> None:
    with override_koan(SECRETS=options):
        messages = found(deploy=True)
    assert text in messages.pop("koan_secrets.E001")
    assert not [name for name in messages if ".E" in name], "one mistake is reported once"


@pytest.mark.parametrize(
    ("provider", "text"),
    [
        ({"BACKEND": "nowhere.Provider"}, "cannot be imported"),
        ({"BACKEND": FILE, "OPTIONS": {"rooot": "/x"}}, "unexpected keyword argument 'rooot'"),
        ({"BACKEND": "koan_django.secrets.SecretValue"}, "no subclass of Provider"),
    ],
)
def test_e002_a_provider_that_cannot_be_built(provider: dict[str, Any], text: str) -> None:
    with override_koan(SECRETS={"CHAIN": ["mine"], "PROVIDERS": {"mine": provider}}):
        assert text in found(deploy=True)["koan_secrets.E002"]


def test_w001_a_provider_that_cannot_answer(tmp_path: Path) -> None:
    options = {"CHAIN": ["file"], "PROVIDERS": {"file": {"BACKEND": FILE, "OPTIONS": {"root": str(tmp_path / "x")}}}}
    with override_koan(SECRETS=options):
        assert "is not a directory" in found()["koan_secrets.W001"]
        (tmp_path / "x").mkdir()
        assert found() == {}


def test_w001_resolves_nothing_that_could_need_a_connection() -> None:
    options = {
        "CHAIN": ["file", "env"],
        "PROVIDERS": {"file": {"BACKEND": FILE, "OPTIONS": {"root": "/nowhere/{{secret:memory:x}}"}}},
    }
    with override_koan(SECRETS=options):
        assert found() == {}


class Holder:
    """An object in the settings."""

    def __init__(self) -> None:
        self.url = "{{secret:db}}"


@pytest.mark.parametrize(
    ("value", "place"),
    [
        ("a {{secret:db}}", "MY_SETTING holds"),
        ({"a": ["secret://db"]}, "MY_SETTING['a'][0] holds"),
        (lazystr("{{secret:db}}"), "MY_SETTING holds"),
        ([Holder()], "MY_SETTING[0].url holds"),
    ],
)
def test_w002_a_reference_that_nobody_resolved(value: Any, place: str) -> None:
    with override_settings(MY_SETTING=value):
        assert place in found()["koan_secrets.W002"]


def test_w002_is_about_references_alone() -> None:
    with static_secrets({"db": "{{secret:x}}"}):
        resolved = secrets.resolve("{{secret:db}}")
    harmless = [resolved, r"\{{secret:x}}", "{{other:x}}", "{{ secret }}", lambda: "{{secret:x}}"]
    with override_settings(MY_SETTING=harmless), override_koan(SECRETS={}):
        assert found() == {}


def test_w002_sees_lower_case_names_of_the_module() -> None:
    module = ModuleType("settings_of_this_test")
    module.helper = {"url": "{{secret:db}}"}  # type: ignore[attr-defined]
    sys.modules[module.__name__] = module
    try:
        with override_settings(SETTINGS_MODULE=module.__name__):
            assert "helper['url'] holds" in found()["koan_secrets.W002"]
    finally:
        del sys.modules[module.__name__]


def test_templates_in_koan_are_at_home_there() -> None:
    with override_koan(
        SECRETS={"PROVIDERS": {"m": {"BACKEND": MEMORY, "OPTIONS": {"values": {"a": "{{secret:env:b}}"}}}}}
    ):
        assert found() == {}


@pytest.mark.parametrize(
    ("reference", "words"),
    [
        ("{{secret:nope:db#pw}}", ["refers to the provider 'nope'", "PROVIDERS"]),
        ("amqp://u:${secret+memry://db#pw}@h", ["'memry'", "did you mean 'memory'"]),
        ("{{secret:a//b?default=hidden}}", ["is no reference", "single slashes"]),
    ],
)
def test_e004_a_reference_in_koan_that_nobody_can_answer(reference: str, words: list[str]) -> None:
    with override_koan(SECRETS={"PROVIDERS": {"m": {"BACKEND": MEMORY, "OPTIONS": {"values": {"a": reference}}}}}):
        told = found()["koan_secrets.E004"]
    assert "KOAN['SECRETS']['PROVIDERS']['m']['OPTIONS']['values']['a']" in told
    assert [word for word in words if word not in told] == []
    assert "hidden" not in told


def test_deploy_e003_names_placeholders(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("KOAN_SECRETS", "offline")
    namespace: dict[str, Any] = {"MY_SETTING": {"a": "{{secret:app/db#pw}}"}}
    secrets.resolve_settings(namespace)
    monkeypatch.delenv("KOAN_SECRETS")
    with override_settings(**namespace):
        assert "app/db#pw" in found(deploy=True)["koan_secrets.E003"]
        assert "koan_secrets.E003" not in found()
    assert "koan_secrets.E003" not in found(deploy=True)
    monkeypatch.setenv("KOAN_SECRETS", "offline")
    assert "koan_secrets.E003" in found(deploy=True)


def test_deploy_w003_names_providers_for_development() -> None:
    with override_koan(SECRETS={"CHAIN": ["memory", "env"]}):
        assert "'memory'" in found(deploy=True)["koan_secrets.W003"]
        assert "koan_secrets.W003" not in found()
    with override_koan(SECRETS={"CHAIN": ["env"]}):
        assert "koan_secrets.W003" not in found(deploy=True)


def test_deploy_w004_asks_for_the_redacting_error_page() -> None:
    assert "koan_secrets.W004" in found(deploy=True)
    with override_settings(
        DEFAULT_EXCEPTION_REPORTER_FILTER="koan_django.core.error_pages.RedactingReporterFilter",
        DEFAULT_EXCEPTION_REPORTER="koan_django.core.error_pages.RedactingReporter",
    ):
        assert "koan_secrets.W004" not in found(deploy=True)


class TestProbe:
    def test_it_is_healthy_with_zero_configuration(self) -> None:
        with override_koan(SECRETS={}):
            assert probe().status == "healthy"
            assert "secrets" in {finding.name for finding in health.ready().findings}

    def test_a_problem_degrades_and_a_provider_that_cannot_be_built_is_unhealthy(self, tmp_path: Path) -> None:
        options = {
            "CHAIN": ["file"],
            "PROVIDERS": {"file": {"BACKEND": FILE, "OPTIONS": {"root": str(tmp_path / "x")}}},
        }
        with override_koan(SECRETS=options):
            assert probe().status == "degraded"
        broken = {"CHAIN": ["x"], "PROVIDERS": {"x": {"BACKEND": "nowhere.X"}}}
        with override_koan(SECRETS=broken), pytest.raises(secrets.SecretOptionsError):
            probe()

    def test_placeholders_do_not_serve(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setenv("KOAN_SECRETS", "offline")
        assert probe().status == "unhealthy"


class TestPanel:
    def lines(self) -> Iterator[tuple[str, str, str]]:
        for line in panels["koan_secrets.chain"].lines():
            yield line.label, line.value, line.status

    def test_it_shows_the_chain_and_what_is_wrong_with_it(self, tmp_path: Path) -> None:
        options = {
            "CHAIN": ["vault", "file", "broken"],
            "PROVIDERS": {
                "vault": {"BACKEND": BACKEND},
                "file": {"BACKEND": FILE, "OPTIONS": {"root": str(tmp_path / "x")}},
                "broken": {"BACKEND": "nowhere.X"},
            },
        }
        with override_koan(SECRETS=options):
            lines = list(self.lines())
        assert lines[0] == ("chain", "vault, file, broken", "")
        assert lines[1] == ("vault", "RemoteProvider, remote", "healthy")
        assert lines[2][2] == "degraded"
        assert "is not a directory" in lines[2][1]
        assert lines[3][2] == "unhealthy"
        assert lines[4] == ("kept values", "0", "")
