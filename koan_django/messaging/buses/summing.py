"""How much waits on a bus of several parts, although one of them does not answer."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

from koan_django.core.redaction import redact_text
from koan_django.messaging import handlers

from .base import Depth

if TYPE_CHECKING:
    from .base import Bus


def depths_of(name: str, part: Bus) -> list[Depth]:
    """Return what waits on ``part``, which is called ``name``; why it does not answer is a note."""
    try:
        return part.depths()
    except Exception as error:  # whatever it is, it is what the page has to say
        return untold(name, part, f"{type(error).__name__}: {error}")


def untold(name: str, part: Bus, why: str) -> list[Depth]:
    """Return depths that only say ``why`` nothing is known."""
    note = redact_text(f"{name}: {why}")
    return [Depth(group, 0, -1, 0, note) for group in handlers.on_bus(part.alias)]


def with_part(depth: Depth, part: Depth, name: str) -> Depth:
    """Return ``depth`` with what waits on the part called ``name``, and how much of it that is."""
    note = "; ".join(filter(None, [depth.note, part.note]))
    sections = {**depth.sections, name: part.waiting}
    return replace(depth, waiting=depth.waiting + part.waiting, note=note, sections=sections)
