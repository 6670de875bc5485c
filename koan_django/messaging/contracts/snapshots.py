"""The contract of all messages as one file, to be committed and compared with."""

from __future__ import annotations

import json
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from koan_django.messaging import messages

from .schemas import schema_of

if TYPE_CHECKING:
    from pathlib import Path

FORMAT = 1


class SnapshotError(Exception):
    """The file is not there, or is no snapshot."""


@dataclass(frozen=True, slots=True)
class Contract:
    """One message: its version and the JSON Schema of its body."""

    version: int
    schema: dict[str, Any] = field(repr=False)


@dataclass(frozen=True, slots=True)
class Snapshot:
    """Every message by its alias."""

    contracts: dict[str, Contract]

    @classmethod
    def of_project(cls) -> Snapshot:
        """Return the contract of the message classes of this process."""
        found = {each._meta.alias: Contract(each._meta.version, schema_of(each)) for each in messages.classes()}
        return cls(dict(sorted(found.items())))

    @classmethod
    def read(cls, path: Path) -> Snapshot:
        """Read a file that :meth:`write` has written; raises :class:`SnapshotError` with what to do."""
        try:
            found = json.loads(path.read_text(encoding="utf-8"))
        except FileNotFoundError:
            raise SnapshotError(f"there is no {path}: write it with koan_messages snapshot, and commit it") from None
        except (OSError, ValueError) as error:
            raise SnapshotError(f"{path} cannot be read: {error}") from error
        if not isinstance(found, dict) or found.get("koan-messages") != FORMAT:
            raise SnapshotError(f"{path} is no snapshot of format {FORMAT}: write it with koan_messages snapshot")
        try:
            return cls({alias: Contract(**each) for alias, each in found["messages"].items()})
        except (AttributeError, KeyError, TypeError) as error:
            raise SnapshotError(f"{path} is damaged ({error}): restore it from your repository") from error

    def write(self, path: Path) -> None:
        """Write the file in one order of keys, so that a change is as small in it as in the code; may raise."""
        try:
            path.write_text(self.text(), encoding="utf-8")
        except OSError as error:
            raise SnapshotError(f"{path} cannot be written ({error.strerror}): name another place by --file") from error

    def text(self) -> str:
        """Return the content of the file."""
        contracts = {alias: {"version": c.version, "schema": c.schema} for alias, c in self.contracts.items()}
        return json.dumps({"koan-messages": FORMAT, "messages": contracts}, indent=2, sort_keys=True) + "\n"
