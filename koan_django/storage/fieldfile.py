"""The value of a :class:`StoredFileField`: Django's ``FieldFile``, on the profile that its row names."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Self, TypeVar

from django.db.models.fields.files import FieldFile, FileDescriptor

from . import keys, operations
from .backends import ObjectFile, ProfileStorage
from .content import rewound, type_of
from .exceptions import ObjectNotFoundError
from .profile import Profile, profiles

if TYPE_CHECKING:
    from collections.abc import Callable

    from django.db.models import Model

    from .fields import StoredFileField

R = TypeVar("R")


@dataclass(frozen=True, slots=True)
class Location:
    """Where an object lives."""

    profile: str
    key: str


class StoredFieldFile(FieldFile):
    """Stores with one pass over the bytes, and fills the columns that go with the field."""

    field: StoredFileField
    instance: Model

    @property
    def storage(self) -> ProfileStorage:
        """Django's view of the profile that holds this object."""
        return ProfileStorage(self.field.profile_of(self.instance))

    @storage.setter
    def storage(self, value: object) -> None:
        """Take no notice: Django passes the field's own here."""

    @property
    def profile(self) -> Profile:
        """The profile that holds this object."""
        return profiles[profiles.resolve(self.field.profile_of(self.instance))]

    @property
    def location(self) -> Location | None:
        """Where the stored object lives, or ``None`` when there is none yet."""
        if not self.name or not self.is_stored:
            return None
        return Location(profiles.resolve(self.field.profile_of(self.instance)), self.name)

    @property
    def is_stored(self) -> bool:
        """Whether the bytes are in the store, rather than waiting for the row to be saved."""
        return bool(self._committed)

    def save(self, name: str, content: Any, save: bool = True) -> None:
        """Store ``content`` under a fresh key; the object it replaces goes when the row is saved."""
        field, instance = self.field, self.instance
        profile = profiles[field.profile_for_new(instance)]
        media_type = type_of(content, name)
        key = field.generate_filename(instance, name)
        found = operations.put(profile, key, rewound(content), content_type=media_type)
        setattr(instance, field.attname, found.key)
        field.describe(instance, profile=profile.name, stat=found, name=keys.display(name), content_type=media_type)
        self.name, self._committed = found.key, True
        if save:
            instance.save()

    save.alters_data = True  # type: ignore[attr-defined]  # Django's templates ask for it

    def delete(self, save: bool = True) -> None:
        """Empty the field; the object goes by a tombstone when the row is saved."""
        if not self:
            return
        self.close()
        setattr(self.instance, self.field.attname, "")
        self.field.describe(self.instance, profile="", stat=None, name="", content_type="")
        self.name = None
        if save:
            self.instance.save()

    delete.alters_data = True  # type: ignore[attr-defined]  # what Django's templates ask a function

    @property
    def size(self) -> int:
        """The object's size in bytes, from the row where it keeps it."""
        kept = self.field.kept_size(self.instance) if self.is_stored else None
        return super().size if kept is None else kept

    def open(self, mode: str = "rb") -> Self:  # type: ignore[override]  # as in Django's own FieldFile
        """Open for reading; raises ``ValueError`` for any other mode."""
        self.require_file()
        if getattr(self, "_file", None) is None:
            self._file = self.reading(lambda profile, key: ObjectFile(profile, key, mode))
        else:
            self._file.open(mode)
        return self

    def require_file(self) -> None:
        """Raise ``ValueError`` when there is no file."""
        if not self:
            raise ValueError(f"{self.field} has no file")

    def reading(self, verb: Callable[[Profile, str], R]) -> R:
        """Return ``verb(profile, key)``. If the object was moved since the row was read, ask where it is now."""
        self.require_file()
        before = self.location
        try:
            return verb(self.profile, self.name or "")
        except ObjectNotFoundError:
            now = self.field.relocate(self.instance, before) if before else None
            if now is None:
                raise
            self.name = now.key
            return verb(profiles[now.profile], now.key)

    def _get_file(self) -> Any:
        if getattr(self, "_file", None) is None:
            self.open()
        return self._file

    def _set_file(self, file: Any) -> None:
        self._file = file

    def _del_file(self) -> None:
        del self._file

    file = property(_get_file, _set_file, _del_file)


class StoredFileDescriptor(FileDescriptor):
    """Notes that a row which exists was given another file, so that the old object can go with the save."""

    field: StoredFileField

    def __set__(self, instance: Model, value: Any) -> None:
        if not instance._state.adding and instance.__dict__.get(self.field.attname) is not value:
            self.field.mark_changed(instance)
        super().__set__(instance, value)
