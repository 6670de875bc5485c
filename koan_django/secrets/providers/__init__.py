"""Where secrets come from. Each provider is a module of its own, so that none imports another's client."""

from .base import Provider

__all__ = ["Provider"]
