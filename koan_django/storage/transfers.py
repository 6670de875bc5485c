"""Objects on the move: to a row of another model, or to another profile under the same row.

Always in this order: reserve a fresh key, copy, read the copy back and compare hashes, switch the rows in one
transaction, and leave a tombstone for the old bytes. Dying between any two steps loses nothing and leaves nothing.
"""

from __future__ import annotations

from contextlib import contextmanager
from typing import TYPE_CHECKING, Any, TypeVar

from django.db import models, router, transaction

from koan_django.core import audit

from . import deletion, keys, operations
from .exceptions import ObjectNotFoundError, TransferConflictError
from .fieldfile import Location
from .profile import profiles

if TYPE_CHECKING:
    from collections.abc import Iterator

    from .fields import StoredFileField
    from .storedfile import StoredFile

    T = TypeVar("T", bound=StoredFile)

#: Each row has its own of these.
_OWN = frozenset({"file", "public_id", "created_at", "profile"})


def copy_row(row: StoredFile, model: type[T], fields: dict[str, Any]) -> T:
    """Copy the object of ``row`` and create a row of ``model`` for it."""
    source, target = _location(row), _target(row, model)
    with _copied(row, source, target, model) as sha256:
        made = _create(row, model, target, {"sha256": sha256, **fields})
        _audit("storage.copy", made, source, target)
    return made


def move_row(row: StoredFile, model: type[T], fields: dict[str, Any]) -> T:
    """Copy, and delete ``row`` in the transaction that creates the new one."""
    source, target = _location(row), _target(row, model)
    with _copied(row, source, target, model) as sha256:
        made = _create(row, model, target, {"sha256": sha256, **fields})
        _require_unchanged(row, source)
        _audit("storage.move", made, source, target)
        row.delete()
    return made


def transfer(row: StoredFile, profile: str) -> bool:
    """Move the object of ``row`` to another profile; return ``False`` when it is there already."""
    source = _location(row)
    target = Location(profiles[profile].name, keys.beside(source.key, row.original_name))
    if source.profile == target.profile:
        return False
    with _copied(row, source, target, type(row)):
        _require_unchanged(row, source)
        field = _field(type(row))
        rows = field.model._base_manager.using(_alias(row)).filter(pk=row.pk)
        rows.update(**{field.attname: target.key, "profile": target.profile})
        deletion.bury(source, origin=str(field), instance=row, size=row.size, sha256=row.sha256)
        _audit("storage.move", row, source, target)
    field.moved(row, target)
    return True


def _audit(action: str, row: StoredFile, source: Location, target: Location) -> None:
    audit.record(
        action,
        row,
        data={
            "from": {"profile": source.profile, "key": source.key},
            "to": {"profile": target.profile, "key": target.key},
            "size": row.size,
            "sha256": row.sha256,
        },
    )


@contextmanager
def _copied(row: StoredFile, source: Location, target: Location, model: type[StoredFile]) -> Iterator[str]:
    """Copy and verify, then run the block in a transaction that keeps the copy; if it fails, the copy goes."""
    reserved = deletion.reserve(target, origin=str(_field(model)), instance=row)
    try:
        sha256 = operations.copy(
            profiles[source.profile],
            source.key,
            profiles[target.profile],
            target.key,
            sha256=row.sha256,
            content_type=row.content_type,
        )
        with transaction.atomic(using=_alias(row)):
            deletion.keep(reserved)
            yield sha256
    except Exception:
        deletion.discard(reserved)
        raise


def _create(row: StoredFile, model: type[T], target: Location, fields: dict[str, Any]) -> T:
    values = {**_shared(row, model), **fields, "file": target.key, "profile": target.profile}
    made: T = model._default_manager.db_manager(_alias(row)).create(**values)  # type: ignore[assignment]  # it is of model
    return made


def _shared(row: StoredFile, model: type[StoredFile]) -> dict[str, Any]:
    """Return what ``row`` knows of the columns of ``model``: same name, same kind, and not unique in one table."""
    mine = {field.attname: field for field in row._meta.concrete_fields}
    is_same = row._meta.concrete_model is model._meta.concrete_model
    return {
        field.attname: getattr(row, field.attname)
        for field in model._meta.concrete_fields
        if field.name not in _OWN
        and not field.primary_key
        and not (is_same and field.unique)
        and _is_alike(mine.get(field.attname), field)
    }


def _is_alike(mine: models.Field[Any, Any] | None, other: models.Field[Any, Any]) -> bool:
    return type(mine) is type(other) and getattr(mine, "related_model", None) is other.related_model


def _location(row: StoredFile) -> Location:
    found = row.file.location
    if found is None:
        raise ObjectNotFoundError(f"{row!r} has no stored object", fix="Save it with a file first.")
    return found


def _target(row: StoredFile, model: type[StoredFile]) -> Location:
    field = _field(model)
    return Location(profiles.resolve(field.binding_of(model).profile), field.fresh_key(model, row.original_name))


def _field(model: type[StoredFile]) -> StoredFileField:
    return model._meta.get_field("file")


def _alias(row: StoredFile) -> str:
    return row._state.db or router.db_for_write(type(row), instance=row)


def _require_unchanged(row: StoredFile, source: Location) -> None:
    """Lock the row and compare: the bytes that were copied must be those it names."""
    now = _field(type(row)).located(row, using=_alias(row), lock=True)
    if now != source:
        raise TransferConflictError(
            f"{row!r} changed while its object was copied",
            why="it was moved, given another file or deleted",
            fix="Nothing is lost; load the row again and repeat if it is still wanted.",
        )
