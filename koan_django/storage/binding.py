"""Which profile and container a model's files go to: ``class Storage`` inside the model."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from koan_django.core.suggestions import did_you_mean

from .keys import problem

if TYPE_CHECKING:
    from django.db.models import Model

_NAMES = ("profile", "container")


@dataclass(frozen=True, slots=True)
class Binding:
    """Where new objects go. Empty text: the default profile, a container named after the model."""

    profile: str = ""
    container: str = ""

    def over(self, other: Binding) -> Binding:
        """Return this binding with its gaps filled from ``other``."""
        return Binding(self.profile or other.profile, self.container or other.container)


def declared(cls: type) -> Binding:
    """Read ``class Storage`` of ``cls`` and of its bases, the nearest first; raises ``TypeError`` for a wrong one."""
    found = Binding()
    for base in cls.__mro__:
        options = base.__dict__.get("Storage")
        if isinstance(options, type):
            found = found.over(_own(base, options))
    return found


def of(model: type[Model]) -> Binding:
    """Return the binding of a model that may have none, such as the model of a migration."""
    found = getattr(model, "_storage_binding", None)
    return found if isinstance(found, Binding) else Binding()


def container(model: type[Model]) -> str:
    """Return the container of a model that names none: ``<app label>/<model>``."""
    return f"{model._meta.app_label}/{model._meta.model_name}"


def _own(cls: type, options: type) -> Binding:
    given: dict[str, Any] = {name: value for name, value in vars(options).items() if not name.startswith("__")}
    for name, value in given.items():
        if name not in _NAMES:
            raise TypeError(f"{cls.__qualname__}.Storage: unknown option {name!r}{did_you_mean(name, _NAMES)}")
        if not isinstance(value, str):
            raise TypeError(f"{cls.__qualname__}.Storage.{name} must be text, not {value!r}")
    wrong = problem(given["container"]) if given.get("container") else ""
    if wrong:
        raise TypeError(f"{cls.__qualname__}.Storage.container {given['container']!r} {wrong}")
    return Binding(**given)
