"""``Cron``: the times of a crontab line, in a time zone."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from zoneinfo import ZoneInfo

from cronsim import CronSim, CronSimError

from .exceptions import DeclarationError

#: A task that is due and has not begun for so long is overdue: beat or the workers are away.
PATIENCE = timedelta(minutes=5)
EXPRESSION_LENGTH = 120
_FIELDS = "minute hour day-of-month month day-of-week"


class _ZoneError(LookupError):
    """There is no such time zone on this machine."""


def _zone(name: str) -> ZoneInfo:
    try:
        return ZoneInfo(name)
    except (LookupError, OSError, TypeError, ValueError) as error:  # which of them depends on the name
        raise _ZoneError(name) from error


@dataclass(frozen=True, slots=True)
class Cron:
    """Five fields as in crontab(5), and ``L``, ``LW`` and ``MON#2``. Without ``timezone`` it is ``TIME_ZONE``.

    When clocks change it does as Debian's cron: a time that is left out runs as soon as the gap is over, a time that
    comes twice runs the first time. A minute or hour that begins with ``*`` goes by elapsed time instead: such a task
    runs through the repeated hour, and not at times that do not exist.

    What is wrong with it is for ``manage.py check`` to say (``koan_scheduling.E004``); until then nothing runs.
    """

    expression: str
    timezone: str | None = None

    @property
    def zone(self) -> str:
        """The name of the time zone in force."""
        if self.timezone is not None:
            return self.timezone
        from django.conf import settings

        return str(settings.TIME_ZONE)

    @property
    def patience(self) -> timedelta:
        """How much later than planned is overdue."""
        return PATIENCE

    def following(self, moment: datetime) -> datetime:
        """Return the first time after ``moment``, in UTC; raises :class:`DeclarationError` when there is none."""
        try:
            return self._following(moment)
        except (CronSimError, StopIteration, _ZoneError) as error:
            raise DeclarationError(f"{self!r} cannot be scheduled", why=self.problem()) from error

    def problem(self) -> str:
        """Return what is wrong with it, or nothing."""
        try:
            self._following(datetime.now(UTC))
        except _ZoneError:
            return f"there is no time zone {self.zone!r}: write one as Europe/Madrid"
        except CronSimError as error:
            return f"{str(error).lower()}: the fields are {_FIELDS}"
        except StopIteration:
            return "it never comes"
        return ""

    def _following(self, moment: datetime) -> datetime:
        """In the second pass of a repeated hour the parser may answer with a time of the first: those are over."""
        self._check_shape()
        times = CronSim(self.expression, moment.astimezone(_zone(self.zone)))
        while (found := next(times).astimezone(UTC)) <= moment:
            pass
        return found

    def _check_shape(self) -> None:
        """Refuse what the parser would take, or trip over."""
        if not isinstance(self.expression, str) or len(self.expression.split()) != 5:
            raise CronSimError("an expression has five fields")
        if len(self.expression) > EXPRESSION_LENGTH:
            raise CronSimError(f"an expression has at most {EXPRESSION_LENGTH} characters")

    def __str__(self) -> str:
        return f"{self.expression} {self.zone}"
