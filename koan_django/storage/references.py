"""Which rows name an object."""

from __future__ import annotations

from typing import TYPE_CHECKING

from django.apps import apps
from django.db import router

from .exceptions import ProfileError
from .fields import StoredFileField
from .models import Tombstone
from .profile import profiles

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from django.db.models import Model


def fields_of(model: type[Model]) -> list[StoredFileField]:
    """Return the stored files of ``model``, those of its parents included."""
    return [field for field in model._meta.concrete_fields if isinstance(field, StoredFileField)]


def owned(sender: type[Model]) -> Iterable[StoredFileField]:
    """Return the fields whose column is in the sender's own table: parents get signals of their own."""
    concrete = sender._meta.concrete_model
    return [field for field in fields_of(sender) if field.model._meta.concrete_model is concrete]


def stored_fields() -> Iterator[StoredFileField]:
    """Yield the stored file fields of all models, each once."""
    for model in apps.get_models(include_auto_created=True):
        if not model._meta.proxy:
            yield from owned(model)


def is_live(tombstone: Tombstone, *, using: str) -> bool:
    """Whether a row names the object of ``tombstone`` now."""
    return any(_names(field, tombstone, using) for field in stored_fields() if _lives_in(field, tombstone, using))


def aliases() -> list[str]:
    """Return the databases that may hold tombstones: storage's own, and those of the models with stored files."""
    models: set[type[Model]] = {Tombstone, *(field.model for field in stored_fields())}
    return sorted({router.db_for_write(model) for model in models})


def _lives_in(field: StoredFileField, tombstone: Tombstone, using: str) -> bool:
    return str(field) == tombstone.origin or router.db_for_write(field.model) == using


def _names(field: StoredFileField, tombstone: Tombstone, using: str) -> bool:
    rows = field.model._base_manager.using(using).filter(**{field.attname: tombstone.key})
    if field.profile_field:
        rows = rows.filter(**{field.profile_field: tombstone.profile})
    elif not _may_be(field, tombstone.profile):
        return False
    return rows.exists()


def _may_be(field: StoredFileField, profile: str) -> bool:
    """Whether a field without a profile column puts its files there; what cannot be told counts as yes."""
    try:
        return profiles.resolve(field.static_profile) == profile
    except ProfileError:
        return True
