"""Typed messages, the groups that handle them, and the buses that carry them.

Where things live:

- what is sent: ``messages meta markers encoding masking contracts/``
- how it travels: ``envelope cloudevents cleaning routing``
- sending, the outbox and its relay: ``outgoing/``
- buses: ``buses/`` (one protocol, a bus for each scheme), ``candidates choices requirements``
- declaring handlers: ``handlers objections``
- handling: ``worker/`` (in Celery's), ``handling/``, in order ``ordering/``
- what workers and relays have of what they share: ``shares``
- pausing handlers, and counting what they do: ``control/``
- dead letters: ``dead/``
- what stands on a broker: ``provisioning/``
- what is seen: ``events trail lifecycle signals statistics/ examinations panels``
- in the database: ``models/ querysets``, and what beat fires: ``tasks``
- pages: ``admin/``
- settings, errors, the app itself: ``conf checks exceptions apps``
"""

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from koan_django.core.retry import RetryPolicy as RetryPolicy

    from .encoding import upcaster as upcaster
    from .envelope import Context as Context
    from .envelope import Envelope as Envelope
    from .envelope import Receipt as Receipt
    from .exceptions import MessagingError as MessagingError
    from .exceptions import UnroutableError as UnroutableError
    from .handlers import handler as handler
    from .markers import AwareDatetime as AwareDatetime
    from .markers import Header as Header
    from .markers import IdempotencyKey as IdempotencyKey
    from .markers import PartitionKey as PartitionKey
    from .markers import Sensitive as Sensitive
    from .messages import Message as Message
    from .outgoing.sending import send_many as send_many

__all__ = [
    "AwareDatetime",
    "Context",
    "Envelope",
    "Header",
    "IdempotencyKey",
    "Message",
    "MessagingError",
    "PartitionKey",
    "Receipt",
    "RetryPolicy",
    "Sensitive",
    "UnroutableError",
    "handler",
    "send_many",
    "upcaster",
]

if not TYPE_CHECKING:
    from koan_django.core.faces import lazy

    __getattr__ = lazy(
        __name__,
        {
            "AwareDatetime": "markers",
            "Context": "envelope",
            "Envelope": "envelope",
            "Header": "markers",
            "IdempotencyKey": "markers",
            "Message": "messages",
            "MessagingError": "exceptions",
            "PartitionKey": "markers",
            "Receipt": "envelope",
            "RetryPolicy": "handlers",
            "Sensitive": "markers",
            "UnroutableError": "exceptions",
            "handler": "handlers",
            "send_many": "outgoing.sending",
            "upcaster": "encoding",
        },
    )
    del lazy
del TYPE_CHECKING
