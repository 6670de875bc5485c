"""The options of storage: ``KOAN["STORAGE"]``."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Literal

from koan_django.core.conf import section
from koan_django.core.suggestions import did_you_mean

from .drivers.base import Capability
from .keys import problem

Fallback = Literal["disabled", "single-profile-only", "named-default"]

_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9_-]{0,62}")


@dataclass(frozen=True, slots=True, kw_only=True)
class ProfileOptions:
    """One profile: an alias of Django's ``STORAGES``, and the folder inside it that holds the profile's objects.

    ``driver`` is a dotted path for a backend that storage does not know. ``without`` names capabilities that this store
    lacks although others of its kind have them; ``koan_storage_doctor`` finds them.
    """

    storage: str
    container: str = ""
    driver: str | None = None
    without: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        if not self.storage:
            raise ValueError("STORAGE must name an alias of settings.STORAGES")
        wrong = problem(self.container) if self.container else ""
        if wrong:
            raise ValueError(f"CONTAINER {self.container!r} {wrong}")
        known = [capability.value for capability in Capability]
        for name in self.without:
            if name not in known:
                raise ValueError(f"WITHOUT: there is no capability {name!r}{did_you_mean(name, known)}")


def _zero() -> Mapping[str, ProfileOptions]:
    return {"default": ProfileOptions(storage="default")}


@dataclass(frozen=True, slots=True, kw_only=True)
class StorageOptions:
    """Profiles by name, and which of them serves code that names none.

    ``fallback`` decides the latter. ``disabled``: none does, all code names its profile. ``single-profile-only``: the
    default profile if one is set, else the only one there is. ``named-default``: the default profile, which must be
    set. A profile that code names is never replaced by another.
    """

    default_profile: str | None = None
    fallback: Fallback = "single-profile-only"
    profiles: Mapping[str, ProfileOptions] = field(default_factory=_zero)

    def __post_init__(self) -> None:
        _check_names(self.profiles)
        if self.default_profile is not None and self.default_profile not in self.profiles:
            hint = did_you_mean(self.default_profile, self.profiles)
            raise ValueError(f"DEFAULT_PROFILE {self.default_profile!r} is not in PROFILES{hint}")
        if self.fallback == "disabled" and self.default_profile is not None:
            raise ValueError("DEFAULT_PROFILE is never used while FALLBACK is 'disabled': remove one of them")
        if self.fallback == "named-default" and self.default_profile is None:
            raise ValueError("FALLBACK 'named-default' needs a DEFAULT_PROFILE")
        if self.fallback == "single-profile-only" and self.default_profile is None and len(self.profiles) > 1:
            raise ValueError(
                "there are several PROFILES and no DEFAULT_PROFILE: set it, or set FALLBACK to 'disabled' "
                "if all code names its profile"
            )

    @property
    def unnamed(self) -> str | None:
        """The profile for code that names none, or ``None`` when there is no such profile."""
        if self.fallback == "disabled":
            return None
        return self.default_profile or next(iter(self.profiles))


def _check_names(profiles: Mapping[str, ProfileOptions]) -> None:
    if not profiles:
        raise ValueError("PROFILES is empty: leave it out to have one profile 'default' over STORAGES['default']")
    for name in profiles:
        if not _NAME.fullmatch(name):
            raise ValueError(f"the profile name {name!r} must match {_NAME.pattern}")
    folded = Counter(name.casefold() for name in profiles)
    twins = sorted(name for name in profiles if folded[name.casefold()] > 1)
    if twins:
        raise ValueError(f"the profile names {', '.join(map(repr, twins))} differ in case only")


options = section("STORAGE", StorageOptions)
