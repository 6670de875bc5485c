"""What became of the messages of one caller."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from .unconfirmed import Publication


class Answers:
    """Counts the answers to one call. It holds no publications, which hold it: a ring would outlive the call."""

    def __init__(self, publications: Sequence[Publication]) -> None:
        #: How many are not here yet.
        self.missing = len(publications)
        self._tell: Callable[[], object] | None = None
        take = self._take
        for publication in publications:
            publication.on_done = take

    def when_complete(self, tell: Callable[[], object]) -> None:
        """Call ``tell`` once all are here, at once if they are; perhaps twice."""
        self._tell = tell
        if not self.missing:
            tell()

    def _take(self, _: Publication) -> None:
        self.missing -= 1
        if not self.missing and self._tell is not None:
            self._tell()


def abandon(publications: Sequence[Publication]) -> None:
    """Say that nobody waits for them any more."""
    for publication in publications:
        publication.abandoned = True
