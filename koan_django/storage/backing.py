"""Finds what stands behind a profile: the backend of ``settings.STORAGES``, and the driver for its class."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from django.conf import settings
from django.core.files.storage import FileSystemStorage, storages
from django.utils.module_loading import import_string

from koan_django.core.suggestions import did_you_mean
from koan_django.core.templating import has_reference, render

from .exceptions import ProfileError

if TYPE_CHECKING:
    from django.core.files.storage import Storage

    from .drivers.base import Driver

#: Drivers by the backend class they serve; its subclasses are served too.
DRIVERS: Mapping[str, str] = {
    "django.core.files.storage.filesystem.FileSystemStorage": "koan_django.storage.drivers.local.LocalDriver",
    "storages.backends.s3.S3Storage": "koan_django.storage.drivers.s3.S3Driver",
}


def configured() -> Mapping[str, Mapping[str, Any]]:
    """Return ``settings.STORAGES``."""
    entries: Any = settings.STORAGES
    return entries  # type: ignore[no-any-return]  # Django's own checks see to its shape


def instance(alias: str) -> Storage:
    """Return Django's own backend for ``alias``, or one of ours where its options hold secret references."""
    given = options_of(alias)
    if not _is_template(given):
        return storages[alias]
    made: Storage = backend_class(alias)(**_rendered(given))
    return made


def backend_class(alias: str) -> type[Storage]:
    """Return the class of the backend ``alias``, without making one."""
    found: type[Storage] = import_string(_entry(alias)["BACKEND"])
    return found


def driver_class(backend: type[Storage], chosen: str | None = None) -> type[Driver]:
    """Return the driver for ``backend``: the one at the dotted path ``chosen``, or by the class and its bases."""
    path = chosen or next(filter(None, (DRIVERS.get(_dotted(base)) for base in backend.__mro__)), None)
    if path is None:
        raise ProfileError(
            f"storage has no driver for {_dotted(backend)}",
            why=f"it knows {', '.join(sorted(DRIVERS))} and their subclasses",
            fix="Name a driver of your own in the profile's DRIVER, or use another backend.",
        )
    found: type[Driver] = import_string(path)
    return found


def described(alias: str, chosen: str | None = None) -> dict[str, str]:
    """Return the dotted paths of the ``backend`` and the ``driver``, without making either."""
    backend = backend_class(alias)
    return {"backend": _dotted(backend), "driver": _dotted(driver_class(backend, chosen))}


def driver_of(alias: str, chosen: str | None = None) -> type[Driver]:
    """Return the driver class for the backend ``alias``."""
    return driver_class(backend_class(alias), chosen)


def options_of(alias: str) -> Mapping[str, Any]:
    """Return ``OPTIONS`` of the alias as they are written."""
    found: Mapping[str, Any] = _entry(alias).get("OPTIONS", {})
    return found


def is_local(alias: str) -> bool:
    """Whether the backend keeps its files in a folder of this machine."""
    return issubclass(backend_class(alias), FileSystemStorage)


def _entry(alias: str) -> Mapping[str, Any]:
    found = configured()
    if alias not in found:
        raise ProfileError(
            f"settings.STORAGES has no alias {alias!r}{did_you_mean(alias, found)}",
            fix="Add it there, or change STORAGE of the profile.",
        )
    return found[alias]


def _dotted(cls: type) -> str:
    return f"{cls.__module__}.{cls.__qualname__}"


def _is_template(value: Any) -> bool:
    if isinstance(value, Mapping):
        return any(map(_is_template, value.values()))
    if isinstance(value, list | tuple):
        return any(map(_is_template, value))
    return isinstance(value, str) and has_reference(value)


def _rendered(value: Any) -> Any:
    if isinstance(value, Mapping):
        return {key: _rendered(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return type(value)(map(_rendered, value))
    return render(value) if isinstance(value, str) else value
