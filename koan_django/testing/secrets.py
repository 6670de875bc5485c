"""``static_secrets``: fixed secrets for a block or a test, whatever the chain is."""

from __future__ import annotations

import json
from contextlib import ContextDecorator
from functools import wraps
from inspect import iscoroutinefunction
from typing import TYPE_CHECKING, Any
from unittest import TestCase

from koan_django.core.redaction import forget_value, registered
from koan_django.secrets.chain import Chain
from koan_django.secrets.conf import SecretsOptions
from koan_django.secrets.providers.memory import MemoryProvider
from koan_django.secrets.resolver import replace

if TYPE_CHECKING:
    from collections.abc import Mapping

    from koan_django.secrets.providers import Provider
    from koan_django.secrets.references import SecretReference


class static_secrets(ContextDecorator):  # noqa: N801  # used like a function
    """Answer every reference from ``values`` for a block, a function, a coroutine function or a test class.

    ``static_secrets({"broker-password": "x", "app/db": {"user": "u", "password": "p"}})``: a dict stands for a JSON
    object, whose fields ``#user`` asks for. No provider is asked, forced or not; what is not here is not found.
    ``set(reference, value)`` on what the block yields changes one, as a rotation would.
    """

    def __init__(self, values: Mapping[str, str | bytes | Mapping[str, Any]] | None = None) -> None:
        self._values = {name: _content(value) for name, value in (values or {}).items()}
        self._before: list[tuple[Chain | None, frozenset[str]]] = []

    def __enter__(self) -> MemoryProvider:
        provider = MemoryProvider(values=self._values)
        self._before.append((replace(_StaticChain(provider)), registered()))
        return provider

    def __exit__(self, *exc_info: object) -> None:
        chain, masked = self._before.pop()
        replace(chain)
        for value in registered() - masked:
            forget_value(value)

    def __call__(self, function: Any) -> Any:
        """Wrap a function or a subclass of ``unittest.TestCase``; a coroutine function stays one."""
        if isinstance(function, type):
            return self._decorate_class(function)
        if not iscoroutinefunction(function):
            return super().__call__(function)

        @wraps(function)
        async def inner(*args: Any, **kwargs: Any) -> Any:
            with self._recreate_cm():
                return await function(*args, **kwargs)

        return inner

    def _decorate_class(self, cls: type) -> type:
        if not issubclass(cls, TestCase):
            raise TypeError("static_secrets decorates functions and subclasses of unittest.TestCase")
        original = cls.setUpClass.__func__  # type: ignore[attr-defined]  # a bound classmethod has it

        def set_up_class(inner: type[TestCase]) -> None:
            inner.enterClassContext(self._recreate_cm())
            original(inner)

        cls.setUpClass = classmethod(set_up_class)  # type: ignore[method-assign,assignment]  # wrapped on purpose
        return cls

    def _recreate_cm(self) -> static_secrets:
        return type(self)(self._values)


class _StaticChain(Chain):
    """One provider in place of all."""

    def __init__(self, provider: Provider) -> None:
        super().__init__(SecretsOptions(chain=("memory",)))
        self._static = provider

    def provider(self, alias: str) -> Provider:
        return self._static

    def _aliases(self, reference: SecretReference) -> tuple[str, ...]:
        return ("memory",)


def _content(value: str | bytes | Mapping[str, Any]) -> str | bytes:
    return value if isinstance(value, str | bytes) else json.dumps(dict(value))
