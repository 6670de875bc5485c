"""How a record names the model of its picture."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from .assets import MediaAsset


def label_of(asset: MediaAsset) -> str:
    """Return the label of the model that holds ``asset``: the records of a proxy are those of what it stands for."""
    model = type(asset)._meta.concrete_model or type(asset)
    return model._meta.label_lower
