"""What storage raises. Some are also the built-in error that code around Django's ``FileField`` already catches."""

from __future__ import annotations

from typing import ClassVar

from django.core.exceptions import SuspiciousFileOperation

from koan_django.core.exceptions import KoanError


class StorageError(KoanError):
    """Base of storage's errors."""


class ProfileError(StorageError):
    """No profile is configured under the name, or none was named where the settings ask for one."""


class ProfileRefusedError(StorageError):
    """The profile's row in the admin does not allow this now: it is disabled or read-only."""

    transient: ClassVar[bool] = True


class CapabilityError(StorageError):
    """The profile's store cannot do this."""


class NoURLError(CapabilityError, AttributeError):
    """The profile's store gives no addresses. An ``AttributeError``, so that forms and serializers show no link."""

    #: Django's templates show nothing instead of failing.
    silent_variable_failure = True


class InvalidKeyError(StorageError, SuspiciousFileOperation):
    """The key cannot name an object, or leads out of its container."""


class ObjectNotFoundError(StorageError, FileNotFoundError):
    """There is no object under the key."""


class ObjectExistsError(StorageError, FileExistsError):
    """There is an object under the key already, and it was not to be overwritten."""


class RangeError(StorageError, ValueError):
    """No byte of the object lies in the range. ``size`` is the object's, in bytes."""

    def __init__(self, what: str, *, why: str = "", fix: str = "", size: int = 0) -> None:
        super().__init__(what, why=why, fix=fix)
        self.size = size


class StorageFullError(StorageError):
    """The store has no room: the disk, a quota or a limit of the process."""

    transient: ClassVar[bool] = True


class StorageRefusedError(StorageError):
    """The store refuses for a reason that no repetition changes: credentials, permission, a bucket that is missing."""


class StorageUnavailableError(StorageError):
    """The store did not do what it should: an I/O error, a missing mount, no permission."""

    transient: ClassVar[bool] = True


class VerificationError(StorageError):
    """A copy does not have the SHA-256 that was recorded for its source; the source was left as it is."""

    transient: ClassVar[bool] = True


class UploadRefusedError(StorageError):
    """What was sent straight to the store is not taken over: the token or the bytes are not those announced."""


class TransferConflictError(StorageError):
    """The row was moved, replaced or deleted by somebody else while its bytes were on the way."""

    transient: ClassVar[bool] = True
