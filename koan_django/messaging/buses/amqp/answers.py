"""What became of the messages of one caller."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from .unconfirmed import Publication


class Answers:
    """Notes the answers to one call. It holds no publications, which hold it: a ring would outlive the call."""

    def __init__(self, publications: Sequence[Publication]) -> None:
        #: Which are not here yet, by the identity of the object. Not a number: one may be told of twice.
        self._open = set(map(id, publications))
        self._tell: Callable[[], object] | None = None
        take = self._take
        for publication in publications:
            publication.on_done = take

    @property
    def are_complete(self) -> bool:
        """Whether all are here."""
        return not self._open

    def when_complete(self, tell: Callable[[], object]) -> None:
        """Call ``tell`` once all are here, at once if they are; perhaps twice."""
        self._tell = tell
        if not self._open:
            tell()

    def _take(self, publication: Publication) -> None:
        self._open.discard(id(publication))
        if not self._open and self._tell is not None:
            self._tell()


def abandon(publications: Sequence[Publication]) -> None:
    """Say that nobody waits for them any more."""
    for publication in publications:
        publication.abandoned = True
