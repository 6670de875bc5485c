"""``StoredFile``: a model whose rows own one object each."""

from __future__ import annotations

import uuid
from datetime import timedelta
from typing import TYPE_CHECKING, Any, BinaryIO, ClassVar, Self, TypeVar

from asgiref.sync import sync_to_async
from django.db import models, router, transaction
from django.utils import timezone
from django.utils.translation import gettext_lazy as _

from . import binding, operations, transfers, uploads
from .content import disposition
from .fields import StoredFileField
from .managers import StoredFileManager
from .references import fields_of

if TYPE_CHECKING:
    from collections.abc import Iterable

    from django.core.checks import CheckMessage

    from .drivers.base import ObjectStat, PresignedUpload
    from .streams import StoredRange

    T = TypeVar("T", bound="StoredFile")


class StoredFile(models.Model):
    """Abstract: a row and its object. ``file`` is a real ``FileField``, so forms, admin and serializers work as ever.

    ``class Storage: profile = ...; container = ...`` says where new objects go; the row says where its own is. The
    object goes, by tombstone, when the row goes or is given another file.
    """

    # First: saving it fills the columns behind it.
    file = StoredFileField(
        _("file"),
        size_field="size",
        sha256_field="sha256",
        content_type_field="content_type",
        name_field="original_name",
        profile_field="profile",
    )
    public_id = models.UUIDField(_("public id"), default=uuid.uuid4, unique=True, editable=False)
    original_name = models.CharField(_("original name"), max_length=255, blank=True, editable=False)
    content_type = models.CharField(_("media type"), max_length=255, blank=True, editable=False)
    size = models.BigIntegerField(_("size"), default=0, editable=False, help_text=_("In bytes."))
    sha256 = models.CharField("SHA-256", max_length=64, blank=True, editable=False, db_index=True)
    profile = models.CharField(_("profile"), max_length=63, blank=True, editable=False)
    created_at = models.DateTimeField(_("created at"), default=timezone.now, editable=False)

    objects: ClassVar[StoredFileManager[Self]] = StoredFileManager()

    _storage_binding: ClassVar[binding.Binding] = binding.Binding()

    class Meta:
        abstract = True

    def __init_subclass__(cls, **kwargs: Any) -> None:
        super().__init_subclass__(**kwargs)
        cls._storage_binding = binding.declared(cls)

    def __str__(self) -> str:
        return self.original_name or self.key

    def save(
        self,
        *,
        force_insert: Any = False,
        force_update: bool = False,
        using: str | None = None,
        update_fields: Iterable[str] | None = None,
    ) -> None:
        """Store the bytes that wait, then save the row; with ``file`` in ``update_fields``, its companions as well."""
        fields = fields_of(type(self))
        names = _with_companions(fields, update_fields)
        waiting = [field for field in fields if names is None or field.name in names]
        for field in waiting:
            field.pre_save(self, self._state.adding)  # before a transaction opens: an upload may take long
        options: dict[str, Any] = {"force_insert": force_insert, "force_update": force_update, "using": using}
        if self._state.adding or not any(field.is_changed(self) for field in waiting):
            super().save(**options, update_fields=names)
            return
        with transaction.atomic(using=using or router.db_for_write(type(self), instance=self)):
            super().save(**options, update_fields=names)

    @property
    def key(self) -> str:
        """The object's key within its profile; empty before it is stored."""
        return (self.file.name or "") if self.file.is_stored else ""

    @classmethod
    def check(cls, **kwargs: Any) -> list[CheckMessage]:
        from .checks import check_columns

        return [*super().check(**kwargs), *check_columns(cls)]

    def open(self) -> BinaryIO:
        """Return a new stream of the bytes; the caller closes it. Raises ``ObjectNotFoundError``."""
        return self.file.reading(operations.open_object)

    def open_range(self, start: int, end: int | None = None) -> StoredRange:
        """Return a stream of the bytes from ``start`` to ``end``, both included and cut at the object's end.

        Raises ``RangeError`` when ``start`` is behind the last byte.
        """
        return self.file.reading(lambda profile, key: operations.open_range(profile, key, start, end))

    def read_bytes(self) -> bytes:
        """Return all bytes."""
        return _drained(self.open())

    def read_text(self, encoding: str = "utf-8") -> str:
        """Return all bytes as text."""
        return self.read_bytes().decode(encoding)

    def head(self) -> ObjectStat:
        """Ask the store about the object; raises ``ObjectNotFoundError``."""
        return self.file.reading(operations.stat)

    def exists(self) -> bool:
        """Ask the store whether the object is there."""
        return bool(self.key) and self.file.reading(operations.exists)

    def copy_to(self, model: type[T], **fields: Any) -> T:
        """Copy the object and make a row of ``model`` for it; return the row.

        Name, media type and what both models call the same come along, ``fields`` come first. The copy's hash is
        compared with this row's; raises ``VerificationError``.
        """
        return transfers.copy_row(self, model, fields)

    def move_to(self, model: type[T], **fields: Any) -> T:
        """Do as :meth:`copy_to`, then delete this row; the old bytes go once the copy is verified and committed."""
        return transfers.move_row(self, model, fields)

    def move_to_profile(self, profile: str) -> bool:
        """Move the bytes to another profile; the row stays. Return ``False`` when they are there already.

        Readers find the object at every moment. Raises ``VerificationError``, and ``TransferConflictError`` when the
        row changed meanwhile.
        """
        return transfers.transfer(self, profile)

    def presigned_url(self, *, expires: timedelta = timedelta(minutes=15), as_attachment: bool = False) -> str:
        """Return an address that reads the object until ``expires`` from now, a week at most.

        The browser saves it under the user's name, or shows it: never what it would run, such as HTML and SVG. Raises
        ``CapabilityError`` where the store signs no addresses; ask ``profiles[...].capabilities``.
        """
        shown = disposition(self.original_name, self.content_type, as_attachment=as_attachment)
        return self.file.reading(lambda profile, key: operations.presign_get(profile, key, expires, disposition=shown))

    @classmethod
    def presigned_upload(
        cls,
        name: str,
        *,
        size: int | None = None,
        sha256: str = "",
        content_type: str = "",
        expires: timedelta = timedelta(minutes=15),
    ) -> PresignedUpload:
        """Return how a client sends a file called ``name`` straight to the store, until ``expires`` from now.

        The store refuses another ``size``, ``sha256`` or media type than is given here. When it has arrived,
        ``objects.from_upload(upload.token)`` makes the row; a file that nobody takes over within a day is removed.
        Raises ``CapabilityError``.
        """
        return uploads.announce(cls, name, content_type=content_type, size=size, sha256=sha256, expires=expires)

    async def aopen(self) -> BinaryIO:
        """Async twin of :meth:`open`."""
        return await sync_to_async(self.open)()

    async def aopen_range(self, start: int, end: int | None = None) -> StoredRange:
        """Async twin of :meth:`open_range`."""
        return await sync_to_async(self.open_range)(start, end)

    async def aread_bytes(self) -> bytes:
        """Async twin of :meth:`read_bytes`."""
        return await sync_to_async(_drained, thread_sensitive=False)(await self.aopen())

    async def aread_text(self, encoding: str = "utf-8") -> str:
        """Async twin of :meth:`read_text`."""
        return (await self.aread_bytes()).decode(encoding)

    async def ahead(self) -> ObjectStat:
        """Async twin of :meth:`head`."""
        return await sync_to_async(self.head)()

    async def aexists(self) -> bool:
        """Async twin of :meth:`exists`."""
        return await sync_to_async(self.exists)()

    async def acopy_to(self, model: type[T], **fields: Any) -> T:
        """Async twin of :meth:`copy_to`."""
        return await sync_to_async(transfers.copy_row)(self, model, fields)

    async def amove_to(self, model: type[T], **fields: Any) -> T:
        """Async twin of :meth:`move_to`."""
        return await sync_to_async(transfers.move_row)(self, model, fields)

    async def amove_to_profile(self, profile: str) -> bool:
        """Async twin of :meth:`move_to_profile`."""
        return await sync_to_async(self.move_to_profile)(profile)


def _drained(stream: BinaryIO) -> bytes:
    """Read to the end and close. It touches no database, so that it need not wait for Django's one thread."""
    with stream:
        return stream.read()


def _with_companions(fields: list[StoredFileField], names: Iterable[str] | None) -> frozenset[str] | None:
    """``update_or_create`` and a careful caller name the file alone; its size and hash must not be left behind."""
    if names is None:
        return None
    given = frozenset(names)
    return given.union(*(field.companions for field in fields if field.name in given))
