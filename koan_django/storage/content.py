"""What is given to be stored: bytes, text, an upload or any stream, with the name and type the user gave it."""

from __future__ import annotations

import contextlib
import mimetypes
import re
from typing import TYPE_CHECKING, Any

from django.core.files.base import File
from django.utils.http import content_disposition_header

from .keys import display

if TYPE_CHECKING:
    from .streams import Readable

#: What browsers show without running anything in it.
_SHOWN, _PLAYED = ("application/pdf", "text/plain"), ("image/", "audio/", "video/")
UNKNOWN_TYPE = "application/octet-stream"
_TYPE = re.compile(r"[a-z0-9][a-z0-9!#$&^_.+-]{0,126}/[a-z0-9][a-z0-9!#$&^_.+-]{0,126}")


if TYPE_CHECKING:
    _File = File[Any]
else:
    _File = File  # Django's own cannot be subscribed at run time


class Content(_File):
    """A stream with its name and media type."""

    def __init__(self, stream: Readable, name: str = "", content_type: str = "") -> None:
        own = getattr(stream, "name", "")  # the number of a descriptor, for some temporary files
        super().__init__(stream, name=display(name or (own if isinstance(own, str) else "")))  # type: ignore[arg-type]  # it reads only
        self.content_type = content_type or type_of(stream, self.name or "")


def type_of(content: Any, name: str) -> str:
    """Return the media type that ``content`` claims, or the one its name suggests. Either is only a claim."""
    claimed = getattr(content, "content_type", None) or getattr(getattr(content, "file", None), "content_type", None)
    return clean_type(claimed) or mimetypes.guess_type(name)[0] or UNKNOWN_TYPE


def disposition(name: str, media_type: str, *, as_attachment: bool) -> str:
    """Return the header that names a download. What a browser would run is an attachment, whoever asks."""
    is_harmless = media_type in _SHOWN or (media_type.startswith(_PLAYED) and media_type != "image/svg+xml")
    return content_disposition_header(as_attachment or not is_harmless, name) or "inline"


def clean_type(value: object) -> str:
    """Return a media type in lower case without parameters, or nothing when it is none."""
    bare = str(value or "").partition(";")[0].strip().lower()
    return bare if _TYPE.fullmatch(bare) else ""


def rewound(content: Any) -> Readable:
    """Return the stream of ``content`` at its beginning, as Django stores files; one that cannot seek, as it is."""
    stream: Any = getattr(content, "file", None) or content
    with contextlib.suppress(AttributeError, OSError):  # io.UnsupportedOperation is an OSError
        stream.seek(0)
    return stream  # type: ignore[no-any-return]  # whatever reads
