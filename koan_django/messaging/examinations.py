"""What ``koan_doctor`` asks of messaging: the brokers answer, somebody consumes, nothing waits for long."""

from __future__ import annotations

from datetime import timedelta
from typing import TYPE_CHECKING, Any

from django.apps import apps
from django.db import connections
from django.db.models import Count, Min, Q
from django.utils import timezone

from koan_django.core import celeryapps, doctor, effective
from koan_django.core.celeryapps import CeleryAppError
from koan_django.core.doctor import examination
from koan_django.core.exceptions import KoanError
from koan_django.core.health import Finding
from koan_django.core.texts import counted

from . import handlers, lifecycle
from .buses import registry
from .buses.elected import ElectedBus
from .candidates import VARIABLES
from .conf import options
from .exceptions import MessagingError
from .outgoing import databases

if TYPE_CHECKING:
    from collections.abc import Iterator

    from django.db.models import QuerySet

    from koan_django.core.facts import Fact

    from .buses.base import Bus
    from .provisioning.targets import Target

CONSUMING, PUBLISHING = "messaging.consuming.", "messaging.publishing."
#: Seconds in which Celery's own broker is to be reached.
CELERY_PATIENCE = 3
#: What `koan_django.celery.install(app)` adds to the workers of an app.
STEP = "koan_django.messaging.worker.steps:BusWorkerStep"
#: What waits for longer is a backlog.
PATIENCE = timedelta(minutes=1)


@examination("messaging.buses")
def buses() -> Iterator[Finding]:
    """Each broker lets this process in; of an elected bus, the one that the workers have elected."""
    for bus in registry.all_buses():
        name = f"bus.{bus.alias}"
        if isinstance(bus, ElectedBus):
            yield from _candidates(bus, name)
            yield _tried(bus.current, name)
            continue
        yield from (_tried(each, f"bus.{each.label}") for each in bus.members())


def _tried(bus: Bus, name: str) -> Finding:
    try:
        bus.probe()
        doubts = "; ".join(bus.doubts())
    except Exception as error:  # whatever it is, it is what stands between us and the broker
        refers = isinstance(error, KoanError) and not isinstance(error, MessagingError)
        what = "Correct what is referred to in" if refers else "Start the broker, or correct"
        of_celery = (bus.options.url or "").startswith("celery:")
        where = "CELERY_BROKER_URL, its user and its password" if of_celery else f"the URL of the bus {bus.alias!r}"
        remedy = f"{what} {where}; messages wait in the outbox meanwhile."
        return Finding(name, "unhealthy", str(error), remedy=remedy)
    if doubts:
        return Finding(name, "degraded", f"{bus.place}: {doubts}", remedy="Set the server up as its guide says.")
    return Finding(name, "healthy", bus.place)


def _candidates(bus: ElectedBus, name: str) -> Iterator[Finding]:
    """A broker that a variable names and that does not answer."""
    for each in bus.candidates.values():
        if not each.origin.endswith(VARIABLES):
            continue  # a mere guess
        found = _tried(bus.broker(each.name), f"{name}.candidate")
        if found.status != "healthy":
            remedy = f"Start it, or take it out of {each.origin}."
            yield Finding(found.name, "degraded", found.message, remedy=remedy)


@examination("messaging.stages")
def stages() -> Iterator[Finding]:
    """Each bus that has handlers is live somewhere, and nobody waits for a broker."""
    told = lifecycle.of_all()
    for bus in registry.all_buses():
        known = told.get(bus.alias, [])
        if handlers.on_bus(bus.alias) and bus.capabilities.shared:
            yield _consumed(bus.alias, [fact for _, fact in known if fact.subject.startswith(CONSUMING)])
        for process, fact in known:
            if fact.subject.startswith(PUBLISHING) and fact.selection == "waiting":
                text = f"{process} publishes nothing {fact.reason}"
                remedy = "Start the broker, or correct its URL; messages wait in the outbox meanwhile."
                yield Finding(f"stage.{bus.alias}.publishing", "degraded", text, remedy=remedy)


def _consumed(alias: str, known: list[Fact]) -> Finding:
    """How far consuming has come, in the process and on the broker where it has come furthest."""
    name, waiting = f"stage.{alias}", [fact for fact in known if fact.selection != "live"]
    text = "; ".join(f"{fact.subject.removeprefix(CONSUMING)} is {fact.selection} {fact.reason}" for fact in waiting)
    if not known:
        return Finding(name, "degraded", "no process consumes it", remedy="Start a worker.")
    if not waiting:
        text = f"live in {counted(len(known), 'place')}, the first {min(each.reason for each in known)}"
        return Finding(name, "healthy", text)
    remedy = "Look at what the reason names; the worker tries again by itself."
    return Finding(name, "unhealthy" if len(waiting) == len(known) else "degraded", text, remedy=remedy)


@examination("messaging.topology")
def topology() -> Iterator[Finding]:
    """What stands on each broker is what the handlers need. A bus whose ``MANAGEMENT`` is empty is not asked."""
    buses = (bus.current if isinstance(bus, ElectedBus) else bus for bus in registry.all_buses())
    if not any(bus.options.scheme in ("amqp", "amqps") for bus in buses):
        return
    from .provisioning.targets import targets

    for target in targets():
        if target.is_asked:
            yield from _stands(target)


def _stands(target: Target) -> Iterator[Finding]:
    name = f"topology.{target.label}"
    try:
        found = [change for change in target.plan().changes if change.counts]
    except KoanError as error:
        remedy = "Enable the plugin rabbitmq_management, or say by MANAGEMENT where it is (empty: nowhere)."
        yield Finding(name, "unknown", str(error), remedy=remedy)
        return
    stuck = [change for change in found if change.drift == "stuck"]
    for change in stuck:
        remedy = "`koan_topology apply` makes the dead-letter queue; the broker tries again within three minutes."
        yield Finding(name, "unhealthy", str(change), remedy=remedy)
    if len(found) > len(stuck):
        text = "; ".join(str(change) for change in found if change not in stuck)
        yield Finding(name, "degraded", text, remedy="`koan_topology plan` shows it, with what mends it.")
    elif not stuck:
        yield Finding(name, "healthy", "what stands on the broker is what is needed")


@examination("messaging.processes")
def processes() -> Iterator[Finding]:
    """Somebody handles what is sent."""
    if handlers.every():
        yield doctor.alive("worker", "Start one: `celery -A <your project> worker`.")


@examination("messaging.celery")
def celery() -> Iterator[Finding]:
    """Workers of the project's Celery app handle messages once they have reached Celery's own broker."""
    if not handlers.every():
        return
    try:
        found = celeryapps.find()
    except CeleryAppError:  # whoever has none is told to start a worker
        return
    if STEP not in found.app.steps["worker"]:
        text = f"the workers of {found.argument} handle no messages"
        yield Finding("celery.app", "unhealthy", text, remedy="Call koan_django.celery.install(app) where it is made.")
    yield _broker(found.app)


def _broker(app: Any) -> Finding:
    connection = app.connection_for_write(connect_timeout=CELERY_PATIENCE)
    place = connection.as_uri()  # without the password
    try:
        connection.ensure_connection(max_retries=1, interval_start=0)
    except Exception as error:  # of any transport
        text = f"Celery's broker {place} cannot be reached: {type(error).__name__}: {error}"
        remedy = (
            "Start it, or name another by CELERY_BROKER_URL: a worker handles no messages either until it has reached"
            " it. Without a broker use filesystem://, or memory:// for messages alone."
        )
        return Finding("celery.broker", "unhealthy", text, remedy=remedy)
    finally:
        connection.release()
    return Finding("celery.broker", "healthy", place)


@examination("messaging.backlog")
def backlog() -> Iterator[Finding]:
    """Nothing waits for long, nothing is parked or dead."""
    from .models import DeadLetter, OutboxMessage, QueuedDelivery

    free = Q(lease_until__isnull=True) | Q(lease_until__lte=timezone.now())
    waiting = QueuedDelivery.objects.filter(free, available_at__lte=timezone.now())
    yield from _waiting(
        waiting,
        "bus",
        "group",
        remedy="Start a worker, or more of them; look for slow handlers. After a move to a "
        "broker a worker with the setting of before handles them.",
    )
    parked = 0
    for using in databases.every():
        if using != databases.main():
            tables = _tables(using)
            yield tables
            if tables.status != "healthy":
                continue
        outbox = OutboxMessage.objects.using(using)
        yield from _waiting(
            outbox.filter(available_at__lte=timezone.now()).exclude(state="parked"),
            "bus",
            remedy="Look why the broker does not take them: `bus.*` above, and the worker's log.",
        )
        parked += outbox.filter(state="parked").count()
    yield _counted(
        "outbox.parked",
        parked,
        ("message parked in the outbox", "messages parked in the outbox"),
        "Read their reasons in the admin.",
    )
    dead = DeadLetter.objects.all().dead().count()
    yield _counted(
        "deadletters",
        dead,
        ("dead letter", "dead letters"),
        "manage.py koan_deadletters causes says why; replay or discard them there or in the admin.",
    )


def _tables(using: str) -> Finding:
    """Whether a database of ``OUTBOX_DATABASES`` has the tables."""
    models = apps.get_app_config("koan_messaging").get_models()
    wanted = {model._meta.db_table for model in models if model._meta.managed and not model._meta.proxy}
    lacking = sorted(wanted.difference(connections[using].introspection.table_names()))
    name = f"outbox.{using}.tables"
    if not lacking:
        return Finding(name, "healthy", "all are there")
    remedy = f"Run `python manage.py migrate --database {using}`."
    return Finding(name, "unhealthy", f"not there: {', '.join(lacking)}", remedy=remedy)


def _waiting(rows: QuerySet[Any], *by: str, remedy: str) -> Iterator[Finding]:
    name = "backlog" if "group" in by else "outbox"
    found = rows.values(*by).annotate(count=Count("pk"), oldest=Min("available_at")).order_by()
    late = [each for each in found if timezone.now() - each["oldest"] > PATIENCE]
    for each in late:
        where = ", ".join(f"{key} {each[key]}" for key in by)
        since = f"{each['oldest']:%Y-%m-%d %H:%M:%S %Z}"
        text = f"{counted(each['count'], 'waits', 'wait')} ({where}), the oldest since {since}"
        yield Finding(name, "degraded", text, remedy=remedy)
    if not late:
        yield Finding(name, "healthy", "nothing waits for long")


def _counted(name: str, count: int, what: tuple[str, str], remedy: str) -> Finding:
    if count:
        return Finding(name, "degraded", counted(count, *what), remedy=remedy)
    return Finding(name, "healthy", f"no {what[1]}")


@effective.source("messaging")
def bus_settings() -> Iterator[effective.Setting]:
    """Where each bus is, without user and password."""
    for alias, bus in options().buses.items():
        path = effective.at("MESSAGING", "BUSES", alias, "URL")
        made = registry.get(alias)
        if bus.url is not None:
            yield effective.Setting(path, made.place, effective.origin("MESSAGING", "BUSES", alias, "URL"))
        elif isinstance(made, ElectedBus):
            chosen = made.candidates.get(made.elected)
            origin = chosen.origin.replace("the variable", "environment variable") if chosen else effective.DEFAULT
            yield effective.Setting(path, made.place, f"elected: {origin}")
        else:
            yield effective.Setting(path, made.place, effective.DEFAULT)
