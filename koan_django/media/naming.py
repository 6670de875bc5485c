"""File names: what the user called it, with the extension that the content has."""

from __future__ import annotations

import re
from pathlib import PurePosixPath

from .formats import FORMATS

#: Marks that turn the direction of text, so that ``gpj.exe`` reads as ``exe.jpg``.
_BIDI = re.compile(r"[\u061c\u200e\u200f\u202a-\u202e\u2066-\u2069]")


def named(name: str, format: str) -> str:
    """Return ``name`` with an extension of ``format``, unless it has one or the format is not known."""
    clean = _BIDI.sub("", name)
    known = FORMATS.get(format)
    if known is None:
        return clean
    path = PurePosixPath(clean)
    if path.suffix.lower() in known.extensions:
        return clean
    stem = path.stem if path.suffix else clean
    return f"{stem or 'picture'}{known.extensions[0]}"


def variant_name(original: str, recipe: str, format: str) -> str:
    """Return what a variant of ``original`` is called when somebody saves it."""
    stem = PurePosixPath(original).stem
    return named(f"{stem}-{recipe}" if stem else recipe, format)
