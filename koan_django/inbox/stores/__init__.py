"""Where the inbox remembers."""

from .chosen import configured

__all__ = ["configured"]
