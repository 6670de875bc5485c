"""Who this process is: the name under which it reports health, holds leases and signs its work."""

from __future__ import annotations

import os
import socket

#: The role of a process that nobody has named.
UNNAMED = "process"

_role = UNNAMED
_host = socket.gethostname()[:60]


def role() -> str:
    """Return what this process does: ``web``, ``worker``, ``relay``, ``announcer``, ``beat`` or ``process``."""
    return _role


def set_role(name: str) -> None:
    """Say what this process does; called once by whoever starts it."""
    global _role
    _role = name


def identity() -> str:
    """Return ``host:pid:role``; made anew after a fork, since the pid is read each time."""
    return f"{_host}:{os.getpid()}:{_role}"
