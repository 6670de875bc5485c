"""Finds the Celery app of a project. Core imports no Celery: what is found decides whether there is one."""

from __future__ import annotations

import os
import sys
from dataclasses import dataclass
from importlib import import_module
from importlib.util import find_spec
from typing import TYPE_CHECKING, Any

from django.conf import settings

from .exceptions import KoanError

if TYPE_CHECKING:
    from collections.abc import Iterator
    from types import ModuleType

#: Where projects keep it, below the package of their settings.
_MODULES = ("celery", "celery_app", "celeryapp")


class CeleryAppError(KoanError):
    """The project has no Celery app that can be found, or it cannot be imported."""


@dataclass(frozen=True, slots=True)
class CeleryApp:
    """The ``app`` called ``attribute`` in ``module``, and the ``reason`` why it was chosen."""

    module: str
    attribute: str
    app: Any
    reason: str

    @property
    def argument(self) -> str:
        """What ``celery -A`` takes. It finds the usual names by itself."""
        return self.module if self.attribute in ("app", "celery") else f"{self.module}:{self.attribute}"


def find(asked: str | None = None) -> CeleryApp:
    """Return the app that ``asked`` names, as ``celery -A`` would, or else the one beside the settings.

    Raises :class:`CeleryAppError` with the places that were searched.
    """
    if asked:
        return _asked(asked)
    searched: list[str] = []
    for package, source in _packages():
        for name in (*(f"{package}.{each}" for each in _MODULES), package):
            searched.append(name)
            found = _search(name, f"found beside {source}")
            if found is not None:
                return found
    raise CeleryAppError(
        "the project has no Celery app",
        why=f"none of these modules exists and holds one: {', '.join(searched)}",
        fix="Name it with --app, or write one: https://docs.celeryq.dev/en/stable/django/first-steps-with-django.html",
    )


def _asked(name: str) -> CeleryApp:
    module, _, attribute = name.partition(":")
    for place in (module, f"{module}.celery"):
        found = _search(place, "named by --app", attribute)
        if found is not None:
            return found
    raise CeleryAppError(f"{name} holds no Celery app", why="--app names it", fix="Give it as `celery -A` takes it.")


def _packages() -> Iterator[tuple[str, str]]:
    """The packages that may hold it, nearest first, each with the setting that leads there."""
    sources = {
        os.environ.get("DJANGO_SETTINGS_MODULE") or "": "DJANGO_SETTINGS_MODULE",
        (getattr(settings, "WSGI_APPLICATION", None) or "").rpartition(".")[0]: "WSGI_APPLICATION",
        getattr(settings, "ROOT_URLCONF", None) or "": "ROOT_URLCONF",
    }
    seen: set[str] = set()
    for module, setting in sources.items():
        package = module.rpartition(".")[0]
        while package:
            if package not in seen:
                seen.add(package)
                yield package, f"{module} ({setting})"
            package = package.rpartition(".")[0]


def _search(name: str, reason: str, attribute: str = "") -> CeleryApp | None:
    module = _load(name)
    if module is None:
        return None
    attributes = [attribute] if attribute else ["app", "celery", "celery_app", *vars(module)]
    for each in attributes:
        value = getattr(module, each, None)
        if is_celery(value):
            return CeleryApp(name, each, value, reason)
    return None


def _load(name: str) -> ModuleType | None:
    """Import ``name``; ``None`` when there is no such module. One that exists and fails is an error."""
    try:
        if find_spec(name) is None:
            return None
    except ModuleNotFoundError as error:
        if error.name is not None and (name == error.name or name.startswith(f"{error.name}.")):
            return None
        raise _broken(name, error) from error
    except Exception as error:
        raise _broken(name, error) from error
    try:
        return import_module(name)
    except Exception as error:
        raise _broken(name, error) from error


def _broken(name: str, error: Exception) -> CeleryAppError:
    absent = isinstance(error, ModuleNotFoundError) and error.name == "celery"
    fix = 'Install Celery: pip install "celery>=5.5".' if absent else "Mend the module."
    return CeleryAppError(f"{name} cannot be imported", why=f"{type(error).__name__}: {error}", fix=fix)


def is_celery(value: object) -> bool:
    """Whether ``value`` is a Celery app, without importing Celery."""
    kind = getattr(sys.modules.get("celery"), "Celery", None)
    return isinstance(kind, type) and isinstance(value, kind)
