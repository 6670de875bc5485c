"""Where this process runs: in a container, under Kubernetes, in continuous integration, with ``DEBUG``.

:func:`detect` needs no Django, so a settings module may ask it. Every answer keeps what it was concluded from.
"""

from __future__ import annotations

import os
import re
import sys
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Mapping

#: Says outright whether this is a container, where the signs below mislead.
VARIABLE = "KOAN_IN_CONTAINER"
_MARKS = (".dockerenv", "run/.containerenv")  # left by Docker and by Podman
_CGROUP = re.compile(r"docker|kubepods|containerd|libpod|lxc", re.IGNORECASE)
_CI = ("CI", "GITHUB_ACTIONS", "GITLAB_CI", "BUILDKITE", "JENKINS_URL", "TEAMCITY_VERSION", "TF_BUILD")
_NO = frozenset({"", "0", "false", "no", "off"})


@dataclass(frozen=True, slots=True)
class Trait:
    """Whether something holds here, and the sign of it. As true or false as the answer."""

    holds: bool
    sign: str = ""

    def __bool__(self) -> bool:
        return self.holds


@dataclass(frozen=True, slots=True)
class Environment:
    """A snapshot of where the process runs. ``debug`` and ``name`` are those of the settings, once these are complete.

    ``name`` is the environment whose overlay counts (``production``), or nothing.
    """

    container: Trait
    kubernetes: Trait
    ci: Trait
    debug: bool = False
    name: str = ""


def detect(environ: Mapping[str, str] = os.environ, root: Path = Path("/")) -> Environment:
    """Look at the variables in ``environ`` and at the files below ``root``."""
    kubernetes = _kubernetes(environ, root)
    return Environment(container=_container(environ, root, kubernetes), kubernetes=kubernetes, ci=_ci(environ))


def current() -> Environment:
    """Return the environment of this process, with ``DEBUG`` and the name from its settings."""
    from django.conf import settings

    from . import conf

    here = _here()
    name = conf.environment_name()[0]
    return Environment(here.container, here.kubernetes, here.ci, bool(settings.DEBUG), str(name or ""))


def under_test() -> bool:
    """Whether Django's test environment is set up in this process."""
    mail = sys.modules.get("django.core.mail")
    return hasattr(mail, "outbox")  # the test runner makes it, so that tests find what they send


@cache
def _here() -> Environment:
    return detect()


def _container(environ: Mapping[str, str], root: Path, kubernetes: Trait) -> Trait:
    if VARIABLE in environ:
        return Trait(environ[VARIABLE].lower() not in _NO, f"{VARIABLE}={environ[VARIABLE]}")
    if kubernetes:
        return kubernetes
    for mark in _MARKS:
        if (root / mark).exists():
            return Trait(True, f"/{mark} exists")
    if environ.get("container"):  # systemd-nspawn, Podman and LXC set it
        return Trait(True, f"container={environ['container']}")
    found = _CGROUP.search(_read(root / "proc/1/cgroup"))
    return Trait(True, f"/proc/1/cgroup names {found[0]}") if found else Trait(False, "no sign of one")


def _kubernetes(environ: Mapping[str, str], root: Path) -> Trait:
    if environ.get("KUBERNETES_SERVICE_HOST"):
        return Trait(True, "KUBERNETES_SERVICE_HOST is set")
    account = "var/run/secrets/kubernetes.io/serviceaccount"
    found = (root / account).exists()
    return Trait(found, f"/{account} exists" if found else "no sign of it")


def _ci(environ: Mapping[str, str]) -> Trait:
    for name in _CI:
        if environ.get(name, "").lower() not in _NO:
            return Trait(True, f"{name} is set")
    return Trait(False, "no sign of it")


def _read(path: Path) -> str:
    try:
        return path.read_text(errors="replace")
    except OSError:  # another system, or not ours to read
        return ""
