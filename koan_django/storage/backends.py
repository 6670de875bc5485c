"""``ProfileStorage``: a profile as a storage of Django's, for ``STORAGES`` and for any plain ``FileField``."""

from __future__ import annotations

import posixpath
from typing import TYPE_CHECKING, Any

from django.conf import settings
from django.core.files.base import File
from django.core.files.storage import Storage
from django.utils import timezone
from django.utils.deconstruct import deconstructible

from . import operations
from .content import rewound, type_of
from .exceptions import ObjectExistsError
from .profile import Profile, profiles

if TYPE_CHECKING:
    from datetime import datetime


if TYPE_CHECKING:
    _File = File[bytes]
else:
    _File = File  # Django's own cannot be subscribed at run time


class ObjectFile(_File):
    """A stored object open for reading; it can be opened again after it was closed."""

    def __init__(self, profile: Profile, key: str, mode: str = "rb") -> None:
        self._profile = profile
        _require_reading(mode)
        super().__init__(operations.open_object(profile, key), name=key)
        self.mode = mode

    def open(self, mode: str | None = None, *args: Any, **kwargs: Any) -> ObjectFile:
        """Go back to the beginning, opening the object again if it was closed."""
        _require_reading(mode or "rb")
        if self.closed:
            self.file = operations.open_object(self._profile, self.name or "")
        else:
            self.seek(0)
        return self


def _require_reading(mode: str) -> None:
    if mode not in ("r", "rb"):
        raise ValueError(f"an object is stored whole and cannot be opened with mode {mode!r}: save new content instead")


@deconstructible(path="koan_django.storage.ProfileStorage")
class ProfileStorage(Storage):
    """The profile called ``profile``, or the default one. The settings are read on first use."""

    def __init__(self, profile: str = "") -> None:
        self._name = profile

    @property
    def profile(self) -> Profile:
        """The profile; raises ``ProfileError``."""
        return profiles[profiles.resolve(self._name)]

    def delete(self, name: str) -> None:
        """Remove the object at once."""
        operations.delete(self.profile, name)

    def exists(self, name: str) -> bool:
        """Whether there is an object."""
        return operations.exists(self.profile, name)

    def size(self, name: str) -> int:
        """Return the size in bytes; raises ``ObjectNotFoundError``."""
        return operations.stat(self.profile, name).size

    def url(self, name: str | None) -> str:
        """Return the address of the object; raises ``NoURLError``."""
        return self.profile.url(name or "")

    def path(self, name: str) -> str:
        """Return the path of the file; raises ``NotImplementedError`` where the backend has none."""
        return self.profile.backend.path(self.profile.at(name))

    def get_modified_time(self, name: str) -> datetime:
        """Return when the object was stored, aware or naive as ``USE_TZ`` says."""
        found = operations.stat(self.profile, name).modified_at
        if found is None:
            raise NotImplementedError(f"the store of {self.profile} keeps no times")
        return found if settings.USE_TZ else timezone.make_naive(found)

    def listdir(self, path: str) -> tuple[list[str], list[str]]:
        """Return the folders and files directly in ``path``."""
        base = self.profile.at(path.strip("/")) + "/" if path.strip("/") else self.profile.base
        folders, files = self.profile.driver.names(base)
        return list(folders), list(files)

    def get_available_name(self, name: str, max_length: int | None = None) -> str:
        """Return ``name`` unless it is too long: creating decides whether it is free, without a race."""
        if max_length and len(name) > max_length:
            return super().get_available_name(name, max_length)
        return name

    def _open(self, name: str, mode: str = "rb") -> ObjectFile:
        return ObjectFile(self.profile, name, mode)

    def _save(self, name: str, content: Any) -> str:
        media_type = type_of(content, name)
        root, extension = posixpath.splitext(name)
        while True:
            try:
                return operations.put(self.profile, name, rewound(content), content_type=media_type).key
            except ObjectExistsError:
                name = self.get_alternative_name(root, extension)
