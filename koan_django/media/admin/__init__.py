"""Media in the admin: what was derived, and a base for the admin of a project's own pictures."""

from . import derivations  # noqa: F401  # it registers itself
from .assets import MediaAssetAdmin

__all__ = ["MediaAssetAdmin"]
