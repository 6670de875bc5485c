"""Profiles: where objects live. ``profiles["hot"]`` is the profile that the settings call ``hot``."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING

from django.core.files.storage import Storage
from django.urls import get_script_prefix

from koan_django.core import conf
from koan_django.core.suggestions import did_you_mean

from . import backing, keys
from .conf import ProfileOptions, options
from .drivers.base import Capability, Driver, lacks
from .exceptions import NoURLError, ProfileError

if TYPE_CHECKING:
    from collections.abc import Iterator


@dataclass(frozen=True, slots=True)
class Profile:
    """A profile of the settings: a driver, and the container inside its store where this profile's keys live."""

    name: str
    options: ProfileOptions
    backend: Storage
    driver: Driver

    @property
    def capabilities(self) -> frozenset[Capability]:
        """What the profile's store can do."""
        return self.driver.capabilities

    @property
    def place(self) -> str:
        """The store and the container in it: two profiles of one place would share their objects."""
        return f"{self.driver.place}/{self.options.container}"

    @property
    def base(self) -> str:
        """What the driver's keys of this profile begin with."""
        return f"{self.options.container}/" if self.options.container else ""

    def require(self, capability: Capability) -> None:
        """Raise ``CapabilityError`` unless the store can do this."""
        if capability not in self.driver.capabilities:
            raise lacks(self.driver, capability)

    def at(self, key: str) -> str:
        """Return ``key`` as the driver knows it, with the container; raises ``InvalidKeyError``."""
        container = self.options.container
        return keys.check(f"{container}/{keys.check(key)}" if container else key)

    def url(self, key: str) -> str:
        """Return an address of the object; raises ``NoURLError`` where the backend has no base URL."""
        unset = (None, "", get_script_prefix())  # the last is what Django makes of a MEDIA_URL that is not set
        if hasattr(self.backend, "base_url") and self.backend.base_url in unset:
            raise NoURLError(
                f"objects of the profile {self.name!r} have no URL",
                why="its backend has no base_url, and MEDIA_URL is not set",
                fix="Serve them by a view, or set one of the two.",
            )
        return self.driver.url(self.at(key))

    def __str__(self) -> str:
        return self.name


class Profiles(Mapping[str, Profile]):
    """The profiles of the settings, by name. Each is built on first use."""

    def __init__(self) -> None:
        self._built: dict[str, Profile] = {}

    def __getitem__(self, name: str) -> Profile:
        """Return the profile; raises ``ProfileError`` for a name that is not configured."""
        found = self._built.get(name)
        return self._built.setdefault(name, self._build(name)) if found is None else found

    def __iter__(self) -> Iterator[str]:
        return iter(options().profiles)

    def __len__(self) -> int:
        return len(options().profiles)

    def __contains__(self, name: object) -> bool:
        return name in options().profiles

    @property
    def default(self) -> Profile:
        """The profile of code that names none; raises ``ProfileError`` when the settings want each named."""
        return self[self.resolve("")]

    def resolve(self, name: str) -> str:
        """Return ``name``, or what stands in for an empty one by ``KOAN["STORAGE"]["FALLBACK"]``."""
        found = name or options().unnamed
        if found is None:
            raise ProfileError(
                "no storage profile is named",
                why="KOAN['STORAGE']['FALLBACK'] is 'disabled', so none stands in",
                fix="Name one: `class Storage: profile = ...` in the model, or StoredFileField(profile=...).",
            )
        return found

    def forget(self) -> None:
        """Build the profiles anew on their next use."""
        self._built.clear()

    def _build(self, name: str) -> Profile:
        chosen = options().profiles.get(name)
        if chosen is None:
            hint = did_you_mean(name, options().profiles)
            raise ProfileError(
                f"there is no storage profile {name!r}{hint}",
                why="KOAN['STORAGE']['PROFILES'] does not have it",
                fix="Configure it; objects stored under it stay where they are meanwhile.",
            )
        backend = backing.instance(chosen.storage)
        driver = backing.driver_class(type(backend), chosen.driver)(backend)
        driver.capabilities -= set(map(Capability, chosen.without))
        return Profile(name, chosen, backend, driver)


#: The profiles of the settings, by name: ``profiles["hot"]``.
profiles = Profiles()
conf.on_reset(profiles.forget)
