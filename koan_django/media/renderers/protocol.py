"""What a renderer must do."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import IO, TYPE_CHECKING, Protocol

from koan_django.media.formats import Format
from koan_django.media.recipes import Recipe

if TYPE_CHECKING:
    from collections.abc import Sequence

    from koan_django.media.conf import MediaOptions
    from koan_django.media.inspection import Inspection


@dataclass(frozen=True, slots=True)
class Rendition:
    """What came of one recipe. ``width`` and ``height`` are in pixels."""

    recipe: Recipe
    content: bytes = field(repr=False)
    format: Format
    width: int
    height: int


class Renderer(Protocol):
    """Turns a source into what recipes describe.

    ``revision`` takes part in the key of every variant: raise it when the same recipe gives another picture.
    """

    revision: str

    def renders(self, format: Format) -> bool:
        """Whether sources of ``format`` can be rendered."""

    def family(
        self, stream: IO[bytes], found: Inspection, recipes: Sequence[Recipe], limits: MediaOptions
    ) -> list[Rendition]:
        """Render each recipe from one decoding of ``stream``, in their order.

        Raises :class:`RefusedError` at ``decode`` when the source cannot be decoded. Whatever else it raises says
        nothing against the source.
        """
