"""Installs the servers that the tests need: ``python -m tests.services.install``.

It does so by ``apt-get``, when run as root or when ``SERVICES=apt`` asks for it (by sudo then). Elsewhere it says what
to install and exits with 1. Nothing that it installs is started, now or at the next boot.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from .catalogue import REQUIREMENTS
from .policy import PolicyError, asked, unwanted
from .requirement import Requirement, missing, remedy

#: Debian asks this program whether a package may start its service; 101 says no.
_POLICY = Path("/usr/sbin/policy-rc.d")
_DENIAL = "#!/bin/sh\nexit 101\n"


def main() -> int:
    """Install what is missing; return the exit code."""
    try:
        if unwanted():
            say("SERVICES=none: the tests that need servers are left out")
            return 0
        lacking = missing(REQUIREMENTS.values())
        if (packaged := [kind for kind in lacking if kind.packages]) and may_install():
            install(packaged)
            lacking = missing(lacking)
    except (PolicyError, OSError, subprocess.CalledProcessError) as error:
        say(str(error))
        return 1
    for kind in REQUIREMENTS.values():
        say(f"{kind.title}: {kind.found()}")
    if lacking:
        print(remedy(lacking), file=sys.stderr)
    return 1 if lacking else 0


def may_install() -> bool:
    """Whether this machine has ``apt-get`` and this run may use it."""
    return shutil.which("apt-get") is not None and (os.getuid() == 0 or asked() == "apt")


def install(kinds: list[type[Requirement]]) -> None:
    """Install the packages of ``kinds``, becoming root by sudo if need be."""
    names = ",".join(kind.name for kind in kinds)
    if os.getuid() != 0:
        say("SERVICES=apt: installing with sudo, which may ask for your password")
        subprocess.run(["sudo", sys.executable, "-m", "tests.services.install", names], check=True)
        return
    packages = sorted({package for kind in kinds for package in kind.packages})
    units = [unit for kind in kinds for unit in kind.units if not enabled(unit)]
    say(f"installing {', '.join(packages)} by apt-get; this may take a minute")
    with denied_start():
        apt_get("update")
        apt_get("install", "--no-install-recommends", *packages)
    for unit in units:
        disable(unit)


def apt_get(*words: str) -> None:
    """Run ``apt-get`` without questions; wait for another one to finish."""
    command = ["apt-get", "-qq", "-y", "-o", "DPkg::Lock::Timeout=300", *words]
    environment = {**os.environ, "DEBIAN_FRONTEND": "noninteractive"}
    done = subprocess.run(command, env=environment, capture_output=True, text=True, check=False)
    if done.returncode:
        raise OSError(f"{' '.join(command)} failed:\n{done.stdout[-2000:]}{done.stderr[-2000:]}")


@contextmanager
def denied_start(policy: Path = _POLICY) -> Iterator[None]:
    """Keep packages from starting services meanwhile. A policy that the machine has stays as it is."""
    if policy.exists():
        yield
        return
    policy.write_text(_DENIAL)
    policy.chmod(0o755)
    try:
        yield
    finally:
        policy.unlink()


def enabled(unit: str) -> bool:
    """Whether ``unit`` starts at boot already, which then is somebody's wish."""
    tool = shutil.which("systemctl")
    return (
        tool is not None
        and subprocess.run([tool, "is-enabled", "--quiet", unit], capture_output=True, check=False).returncode == 0
    )


def disable(unit: str) -> None:
    """Keep ``unit`` from starting at the next boot; a unit that does not exist is well disabled."""
    tool = shutil.which("systemctl")
    if tool:
        subprocess.run([tool, "disable", "--quiet", unit], capture_output=True, check=False)
    elif shutil.which("update-rc.d"):
        script = unit.removesuffix(".service")
        subprocess.run(["update-rc.d", script, "disable"], capture_output=True, check=False)


def say(text: str) -> None:
    """Report progress."""
    print(f"services: {text}", file=sys.stderr, flush=True)


if __name__ == "__main__":
    if len(sys.argv) > 1:
        install([REQUIREMENTS[name] for name in sys.argv[1].split(",")])
        sys.exit(0)
    sys.exit(main())
