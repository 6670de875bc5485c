"""compose.yaml, the Dockerfile and the workflow agree with the code. No engine is here to run them: CI does."""

from __future__ import annotations

import re
import tomllib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml

ROOT = Path(__file__).parents[2]
COMPOSE = {name: yaml.safe_load((ROOT / name).read_text()) for name in ("compose.yaml", "tests/services/compose.yaml")}
WORKFLOW = yaml.safe_load((ROOT / ".github/workflows/ci.yml").read_text())
DOCKERFILE = (ROOT / "Dockerfile").read_text()
SERVERS = ("rabbitmq", "redis", "postgres")
#: Of the suite for the Vault provider, which is yet to come.
YET_TO_BE_READ = {"KOAN_TEST_VAULT_ADDR", "KOAN_TEST_VAULT_TOKEN"}


def images() -> Iterator[str]:
    for file in COMPOSE.values():
        yield from (service["image"] for service in file["services"].values() if "build" not in service)
    for job in WORKFLOW["jobs"].values():
        yield from (service["image"] for service in job.get("services", {}).values() if "${{" not in service["image"])
    yield from (each["image"] for each in WORKFLOW["jobs"]["vault"]["strategy"]["matrix"]["include"])
    yield from re.findall(r"^FROM (\S+)", DOCKERFILE, re.MULTILINE)


def test_every_image_names_its_version() -> None:
    found = list(images())
    assert len(found) > 12
    assert [image for image in found if not re.search(r":\d+\.\d+|:17$", image)] == []


def test_a_server_is_the_same_everywhere() -> None:
    for name in SERVERS:
        named = {file["services"][name]["image"] for file in COMPOSE.values()}
        assert {WORKFLOW["jobs"]["test"]["services"][name]["image"]} == named
    assert (
        COMPOSE["compose.yaml"]["services"]["seaweedfs"]["image"]
        == COMPOSE["tests/services/compose.yaml"]["services"]["s3"]["image"]
    )


@pytest.mark.parametrize("name", COMPOSE)
def test_no_port_is_open_to_the_network_and_health_is_seen_to(name: str) -> None:
    for service, options in COMPOSE[name]["services"].items():
        assert [port for port in options.get("ports", ()) if not port.startswith("127.0.0.1:")] == [], service
        assert "healthcheck" in options or service == "web", f"{service}: the Dockerfile has the one of web"


def test_variables_are_those_that_are_read() -> None:
    read = "".join(path.read_text() for path in (ROOT / "tests").rglob("*.py") if path != Path(__file__))
    named = set(re.findall(r"KOAN_TEST_\w+", (ROOT / ".github/workflows/ci.yml").read_text()))
    assert {name for name in named if f'"{name}"' not in read} == YET_TO_BE_READ
    sample = (ROOT / "sampleproject/settings.py").read_text()
    given = set(COMPOSE["compose.yaml"]["x-sample"]["environment"]) | set(re.findall(r"GALLERY_\w+", DOCKERFILE))
    assert {name for name in given if name not in sample} == {"GALLERY_SECRET_KEY"}
    assert "{{secret:gallery/secret-key" in sample


def test_the_workflow_runs_what_tox_knows() -> None:
    matrix = WORKFLOW["jobs"]["check"]["strategy"]["matrix"]["env"]
    assert set(matrix) == {"lint", "docs", "isolation"}
    tox = (ROOT / "tox.ini").read_text()
    assert {name for name in matrix if f"[testenv:{name}]" not in tox} == set()
    factors = [each["env"] for each in WORKFLOW["jobs"]["test"]["strategy"]["matrix"]["include"]]
    assert "py311-dj52" in tox and "py{312,313}-dj{52,60,61}" in tox
    assert sorted(factors) == ["py311-dj52", *(f"py3{minor}-dj{dj}" for minor in (12, 13) for dj in (52, 60, 61))]


def test_the_image_can_be_built_from_what_is_let_in() -> None:
    copied = [
        word for line in re.findall(r"^COPY (?!--from)(.+)", DOCKERFILE, re.MULTILINE) for word in line.split()[:-1]
    ]
    assert copied and [name for name in copied if not (ROOT / name).exists()] == []
    ignored = (ROOT / ".dockerignore").read_text().splitlines()
    assert [name for name in copied if f"!{name}" not in ignored] == []
    extras: dict[str, Any] = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["optional-dependencies"]
    wanted = re.findall(r"\.\[(.+?)\]", DOCKERFILE)
    assert len(wanted) == 2
    assert {extra for each in wanted for extra in each.split(",")} <= set(extras)
    assert DOCKERFILE.count("\nUSER 10001\n") == 2 and "/health/live" in DOCKERFILE
