"""What a reader does with a page: writes its files, runs its commands, looks at what they print."""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Literal

if TYPE_CHECKING:
    from collections.abc import Iterator

_BLOCK = re.compile(r"^```(?:\{code-block\} )?(?P<language>\w+)\n(?P<body>.*?)^```$", re.MULTILINE | re.DOTALL)
_CAPTION = re.compile(r":caption: (?P<path>\S+)(?P<added> \(add at the end\))?\n\n")


@dataclass(frozen=True, slots=True)
class Step:
    """One thing to do.

    ``write`` and ``append`` put ``text`` into the file ``target``; ``run`` runs the command ``target``, with ``text``
    as its input if there is any, and expects ``output`` somewhere in what it prints.
    """

    kind: Literal["write", "append", "run"]
    target: str
    text: str = ""
    output: str = ""


def steps(page: Path) -> Iterator[Step]:
    """Read the steps of ``page`` in order."""
    for block in _BLOCK.finditer(page.read_text()):
        language, body = block["language"], block["body"]
        caption = _CAPTION.match(body)
        if caption:
            yield Step("append" if caption["added"] else "write", caption["path"], body[caption.end() :])
        elif language in ("console", "pycon"):
            yield from _commands(body)


def _commands(body: str) -> Iterator[Step]:
    """A command is a line after ``$``; lines after ``>>>`` and ``...`` are its input, the others its output."""
    for part in re.split(r"^\$ ", body, flags=re.MULTILINE)[1:]:
        command, _, rest = part.partition("\n")
        lines = rest.splitlines()
        typed = [line[4:] for line in lines if line[:4].rstrip() in (">>>", "...")]
        printed = [line for line in lines if line[:4].rstrip() not in (">>>", "...")]
        yield Step("run", command, "\n".join(typed), "\n".join(printed))


def is_shown(expected: str, printed: str) -> bool:
    """Whether ``printed`` holds the lines of ``expected``, in which ``...`` stands for anything."""
    pattern = ".*?".join(re.escape(part) for part in expected.split("..."))
    return re.search(pattern, printed, re.DOTALL) is not None
