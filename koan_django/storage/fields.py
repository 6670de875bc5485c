"""``StoredFileField``: Django's ``FileField`` on a profile, with the bytes tied to the life of the row."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, ClassVar, Self, overload

from django.db import connections, router
from django.db.models import FileField, Model
from django.utils.translation import gettext_lazy as _

from . import binding, keys
from .backends import ProfileStorage
from .fieldfile import Location, StoredFieldFile, StoredFileDescriptor
from .profile import profiles

if TYPE_CHECKING:
    from collections.abc import Sequence
    from os import PathLike

    from django.core.checks import CheckMessage

    from .drivers.base import ObjectStat

#: What the field never tells a migration: settings and code decide it, the schema does not.
_NOT_SCHEMA = ("storage", "profile", "container")


class StoredFileField(FileField):
    """A file on a profile. A fresh key per file; the old object goes, by tombstone, when the row changes or goes.

    ``profile`` and ``container`` say where new files go; without them the model's ``class Storage`` does, else the
    default profile and a container named after the model. The other arguments name columns of the model, declared
    behind this field, that it fills: size in bytes, SHA-256, media type, the user's file name, and the profile. With a
    profile column each row says where its object is, so that rows can move one by one.
    """

    attr_class = StoredFieldFile
    descriptor_class = StoredFileDescriptor
    description = _("Stored file")
    #: Whether clients may send files to the store without the application seeing the bytes.
    takes_direct_uploads: ClassVar[bool] = True
    #: The columns a field may fill, by the argument that names them.
    companion_arguments: ClassVar[tuple[str, ...]] = (
        "size_field",
        "sha256_field",
        "content_type_field",
        "name_field",
        "profile_field",
    )

    if TYPE_CHECKING:

        @overload
        def __get__(self, instance: None, owner: Any) -> StoredFileDescriptor: ...
        @overload
        def __get__(self, instance: Model, owner: Any) -> StoredFieldFile: ...
        @overload
        def __get__(self, instance: Any, owner: Any) -> Self: ...
        def __get__(self, instance: Any, owner: Any) -> Any: ...

    def __init__(
        self,
        verbose_name: Any = None,
        name: str | None = None,
        *,
        profile: str = "",
        container: str = "",
        size_field: str | None = None,
        sha256_field: str | None = None,
        content_type_field: str | None = None,
        name_field: str | None = None,
        profile_field: str | None = None,
        **kwargs: Any,
    ) -> None:
        self.binding = binding.Binding(profile, container)
        self.size_field = size_field
        self.sha256_field = sha256_field
        self.content_type_field = content_type_field
        self.name_field = name_field
        self.profile_field = profile_field
        kwargs.pop("storage", None)
        kwargs.setdefault("max_length", 255)
        # Before bytes are removed, storage looks for rows that still name their key.
        kwargs.setdefault("db_index", True)
        super().__init__(verbose_name, name, storage=ProfileStorage(profile), **kwargs)

    def deconstruct(self) -> tuple[str, str, Sequence[Any], dict[str, Any]]:
        name, _path, args, kwargs = super().deconstruct()
        for argument in (*_NOT_SCHEMA, *self.companion_arguments):
            kwargs.pop(argument, None)
        kwargs["max_length"] = self.max_length
        if not kwargs.get("upload_to"):
            kwargs.pop("upload_to", None)
        return name, "koan_django.storage.StoredFileField", args, kwargs

    def contribute_to_class(  # type: ignore[override]  # as in Django's own FileField
        self, cls: type[Model], name: str, **kwargs: Any
    ) -> None:
        from . import receivers  # noqa: F401  # connects what the classes of this field need

        super().contribute_to_class(cls, name, **kwargs)
        self.storage = ProfileStorage(self.binding.over(binding.of(cls)).profile)

    def check(self, **kwargs: Any) -> list[CheckMessage]:
        from .checks import check_field

        return [*super().check(**kwargs), *check_field(self)]

    @property
    def companions(self) -> tuple[str, ...]:
        """The names of the columns that this field fills."""
        named = (getattr(self, argument) for argument in self.companion_arguments)
        return tuple(name for name in named if name)

    def binding_of(self, model: type[Model]) -> binding.Binding:
        """Return where new files of ``model`` go, with gaps for what nobody names."""
        return self.binding.over(binding.of(model))

    def fresh_key(self, model: type[Model], name: str) -> str:
        """Return a key for a new file of ``model`` that the user calls ``name``."""
        return keys.fresh(self.binding_of(model).container or binding.container(model), name)

    def profile_for_new(self, instance: Model) -> str:
        """Return the profile for a new file of ``instance``; raises ``ProfileError``."""
        return profiles.resolve(self.binding_of(type(instance)).profile)

    def profile_of(self, instance: Model) -> str:
        """Return the profile that holds the file of ``instance``, or would hold it."""
        kept: str = getattr(instance, self.profile_field) if self.profile_field else ""
        return kept or self.binding_of(type(instance)).profile

    def pre_save(self, model_instance: Model, add: bool) -> Any:
        file = super().pre_save(model_instance, add)
        if not file and self.is_changed(model_instance):
            self.describe(model_instance, profile="", stat=None, name="", content_type="")
        return file

    def generate_filename(self, instance: Model, filename: str | PathLike[str]) -> str:
        """Return a fresh key; with ``upload_to``, what that says."""
        if self.upload_to:
            return super().generate_filename(instance, filename)
        return self.fresh_key(type(instance), str(filename))

    def kept_size(self, instance: Model) -> int | None:
        """Return the size that the row keeps, if it does."""
        found: int | None = getattr(instance, self.size_field) if self.size_field else None
        return found

    @property
    def static_profile(self) -> str:
        """The profile that the field or its model names, or nothing."""
        return self.binding_of(self.model).profile

    def kept(self, instance: Model) -> dict[str, Any]:
        """Return the ``size`` and ``sha256`` that the row keeps, as far as it does."""
        columns = {"size": self.size_field, "sha256": self.sha256_field}
        return {name: getattr(instance, column) for name, column in columns.items() if column}

    def describe(self, instance: Model, *, profile: str, stat: ObjectStat | None, name: str, content_type: str) -> None:
        """Fill the columns of ``instance`` that this field keeps."""
        values = (stat.size if stat else 0, stat.sha256 if stat else "", content_type, name, profile)
        for argument, value in zip(self.companion_arguments, values, strict=True):
            column = getattr(self, argument)
            if column:
                setattr(instance, column, value)

    def mark_changed(self, instance: Model) -> None:
        """Note that ``instance`` was given another file since it was loaded."""
        instance.__dict__.setdefault("_koan_changed_files", set()).add(self.attname)

    def is_changed(self, instance: Model) -> bool:
        """Whether ``instance`` was given another file since it was loaded."""
        return self.attname in instance.__dict__.get("_koan_changed_files", ())

    def settled(self, instance: Model) -> None:
        """Note that the row now names the file of ``instance``."""
        instance.__dict__.get("_koan_changed_files", set()).discard(self.attname)

    def located(self, instance: Model, *, using: str | None = None, lock: bool = False) -> Location | None:
        """Return where the row, as the database has it, says its object is."""
        alias = using or router.db_for_write(type(instance), instance=instance)
        rows = self.model._base_manager.using(alias).filter(pk=instance.pk)
        if lock and connections[alias].in_atomic_block:
            rows = rows.select_for_update()  # SQLite has no such thing, and locks the whole database instead
        columns = [self.attname, *filter(None, [self.profile_field])]
        found = rows.values_list(*columns).first()
        if not found or not found[0]:
            return None
        named = found[1] if self.profile_field else ""
        return Location(profiles.resolve(named or self.binding_of(type(instance)).profile), str(found[0]))

    def relocate(self, instance: Model, before: Location) -> Location | None:
        """Take over where the row says the object is; return it if that is another place than ``before``."""
        now = self.located(instance) if self.profile_field and instance.pk else None
        if now is None or now == before:
            return None
        self.moved(instance, now)
        return now

    def moved(self, instance: Model, location: Location) -> None:
        """Note on ``instance`` that its object is at ``location``, as its row says already."""
        getattr(instance, self.attname).name = location.key
        if self.profile_field:
            setattr(instance, self.profile_field, location.profile)
