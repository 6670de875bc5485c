"""``Photo.objects``."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, TypeVar, cast

from asgiref.sync import sync_to_async

from koan_django.storage.managers import StoredFileManager

from .inspection import inspect
from .spooling import seekable

if TYPE_CHECKING:
    from django.db.models import QuerySet

    from koan_django.storage import StoredFile

    from .assets import MediaAsset  # named in the bound below
    from .files import MediaField

M = TypeVar("M", bound="MediaAsset")


class MediaAssetManager(StoredFileManager[M]):
    """Creates pictures. Whatever the verb, a file is refused with ``RefusedError`` before anything is stored."""

    def adopt(self, stored: StoredFile, **fields: Any) -> M:
        """Make a picture of a stored file: inspect it where it lies, then have the store copy it; return the row.

        The copy is verified and reserved first, so a process that dies on the way leaves nothing behind. Raises
        ``RefusedError`` with nothing copied.
        """
        with stored.open() as raw, seekable(raw) as stream:
            found = inspect(stream, declared_size=stored.size)
        field = cast("MediaField", self.model._meta.get_field("file"))
        measured = dict(zip(field.measures, field.measurements(found), strict=True))
        return stored.copy_to(self.model, **{"content_type": found.mime, **measured, **fields})

    async def aadopt(self, stored: StoredFile, **fields: Any) -> M:
        """Async twin of :meth:`adopt`."""
        return await sync_to_async(self.adopt)(stored, **fields)

    def originals(self) -> QuerySet[M]:
        """Pictures that were uploaded, not made."""
        return self.filter(source__isnull=True)

    def made(self) -> QuerySet[M]:
        """Pictures that were made from others."""
        return self.filter(source__isnull=False)
