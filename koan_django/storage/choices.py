"""What storage has chosen: the profile of code that names none, and what each profile stands on."""

from __future__ import annotations

from typing import TYPE_CHECKING

from koan_django.core import conf
from koan_django.core.facts import Alternative, Fact, source

from . import backing
from .conf import options

if TYPE_CHECKING:
    from collections.abc import Iterator


@source("storage")
def storage_facts() -> Iterator[Fact]:
    """The profiles, by the settings; no backend is made."""
    found = options()
    reason = f"FALLBACK is {found.fallback!r}, DEFAULT_PROFILE is {found.default_profile!r}"
    others = tuple(Alternative(name, "code must name it") for name in found.profiles if name != found.unnamed)
    yield Fact("storage.default", found.unnamed or "none", reason, others)
    written = "PROFILES" in conf.effective(conf.current()).get("STORAGE", {})
    for name, profile in found.profiles.items():
        described = backing.described(profile.storage, profile.driver)
        place = f"STORAGES[{profile.storage!r}], driver {described['driver'].rpartition('.')[2]}"
        reason = f"KOAN['STORAGE']['PROFILES'][{name!r}]" if written else "no PROFILES are set"
        yield Fact(f"storage.profile.{name}", place, reason)
