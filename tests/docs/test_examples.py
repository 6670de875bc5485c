"""The examples of all pages name things that exist, and their settings are valid."""

from __future__ import annotations

import ast
import re
import textwrap
from importlib import import_module
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from koan_django.core import conf
from koan_django.core.options import OptionError, parse

if TYPE_CHECKING:
    from collections.abc import Iterator

ROOT = Path(__file__).parents[2]
PAGES = [ROOT / "README.md", *sorted((ROOT / "docs").glob("*/*.md"))]
_PYTHON = re.compile(r"^```(?:\{code-block\} )?python\n(?::\w+:.*\n)*(.*?)^```$", re.MULTILINE | re.DOTALL)


def examples() -> Iterator[tuple[str, ast.Module]]:
    for page in PAGES:
        for number, found in enumerate(_PYTHON.findall(page.read_text()), start=1):
            where = f"{page.relative_to(ROOT)}, example {number}"
            yield where, ast.parse(textwrap.dedent(found), filename=where)


EXAMPLES = list(examples())


def test_there_are_examples() -> None:
    assert len(EXAMPLES) > 20


@pytest.mark.parametrize("tree", [tree for _, tree in EXAMPLES], ids=[where for where, _ in EXAMPLES])
def test_what_an_example_imports_of_ours_exists(tree: ast.Module) -> None:
    for node in ast.walk(tree):
        if isinstance(node, ast.ImportFrom) and (node.module or "").startswith("koan_django"):
            module = import_module(node.module or "")
            missing = [alias.name for alias in node.names if not hasattr(module, alias.name)]
            assert not missing, f"{node.module} has no {', '.join(missing)}"


def test_what_examples_use_is_public() -> None:
    documented = (ROOT / "docs" / "reference" / "api.md").read_text()
    used = {
        (node.module or "", alias.name)
        for _, tree in EXAMPLES
        for node in ast.walk(tree)
        if isinstance(node, ast.ImportFrom) and (node.module or "").startswith("koan_django.")
        for alias in node.names
    }
    lacking = [f"{module}.{name}" for module, name in sorted(used) if not _is_documented(documented, module, name)]
    assert not lacking, "docs/reference/api.md does not document these"


def _is_documented(page: str, module: str, name: str) -> bool:
    """By its face, by name behind one, as a module with a face of its own, or in a module that a face exports."""
    package, _, last = module.rpartition(".")
    return (
        (_has_face(page, module) and name in import_module(module).__all__)
        or re.search(rf"(face:: {re.escape(module)} .*\b|auto(function|class):: {re.escape(module)}\.){name}\b", page)
        is not None
        or re.search(rf"face:: {re.escape(module)}\.{name}\b", page) is not None
        or (_has_face(page, package) and last in import_module(package).__all__)
    )


def _has_face(page: str, module: str) -> bool:
    return re.search(rf"face:: {re.escape(module)}$", page, re.MULTILINE) is not None


@pytest.mark.parametrize("tree", [tree for _, tree in EXAMPLES], ids=[where for where, _ in EXAMPLES])
def test_the_settings_of_an_example_are_valid(tree: ast.Module) -> None:
    errors: list[OptionError] = []
    for koan in _settings(tree):
        overlays = koan.pop("ENVIRONMENTS", {})
        koan.pop("ENVIRONMENT", None)
        for whole in (koan, *(conf.merge(koan, overlay) for overlay in overlays.values())):
            for name, options in whole.items():
                section = conf.declared()[name]  # a section that nobody declares is an error, too
                parse(section.schema, options, f"KOAN[{name!r}]", errors)
    assert [str(error) for error in errors] == []


def _settings(tree: ast.Module) -> Iterator[dict[str, Any]]:
    for node in ast.walk(tree):
        if isinstance(node, ast.Assign) and getattr(node.targets[0], "id", "") == "KOAN":
            yield ast.literal_eval(node.value)
