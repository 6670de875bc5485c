"""What became of the messages of one caller."""

from __future__ import annotations

from typing import TYPE_CHECKING

from koan_django.messaging.buses.broker import Outcome

from .unconfirmed import Publication

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    from koan_django.messaging.envelope import Envelope

    #: Exchange, routing key, what is published there, and headers beside its own.
    Addressed = tuple[str, str, Envelope, Mapping[str, str | bool]]

_NO_ANSWER = Outcome("unknown", "no answer from the publisher")


class Answers:
    """Collects the outcomes of one call."""

    def __init__(self, count: int) -> None:
        self.outcomes = [_NO_ANSWER] * count
        self._tell: Callable[[], object] = _nobody
        self._missing = count

    @property
    def complete(self) -> bool:
        """Whether all are here."""
        return not self._missing

    def when_complete(self, tell: Callable[[], object]) -> None:
        """Call ``tell`` once all are here, at once if they are; perhaps twice."""
        self._tell = tell
        if not self._missing:
            tell()

    def at(self, index: int) -> Callable[[Outcome], None]:
        def done(outcome: Outcome) -> None:
            self.outcomes[index] = outcome
            self._missing -= 1
            if not self._missing:
                self._tell()

        return done

    def publications(self, messages: Sequence[Addressed]) -> list[Publication]:
        """Return what is to be queued."""
        return [Publication(*each, self.at(index)) for index, each in enumerate(messages)]


def _nobody() -> None:
    """Nobody waits yet."""


def abandon(publications: Sequence[Publication]) -> None:
    """Say that nobody waits for them any more."""
    for publication in publications:
        publication.abandoned = True
