"""``capture_messages``: what the code under test has sent."""

from __future__ import annotations

from contextlib import contextmanager
from typing import TYPE_CHECKING, Any, TypeVar

from django.db import connections, router, transaction

from koan_django.core.suggestions import did_you_mean
from koan_django.core.texts import counted
from koan_django.messaging.messages import Message
from koan_django.messaging.models import QueuedDelivery
from koan_django.messaging.outgoing.watching import Sent, watch

from .commits import blocks_under_test

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

M = TypeVar("M", bound=Message)

_MISSING = object()


class Captured:
    """Messages in the order in which they were sent, but for those whose transaction rolled back or is still open."""

    def __init__(self) -> None:
        self._kept: list[_Kept] = []

    def __len__(self) -> int:
        return len(self.all)

    def __iter__(self) -> Iterator[Sent]:
        return iter(self.all)

    def __repr__(self) -> str:
        return f"<{counted(len(self), 'message')}: {_names(self.all) or 'none'}>"

    @property
    def all(self) -> list[Sent]:
        """Each with its envelope, receipt and delay."""
        return [kept.sent for kept in self._kept if kept.is_committed()]

    def of(self, kind: type[M], /, **fields: Any) -> list[M]:
        """Return the messages of ``kind`` whose fields have these values; raises ``TypeError`` for one it has not."""
        check_fields(kind, fields)
        found = [sent.message for sent in self.all if isinstance(sent.message, kind)]
        return [message for message in found if matches(message, fields)]

    def sent(self, kind: type[M], count: int | None = None, /, **fields: Any) -> M:
        """Return the first message of ``kind`` whose fields have these values.

        Raises ``AssertionError`` when there is none, or when there are not ``count``.
        """
        found = self.of(kind, **fields)
        if not found or (count is not None and len(found) != count):
            wanted = "at least one" if count is None else str(count)
            raise AssertionError(f"sent {len(found)} {described(kind, fields)}, not {wanted}.{self._but()}")
        return found[0]

    def not_sent(self, kind: type[Message], /, **fields: Any) -> None:
        """Raise ``AssertionError`` if there is a message of ``kind`` whose fields have these values."""
        found = self.of(kind, **fields)
        if found:
            raise AssertionError(f"sent {len(found)} {described(kind, fields)}: {found[0]!r}")

    def note(self, sent: Sent) -> None:
        """Take in a message that was just sent."""
        self._kept.append(_Kept(sent))

    def _but(self) -> str:
        lost = [kept.sent for kept in self._kept if not kept.is_committed()]
        told = f" Sent was: {_names(self.all) or 'nothing'}."
        return told + (f" Rolled back, or not committed yet: {_names(lost)}." if lost else "")


@contextmanager
def capture_messages() -> Iterator[Captured]:
    """Record what is sent in the block, in any thread of this process: ``with capture_messages() as captured``.

    Messages go their way as ever. Inside a ``TestCase`` a block of ``atomic()`` that ends well counts as committed.
    ``captured`` may be asked in the block and after it.
    """
    captured = Captured()
    end = watch(captured.note)
    try:
        yield captured
    finally:
        end()


class _Kept:
    """What was sent, and whether the transaction in which it was has committed."""

    def __init__(self, sent: Sent) -> None:
        self.sent = sent
        self._connection: Any = connections[router.db_for_write(QueuedDelivery)]
        self._blocks = blocks_under_test(self._connection)
        self._committed = False
        self._callback: Callable[[], None] = self._commit
        transaction.on_commit(self._callback, using=self._connection.alias)

    def is_committed(self) -> bool:
        """Whether it is, as far as the test can tell: its own transaction never is.

        A rollback takes the callback away; a block of ``atomic()`` that ends well leaves it to the one around it.
        """
        if self._committed:
            return True
        waits = any(callback is self._callback for _, callback, *_ in self._connection.run_on_commit)
        return waits and not any(block in self._connection.atomic_blocks for block in self._blocks)

    def _commit(self) -> None:
        self._committed = True


def check_fields(kind: type[Message], fields: dict[str, Any]) -> None:
    """Refuse names that neither ``kind`` nor what is derived from it has.

    An assertion that nothing was sent would hold by a slip of the pen. Raises ``TypeError``.
    """
    for name in fields:
        family = _family(kind)
        if not any(hasattr(each, name) for each in family):
            known = did_you_mean(name, (each for one in family for each in one.__struct_fields__))
            raise TypeError(f"{kind.__name__} has no field {name!r}{known or '.'}")


def _family(kind: type[Message]) -> list[type[Message]]:
    return [kind, *(each for derived in kind.__subclasses__() for each in _family(derived))]


def matches(message: Message, fields: dict[str, Any]) -> bool:
    """Whether the fields of ``message`` have these values."""
    return all(getattr(message, name, _MISSING) == value for name, value in fields.items())


def described(kind: type[Message], fields: dict[str, Any]) -> str:
    """Return how a failed assertion calls messages of ``kind`` with these values."""
    with_fields = ", ".join(f"{name}={value!r}" for name, value in fields.items())
    return f"{kind.__name__}({with_fields})" if fields else kind.__name__


def _names(sent: list[Sent]) -> str:
    return ", ".join(repr(each.message) for each in sent)
