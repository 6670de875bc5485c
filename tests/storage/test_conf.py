"""``KOAN["STORAGE"]``: zero configuration, the meaning of each fallback, and errors that name the option."""

from __future__ import annotations

from typing import Any

import pytest
from django.core.exceptions import ImproperlyConfigured

from koan_django.core import templating
from koan_django.storage import Capability, ProfileError, profiles
from koan_django.storage.conf import options
from koan_django.testing import override_koan

ONE = {"only": {"STORAGE": "default"}}
TWO = {"hot": {"STORAGE": "default", "CONTAINER": "a"}, "cold": {"STORAGE": "archive"}}


def configured(settings: Any, **section: Any) -> None:
    settings.KOAN = {"STORAGE": section}


def test_without_settings_there_is_one_profile_over_the_default_storage(settings: Any) -> None:
    settings.KOAN = {}
    assert list(profiles) == ["default"]
    assert profiles.default.name == "default"
    assert profiles.default.at("a/b") == "a/b"
    assert Capability.RANGE in profiles["default"].capabilities


@pytest.mark.parametrize(
    ("section", "answer"),
    [
        ({"PROFILES": ONE}, "only"),
        ({"PROFILES": ONE, "FALLBACK": "single-profile-only"}, "only"),
        ({"PROFILES": TWO, "DEFAULT_PROFILE": "cold"}, "cold"),
        ({"PROFILES": TWO, "DEFAULT_PROFILE": "cold", "FALLBACK": "named-default"}, "cold"),
        ({"PROFILES": ONE, "DEFAULT_PROFILE": "only", "FALLBACK": "named-default"}, "only"),
    ],
)
def test_the_profile_of_code_that_names_none(settings: Any, section: dict[str, Any], answer: str) -> None:
    configured(settings, **section)
    assert profiles.resolve("") == answer
    assert profiles.default.name == answer


@pytest.mark.parametrize("found", [ONE, TWO])
def test_fallback_disabled_wants_every_profile_named(settings: Any, found: dict[str, Any]) -> None:
    configured(settings, PROFILES=found, FALLBACK="disabled")
    with pytest.raises(ProfileError, match=r"FALLBACK'\] is 'disabled'.*Name one"):
        profiles.resolve("")
    name = next(iter(found))
    assert profiles[profiles.resolve(name)].name == name


@pytest.mark.parametrize("fallback", ["disabled", "single-profile-only", "named-default"])
def test_a_profile_that_code_names_is_never_replaced(settings: Any, fallback: str) -> None:
    default = {} if fallback == "disabled" else {"DEFAULT_PROFILE": "hot"}
    configured(settings, PROFILES=TWO, FALLBACK=fallback, **default)
    with pytest.raises(ProfileError, match="there is no storage profile 'hott'; did you mean 'hot'"):
        profiles["hott"]


@pytest.mark.parametrize(
    ("section", "text"),
    [
        ({"PROFILES": TWO}, "several PROFILES and no DEFAULT_PROFILE"),
        ({"PROFILES": ONE, "FALLBACK": "named-default"}, "'named-default' needs a DEFAULT_PROFILE"),
        (
            {"PROFILES": ONE, "DEFAULT_PROFILE": "only", "FALLBACK": "disabled"},
            "never used while FALLBACK is 'disabled'",
        ),
        ({"PROFILES": TWO, "DEFAULT_PROFILE": "hto"}, "'hto' is not in PROFILES; did you mean 'hot'"),
        ({"PROFILES": {}}, "PROFILES is empty"),
        ({"FALLBACK": "disbled"}, r"KOAN\['STORAGE'\]\['FALLBACK'\].*did you mean 'disabled'"),
        ({"PROFILES": {"a b": {"STORAGE": "default"}}}, "profile name 'a b' must match"),
        (
            {"PROFILES": {"Hot": TWO["hot"], "hot": TWO["cold"]}, "DEFAULT_PROFILE": "hot"},
            "'Hot', 'hot' differ in case",
        ),
        ({"PROFILES": {"hot": {}}}, r"\['hot'\]\['STORAGE'\]: is required"),
        ({"PROFILES": {"hot": {"STORAGE": "default", "CONTAINER": "../x"}}}, "CONTAINER '../x' holds the part"),
        ({"PROFILES": {"hot": {"STORAGE": "default", "CONTANER": "x"}}}, "CONTANER'.*did you mean 'CONTAINER'"),
        ({"PROFILE": ONE}, r"\['PROFILE'\]: unknown option; did you mean 'PROFILES'"),
    ],
)
def test_a_wrong_option_is_named(settings: Any, section: dict[str, Any], text: str) -> None:
    configured(settings, **section)
    with pytest.raises(ImproperlyConfigured, match=text):
        options()


def test_profiles_follow_the_settings(stores: Any) -> None:
    before = profiles["hot"]
    assert profiles["hot"] is before
    with override_koan(STORAGE={"PROFILES": {"hot": {"CONTAINER": "elsewhere"}}}):
        assert profiles["hot"].at("k") == "elsewhere/k"
    assert profiles["hot"].at("k") == "hot/k"


def test_a_template_in_the_backend_s_options_is_resolved_when_the_backend_is_made(
    settings: Any, tmp_path: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(templating._resolvers, "fake", lambda body, in_authority: f"{tmp_path}/{body}")
    entry = settings.STORAGES["archive"]
    settings.STORAGES = {**settings.STORAGES, "archive": {**entry, "OPTIONS": {"location": "{{fake:vault}}"}}}
    assert profiles["cold"].driver.place == f"file://{tmp_path}/vault"


def test_a_backend_without_a_driver_is_refused(settings: Any) -> None:
    settings.STORAGES = {**settings.STORAGES, "default": {"BACKEND": "django.core.files.storage.InMemoryStorage"}}
    with pytest.raises(ProfileError, match=r"no driver for .*InMemoryStorage.*DRIVER"):
        profiles["hot"]


def test_a_profile_may_name_its_driver(settings: Any) -> None:
    path = "koan_django.storage.drivers.local.LocalDriver"
    with override_koan(STORAGE={"PROFILES": {"hot": {"DRIVER": path}}}):
        assert type(profiles["hot"].driver).__name__ == "LocalDriver"
