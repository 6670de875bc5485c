"""The kit for the tests of projects that use koan-django."""

from .settings import override_koan

__all__ = ["override_koan"]
