"""Rendered text that is in use, such as a URL with a password, and may be rendered otherwise by now.

Whoever holds something made with it watches it. A thread renders it again every few seconds, and at once when somebody
says by :func:`announce` that values have changed.
"""

from __future__ import annotations

import hashlib
import logging
import os
import threading
import weakref
from inspect import ismethod
from typing import TYPE_CHECKING

from .bell import Bell
from .redaction import redact_text
from .signals import secrets_rotated
from .templating import forget_values, has_reference, render

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

logger = logging.getLogger(__name__)

PERIOD_SECONDS = 5.0

_watched: weakref.WeakSet[Watched] = weakref.WeakSet()
_lock = threading.Lock()
_due = Bell()
_thread: threading.Thread | None = None


class Watched:
    """A template in use, watched as long as somebody keeps this.

    ``changed`` is called with the new text on a thread of its own. When it raises, the text counts as not yet in use,
    and it is called again after a period. A method does not keep its object, which mostly keeps this: both would stay,
    with sockets and pipes, until the garbage is collected.
    """

    def __init__(self, template: str, changed: Callable[[str], None]) -> None:
        self._template = template
        self._changed = weakref.WeakMethod(changed) if ismethod(changed) else lambda: changed
        self._digest = b""
        self._trouble = ""

    def use(self, rendered: str) -> None:
        """Say that ``rendered`` is what is used from now on."""
        self._digest = _digest(rendered)
        if has_reference(self._template):
            _start(self)

    def look(self) -> None:
        """Render again, and tell when that gives something else."""
        try:
            rendered = render(self._template)
            changed = self._changed()
            if changed is not None and _digest(rendered) != self._digest:
                changed(rendered)
                self._digest = _digest(rendered)
            self._trouble = ""
        except Exception as error:
            text = redact_text(f"{type(error).__name__}: {error}")
            if text != self._trouble:
                logger.warning("What has rotated cannot be used yet, the old serves on: %s", text)
            self._trouble = text


def announce(names: Sequence[str] = ()) -> None:
    """Say that values have changed, those called ``names`` or any: what is watched in this process is rendered anew."""
    forget_values()
    _due.ring()
    secrets_rotated.send_robust(None, names=tuple(names))


def _start(watched: Watched) -> None:
    global _thread
    with _lock:
        _watched.add(watched)
        if _thread is None or not _thread.is_alive():
            _thread = threading.Thread(target=_run, name="koan-rotation", daemon=True)
            _thread.start()


def _run() -> None:
    """End when nothing is watched any more: the next one that is starts another."""
    while _has_watched():
        _due.wait(PERIOD_SECONDS)
        for watched in list(_watched):
            watched.look()


def _has_watched() -> bool:
    global _thread
    with _lock:
        if not _watched:
            _thread = None
        return bool(_watched)


def _digest(text: str) -> bytes:
    return hashlib.sha256(text.encode()).digest()


def _after_fork() -> None:
    """The thread and what it watches are the parent's."""
    global _watched, _lock, _due, _thread
    _watched, _lock, _due, _thread = weakref.WeakSet(), threading.Lock(), Bell(), None


os.register_at_fork(after_in_child=_after_fork)
