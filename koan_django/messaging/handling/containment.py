"""What a handler may not do to the process that it runs in."""

from __future__ import annotations

import logging
import os
from contextlib import contextmanager
from typing import TYPE_CHECKING

from django.db import DatabaseError, InterfaceError
from django.db.transaction import get_connection

from koan_django.messaging.exceptions import ClosedTransactionError, HandlerExitError

if TYPE_CHECKING:
    from collections.abc import Iterator

logger = logging.getLogger(__name__)


@contextmanager
def contained(handler: str) -> Iterator[None]:
    """Let the block end by a result or an error, in the process and on the connection that it began with.

    A copy that a handler forks and that comes back out of it would commit a second time and answer a second time. It
    is ended here, without closing anything: sockets and transactions are those of the other.
    """
    began = os.getpid()
    try:
        yield
        _refuse_closed(handler)
    except SystemExit as error:
        raise HandlerExitError(
            f"{handler} asked the interpreter to end",
            why=f"it raised SystemExit({error.code!r})",
            fix="Return, or raise another error: a worker goes on.",
        ) from error
    except (DatabaseError, InterfaceError):
        _refuse_closed(handler)
        raise
    finally:
        if os.getpid() != began:
            logger.error(
                "%s forked, and the copy came back out of the handler: it is ended, and does not count. Have a fork"
                " end by os._exit(), or start a program with subprocess.",
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
