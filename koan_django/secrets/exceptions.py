"""Errors of secrets. Their text names references and providers, never a value."""

from __future__ import annotations

from typing import ClassVar

from koan_django.core.exceptions import KoanError


class SecretError(KoanError):
    """Base of every error of secrets."""


class SecretReferenceError(SecretError):
    """A reference is not written as the grammar wants it."""


class SecretOptionsError(SecretError):
    """``KOAN['SECRETS']`` is wrong, or a provider cannot be built from it."""


class SecretNotFoundError(SecretError):
    """No provider that was asked has the secret."""


class SecretFormatError(SecretError):
    """The secret exists and is not of the form asked for: no text, no JSON object."""


class SecretAccessError(SecretError):
    """The provider has the secret and refuses to give it."""


class SecretUnavailableError(SecretError):
    """The provider did not answer; it may answer later."""

    transient: ClassVar[bool] = True
