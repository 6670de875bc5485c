"""Verbs of the audit rows: those that change nothing, and the two that sealing and retention need."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, NoReturn, TypeVar

from django.db import models, router

from .exceptions import AppendOnlyError

if TYPE_CHECKING:
    from collections.abc import Sequence
    from datetime import datetime
    from typing import Self

    from .models import AuditEvent, AuditSeal  # noqa: F401  # named in base classes as text

M = TypeVar("M", bound=models.Model)


class AppendOnlyQuerySet(models.QuerySet[M]):
    """Rows that are only added."""

    def primary(self) -> Self:
        """Read where is written: a replica may not know the newest rows."""
        return self.using(router.db_for_write(self.model))

    def update(self, **kwargs: Any) -> NoReturn:
        """Raise :class:`AppendOnlyError`."""
        raise AppendOnlyError(f"{self.model._meta.verbose_name_plural} cannot be changed", why="they are only added")

    def delete(self) -> NoReturn:
        """Raise :class:`AppendOnlyError`."""
        raise AppendOnlyError(f"{self.model._meta.verbose_name_plural} cannot be deleted", why="they are only added")

    def forget(self) -> int:
        """Delete the rows for retention; return how many."""
        return self._raw_delete(self.db)


class AuditEventQuerySet(AppendOnlyQuerySet["AuditEvent"]):
    """Audit events."""

    def unsealed(self) -> Self:
        """Events that no seal covers yet. One that commits late is among them whatever its id."""
        return self.filter(seal=None)

    def put_under(self, seal: AuditSeal, pks: Sequence[int]) -> int:
        """Note that ``seal`` covers these events, unless another does; return how many that was true for."""
        return models.QuerySet.update(self.unsealed().filter(pk__in=pks), seal=seal)


class AuditSealQuerySet(AppendOnlyQuerySet["AuditSeal"]):
    """Seals."""

    def head(self) -> AuditSeal | None:
        """The newest one."""
        return self.order_by("-number").first()

    def sealed_before(self, moment: datetime) -> Self:
        """Seals older than ``moment``."""
        return self.filter(sealed_at__lt=moment)
