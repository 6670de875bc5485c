"""``Model.objects.create_text(...)`` and the like."""

from __future__ import annotations

import json
import mimetypes
from typing import TYPE_CHECKING, Any, TypeVar

from asgiref.sync import sync_to_async
from django.core.files.base import ContentFile
from django.core.serializers.json import DjangoJSONEncoder
from django.db import models

from .content import Content
from .uploads import take_over

if TYPE_CHECKING:
    from .storedfile import StoredFile  # named in the bound below
    from .streams import Readable

M = TypeVar("M", bound="StoredFile")


class StoredFileManager(models.Manager[M]):
    """Creates a row and its object in one call. All go through ``create``, so related managers add their key."""

    def create_bytes(self, name: str, data: bytes, *, content_type: str = "", **fields: Any) -> M:
        """Store ``data`` as the file ``name``. The media type is guessed from the name unless it is given."""
        return self.upload(ContentFile(data), name=name, content_type=content_type, **fields)

    def create_text(self, name: str, text: str, *, content_type: str = "", **fields: Any) -> M:
        """Store ``text`` as UTF-8."""
        media_type = content_type or mimetypes.guess_type(name)[0] or "text/plain"
        return self.create_bytes(name, text.encode(), content_type=media_type, **fields)

    def create_json(self, name: str, value: Any, *, content_type: str = "application/json", **fields: Any) -> M:
        """Store ``value`` as JSON; dates, decimals and UUIDs are written as Django writes them."""
        text = json.dumps(value, cls=DjangoJSONEncoder, ensure_ascii=False)
        return self.create_text(name, text, content_type=content_type, **fields)

    def upload(self, stream: Readable, *, name: str = "", content_type: str = "", **fields: Any) -> M:
        """Store an uploaded file or any stream, read once and from its beginning where it can seek.

        Name and media type are those of the upload unless they are given; they are what the user claims.
        """
        return self.create(file=Content(stream, name, content_type), **fields)

    def from_upload(self, token: str, **fields: Any) -> M:
        """Make the row of a file that :meth:`StoredFile.presigned_upload` announced and that has arrived.

        Raises ``ObjectNotFoundError`` while it has not, ``UploadRefusedError`` when the token or the bytes are not
        those announced, or were taken over before.
        """
        return take_over(self.model, token, fields, using=self._db)

    async def acreate_bytes(self, name: str, data: bytes, *, content_type: str = "", **fields: Any) -> M:
        """Async twin of :meth:`create_bytes`."""
        return await sync_to_async(self.create_bytes)(name, data, content_type=content_type, **fields)

    async def acreate_text(self, name: str, text: str, *, content_type: str = "", **fields: Any) -> M:
        """Async twin of :meth:`create_text`."""
        return await sync_to_async(self.create_text)(name, text, content_type=content_type, **fields)

    async def acreate_json(self, name: str, value: Any, *, content_type: str = "application/json", **fields: Any) -> M:
        """Async twin of :meth:`create_json`."""
        return await sync_to_async(self.create_json)(name, value, content_type=content_type, **fields)

    async def afrom_upload(self, token: str, **fields: Any) -> M:
        """Async twin of :meth:`from_upload`."""
        return await sync_to_async(self.from_upload)(token, **fields)

    async def aupload(self, stream: Readable, *, name: str = "", content_type: str = "", **fields: Any) -> M:
        """Async twin of :meth:`upload`."""
        return await sync_to_async(self.upload)(stream, name=name, content_type=content_type, **fields)
