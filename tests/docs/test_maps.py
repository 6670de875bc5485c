"""Where an app says where its things live, it names each of them once, and nothing that is gone."""

from __future__ import annotations

import re
from collections import Counter
from importlib import import_module
from pathlib import Path

import pytest

#: What is where Django looks for it.
USUAL = {"__init__", "management", "migrations", "static", "templates"}


def parts(package: Path) -> set[str]:
    """The modules of ``package``, and with a slash the packages in it."""
    modules = {path.stem for path in package.glob("*.py")}
    folders = {path.parent.name for path in package.glob("*/__init__.py")}
    return (modules - USUAL) | {f"{name}/" for name in folders - USUAL}


@pytest.mark.parametrize("app", ["core", "messaging"])
def test_the_map_of_an_app_names_every_module_once(app: str) -> None:
    module = import_module(f"koan_django.{app}")
    _, _, text = (module.__doc__ or "").partition("Where things live:\n")
    named = Counter(name for quoted in re.findall(r"``([^`]+)``", text) for name in quoted.split())
    assert [name for name, count in named.items() if count > 1] == []
    there = parts(Path(module.__file__ or "").parent)
    assert there > {"conf", "admin/"}
    assert there - set(named) == set(), "say in its docstring where these belong"
    assert set(named) - there == set(), "these are gone"
