"""A Python file that is changed in memory, so that its comments and its layout stay as they are."""

from __future__ import annotations

import ast
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

from koan_django.core.exceptions import KoanError

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator


class UnreadableError(KoanError):
    """A file of the project cannot be read as Python."""


@dataclass
class Source:
    """One file: ``text`` as it is, and the edits to make. Each edit replaces a range of characters."""

    path: Path
    text: str
    tree: ast.Module
    _edits: list[tuple[int, int, str]] = field(default_factory=list)
    _imported: set[str] = field(default_factory=set)

    @classmethod
    def read(cls, path: Path) -> Source:
        """Read ``path``; raises :class:`UnreadableError`."""
        try:
            text = path.read_text(encoding="utf-8")
            return cls(path, text, ast.parse(text))
        except (OSError, SyntaxError, UnicodeDecodeError) as error:
            raise UnreadableError(f"{path} cannot be read", why=str(error), fix="Mend it first.") from error

    def result(self) -> str:
        """Return the text with every edit made; those of one place in the order in which they were asked for."""
        text = self.text
        numbered = sorted(enumerate(self._edits), key=lambda item: (item[1][0], item[0]), reverse=True)
        for _, (start, end, replacement) in numbered:
            text = text[:start] + replacement + text[end:]
        return text

    def replace(self, node: ast.expr, text: str) -> None:
        """Put ``text`` in the place of ``node``."""
        self._edits.append((self._start(node), self._end(node), text))

    def remove(self, statement: ast.stmt) -> None:
        """Remove the lines of ``statement``."""
        self._edits.append((self._line(statement.lineno), self._line((statement.end_lineno or 0) + 1), ""))

    def after(self, statement: ast.stmt | None, text: str) -> None:
        """Put the lines ``text`` behind ``statement``, or at the end of the file."""
        place = len(self.text) if statement is None else self._line((statement.end_lineno or 0) + 1)
        newline = "\n" if place and self.text[place - 1] != "\n" else ""
        self._edits.append((place, place, f"{newline}{text}\n"))

    def add_import(self, module: str, name: str) -> None:
        """Import ``name`` from ``module``, behind the imports at the head of the file."""
        line = f"from {module} import {name}"
        if line in self._imported or any(name == found for found in self._names_from(module)):
            return
        self._imported.add(line)
        imports = [node for node in self.tree.body if isinstance(node, ast.Import | ast.ImportFrom)]
        if imports:
            self.after(imports[-1], line)
        else:
            docstring = self.tree.body[0] if ast.get_docstring(self.tree) is not None else None
            place = self._line((docstring.end_lineno or 0) + 1) if docstring else 0
            self._edits.append((place, place, f"{line}\n"))

    def statements(self, name: str) -> list[ast.stmt]:
        """Return the statements at the top level that assign ``name`` or add to it."""
        return [node for node in self.tree.body if name in _targets(node)]

    def add_items(self, name: str, items: Iterable[str], *, behind: str = "") -> None:
        """Add texts to the list ``name``: behind the item ``behind`` if the list has it, else at its end."""
        found = self.statements(name)
        value = getattr(found[-1], "value", None) if len(found) == 1 else None
        if isinstance(value, ast.List | ast.Tuple) and value.elts:
            self._into(value, [f'"{item}"' for item in items], behind)
        else:
            listed = ", ".join(f'"{item}"' for item in items)
            self.after(found[-1] if found else None, f"{name} = [*{name}, {listed}]")

    def add_first(self, value: ast.List, item: str) -> None:
        """Put an item at the head of a list."""
        if not value.elts:
            self.replace(value, f"[{item}]")
            return
        first = value.elts[0]
        place = self._start(first)
        own_line = self.text[self._line(first.lineno) : place].isspace()
        self._edits.append((place, place, f"{item},\n{' ' * first.col_offset}" if own_line else f"{item}, "))

    def _into(self, value: ast.List | ast.Tuple, items: list[str], behind: str) -> None:
        known = [each.value if isinstance(each, ast.Constant) else None for each in value.elts]
        position = known.index(behind) if behind in known else len(known) - 1
        element = value.elts[position]
        end, following = self._end(element), self._line((element.end_lineno or 0) + 1)
        rest = self.text[end:following].lstrip(", \t").rstrip("\n")
        shares_its_line = self.text[self._line(element.lineno) : self._start(element)].strip()
        if shares_its_line or (rest and not rest.startswith("#")):
            self._edits.append((end, end, "".join(f", {item}" for item in items)))
            return
        comma = self.text[end : end + 1] == ","
        lines = "".join(f"{' ' * element.col_offset}{item},\n" for item in items)
        if not comma:
            self._edits.append((end, end, ","))
        self._edits.append((following, following, lines))

    def _names_from(self, module: str) -> Iterator[str]:
        for node in self.tree.body:
            if isinstance(node, ast.ImportFrom) and node.module == module and not node.level:
                yield from (alias.name for alias in node.names if alias.asname is None)

    def _start(self, node: ast.expr) -> int:
        return self._offset(node.lineno, node.col_offset)

    def _end(self, node: ast.expr) -> int:
        return self._offset(node.end_lineno or node.lineno, node.end_col_offset or node.col_offset)

    def _offset(self, line: int, column: int) -> int:
        """A position in characters; the parser counts columns in bytes."""
        begin = self._line(line)
        end = self.text.find("\n", begin)
        text = self.text[begin : end if end >= 0 else len(self.text)]
        return begin + len(text.encode()[:column].decode())

    def _line(self, number: int) -> int:
        lines = self.text.splitlines(keepends=True)
        return sum(map(len, lines[: number - 1]))


def _targets(node: ast.stmt) -> list[str]:
    if isinstance(node, ast.Assign):
        return [target.id for target in node.targets if isinstance(target, ast.Name)]
    if isinstance(node, ast.AnnAssign | ast.AugAssign) and isinstance(node.target, ast.Name):
        return [node.target.id]
    return []
