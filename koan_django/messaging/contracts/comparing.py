"""What has changed between two contracts, and whether it breaks somebody.

Two kinds of messages meet a handler of another age. Those under way, in the outbox and among the dead letters were
written by older code; and while a deployment rolls, older handlers read what newer code sends. A change breaks when
either could not be read.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from koan_django.core.texts import counted
from koan_django.messaging import messages
from koan_django.messaging.encoding import lifts

if TYPE_CHECKING:
    from .snapshots import Contract, Snapshot

Schema = Mapping[str, Any]

#: Said of a field for people and tools; a change of it changes no message.
_SILENT = frozenset({"$schema", "$defs", "title", "description", "default", "examples", "x-koan-sensitive"})
#: Compared by a rule of their own.
_RULED = frozenset({"properties", "required", "items", "prefixItems", "additionalProperties", "anyOf", "enum", "$ref"})
_MARKERS = ("x-koan-partition-key", "x-koan-idempotency-key", "x-koan-header")


@dataclass(frozen=True, slots=True)
class Change:
    """One difference. ``path`` is that of JSONPath from the body, ``$``, empty for the message as a whole."""

    alias: str
    path: str
    what: str
    breaking: bool

    def __str__(self) -> str:
        return f"{self.alias}{f' {self.path}' if self.path else ''}: {self.what}"


def changes(old: Snapshot, new: Snapshot) -> list[Change]:
    """Return every difference from ``old`` to ``new``, by alias."""
    found: list[Change] = []
    for alias in sorted({*old.contracts, *new.contracts}):
        before, after = old.contracts.get(alias), new.contracts.get(alias)
        if before is None:
            found.append(Change(alias, "", "is new", breaking=False))
        elif after is None:
            what = "is gone: what is under way becomes a dead letter; keep the class until nothing is"
            found.append(Change(alias, "", what, breaking=True))
        else:
            found += _of_message(alias, before, after)
    return found


def _of_message(alias: str, old: Contract, new: Contract) -> Iterator[Change]:
    differences = [Change(alias, *each) for each in Comparison(old.schema, new.schema)]
    if new.version < old.version:
        yield Change(alias, "", f"went back from version {old.version} to {new.version}", breaking=True)
    if new.version <= old.version:
        yield from differences
        return
    step = f"version {old.version} became {new.version}"
    cls = messages.by_alias(alias)
    if cls is not None and lifts(cls, old.version):
        yield Change(alias, "", f"{step}, with upcasters for what is under way", breaking=False)
        return
    yield Change(alias, "", step, breaking=False)
    for each in differences:
        fix = f"; no upcaster lifts version {old.version}" if each.breaking else ""
        yield Change(alias, each.path, each.what + fix, each.breaking)


class Comparison:
    """Iterates over the differences of two schemas as (path, what, breaking)."""

    def __init__(self, old: Schema, new: Schema) -> None:
        self._old, self._new = old, new
        self._seen: set[tuple[str, str]] = set()

    def __iter__(self) -> Iterator[tuple[str, str, bool]]:
        return self._node(self._old, self._new, "$")

    def _node(self, old: Schema, new: Schema, path: str) -> Iterator[tuple[str, str, bool]]:
        names = (old.get("$ref", ""), new.get("$ref", ""))
        if all(names):
            if names in self._seen:
                return
            self._seen.add(names)
        before, after = _resolved(old, self._old), _resolved(new, self._new)
        yield from _marks(old, new, path)
        if "anyOf" in before or "anyOf" in after:
            yield from self._choices(before.get("anyOf", [old]), after.get("anyOf", [new]), path)
            return
        yield from _plain(before, after, path)
        yield from _values(before, after, path)
        yield from self._fields(before, after, path)
        yield from self._parts(before, after, path)

    def _fields(self, old: Schema, new: Schema, path: str) -> Iterator[tuple[str, str, bool]]:
        before, after = old.get("properties", {}), new.get("properties", {})
        required, demanded = set(old.get("required", ())), set(new.get("required", ()))
        for name in sorted({*before, *after}):
            where = f"{path}.{name}"
            if name not in after:
                lost = name in required
                yield where, "is gone" + (": older handlers require it" if lost else ", and had a default"), lost
            elif name not in before:
                added = name in demanded
                yield where, "is new" + (": what is under way lacks it; give it a default" if added else ""), added
            else:
                if name in demanded - required:
                    yield where, "lost its default: what is under way may lack it", True
                yield from self._node(before[name], after[name], where)

    def _parts(self, old: Schema, new: Schema, path: str) -> Iterator[tuple[str, str, bool]]:
        for key, where in (("items", f"{path}[*]"), ("additionalProperties", f"{path}.*")):
            before, after = old.get(key), new.get(key)
            if isinstance(before, Mapping) and isinstance(after, Mapping):
                yield from self._node(before, after, where)
            elif before != after:
                yield where, f"was {_words(before)}, is {_words(after)}", True
        before, after = old.get("prefixItems", []), new.get("prefixItems", [])
        if len(before) != len(after):
            yield path, f"had {counted(len(before), 'part')}, has {len(after)}", True
        for number, pair in enumerate(zip(before, after, strict=False)):
            yield from self._node(*pair, f"{path}[{number}]")

    def _choices(self, old: list[Schema], new: list[Schema], path: str) -> Iterator[tuple[str, str, bool]]:
        """A union is a set of alternatives, and whatever is none is a union of itself."""
        before, after = {_words(each): each for each in old}, {_words(each): each for each in new}
        for name in sorted(before.keys() - after.keys()):
            yield path, f"is no longer {name}: what is under way may be", True
        for name in sorted(after.keys() - before.keys()):
            yield path, f"may be {name}: older handlers refuse it", True
        for name in sorted(before.keys() & after.keys()):
            yield from self._node(before[name], after[name], path)


def _resolved(schema: Schema, root: Schema) -> Schema:
    name = str(schema.get("$ref", "")).rpartition("/")[2]
    found: Schema = root.get("$defs", {}).get(name, root if name else schema)
    return found


def _marks(old: Schema, new: Schema, path: str) -> Iterator[tuple[str, str, bool]]:
    for name in _MARKERS:
        if old.get(name) != new.get(name):
            words = name.removeprefix("x-koan-").replace("-", " ")
            lost = f"is no longer the {words}" if name in old else f"became the {words}"
            yield path, f"{lost}: what is under way was sent without it", True
    if old.get("x-koan-sensitive") and not new.get("x-koan-sensitive"):
        yield path, "is no longer sensitive: logs and the admin show it", False


def _plain(old: Schema, new: Schema, path: str) -> Iterator[tuple[str, str, bool]]:
    if _words(old) != _words(new):
        yield path, f"was {_words(old)}, is {_words(new)}", True
        return
    for key in sorted({*old, *new} - _SILENT - _RULED - {*_MARKERS, "type", "format"}):
        if old.get(key) != new.get(key):
            yield path, f"{key} was {old.get(key, 'not set')}, is {new.get(key, 'not set')}", True


def _values(old: Schema, new: Schema, path: str) -> Iterator[tuple[str, str, bool]]:
    if "enum" not in old or "enum" not in new:
        return
    for value in (each for each in old["enum"] if each not in new["enum"]):
        yield path, f"is no longer {value!r}: what is under way may be", True
    for value in (each for each in new["enum"] if each not in old["enum"]):
        yield path, f"may be {value!r}: older handlers refuse it", True


def _words(schema: Any) -> str:
    """What a schema describes, in few words: the same for the same kind of value."""
    if not isinstance(schema, Mapping):
        return "not set" if schema is None else str(schema)
    if "$ref" in schema:
        return str(schema["$ref"]).rpartition("/")[2]
    if "anyOf" in schema:
        return " or ".join(_words(each) for each in schema["anyOf"])
    if "enum" in schema:
        return "one of several"
    kind = schema.get("type", "anything")
    return f"{kind} ({schema['format']})" if "format" in schema else str(kind)
