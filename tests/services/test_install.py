from __future__ import annotations

import os
import socket
import subprocess
from pathlib import Path

import pytest

from tests.services import compose, install, policy
from tests.services.catalogue import REQUIREMENTS
from tests.services.requirement import remedy


def test_services_are_denied_their_start_while_packages_are_installed(tmp_path: Path) -> None:
    rule = tmp_path / "policy-rc.d"
    with install.denied_start(rule):
        assert subprocess.run([rule], check=False).returncode == 101
    assert not rule.exists()


def test_the_rule_goes_even_when_the_installation_fails(tmp_path: Path) -> None:
    rule = tmp_path / "policy-rc.d"
    with pytest.raises(OSError), install.denied_start(rule):
        raise OSError("no network")
    assert not rule.exists()


def test_a_rule_of_the_machine_stays(tmp_path: Path) -> None:
    rule = tmp_path / "policy-rc.d"
    rule.write_text("the machine's own")
    with install.denied_start(rule):
        pass
    assert rule.read_text() == "the machine's own"


def test_the_remedy_names_every_package_and_variable() -> None:
    text = remedy(REQUIREMENTS.values())
    for kind in REQUIREMENTS.values():
        assert kind.variable in text
        assert all(package in text for package in kind.packages)
        assert kind.distribution in text


def test_sudo_is_never_used_unasked(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "getuid", lambda: 1000)
    monkeypatch.delenv("SERVICES", raising=False)
    assert not install.may_install()


def test_a_docker_client_without_an_engine_is_no_engine(monkeypatch: pytest.MonkeyPatch) -> None:
    with socket.socket() as nobody_listens:
        nobody_listens.bind(("127.0.0.1", 0))
        monkeypatch.setenv("DOCKER_HOST", f"tcp://127.0.0.1:{nobody_listens.getsockname()[1]}")
        compose.engine_answers.cache_clear()
        try:
            assert not compose.engine_answers()
        finally:
            compose.engine_answers.cache_clear()


@pytest.mark.parametrize(
    ("services", "require", "unwanted"),
    [("none", "", True), ("none", "1", False), ("", "", False), ("NONE", "0", True)],
)
def test_a_requirement_beats_a_refusal(
    monkeypatch: pytest.MonkeyPatch, services: str, require: str, unwanted: bool
) -> None:
    monkeypatch.setenv("SERVICES", services)
    monkeypatch.setenv("KOAN_TEST_REQUIRE_SERVICES", require)
    assert policy.unwanted() is unwanted
