"""Where the delivery views serve pictures. An address is computed from the row; no storage is asked."""

from __future__ import annotations

from pathlib import PurePosixPath
from typing import TYPE_CHECKING

from django.urls import reverse
from django.utils.text import slugify

from .catalogue import catalogue
from .formats import FORMATS
from .requesting import key_of

if TYPE_CHECKING:
    from .assets import MediaAsset

#: How much of a hash stands in an address: enough that another content has another one.
VERSION_LENGTH = 16
NAME_LENGTH = 60


def of_asset(asset: MediaAsset) -> str:
    """Return the address of the bytes of ``asset``."""
    return reverse(
        "koan_media:asset",
        kwargs={
            "label": asset._meta.label_lower,
            "public_id": asset.public_id,
            "version": asset.sha256[:VERSION_LENGTH],
            "name": _leaf(asset.original_name, asset.format),
        },
    )


def of_variant(asset: MediaAsset, name: str) -> str:
    """Return the address of what the recipe ``name`` makes of ``asset``."""
    recipe = catalogue.get(name)
    return reverse(
        "koan_media:variant",
        kwargs={
            "label": asset._meta.label_lower,
            "public_id": asset.public_id,
            "recipe": recipe.name,
            "version": key_of(asset, recipe)[:VERSION_LENGTH],
            "name": _leaf(asset.original_name, recipe.encode.format or asset.format),
        },
    )


def _leaf(name: str, format: str) -> str:
    known = FORMATS.get(format)
    stem = slugify(PurePosixPath(name).stem)[:NAME_LENGTH].strip("-_")
    return f"{stem or 'picture'}{known.extensions[0] if known else ''}"
