"""Each app from the built wheel, with its own extra and nothing else: ``python -m tests.isolation [APP...]``."""

from __future__ import annotations

import os
import sys
import time
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path
from tempfile import TemporaryDirectory

from .environments import BrokenError, Environment, build, run
from .rows import ROWS, nameless

ROOT = Path(__file__).parents[2]
ALONE = Path(__file__).with_name("alone.py")


def main(names: list[str]) -> int:
    """Print a line for each app; return the exit code."""
    if lacking := nameless(ROOT):
        print(f"no row in tests/isolation/rows.py for: {', '.join(sorted(lacking))}")
        return 1
    with TemporaryDirectory(prefix="koan-isolation-") as folder, ThreadPoolExecutor(os.cpu_count()) as pool:
        try:
            return _all(names or list(ROWS), Path(folder), pool)
        except BrokenError as error:
            print(error)
            return 1


def _all(names: list[str], folder: Path, pool: ThreadPoolExecutor) -> int:
    began = time.monotonic()
    wheel = build(ROOT, folder)
    base = Environment(folder / "env")
    base.make(wheel)
    extras = sorted({ROWS[name].extra for name in names} - {""})
    environments = {"": base, **{extra: Environment(folder / f"env-{extra}", extra, base) for extra in extras}}
    for made in [pool.submit(environments[extra].make, wheel) for extra in extras]:
        made.result()
    print(run([base.python, "-I", ROOT / "bin" / "check_wheel.py"]), end="")
    print(f"{len(environments)} environments in {time.monotonic() - began:.0f} s")
    results = {name: pool.submit(_alone, name, environments[ROWS[name].extra]) for name in names}
    return max(_told(name, future) for name, future in results.items())


def _alone(name: str, environment: Environment) -> float:
    began = time.monotonic()
    environment.check()
    # From this process the environment of the machine only: no settings, no path, no variables of the tests.
    environ = {key: value for key, value in os.environ.items() if not key.startswith(("DJANGO_", "KOAN_", "PYTHON"))}
    run([environment.python, "-W", "error", ALONE, name], env=environ, cwd=ALONE.parent, timeout=120)
    return time.monotonic() - began


def _told(name: str, future: Future[float]) -> int:
    extra = f"koan-django[{ROWS[name].extra}]" if ROWS[name].extra else "koan-django"
    try:
        seconds = future.result()
    except Exception as error:  # each app is told, whatever happened to another
        print(f"{name:<11} {extra:<24} FAILED\n{error}")
        return 1
    print(f"{name:<11} {extra:<24} stands alone ({seconds:.1f} s)")
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
