"""Recipes: named, versioned descriptions of what is made from a picture.

``recipe("card", version=1).orient().resize(640, 480, fit="cover").encode("webp")`` stands in a module ``recipes`` of
an app. A draft may be branched freely; only its end, :meth:`Draft.encode` or :meth:`Draft.keep_format`, registers.
"""

from __future__ import annotations

import hashlib
import json
import re
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, TypeVar

from koan_django.core.registry import caller

from .catalogue import catalogue
from .transforms import DEFAULT_QUALITY, Background, Encode, Fit, Operation, Orient, Resize

if TYPE_CHECKING:
    from .formats import FormatName

_NAME = re.compile(r"[a-z0-9](?:[a-z0-9-]{0,61}[a-z0-9])?")
O = TypeVar("O", bound=Operation)  # noqa: E741  # a type variable, not a nought


@dataclass(frozen=True, slots=True)
class Recipe:
    """A finished recipe. ``fingerprint`` leaves the name out, so that renaming renders nothing again."""

    name: str
    version: int
    operations: tuple[Operation, ...]
    origin: str = field(default="", compare=False)

    @property
    def canonical(self) -> str:
        """The recipe as text that is the same in every process."""
        parts = [self.version, [operation.canonical() for operation in self.operations]]
        return json.dumps(parts, sort_keys=True, separators=(",", ":"), allow_nan=False)

    @property
    def fingerprint(self) -> str:
        """SHA-256 of the canonical text, in hexadecimal."""
        return hashlib.sha256(self.canonical.encode()).hexdigest()

    @property
    def encode(self) -> Encode:
        """How the result is written."""
        found = self.find(Encode)
        assert found is not None  # a draft cannot become a recipe without one
        return found

    def find(self, kind: type[O]) -> O | None:
        """Return the operation of this kind, or ``None``."""
        return next((found for found in self.operations if isinstance(found, kind)), None)

    def __str__(self) -> str:
        return f"{self.name}@{self.version}"


@dataclass(frozen=True, slots=True)
class Draft:
    """A recipe in the making. Each verb returns a new draft."""

    name: str
    version: int
    operations: tuple[Operation, ...] = ()

    def orient(self) -> Draft:
        """Turn the picture the way its EXIF orientation says. Metadata is dropped, so without it a photo may lie."""
        return self._with(Orient())

    def resize(
        self, width: int | None = None, height: int | None = None, *, fit: Fit = "inside", upscale: bool = False
    ) -> Draft:
        """Scale into a box in pixels. A smaller picture is left as it is, unless ``upscale`` is set."""
        return self._with(Resize(width, height, fit, upscale))

    def background(self, colour: str) -> Draft:
        """Put ``#rrggbb`` or ``#rrggbbaa`` behind padding and behind what JPEG cannot hold as transparent."""
        return self._with(Background(colour.lower()))

    def encode(self, format: FormatName, *, quality: int = DEFAULT_QUALITY, animated: bool = False) -> Recipe:
        """Finish: write as ``format``, and register. Only the first frame is written unless ``animated`` is set.

        Raises :class:`RecipeConflictError` when another place defines the name and version differently.
        """
        return self._finish(Encode(format, quality, animated), caller())

    def keep_format(self, *, quality: int = DEFAULT_QUALITY, animated: bool = False) -> Recipe:
        """Finish: write in the format of the source, and register."""
        return self._finish(Encode(None, quality, animated), caller())

    def _with(self, operation: Operation) -> Draft:
        if any(known.name == operation.name for known in self.operations):
            raise ValueError(f"{operation.name}() stands twice in the recipe {self.name!r}")
        return replace(self, operations=(*self.operations, operation))

    def _finish(self, encode: Encode, origin: str) -> Recipe:
        operations = sorted((*self.operations, encode), key=lambda operation: operation.stage)
        return catalogue.add(Recipe(self.name, self.version, tuple(operations), origin))


def recipe(name: str, *, version: int = 1) -> Draft:
    """Begin a recipe. ``name`` is lower case with hyphens: it stands in addresses and file names."""
    if not _NAME.fullmatch(name):
        raise ValueError(f"{name!r} is no name for a recipe: use lower case letters, digits and hyphens, at most 63")
    if not isinstance(version, int) or isinstance(version, bool) or version < 1:
        raise ValueError(f"version must be a whole number from 1, not {version!r}")
    return Draft(name, version)
