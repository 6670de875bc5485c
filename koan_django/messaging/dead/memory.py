"""Refuses to replay what is older than the memory of duplicates: handled meanwhile, it would be handled twice."""

from __future__ import annotations

from collections.abc import Callable
from datetime import timedelta
from typing import TYPE_CHECKING

from django.utils import timezone

from koan_django.core import clock
from koan_django.core.registry import Registry, place_of
from koan_django.core.texts import counted
from koan_django.messaging.exceptions import ForgottenError

if TYPE_CHECKING:
    from collections.abc import Sequence
    from datetime import datetime

    from koan_django.messaging.models import DeadLetter

Reach = Callable[[], timedelta]
_reaches: Registry[Reach] = Registry("memory of duplicates")


def remembers(name: str) -> Callable[[Reach], Reach]:
    """Ask the function for how long what was handled is remembered. The inbox does so."""

    def decorate(function: Reach) -> Reach:
        return _reaches.add(name, function, origin=place_of(function))

    return decorate


def refuse_forgotten(letters: Sequence[DeadLetter]) -> None:
    """Raise :class:`ForgottenError` for letters that were sent before anything that is remembered."""
    reach = min((ask() for ask in _reaches), default=None)
    if reach is None:
        return
    before = clock.now() - reach
    old = [dead for dead in letters if _began(dead) < before]
    if old:
        which = f"the dead letter {old[0].pk} is" if len(old) == 1 else f"{counted(len(old), 'dead letter')} are"
        raise ForgottenError(
            f"{which} not replayed",
            why=f"sent before {before:%Y-%m-%d %H:%M} UTC, which is as far as duplicates are remembered: handled"
            " meanwhile, it would be handled twice",
            fix="Where that does no harm, replay it with --forgotten, by the action of that name, or forgotten=True.",
        )


def _began(dead: DeadLetter) -> datetime:
    """When it could be handled at the earliest; a stranger may say anything."""
    died, due = dead.dead_at, dead.envelope().due_at
    died = died if timezone.is_aware(died) else timezone.make_aware(died)
    return died if due is None else min(due, died)
