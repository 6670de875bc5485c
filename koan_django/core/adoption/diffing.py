"""A unified diff that ``patch`` applies, and that shows no secret: not even one that stands next to a change."""

from __future__ import annotations

import ast
from difflib import unified_diff
from typing import TYPE_CHECKING
from urllib.parse import urlsplit

from koan_django.core.redaction import is_sensitive

if TYPE_CHECKING:
    from collections.abc import Iterator

    from .sources import Source

_CONTEXT_LINES = 3


def diff(source: Source, name: str) -> str:
    """Return what changes in ``source``, called ``name``; nothing when nothing does.

    Lines around a change help ``patch`` to find its place. As many are shown as hold no secret, and none if need be.
    """
    before, after = source.text.splitlines(keepends=True), source.result().splitlines(keepends=True)
    hidden = {before[number - 1].rstrip("\n") for number in secret_lines(source.tree) if number <= len(before)}
    for context in range(_CONTEXT_LINES, -1, -1):
        lines = list(unified_diff(before, after, f"a/{name}", f"b/{name}", n=context))
        if not any(line[1:].rstrip("\n") in hidden for line in lines):
            break
    return "".join(line if line.endswith("\n") else f"{line}\n\\ No newline at end of file\n" for line in lines)


def secret_lines(tree: ast.AST) -> set[int]:
    """Return the lines that hold a literal which is a secret by its name, or an address with a password."""
    found: set[int] = set()
    for node in secrets(tree):
        found |= set(range(node.lineno, (node.end_lineno or node.lineno) + 1))
    return found


def secrets(tree: ast.AST) -> Iterator[ast.expr]:
    """Return the literals that are secrets."""
    for node in ast.walk(tree):
        for name, value in _named(node):
            texts = [each for each in ast.walk(value) if isinstance(each, ast.Constant) and isinstance(each.value, str)]
            yield from (each for each in texts if each.value and is_sensitive(name))
        if isinstance(node, ast.Constant) and isinstance(node.value, str) and _has_password(node.value):
            yield node


def _named(node: ast.AST) -> Iterator[tuple[str, ast.expr]]:
    """What is given to a name: a variable, an attribute, a key of a dict or of a subscript, an argument of a call."""
    if isinstance(node, ast.Assign | ast.AnnAssign) and node.value is not None:
        targets = node.targets if isinstance(node, ast.Assign) else [node.target]
        yield from ((_name(target), node.value) for target in targets)
    elif isinstance(node, ast.Dict):
        yield from ((_name(key), value) for key, value in zip(node.keys, node.values, strict=True) if key is not None)
    elif isinstance(node, ast.keyword) and node.arg:
        yield node.arg, node.value
    elif isinstance(node, ast.Call) and node.args:  # env("SECRET_KEY", "a default")
        yield from ((_name(node.args[0]), value) for value in node.args[1:])


def _name(node: ast.expr) -> str:
    if isinstance(node, ast.Name):
        return node.id
    if isinstance(node, ast.Attribute):
        return node.attr
    if isinstance(node, ast.Subscript):
        return _name(node.slice)
    return str(node.value) if isinstance(node, ast.Constant) else ""


def _has_password(text: str) -> bool:
    try:
        return "://" in text and urlsplit(text).password is not None
    except ValueError:
        return False
