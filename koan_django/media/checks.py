"""System checks of media. None opens a picture or a socket."""

from __future__ import annotations

from typing import TYPE_CHECKING

from django.apps import apps
from django.core.checks import CheckMessage, Error, Warning, register
from django.core.exceptions import ImproperlyConfigured
from django.db.models import UniqueConstraint

from koan_django.core.checks import section_check
from koan_django.core.suggestions import did_you_mean

from .catalogue import catalogue
from .conf import MediaOptions, options
from .transforms import Resize

if TYPE_CHECKING:
    from collections.abc import Iterator

    from .assets import MediaAsset
    from .recipes import Recipe


def check_storage(app_configs: object, **kwargs: object) -> list[CheckMessage]:
    """E002: storage is not installed. E003: the profile is unknown."""
    if not apps.is_installed("koan_django.storage"):
        hint = "Pictures are stored files: add it above 'koan_django.media'."
        return [Error("'koan_django.storage' is not in INSTALLED_APPS", hint=hint, id="koan_media.E002")]
    from koan_django.storage import profiles

    found = _options()
    if found is None or found.profile is None:
        return []
    try:
        known = sorted(profiles)
    except ImproperlyConfigured:
        return []  # storage's own check reports it
    if found.profile in known:
        return []
    text = f"KOAN['MEDIA']['PROFILE']: there is no storage profile {found.profile!r}"
    hint = f"KOAN['STORAGE']['PROFILES'] has {', '.join(known)}{did_you_mean(found.profile, known)}."
    return [Error(text, hint=hint, id="koan_media.E003")]


def check_asset(model: type[MediaAsset]) -> list[CheckMessage]:
    """E004: a model has lost the constraint that keeps its variants unique."""
    wanted = {"source", "derivation_key"}
    owner = model._meta.get_field("source").model  # a child of multi-table inheritance leaves it to its parent
    unique = (found for found in owner._meta.constraints if isinstance(found, UniqueConstraint))
    if owner is not model or any(set(found.fields) == wanted for found in unique):
        return []
    return [
        Error(
            f"{model._meta.label} has no unique constraint on source and derivation_key",
            hint=f"Write `class Meta(MediaAsset.Meta)` in {model.__name__}, and add to its constraints.",
            obj=model,
            id="koan_media.E004",
        )
    ]


def check_recipes(app_configs: object, **kwargs: object) -> list[CheckMessage]:
    """E005: a recipe asks for more than the options allow. W001: a recipe writes what this Pillow cannot."""
    found = _options()
    if found is None:
        return []
    return [message for recipe in catalogue for message in _check_recipe(recipe, found)]


def check_pillow(app_configs: object, **kwargs: object) -> list[CheckMessage]:
    """W002: this Pillow cannot convert colour profiles."""
    from PIL import features

    if features.check("littlecms2"):
        return []
    hint = "Install Pillow from its wheel; colours of pictures with a profile of their own are shifted otherwise."
    return [Warning("this Pillow was built without LittleCMS", hint=hint, id="koan_media.W002")]


def register_all() -> None:
    """Register media's checks; that of a model runs with Django's own."""
    register(section_check(options, "koan_media.E001"))
    register(check_storage)
    register(check_recipes)
    register(check_pillow)


def _options() -> MediaOptions | None:
    try:
        return options()
    except ImproperlyConfigured:
        return None  # E001, or core's own check, reports it


def _check_recipe(recipe: Recipe, limits: MediaOptions) -> Iterator[CheckMessage]:
    from PIL import features

    where = f"the recipe {str(recipe)!r} ({recipe.origin})"
    if recipe.encode.quality > limits.max_quality:
        text = f"{where} asks for the quality {recipe.encode.quality}, the limit is {limits.max_quality}"
        yield Error(text, hint="Lower it, or raise KOAN['MEDIA']['MAX_QUALITY'].", id="koan_media.E005")
    resize = recipe.find(Resize)
    edge = max(resize.width or 0, resize.height or 0) if resize else 0
    if edge > limits.max_edge:
        text = f"{where} asks for {edge} pixels, the longest edge is {limits.max_edge}"
        yield Error(text, hint="Lower it, or raise KOAN['MEDIA']['MAX_EDGE'].", id="koan_media.E005")
    if recipe.encode.format == "avif" and not features.check("avif"):
        hint = "Install Pillow from its wheel, or write WebP."
        yield Warning(f"{where} writes AVIF, which this Pillow cannot", hint=hint, id="koan_media.W001")
