"""Ties the bytes to the rows: connected class by class, since a listener slows down every delete of what it hears."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from django.db.models import signals

from koan_django.core import audit

from . import deletion
from .references import fields_of, owned

if TYPE_CHECKING:
    from django.db import models

    from .fieldfile import Location
    from .fields import StoredFileField


def connect(sender: type[models.Model], **_: Any) -> None:
    """Listen to a concrete or proxy class that has stored files."""
    if sender.__module__ == "__fake__" or not fields_of(sender):
        return
    if sender._meta.proxy and "Storage" in vars(sender):
        raise TypeError(f"{sender.__qualname__} is a proxy: `class Storage` belongs to the model it stands for")
    uid = "koan_django.storage"
    signals.pre_save.connect(note_replaced, sender=sender, dispatch_uid=uid)
    signals.post_save.connect(bury_replaced, sender=sender, dispatch_uid=uid)
    signals.pre_delete.connect(load, sender=sender, dispatch_uid=uid)
    signals.post_delete.connect(bury_deleted, sender=sender, dispatch_uid=uid)


def note_replaced(
    sender: type[models.Model],
    instance: models.Model,
    raw: bool,
    using: str,
    update_fields: frozenset[str] | None,
    **_: Any,
) -> None:
    """Before a row changes, ask the database which objects it names: they may not be those that were loaded."""
    if raw or instance._state.adding:
        return
    noted: dict[str, Location | None] = {
        field.attname: field.located(instance, using=using, lock=True)
        for field in fields_of(sender)
        if field.is_changed(instance) and (update_fields is None or field.name in update_fields)
    }
    instance.__dict__["_koan_replaced_files"] = noted


def bury_replaced(sender: type[models.Model], instance: models.Model, using: str, **_: Any) -> None:
    """After a row changed, leave a tombstone for each object that it named and names no more."""
    noted: dict[str, Location | None] = instance.__dict__.pop("_koan_replaced_files", {})
    for field in fields_of(sender):
        if field.attname not in noted:
            continue
        before = noted[field.attname]
        field.settled(instance)
        if before is not None and before != getattr(instance, field.attname).location:
            deletion.bury(before, origin=str(field), instance=instance)
            _audit(instance, field, before)


def load(sender: type[models.Model], instance: models.Model, using: str, **_: Any) -> None:
    """Before a row goes, read what a deferred column would not tell afterwards."""
    wanted = {name for field in owned(sender) for name in (field.attname, *field.companions)}
    deferred = wanted & instance.get_deferred_fields()
    if deferred:
        instance.refresh_from_db(using=using, fields=deferred)


def bury_deleted(sender: type[models.Model], instance: models.Model, **_: Any) -> None:
    """When a row is gone, leave a tombstone for its object in the same transaction."""
    for field in owned(sender):
        location = getattr(instance, field.attname).location
        if location is not None:
            known = field.kept(instance)
            deletion.bury(location, origin=str(field), instance=instance, **known)
            _audit(instance, field, location, **known)


def _audit(instance: models.Model, field: StoredFileField, location: Location, **known: Any) -> None:
    """The row names the object no more: the deed, while its purge is the end of the bytes."""
    data = {"profile": location.profile, "key": location.key, "origin": str(field), **known}
    audit.record("storage.delete", instance, data=data)


signals.class_prepared.connect(connect, dispatch_uid="koan_django.storage")
