"""Everything of koan-django that the reference must name, read from the code.

An entry is called as its anchor in ``docs/reference`` is: ``setting-messaging-buses-url``, ``check-koan_core.E001``,
``command-koan_scheduling``, ``signal-variant_ready``, ``permission-koan_core.release_lease``, ``event-storage.put``.
Django must be set up with every app before :func:`collect` is called.
"""

from __future__ import annotations

import ast
import re
from argparse import Action, ArgumentParser, _SubParsersAction
from collections.abc import Callable, Iterator, Mapping
from dataclasses import MISSING, Field, dataclass, fields, is_dataclass
from datetime import timedelta
from functools import cache
from importlib import import_module
from pathlib import Path
from typing import Any, Literal, get_args, get_origin, get_type_hints

from django.apps import apps

PACKAGE = Path(__file__).parents[2] / "koan_django"
#: Each kind of entry, and the page that holds its entries.
PAGES: Mapping[str, str] = {
    "setting": "settings",
    "check": "checks",
    "command": "commands",
    "signal": "signals",
    "permission": "permissions",
    "event": "events",
}
_CHECK = re.compile(r"(koan_[a-z_]+\.)?[EW]\d{3}")
_SCALARS = {
    str: "text",
    int: "whole number",
    float: "number",
    bool: "true or false",
    timedelta: "duration",
    Path: "path",
}
#: What Django gives every command.
_SHARED = {
    *("help", "version", "verbosity", "settings", "pythonpath"),
    *("traceback", "no_color", "force_color", "skip_checks"),
}


@dataclass(frozen=True, slots=True)
class Entry:
    """One thing to document, and what the code says about it in a few words of Markdown."""

    kind: str
    name: str
    facts: str = ""

    @property
    def anchor(self) -> str:
        """The target that stands before the entry's text."""
        return f"{self.kind}-{self.name}"


def anchor_id(anchor: str) -> str:
    """Return ``anchor`` as it stands in an address: two anchors with the same one would be the same place."""
    return re.sub(r"[^a-z0-9]+", "-", anchor.lower()).strip("-")


def collect() -> dict[str, Entry]:
    """Return all entries by the id of their anchor, in the order in which the code names them."""
    found: dict[str, Entry] = {}
    for source in (settings, checks, commands, signals, permissions, events):
        for entry in source():
            found.setdefault(anchor_id(entry.anchor), entry)
    return found


def settings() -> Iterator[Entry]:
    """Every option of every section of ``KOAN``, found by walking the dataclasses that parse it."""
    from koan_django.core import conf

    for name in ("ENVIRONMENT", "ENVIRONMENTS"):
        yield Entry("setting", name.lower())
    for name, app in conf.SECTIONS.items():
        if (PACKAGE / app.rpartition(".")[2] / "conf.py").exists():
            import_module(f"{app}.conf")
        if name in conf.declared():
            yield from _options(name.lower(), conf.declared()[name].schema)


def _options(path: str, schema: type) -> Iterator[Entry]:
    hints = get_type_hints(schema)
    for field in fields(schema):
        where, hint = f"{path}-{field.name}", hints[field.name]
        yield Entry("setting", where, f"{_type(hint)}, {_default(field)}")
        for nested in _nested(hint):
            yield from _options(where, nested)


def _nested(hint: Any) -> Iterator[type]:
    if is_dataclass(hint):
        yield hint  # type: ignore[misc]  # a class, never an instance
    for argument in get_args(hint):
        yield from _nested(argument)


def _type(hint: Any) -> str:
    origin, arguments = get_origin(hint), get_args(hint)
    if origin is Literal:
        return " or ".join(f"`{choice!r}`" for choice in arguments)
    if origin is tuple:
        return f"list of {_type(arguments[0])}"
    if origin is not None and isinstance(origin, type) and issubclass(origin, Mapping):
        return "options by name" if is_dataclass(arguments[1]) else "dict"
    if origin is Callable:
        return "function"
    if arguments:
        return " or ".join(_type(each) for each in arguments if each is not type(None))
    return "options" if is_dataclass(hint) else _SCALARS.get(hint, "anything")


def _default(field: Field[Any]) -> str:
    if field.default is not MISSING:
        value = field.default
    elif field.default_factory is not MISSING:
        value = field.default_factory()
    else:
        return "required"
    if isinstance(value, Mapping):
        return f"by default {', '.join(f'`{name!r}`' for name in value)}" if value else "empty by default"
    if is_dataclass(value):
        return "see below"
    return "not set by default" if value in (None, "") else f"default `{_shown(value)}`"


def _shown(value: Any) -> str:
    if isinstance(value, timedelta):
        seconds = value.total_seconds()
        for size, unit in ((86400, "d"), (3600, "h"), (60, "m"), (1, "s")):
            if seconds >= size and seconds % size == 0:
                return f"{seconds / size:g}{unit}"
        return f"{seconds * 1000:g}ms"
    return repr(list(value) if isinstance(value, tuple) else value)


def checks() -> Iterator[Entry]:
    """Every id of a system check that stands in the code; the number alone is one of the app whose module it is."""
    for path, tree in _trees().items():
        for node in ast.walk(tree):
            if isinstance(node, ast.Constant) and isinstance(node.value, str) and _CHECK.fullmatch(node.value):
                prefix = "" if "." in node.value else f"koan_{path.relative_to(PACKAGE).parts[0]}."
                yield Entry("check", prefix + node.value, "error" if "E" in node.value else "warning")


def commands() -> Iterator[Entry]:
    """Every management command, with the options that its parser knows."""
    for path in sorted(PACKAGE.glob("**/management/commands/[!_]*.py")):
        module = import_module(".".join(path.relative_to(PACKAGE.parent).with_suffix("").parts))
        yield Entry("command", path.stem, _usage(module.Command(), path.stem))


def _usage(command: Any, name: str) -> str:
    parser = command.create_parser("manage.py", name)
    return "\n".join([command.help, "", *_options_of(parser, indent="")])


def _options_of(parser: ArgumentParser, indent: str) -> Iterator[str]:
    for action in parser._actions:
        if isinstance(action, _SubParsersAction):
            helps = {choice.dest: choice.help for choice in action._choices_actions}
            for verb, below in action.choices.items():
                yield f"{indent}- `{verb}`: {helps.get(verb) or below.description or ''}".rstrip(": ")
                yield from _options_of(below, indent + "  ")
        elif action.dest not in _SHARED:
            yield f"{indent}- {_option(action)}"


def _option(action: Action) -> str:
    value = "|".join(map(str, action.choices)) if action.choices else action.metavar or action.dest.upper()
    words = [", ".join(action.option_strings), "" if action.nargs == 0 else str(value)]
    return f"`{' '.join(filter(None, words))}`: {action.help or ''}".rstrip(": ")


def signals() -> Iterator[Entry]:
    """Every ``django.dispatch.Signal`` of a module."""
    for path, tree in _trees().items():
        for node in tree.body:
            value = getattr(node, "value", None)
            if isinstance(value, ast.Call) and getattr(value.func, "id", "") == "Signal":
                target = node.targets[0] if isinstance(node, ast.Assign) else node.target  # type: ignore[attr-defined]
                yield Entry("signal", target.id, f"`from {_module(path)} import {target.id}`")  # type: ignore[attr-defined]


def permissions() -> Iterator[Entry]:
    """Every permission beside the four that Django gives each model."""
    for model in apps.get_models(include_auto_created=True):
        if model.__module__.startswith("koan_django."):
            for codename, name in model._meta.permissions:
                yield Entry("permission", f"{model._meta.app_label}.{codename}", f"{name}")


def events() -> Iterator[Entry]:
    """Every name that the code gives to ``emit`` or ``span`` of the telemetry."""
    found: dict[str, tuple[set[str], dict[str, None]]] = {}
    for path, tree in _trees().items():
        if path.name == "telemetry.py":
            continue
        for call in _telemetry(tree):
            phases, keys = found.setdefault(_literal(call, path), (set(), {}))
            phases.add("fact" if _called(call) == "emit" else "`start`, then `stop` or `exception`")
            keys.update({word.arg: None for word in call.keywords if word.arg})
    for name, (phases, keys) in sorted(found.items()):
        carried = ", ".join(f"`{key}`" for key in keys)
        yield Entry("event", name, " or ".join(sorted(phases)) + (f"; carries {carried}" if carried else ""))


def _telemetry(tree: ast.Module) -> Iterator[ast.Call]:
    imported = {
        alias.asname or alias.name
        for node in ast.walk(tree)
        if isinstance(node, ast.ImportFrom) and (node.module or "").endswith(("core", "telemetry"))
        for alias in node.names
    } & {"emit", "span", "telemetry"}
    for node in ast.walk(tree):
        if isinstance(node, ast.Call) and _called(node) in ("emit", "span"):
            owner = node.func.value if isinstance(node.func, ast.Attribute) else node.func
            if getattr(owner, "id", "") in imported:
                yield node


def _called(call: ast.Call) -> str:
    return getattr(call.func, "id", "") or getattr(call.func, "attr", "")


def _literal(call: ast.Call, path: Path) -> str:
    first = call.args[0] if call.args else None
    if isinstance(first, ast.Constant) and isinstance(first.value, str):
        return first.value
    raise ValueError(f"{path}:{call.lineno}: name the event by a literal, or nobody can look it up")


@cache
def _trees() -> dict[Path, ast.Module]:
    return {path: ast.parse(path.read_text()) for path in sorted(PACKAGE.glob("**/*.py"))}


def _module(path: Path) -> str:
    return ".".join(path.relative_to(PACKAGE.parent).with_suffix("").parts)
