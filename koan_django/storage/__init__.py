"""Storage: profiles over Django's ``STORAGES``, and model rows that own the bytes they describe."""

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from .backends import ProfileStorage as ProfileStorage
    from .drivers.base import Capability as Capability
    from .drivers.base import PresignedUpload as PresignedUpload
    from .exceptions import CapabilityError as CapabilityError
    from .exceptions import InvalidKeyError as InvalidKeyError
    from .exceptions import ObjectExistsError as ObjectExistsError
    from .exceptions import ObjectNotFoundError as ObjectNotFoundError
    from .exceptions import ProfileError as ProfileError
    from .exceptions import ProfileRefusedError as ProfileRefusedError
    from .exceptions import RangeError as RangeError
    from .exceptions import StorageError as StorageError
    from .exceptions import StorageFullError as StorageFullError
    from .exceptions import StorageRefusedError as StorageRefusedError
    from .exceptions import StorageUnavailableError as StorageUnavailableError
    from .exceptions import TransferConflictError as TransferConflictError
    from .exceptions import UploadRefusedError as UploadRefusedError
    from .exceptions import VerificationError as VerificationError
    from .fields import StoredFileField as StoredFileField
    from .profile import profiles as profiles
    from .storedfile import StoredFile as StoredFile

__all__ = [
    "Capability",
    "CapabilityError",
    "InvalidKeyError",
    "ObjectExistsError",
    "ObjectNotFoundError",
    "PresignedUpload",
    "ProfileError",
    "ProfileRefusedError",
    "ProfileStorage",
    "RangeError",
    "StorageError",
    "StorageFullError",
    "StorageRefusedError",
    "StorageUnavailableError",
    "StoredFile",
    "StoredFileField",
    "TransferConflictError",
    "UploadRefusedError",
    "VerificationError",
    "profiles",
]

if not TYPE_CHECKING:
    from koan_django.core.faces import lazy

    _HOMES = {
        "Capability": "drivers.base",
        "PresignedUpload": "drivers.base",
        "ProfileStorage": "backends",
        "StoredFile": "storedfile",
        "StoredFileField": "fields",
        "profiles": "profile",
        **{name: "exceptions" for name in __all__ if name.endswith("Error")},
    }
    __getattr__ = lazy(__name__, _HOMES)
    del lazy
del TYPE_CHECKING
