"""Files that clients send straight to the store: announced by a signed address, taken over when they have arrived.

The key is reserved before the address is given away, so that an upload nobody takes over is removed by the sweep. The
store itself refuses another size, another hash or media type than was announced, and a second upload to the key; so
what is taken over stays what it was.
"""

from __future__ import annotations

from dataclasses import astuple, dataclass, replace
from typing import TYPE_CHECKING, Any, TypeVar

from django.core import signing
from django.db import router, transaction

from . import deletion, keys, operations
from .content import type_of
from .exceptions import CapabilityError, UploadRefusedError
from .fieldfile import Location
from .models import Tombstone
from .profile import profiles

if TYPE_CHECKING:
    from datetime import timedelta

    from .drivers.base import ObjectStat, PresignedUpload
    from .fields import StoredFileField
    from .storedfile import StoredFile

    T = TypeVar("T", bound=StoredFile)

_SALT = "koan_django.storage.uploads"


@dataclass(frozen=True, slots=True)
class _Announced:
    """What the token says, signed: which reservation, and what was announced."""

    model: str
    tombstone: int
    key: str
    name: str
    content_type: str
    size: int | None
    sha256: str

    def token(self) -> str:
        return signing.dumps(list(astuple(self)), salt=_SALT)


def announce(
    model: type[StoredFile], name: str, *, content_type: str, size: int | None, sha256: str, expires: timedelta
) -> PresignedUpload:
    """Reserve a key and return how a file is sent to it."""
    field = _field(model)
    if not field.takes_direct_uploads:
        raise CapabilityError(
            f"{model.__qualname__} takes no direct uploads",
            why="its files are looked into before they are stored",
            fix="Upload through the application.",
        )
    profile = profiles[profiles.resolve(field.binding_of(model).profile)]
    key = field.fresh_key(model, name)
    media_type = content_type or type_of(None, name)
    made = operations.presign_put(profile, key, expires, content_type=media_type, size=size, sha256=sha256)
    location = Location(profile.name, key)
    reserved = deletion.reserve(location, origin=str(field), instance=model(), lasting=expires + deletion.RESERVED)
    announced = _Announced(model._meta.label, reserved.pk, key, keys.display(name), media_type, size, sha256.lower())
    return replace(made, token=announced.token())


def take_over(model: type[T], token: str, fields: dict[str, Any], *, using: str | None = None) -> T:
    """Make the row of an upload that has arrived.

    Raises ``UploadRefusedError`` for a token that is not for ``model``, an upload that was taken over before, or bytes
    that are not those announced; ``ObjectNotFoundError`` while nothing has arrived; ``TransferConflictError`` when
    somebody else is just taking it over.
    """
    announced = _read(model, token)
    alias = using or router.db_for_write(model)
    reserved = Tombstone.objects.using(router.db_for_write(Tombstone, instance=model()))
    found = reserved.filter(pk=announced.tombstone, key=announced.key).first()
    if found is None:
        raise UploadRefusedError("there is no such upload", why="it was taken over before, or its time is over")
    profile = profiles[found.profile]
    stat = operations.stat(profile, found.key)
    sha256 = stat.sha256 or profile.driver.checksum(profile.at(found.key))
    _require_announced(announced, stat, sha256)
    values = {
        "file": found.key,
        "profile": profile.name,
        "size": stat.size,
        "sha256": sha256,
        "content_type": announced.content_type,
        "original_name": announced.name,
        **fields,
    }
    with transaction.atomic(using=alias):
        deletion.keep(found)
        made: T = model._default_manager.db_manager(alias).create(**values)  # type: ignore[assignment]  # it is of model
    return made


def _read(model: type[StoredFile], token: str) -> _Announced:
    try:
        found = _Announced(*signing.loads(token, salt=_SALT))
    except (signing.BadSignature, TypeError) as error:
        raise UploadRefusedError("the token of an upload is not one of ours", why="its signature is wrong") from error
    if found.model != model._meta.label:
        why = f"it was announced for {found.model}"
        raise UploadRefusedError(f"the upload is not for {model.__qualname__}", why=why)
    return found


def _require_announced(announced: _Announced, stat: ObjectStat, sha256: str) -> None:
    """The store refuses what differs; one that does not look is looked after here."""
    is_same = announced.size in (None, stat.size) and announced.sha256 in ("", sha256)
    if not is_same:
        raise UploadRefusedError("the upload is not what was announced", why="its size or its SHA-256 differs")


def _field(model: type[StoredFile]) -> StoredFileField:
    return model._meta.get_field("file")
