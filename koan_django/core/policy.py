"""What people set in the admin reaches every running process without a restart.

Policy rows have a common version. A change of one raises it after its commit; processes look at the version at most
once a second, and read the rows again only when it has changed. So a policy costs a process one tiny query a second
while it works, and a piece of work none.
"""

from __future__ import annotations

import logging
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Generic, TypeVar

from django.db import Error, router, transaction
from django.db.models import F
from django.db.models.signals import post_delete, post_save

from .clock import monotonic
from .environment import under_test
from .functions import Now
from .telemetry import emit

if TYPE_CHECKING:
    from collections.abc import Callable

    from django.db.models import Model


T = TypeVar("T")
M = TypeVar("M", bound="Model")
logger = logging.getLogger(__name__)

#: How often a process looks, so that a change counts within two seconds.
PERIOD_SECONDS = 1.0
#: Rows are read again after this time in any case: whoever changed one may have died before raising the version.
MAX_AGE_SECONDS = 30.0


def announce(what: str, *, using: str | None = None) -> None:
    """Raise the version once the transaction has committed, because of ``what``, such as ``storageprofile hot``."""
    # After the commit and not in it: two people who change several rows at once must not wait for each other's.
    transaction.on_commit(lambda: _raise(what), using=using, robust=True)


def holds_policy(model: type[M]) -> type[M]:
    """Decorate a model of policy rows: announce what goes through ``save()`` or ``delete()``, as in the admin."""
    for signal in (post_save, post_delete):
        signal.connect(_changed, sender=model, dispatch_uid=f"koan_core.policy.{model._meta.label}")
    return model


class Watch:
    """Knows the version, at most :data:`PERIOD_SECONDS` late. ``clock`` counts seconds."""

    def __init__(self, clock: Callable[[], float] = monotonic) -> None:
        self.clock = clock
        self._version = -1
        self._due = -1.0
        #: The version and what changed it, once this process has looked.
        self.last_change: tuple[int, str] | None = None

    def version(self) -> int:
        """Return the version; while the database does not answer, the last one that was seen."""
        now = self.clock()
        if now >= self._due:
            self._due = now + PERIOD_SECONDS  # first: a thread that comes meanwhile does not ask too
            self._look()
        return self._version

    def _look(self) -> None:
        try:
            found = _rows().values_list("version", "what").first() or (0, "")
        except Error as error:
            logger.warning("The policy version could not be read: %s", error)
            return
        if self._version not in (-1, found[0]):
            emit("core.policy_changed", version=found[0], what=found[1])
        self._version, self.last_change = found[0], found

    def forget(self) -> None:
        """Look again at the next question."""
        self._due = -1.0


#: The watch of this process.
watch = Watch()


@dataclass(frozen=True, slots=True)
class _Kept(Generic[T]):
    version: int
    at: float
    value: T


class Cached(Generic[T]):
    """What ``load`` reads from policy rows, kept until the version changes.

    Tests that roll back would leave their policy behind in it: under Django's test environment ``load`` always runs.
    """

    def __init__(self, load: Callable[[], T], *, watch: Watch = watch) -> None:
        self._load = load
        self._watch = watch
        self._kept: _Kept[T] | None = None

    def __call__(self) -> T:
        """Return the value in force; raises what ``load`` raises."""
        if under_test():
            return self._load()
        version, now = self._watch.version(), self._watch.clock()  # before the rows: a later change is seen later
        kept = self._kept
        if kept is None or kept.version != version or now - kept.at >= MAX_AGE_SECONDS:
            kept = self._kept = _Kept(version, now, self._load())
        return kept.value


def _changed(sender: type[Model], instance: Model, using: str, **_: Any) -> None:
    announce(f"{sender._meta.model_name} {instance}", using=using)


def _raise(what: str) -> None:
    rows, change = _rows(), {"version": F("version") + 1, "what": what[:200], "changed_at": Now()}
    try:
        if not rows.filter(pk=1).update(**change):
            rows.bulk_create([rows.model(pk=1, version=0)], ignore_conflicts=True)
            rows.filter(pk=1).update(**change)
    except Error as error:
        logger.warning("The change of %s counts only after %g s: %s", what, MAX_AGE_SECONDS, error)
    watch.forget()


def _rows() -> Any:
    """The only row of its table, on the primary: a replica may not know of a change yet."""
    from .models import PolicyVersion

    return PolicyVersion.objects.using(router.db_for_write(PolicyVersion))
