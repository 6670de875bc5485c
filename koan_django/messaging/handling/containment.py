"""What a handler may not do to the process that it runs in."""

from __future__ import annotations

import logging
import os

from django.db import DatabaseError, InterfaceError
from django.db.transaction import get_connection

from koan_django.messaging.exceptions import ClosedTransactionError, HandlerExitError

from .ending import is_told_to_end

logger = logging.getLogger(__name__)


class contained:  # noqa: N801  # it is used like a function
    """Let the block end by a result or an error, in the process and on the connection that it began with.

    A copy that a handler forks and that comes back out of it would commit a second time and answer a second time. It
    is ended here, without closing anything: sockets and transactions are those of the other.
    """

    __slots__ = ("_began", "_handler")

    def __init__(self, handler: str) -> None:
        self._handler = handler
        self._began = os.getpid()

    def __enter__(self) -> None:
        pass

    def __exit__(self, kind: object, error: BaseException | None, traceback: object) -> None:
        if os.getpid() != self._began:
            _end_copy(self._handler)
        if is_told_to_end():
            if error is None:  # the handler kept it to itself
                raise SystemExit(1)
        elif error is None or isinstance(error, DatabaseError | InterfaceError):
            _refuse_closed(self._handler)
        elif isinstance(error, SystemExit):
            raise HandlerExitError(
                f"{self._handler} asked the interpreter to end",
                why=f"it raised SystemExit({error.code!r})",
                fix="Return, or raise another error: a worker goes on.",
            ) from error


def _end_copy(handler: str) -> None:
    logger.error(
        "%s forked, and the copy came back out of the handler: it is ended, and does not count. Have a fork end by"
        " os._exit(), or start a program with subprocess.",
        handler,
    )
    os._exit(1)


def _refuse_closed(handler: str) -> None:
    """Django takes a transaction whose connection was closed for one that is to be rolled back, and says nothing."""
    if get_connection().closed_in_transaction:
        raise ClosedTransactionError(
            f"{handler} closed the database connection inside its transaction",
            why="what it had done is undone",
            fix="Leave the connection open, or declare the handler with atomic=False.",
        )
