"""The base of commands that change something: who ran them is audited, though nobody had to log in."""

from __future__ import annotations

import signal
import time
from contextlib import ExitStack, contextmanager
from typing import TYPE_CHECKING, Any

from django.core.management.base import BaseCommand

from . import hints
from .audit import Reference, acting_as, record
from .audit.actors import of_command
from .context import correlation, new_id

if TYPE_CHECKING:
    from collections.abc import Iterator

#: What every command has, and what says nothing about the deed.
_COMMON = frozenset(
    {"settings", "pythonpath", "traceback", "no_color", "force_color", "skip_checks", "verbosity", "stdout", "stderr"}
)


@contextmanager
def ending_on_signals() -> Iterator[list[int]]:
    """Yield a list that holds something once the process was asked to end, by SIGTERM or Ctrl-C."""
    caught: list[int] = []
    numbers = (signal.SIGTERM, signal.SIGINT)
    before = [signal.signal(number, lambda number, _frame: caught.append(number)) for number in numbers]
    try:
        yield caught
    finally:
        for number, handler in zip(numbers, before, strict=True):
            signal.signal(number, handler)


class AuditedCommand(BaseCommand):
    """A command that runs under a correlation id, in the name of the user of the machine, and leaves an event.

    The event is *command.run* with its options (redacted), its exit code and its duration; a command that only reads
    says so by :meth:`is_audited`.
    """

    def is_audited(self, options: dict[str, Any]) -> bool:
        """Whether this call changes something."""
        return True

    def execute(self, *args: Any, **options: Any) -> Any:
        name = type(self).__module__.rpartition(".")[2]
        with ExitStack() as stack:
            if correlation.current() is None:
                stack.enter_context(correlation.use(new_id()))
            stack.enter_context(acting_as(of_command()))
            if not self.is_audited(options):
                return super().execute(*args, **options)
            return self._audited(name, args, options)

    def run_from_argv(self, argv: list[str]) -> None:
        """Add what is known about a failure to its traceback."""
        try:
            super().run_from_argv(argv)
        except Exception as error:
            hint = hints.explain(error)
            if hint is not None:
                error.add_note(hint.advice())
            raise

    def _audited(self, name: str, args: tuple[Any, ...], options: dict[str, Any]) -> Any:
        began = time.perf_counter()
        told: dict[str, Any] = {key: value for key, value in options.items() if key not in _COMMON and value}
        try:
            result = super().execute(*args, **options)
        except BaseException as error:
            told["error"] = f"{type(error).__name__}: {error}"
            raise
        finally:
            told["duration_ms"] = round((time.perf_counter() - began) * 1000, 3)
            record("command.run", Reference("command", name), data=told)
        return result
