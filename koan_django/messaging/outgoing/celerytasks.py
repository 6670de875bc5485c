"""Tasks that keep to the transaction: a task called inside one is a row of it, and sent after the commit.

Celery makes the message as ever, with its routing, its times and its id. Only the last step, the publish, is another:
a row of messaging's outbox, which the relay publishes to Celery's broker.
"""

from __future__ import annotations

from contextvars import ContextVar
from typing import TYPE_CHECKING, Any
from weakref import WeakKeyDictionary

import msgspec
from celery.contrib.django.task import DjangoTask
from django.apps import apps
from kombu.entity import Exchange
from kombu.messaging import Producer
from kombu.serialization import dumps

from koan_django.core.audit import touch
from koan_django.messaging.buses import registry
from koan_django.messaging.conf import options as configured
from koan_django.messaging.exceptions import OutboxError, OversizeMessageError

from . import parcels

if TYPE_CHECKING:
    from collections.abc import Mapping

    from celery import Celery
    from celery.result import AsyncResult

JSON = "json"
#: What a task's replacement must not wait for: the exception that says so rolls the transaction back.
_straight: ContextVar[bool] = ContextVar("koan_straight", default=False)


class OutboxTask(DjangoTask):  # type: ignore[misc]  # Celery is not typed
    """Base class of tasks: ``@shared_task(base=OutboxTask)``.

    Inside a transaction ``delay()`` and ``apply_async()`` write a row that commits or rolls back with it; the relay
    publishes it, at least once. Outside, and for retries, a task goes straight to Celery's broker. Either way the
    result has the id under which the task runs.
    """

    abstract = True
    #: The database of its transaction when several are open: ``@shared_task(base=OutboxTask, using="orders")``.
    using: str | None = None

    def apply_async(
        self,
        args: Any = None,
        kwargs: Any = None,
        task_id: str | None = None,
        producer: Any = None,
        using: str | None = None,
        **options: Any,
    ) -> AsyncResult:
        """Send the task as Celery does, or keep it; takes what Celery's own takes.

        ``using`` names the database of its transaction when several are open, before that of the task. Raises
        :class:`OutboxError` inside a transaction for a task whose arguments are not sent as JSON, and when several
        transactions are open and none is named.
        """
        app = self._get_app()
        if not app.conf.task_always_eager and (database := _database(using or self.using, options)):
            producer = _producer(app, database)
            for other in ("connection", "publisher"):
                options.pop(other, None)
        return super().apply_async(args, kwargs, task_id, producer, **options)

    def delay_on_commit(self, *args: Any, **kwargs: Any) -> None:
        """As ``delay()``: what waits in the outbox is not lost between the commit and the send."""
        self.delay(*args, **kwargs)

    def apply_async_on_commit(self, *args: Any, **kwargs: Any) -> None:
        """As :meth:`apply_async`."""
        self.apply_async(*args, **kwargs)

    def on_replace(self, sig: Any) -> Any:
        """Send the replacement at once: Celery raises an exception next, which ends an open transaction."""
        token = _straight.set(True)
        try:
            return super().on_replace(sig)
        finally:
            _straight.reset(token)


def _database(using: str | None, options: Mapping[str, Any]) -> str:
    """Return in which database a task is to be kept; nothing without a transaction, or in one that ends by an exception
    of Celery's own.
    """
    if _straight.get() or options.get("retries"):
        return ""
    if not apps.is_installed("koan_django.messaging"):
        raise OutboxError(
            "an OutboxTask was called, and there is no outbox",
            fix="Add 'koan_django.messaging' to INSTALLED_APPS, or use another base class.",
        )
    from . import databases, outbox

    return outbox.must_store(_bus(), [], databases.choose(using))


def _bus() -> str:
    alias = configured().bus_of_tasks
    if alias is None:
        raise OutboxError(
            "an OutboxTask was called, and no bus leads to Celery's broker",
            why="the outbox publishes by the buses of KOAN['MESSAGING']['BUSES']",
            fix='Add one beside the others: "tasks": {"URL": "celery://"}.',
        )
    return alias


class OutboxProducer(Producer):
    """Writes what Celery publishes into the outbox of a database. It never uses its connection."""

    def __init__(self, app: Celery, using: str) -> None:
        super().__init__(app.connection_for_write(), auto_declare=False)  # type: ignore[no-untyped-call]  # kombu is not
        self._events, self._using = app.conf.event_exchange, using

    def publish(  # type: ignore[override]  # Celery passes keywords only
        self,
        body: Any,
        routing_key: str | None = None,
        delivery_mode: Any = None,
        headers: dict[str, Any] | None = None,
        exchange: Any = None,
        serializer: str | None = None,
        compression: str | None = None,
        declare: Any = None,
        **properties: Any,
    ) -> None:
        name = exchange.name if isinstance(exchange, Exchange) else exchange or ""
        if name == self._events:
            return  # the event "task-sent": that is not known before the commit
        _check(headers or {}, serializer, properties.get("priority"))
        for each in ("retry", "retry_policy", "timeout", "confirm_timeout"):
            properties.pop(each, None)
        _store(
            self._using,
            body,
            exchange=name,
            routing_key=routing_key or "",
            headers=headers or {},
            queue=next((each.name for each in declare or () if not isinstance(each, Exchange)), None),
            delivery_mode=delivery_mode,
            compression=compression,
            properties={key: value for key, value in properties.items() if value is not None},
        )


def _check(headers: Mapping[str, Any], serializer: str | None, priority: Any) -> None:
    if "task" not in headers:
        raise OutboxError(
            "a task cannot be kept in the outbox",
            why="it is in the first version of Celery's protocol",
            fix="Leave task_protocol at 2.",
        )
    if serializer != JSON:
        raise OutboxError(
            f"the task {headers['task']} cannot be kept in the outbox",
            why=f"its serializer is {serializer!r}, and only JSON is stored",
            fix="Let task_serializer and the task's serializer be 'json'.",
        )
    if priority is not None and not isinstance(priority, int):
        raise OutboxError(
            f"the task {headers['task']} cannot be kept in the outbox",
            why=f"its priority {priority!r} is not a whole number",
            fix="Give it one from 0 to 255, or none.",
        )


def _store(using: str, body: Any, **parts: Any) -> None:
    from . import outbox  # the models behind it cannot be imported when the project's celery.py is

    text = dumps(body, serializer=JSON)[2]
    parcel = parcels.Parcel(body=msgspec.Raw(text.encode() if isinstance(text, str) else text), **parts)
    alias = _bus()
    envelope, most = parcels.wrap(parcel), registry.get(alias).options.max_body
    if len(envelope.body) > most:
        raise OversizeMessageError(
            f"the task {parcel.task} cannot be kept in the outbox",
            why=f"it has {len(envelope.body)} bytes, and MAX_BODY of the bus {alias!r} is {most}",
            fix="Store what is large, and send its key; or raise MAX_BODY.",
        )
    outbox.store(alias, [envelope], None, using=using)
    touch()


def _producer(app: Celery, using: str) -> OutboxProducer:
    made = _producers.setdefault(app, {})
    found = made.get(using)
    if found is None:
        found = made.setdefault(using, OutboxProducer(app, using))
    return found


_producers: WeakKeyDictionary[Celery, dict[str, OutboxProducer]] = WeakKeyDictionary()
