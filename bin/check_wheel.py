#!/usr/bin/env python3
"""Compare the installed wheel with the tree: everything of koan_django must be in it, and nothing else."""

from __future__ import annotations

import sys
from importlib.metadata import files
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
KINDS = {
    "template": "/templates/",
    "static file": "/static/",
    "migration": "/migrations/0001",
    "marker of types": "/py.typed",
}


def main() -> int:
    tree = {
        path.relative_to(ROOT).as_posix()
        for path in (ROOT / "koan_django").rglob("*")
        if path.is_file() and "__pycache__" not in path.parts
    }
    installed = {str(path) for path in files("koan-django") or () if "__pycache__" not in path.parts}
    wheel = {path for path in installed if ".dist-info/" not in path}
    problems = [f"not in the wheel: {path}" for path in sorted(tree - wheel)]
    problems += [f"not of the package: {path}" for path in sorted(wheel - tree)]
    problems += [f"no {kind} in the wheel" for kind, part in KINDS.items() if not any(part in path for path in wheel)]
    print("\n".join(problems) or f"the wheel holds all {len(wheel)} files of koan_django and nothing else")
    return 1 if problems else 0


if __name__ == "__main__":
    sys.exit(main())
