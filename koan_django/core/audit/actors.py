"""Who acts: the user of the request, the caller of a command, or else the process itself."""

from __future__ import annotations

import contextvars
import getpass
import os
import socket
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from koan_django.core.process import identity

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from django.http import HttpRequest


@dataclass(frozen=True, slots=True)
class Actor:
    """``name`` is what people read; ``reference`` names the row (``auth.user:7``) and is empty where there is none."""

    name: str
    reference: str = ""


_current: contextvars.ContextVar[Callable[[], Actor] | None] = contextvars.ContextVar("koan_actor", default=None)


def current() -> Actor:
    """Return who acts here; without anybody it is the process: ``host:pid:worker``."""
    asked = _current.get()
    return Actor(identity()) if asked is None else asked()


@contextmanager
def acting_as(actor: Actor | Callable[[], Actor]) -> Iterator[None]:
    """Let ``actor`` be the one who acts in the block; a function is asked when something is recorded."""
    token = _current.set((lambda: actor) if isinstance(actor, Actor) else actor)
    try:
        yield
    finally:
        _current.reset(token)


def of_user(user: Any) -> Actor:
    """Return the actor for a user of ``django.contrib.auth``, or for nobody."""
    if user is None or not user.is_authenticated:
        return Actor("anonymous")
    return Actor(user.get_username(), f"{user._meta.label_lower}:{user.pk}")


def of_request(request: HttpRequest) -> Callable[[], Actor]:
    """Return what finds the user of ``request`` when it is asked: the session is read by then, or need not be."""
    return lambda: of_user(getattr(request, "user", None))


def of_command() -> Actor:
    """Return whoever runs this process on the machine."""
    try:
        name = getpass.getuser()
    except (KeyError, OSError):  # a container without an entry for its user id
        name = f"uid {os.getuid()}"
    return Actor(f"{name}@{socket.gethostname()[:60]}")
