"""What is done with objects: each verb asks the profile's policy, calls its driver, and reports to telemetry."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, BinaryIO

from koan_django.core.telemetry import span

from . import policy
from .drivers.base import Capability
from .exceptions import CapabilityError, VerificationError

if TYPE_CHECKING:
    from datetime import timedelta

    from .drivers.base import ObjectStat, PresignedUpload
    from .profile import Profile
    from .streams import Readable, StoredRange


def put(profile: Profile, key: str, stream: Readable, *, content_type: str = "", overwrite: bool = False) -> ObjectStat:
    """Store ``stream``, read once, and return its size and SHA-256.

    Raises ``ObjectExistsError`` for a key in use, ``ProfileRefusedError``, ``InvalidKeyError``, ``StorageFullError``
    and ``StorageUnavailableError``; after an error nothing is left behind.
    """
    with span("storage.put", profile=profile.name, key=key) as metadata:
        whole = profile.at(key)
        policy.require_store(profile.name)
        found = profile.driver.put(whole, stream, overwrite=overwrite, content_type=content_type)
        metadata["size"] = found.size
    return replace(found, key=key)


def open_object(profile: Profile, key: str) -> BinaryIO:
    """Return the object as a stream to read; raises ``ObjectNotFoundError``."""
    with span("storage.get", profile=profile.name, key=key):
        return profile.driver.open(profile.at(key))


def open_range(profile: Profile, key: str, start: int, end: int | None = None) -> StoredRange:
    """Return the bytes from ``start`` to ``end``, both included; raises ``RangeError`` beyond the object's end."""
    with span("storage.get", profile=profile.name, key=key, start=start, end=end):
        return profile.driver.open_range(profile.at(key), start, end)


def stat(profile: Profile, key: str) -> ObjectStat:
    """Return what the store says about the object; raises ``ObjectNotFoundError``."""
    return replace(profile.driver.stat(profile.at(key)), key=key)


def exists(profile: Profile, key: str) -> bool:
    """Whether the store has the object."""
    return profile.driver.exists(profile.at(key))


def delete(profile: Profile, key: str) -> bool:
    """Remove the object at once and for good; return whether there was one. Rows leave a tombstone instead."""
    with span("storage.delete", profile=profile.name, key=key) as metadata:
        whole = profile.at(key)
        policy.require_delete(profile.name)
        metadata["existed"] = profile.driver.delete(whole)
    return bool(metadata["existed"])


def presign_get(profile: Profile, key: str, expires: timedelta, *, disposition: str = "") -> str:
    """Return an address that reads the object until ``expires`` from now; raises ``CapabilityError``."""
    profile.require(Capability.PRESIGNED_GET)
    return profile.driver.presign_get(profile.at(key), expires, disposition=disposition)


def presign_put(
    profile: Profile, key: str, expires: timedelta, *, content_type: str = "", size: int | None = None, sha256: str = ""
) -> PresignedUpload:
    """Return how the object can be sent until ``expires`` from now.

    Raises ``CapabilityError`` and ``ProfileRefusedError``.
    """
    profile.require(Capability.PRESIGNED_PUT)
    policy.require_store(profile.name)
    return profile.driver.presign_put(profile.at(key), expires, content_type=content_type, size=size, sha256=sha256)


def copy(source: Profile, key: str, target: Profile, new_key: str, *, sha256: str = "", content_type: str = "") -> str:
    """Copy an object under a key that is not in use, and return the SHA-256 of the copy as the store holds it.

    The copy is read back and compared with ``sha256``, or with the source where that is not known. Raises
    ``VerificationError`` when they differ; the copy is removed then.
    """
    names = {"profile": source.name, "key": key, "to_profile": target.name, "to_key": new_key}
    with span("storage.copy", **names):
        old, new = source.at(key), target.at(new_key)
        policy.require_store(target.name)
        _copy(source, old, target, new, content_type)
        expected = sha256 or source.driver.checksum(old)
        found = target.driver.checksum(new)
        if found != expected:
            target.driver.delete(new)
            raise VerificationError(
                f"the copy of {key!r} from {source.name!r} to {target.name!r} is not the same",
                why=f"its SHA-256 is {found}, that of the source was recorded as {expected}",
                fix="The source is untouched. If this repeats, the source itself has changed on its store.",
            )
    return found


def _copy(source: Profile, old: str, target: Profile, new: str, content_type: str) -> None:
    if Capability.SERVER_COPY in target.capabilities:
        try:
            target.driver.copy_from(source.driver, old, new)
        except CapabilityError:
            pass  # the stores are too far apart, or refuse this object
        else:
            return
    media_type = content_type or source.driver.stat(old).content_type
    with source.driver.open(old) as stream:
        target.driver.put(new, stream, content_type=media_type)
