"""Keys: the names of objects. They are made by storage and safe everywhere; the user's name is kept as metadata.

A key is ``<container>/<yyyy>/<mm>/<id>-<slug>.<ext>``: ``id`` is random and never used again, so no two objects ever
meet under one key; ``slug`` and ``ext`` only help people who look into the store.
"""

from __future__ import annotations

import re
import uuid
from pathlib import PurePosixPath

from django.utils import timezone
from django.utils.text import slugify

from .exceptions import InvalidKeyError

#: What the longest store takes, in bytes of UTF-8: S3 takes 1024 for the whole key, file systems 255 for each part.
MAX_BYTES, MAX_PART_BYTES = 1024, 255
#: Characters of the user's name that are kept, and of the slug made of it.
NAME_LENGTH, SLUG_LENGTH, EXTENSION_LENGTH = 255, 48, 10
#: Names that begin so belong to storage itself.
RESERVED = ".koan-"
UNNAMED = "unnamed"

_CONTROL = re.compile(r"[\x00-\x1f\x7f-\x9f]")


def problem(key: str) -> str:
    """Return why ``key`` cannot name an object, as the rest of a sentence, or nothing."""
    if not key:
        return "is empty"
    if _CONTROL.search(key):
        return "holds a control character"
    if "\\" in key:
        return "holds a backslash"
    try:
        encoded = key.encode()
    except UnicodeEncodeError:
        return "is not valid Unicode"
    if len(encoded) > MAX_BYTES:
        return f"is longer than {MAX_BYTES} bytes"
    return next((found for found in map(_part_problem, key.split("/")) if found), "")


def _part_problem(part: str) -> str:
    if not part:
        return "begins or ends with a slash, or has two in a row"
    if part in (".", ".."):
        return f"holds the part {part!r}"
    if len(part.encode()) > MAX_PART_BYTES:
        return f"has a part longer than {MAX_PART_BYTES} bytes"
    return f"has a part that begins with {RESERVED!r}" if part.startswith(RESERVED) else ""


def check(key: str) -> str:
    """Return ``key``, or raise :class:`InvalidKeyError`."""
    wrong = problem(key)
    if wrong:
        raise InvalidKeyError(
            f"{key[:200]!r} is no key", why=f"it {wrong}", fix="Keep what a user typed as metadata, not as a key."
        )
    return key


def fresh(container: str, name: str) -> str:
    """Return a key that was never used, for an object that the user calls ``name``."""
    now = timezone.now()
    return beside(f"{container}/{now:%Y}/{now:%m}/", name)


def beside(key: str, name: str) -> str:
    """Return a key that was never used, in the folder of ``key``."""
    plain = PurePosixPath(display(name))
    stem = slugify(plain.stem)[:SLUG_LENGTH].strip("-_")
    leaf = f"{uuid.uuid4().hex}-{stem}" if stem else uuid.uuid4().hex
    extension = slugify(plain.suffix)
    if extension and len(extension) <= EXTENSION_LENGTH:
        leaf = f"{leaf}.{extension}"
    folder, slash, _last = key.rpartition("/")
    return check(f"{folder}{slash}{leaf}")


def display(name: str) -> str:
    """Return ``name`` as it is kept: the last part of a path, nothing a database refuses, at most 255 characters."""
    clean = _CONTROL.sub("", str(name).encode("utf-8", "replace").decode())
    leaf = re.split(r"[/\\]", clean)[-1].strip()
    if not leaf.strip(". "):
        return UNNAMED
    if len(leaf) <= NAME_LENGTH:
        return leaf
    suffix = PurePosixPath(leaf).suffix[: EXTENSION_LENGTH + 1]
    return leaf[: NAME_LENGTH - len(suffix)] + suffix
