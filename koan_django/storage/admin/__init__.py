"""Storage in the admin: profiles and their policy, the objects to remove, and a base for models with stored files."""

from . import profiles, tombstones  # noqa: F401  # they register themselves
from .files import StoredFileAdmin

__all__ = ["StoredFileAdmin"]
