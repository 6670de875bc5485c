"""Where a process finds itself, and the sign by which it does."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from django.test import override_settings

from koan_django.core import environment
from koan_django.core.environment import detect


def test_a_plain_machine_shows_no_sign(tmp_path: Path) -> None:
    found = detect({}, tmp_path)
    assert not (found.container or found.kubernetes or found.ci)
    assert found.container.sign == "no sign of one"


@pytest.mark.parametrize(
    ("environ", "sign"),
    [
        ({"container": "podman"}, "container=podman"),
        ({"KOAN_IN_CONTAINER": "1"}, "KOAN_IN_CONTAINER=1"),
        ({"KUBERNETES_SERVICE_HOST": "10.0.0.1"}, "KUBERNETES_SERVICE_HOST is set"),
    ],
)
def test_a_container_by_its_variables(environ: dict[str, str], sign: str, tmp_path: Path) -> None:
    found = detect(environ, tmp_path)
    assert found.container
    assert found.container.sign == sign
    assert bool(found.kubernetes) is ("KUBERNETES_SERVICE_HOST" in environ)


@pytest.mark.parametrize("mark", [".dockerenv", "run/.containerenv"])
def test_a_container_by_the_mark_of_its_engine(mark: str, tmp_path: Path) -> None:
    (tmp_path / mark).parent.mkdir(exist_ok=True)
    (tmp_path / mark).touch()
    assert detect({}, tmp_path).container.sign == f"/{mark} exists"


@pytest.mark.parametrize(
    ("text", "word"),
    [
        ("12:pids:/docker/0f3a\n1:name=systemd:/docker/0f3a\n", "docker"),
        ("0::/kubepods.slice/kubepods-burstable.slice\n", "kubepods"),
        ("0::/system.slice/containerd.service\n", "containerd"),
    ],
)
def test_a_container_by_its_control_group(text: str, word: str, tmp_path: Path) -> None:
    (tmp_path / "proc/1").mkdir(parents=True)
    (tmp_path / "proc/1/cgroup").write_text(text)
    assert detect({}, tmp_path).container.sign == f"/proc/1/cgroup names {word}"


def test_kubernetes_by_its_service_account(tmp_path: Path) -> None:
    (tmp_path / "var/run/secrets/kubernetes.io/serviceaccount").mkdir(parents=True)
    found = detect({}, tmp_path)
    assert found.kubernetes
    assert found.container


@pytest.mark.parametrize("value", ["0", "false", "no", ""])
def test_the_variable_overrules_every_sign(value: str, tmp_path: Path) -> None:
    (tmp_path / ".dockerenv").touch()
    assert not detect({"KOAN_IN_CONTAINER": value, "KUBERNETES_SERVICE_HOST": "10.0.0.1"}, tmp_path).container


@pytest.mark.parametrize(
    ("environ", "holds"), [({"CI": "true"}, True), ({"CI": "false"}, False), ({"TF_BUILD": "1"}, True)]
)
def test_continuous_integration(environ: dict[str, str], holds: bool, tmp_path: Path) -> None:
    assert bool(detect(environ, tmp_path).ci) is holds


def test_the_snapshot_is_frozen() -> None:
    with pytest.raises(AttributeError):
        detect().debug = True  # type: ignore[misc]


def test_the_current_one_knows_the_settings(monkeypatch: Any) -> None:
    with override_settings(DEBUG=True, KOAN={"ENVIRONMENT": "staging"}):
        assert (environment.current().debug, environment.current().name) == (True, "staging")
    monkeypatch.setenv("KOAN_ENVIRONMENT", "review")
    with override_settings(KOAN={}):
        assert (environment.current().debug, environment.current().name) == (False, "review")
