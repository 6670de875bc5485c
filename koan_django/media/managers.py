"""``Photo.objects``."""

from __future__ import annotations

from typing import TYPE_CHECKING, TypeVar

from koan_django.storage.managers import StoredFileManager

if TYPE_CHECKING:
    from django.db.models import QuerySet

    from .assets import MediaAsset  # named in the bound below

M = TypeVar("M", bound="MediaAsset")


class MediaAssetManager(StoredFileManager[M]):
    """Creates pictures. Whatever the verb, a file is refused with ``RefusedError`` before anything is stored."""

    def originals(self) -> QuerySet[M]:
        """Pictures that were uploaded, not made."""
        return self.filter(source__isnull=True)

    def made(self) -> QuerySet[M]:
        """Pictures that were made from others."""
        return self.filter(source__isnull=False)
