"""System checks of storage. None makes a backend or opens a socket."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from django.conf import settings
from django.core.checks import CheckMessage, Error, Tags, Warning, register
from django.core.exceptions import FieldDoesNotExist, ImproperlyConfigured

from koan_django.core import defaults
from koan_django.core.checks import section_check

from . import backing
from .conf import ProfileOptions, StorageOptions, options
from .exceptions import ProfileError
from .profile import profiles

if TYPE_CHECKING:
    from .fields import StoredFileField
    from .storedfile import StoredFile


def check_profiles(app_configs: object, **kwargs: object) -> list[CheckMessage]:
    """E002: an alias is unknown. E003: there is no driver. E004: profiles share a place. W001: no MEDIA_ROOT.

    And what the drivers say of the options of their backends.
    """
    found = _options()
    if found is None:
        return []
    messages = [message for name in found.profiles for message in _check_profile(name, found)]
    return messages or [*_check_places(found), *_check_media_root(found), *_check_options(found)]


def check_deployment(app_configs: object, **kwargs: object) -> list[CheckMessage]:
    """W002: the objects of a profile lie in a folder of one machine. And what the drivers say."""
    found = _options()
    if found is None or any(_check_profile(name, found) for name in found.profiles):
        return []
    return [*_check_folders(found), *_check_options(found, deploy=True)]


def _check_folders(found: StorageOptions) -> list[CheckMessage]:
    return [
        message
        for name, one in found.profiles.items()
        if backing.is_local(one.storage)
        for message in defaults.in_force(
            f"the storage profile {name!r} keeps its objects in a folder, which other machines do not see",
            instead=f"Give STORAGES[{one.storage!r}] a backend that all of them reach.",
            id="koan_storage.W002",
        )
    ]


def check_field(field: StoredFileField) -> list[CheckMessage]:
    """E005: the profile of a field is unknown. E006: a column that it fills is missing or in front of it."""
    return [*_check_binding(field), *(message for name in field.companions for message in _check_column(field, name))]


def check_columns(model: type[StoredFile]) -> list[CheckMessage]:
    """E007: a model has put something else in place of a column that its file fills."""
    from .storedfile import StoredFile

    found: dict[str, Any] = {field.name: field for field in model._meta.get_fields()}
    return [
        Error(
            f"{model.__qualname__}.{mine.name} is not the {type(mine).__name__} of StoredFile",
            hint="The stored file fills this column: give yours another name.",
            obj=model,
            id="koan_storage.E007",
        )
        for mine in StoredFile._meta.local_fields
        if not _is_same(mine, found.get(mine.name))
    ]


def register_all() -> None:
    """Register storage's checks; those of fields and models run with Django's own."""
    register(section_check(options, "koan_storage.E001"))
    register(check_profiles)
    register(check_deployment, Tags.files, deploy=True)


def _is_same(mine: Any, own: Any) -> bool:
    return isinstance(own, type(mine)) and set(getattr(own, "companions", ())) >= set(getattr(mine, "companions", ()))


def _options() -> StorageOptions | None:
    try:
        return options()
    except ImproperlyConfigured:
        return None  # E001, or core's own check, reports it


def _check_profile(name: str, found: StorageOptions) -> list[CheckMessage]:
    profile, path = found.profiles[name], f"KOAN['STORAGE']['PROFILES'][{name!r}]"
    if profile.storage not in backing.configured():
        known = ", ".join(sorted(backing.configured()))
        text = f"{path}['STORAGE']: settings.STORAGES has no alias {profile.storage!r}"
        return [Error(text, hint=f"It has {known}.", id="koan_storage.E002")]
    try:
        backing.described(profile.storage, profile.driver)
    except ProfileError as error:
        return [Error(f"{path}: {error.what}", hint=error.fix, id="koan_storage.E003")]
    except ImproperlyConfigured as error:
        hint = "Install what the backend needs: koan-django[s3], for one of S3."
        return [Error(f"{path}: {error}", hint=hint, id="koan_storage.E003")]
    except (ImportError, TypeError) as error:
        return [Error(f"{path}: {error}", hint="Correct the dotted path.", id="koan_storage.E003")]
    return []


def _check_places(found: StorageOptions) -> list[CheckMessage]:
    places = {name: (_store(one), one.container) for name, one in found.profiles.items()}
    return [
        Error(
            f"the storage profiles {first!r} and {second!r} share one place",
            hint="Give each a CONTAINER of its own that is no folder of the other's, or another STORAGES alias.",
            id="koan_storage.E004",
        )
        for first in places
        for second in places
        if first < second and _overlap(places[first], places[second])
    ]


def _store(profile: ProfileOptions) -> tuple[type, str]:
    driver = backing.driver_of(profile.storage, profile.driver)
    return driver, driver.store(backing.options_of(profile.storage))


def _check_options(found: StorageOptions, *, deploy: bool = False) -> list[CheckMessage]:
    drivers = {one.storage: backing.driver_of(one.storage, one.driver) for one in found.profiles.values()}
    return [
        message
        for alias, driver in drivers.items()
        for message in driver.check(alias, backing.options_of(alias), deploy=deploy)
    ]


def _overlap(one: tuple[object, str], other: tuple[object, str]) -> bool:
    first, second = (f"{container}/" if container else "" for container in (one[1], other[1]))
    return one[0] == other[0] and (first.startswith(second) or second.startswith(first))


def _check_media_root(found: StorageOptions) -> list[CheckMessage]:
    if settings.MEDIA_ROOT:
        return []
    return [
        Warning(
            f"the storage profile {name!r} writes into the folder that the process is started in",
            hint=f"Set MEDIA_ROOT, or OPTIONS['location'] of STORAGES[{one.storage!r}].",
            id="koan_storage.W001",
        )
        for name, one in found.profiles.items()
        if backing.is_local(one.storage) and not backing.configured()[one.storage].get("OPTIONS", {}).get("location")
    ]


def _check_binding(field: StoredFileField) -> list[CheckMessage]:
    try:
        name = profiles.resolve(field.static_profile)
        if name in profiles:
            return []
        text = f"there is no storage profile {name!r}"
    except ProfileError as error:
        text = str(error)
    except ImproperlyConfigured:
        return []
    known = ", ".join(sorted(profiles)) or "none"
    hint = f"KOAN['STORAGE']['PROFILES'] has {known}."
    return [Error(f"{field}: {text}", hint=hint, obj=field, id="koan_storage.E005")]


def _check_column(field: StoredFileField, name: str) -> list[CheckMessage]:
    try:
        column = field.model._meta.get_field(name)
    except FieldDoesNotExist:
        text, hint = f"{field} fills {name!r}, which the model does not have", "Add the column, or do not name it."
    else:
        if getattr(column, "creation_counter", 0) > field.creation_counter:
            return []
        text = f"{field} fills {name!r}, which stands in front of it and is saved before"
        hint = "Declare it behind the file."
    return [Error(text, hint=hint, obj=field, id="koan_storage.E006")]
