"""Errors of messaging."""

from __future__ import annotations

from typing import ClassVar

from koan_django.core.exceptions import KoanError


class MessagingError(KoanError):
    """Base of messaging's errors."""


class UnroutableError(MessagingError):
    """No group receives the message: nobody handles its alias on that bus."""


class OversizeMessageError(MessagingError):
    """A body is larger than its bus may carry: nothing was sent."""


class OutboxError(MessagingError):
    """A message or a task cannot be kept in the outbox, or not clearly in whose: nothing was written or sent."""


class UnreadableMessageError(MessagingError):
    """A body that cannot be read as its type; the text names the path inside the body."""


class UnhandledMessageError(MessagingError):
    """A message reached a group that has no handler for its alias."""


class PublishError(MessagingError):
    """The broker did not take the message, or did not say so in time."""

    transient: ClassVar[bool] = True


class BusUnavailableError(MessagingError):
    """The bus cannot be reached now."""

    transient: ClassVar[bool] = True


class CredentialsRefusedError(BusUnavailableError):
    """The broker does not know the user, or not with this password."""


class BusyError(MessagingError):
    """Somebody else is handling the same message; it is postponed without counting an attempt."""

    transient: ClassVar[bool] = True


class WorkerLostError(MessagingError):
    """The worker's child died while it handled the message."""

    transient: ClassVar[bool] = True


class HandlerExitError(MessagingError):
    """A handler asked the interpreter to end."""

    transient: ClassVar[bool] = True


class ClosedTransactionError(MessagingError):
    """A handler closed the connection of the transaction that it ran in."""

    transient: ClassVar[bool] = True


class TimeLimitError(MessagingError):
    """A handler ran longer than its time limit."""

    transient: ClassVar[bool] = True


class CapabilityError(MessagingError):
    """The bus cannot do what was asked of it."""


class ForgottenError(MessagingError):
    """A dead letter is older than what is remembered of handled messages: replayed, it might be handled twice."""


class TopologyError(MessagingError):
    """Something does not stand on the broker as it is needed, and is not to be changed without being asked."""


class InspectionError(MessagingError):
    """What stands on the broker cannot be known now. It is not empty."""

    transient: ClassVar[bool] = True
