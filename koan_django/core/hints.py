"""What is known about failures: whether another attempt may succeed, and what a person can do.

An error is recognised by the dotted name of its class or of a class above it, and where that is not enough by its text,
so that no library has to be imported, and so that an error that was only written down is recognised as well.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import TYPE_CHECKING

from .exceptions import RegistrationError

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator


@dataclass(frozen=True, slots=True, kw_only=True)
class Hint:
    """One kind of failure: ``code`` names it for good; ``what``, ``why`` and ``fix`` are sentences for a person.

    ``errors`` are dotted names of exception classes, ``package.module.*`` for all of a module; ``text`` is a regular
    expression that the error's text must match as well.
    """

    code: str
    transient: bool
    what: str
    why: str
    fix: str
    errors: tuple[str, ...]
    text: str = ""

    def matches(self, text: str) -> bool:
        """Whether an error of one of the classes, with this text, is of this kind."""
        return not self.text or re.search(self.text, text, re.IGNORECASE) is not None

    def advice(self) -> str:
        """Return the hint as one paragraph."""
        again = "Another attempt may succeed." if self.transient else "Trying again does not help."
        return f"[{self.code}] {self.what} {self.why} {self.fix} {again}"


_by_code: dict[str, Hint] = {}
#: By the dotted name of a class, and by its last part alone, as records without a module have it.
_by_name: dict[str, list[Hint]] = {}
#: Not from within a name: it would be read again from each of its dots.
_WRITTEN = re.compile(r"(?<![\w.])([A-Za-z_][\w.]*): ")


def register(*hints: Hint) -> None:
    """Add ``hints``. Whoever registers later is asked first; raises :class:`RegistrationError` for a known code."""
    for hint in hints:
        if _by_code.get(hint.code, hint) != hint:
            raise RegistrationError(f"the hint {hint.code!r} is defined twice", fix="Give one of them another code.")
        if hint.code in _by_code:
            continue
        _by_code[hint.code] = hint
        for name in hint.errors:
            for key in {name, name.rpartition(".")[2]} - {"*"}:
                _by_name.setdefault(key, []).insert(0, hint)


def catalogue() -> list[Hint]:
    """Return every hint, by code."""
    return sorted(_by_code.values(), key=lambda hint: hint.code)


def get(code: str) -> Hint | None:
    """Return the hint called ``code``, or ``None``."""
    return _by_code.get(code)


def explain(error: BaseException) -> Hint | None:
    """Return what is known about ``error``; its own class counts more than those above it."""
    try:
        text = str(error)
    except Exception:  # somebody else's __str__
        text = ""
    return _find(_names(type(error)), text)


def explain_text(text: str, error_type: str = "") -> Hint | None:
    """Return what is known about an error that was written down, as ``Name: text`` or beside its ``error_type``."""
    if error_type:
        return _find([error_type], text)
    written = ((found[1], text[found.end() :]) for found in _WRITTEN.finditer(text))
    for name, rest in written:
        hint = _find([name], rest)
        if hint is not None:
            return hint
    return None


def _find(names: Iterable[str], text: str) -> Hint | None:
    for name in names:
        known = _by_name.get(name, []) + _by_name.get(f"{name.rpartition('.')[0]}.*", [])
        # The more exact one first, and of equal short names that of Python itself.
        for hint in sorted(known, key=lambda each: (not each.text, f"builtins.{name}" not in each.errors)):
            if hint.matches(text) and (hint.text or _is_sure(name, hint)):
                return hint
    return None


def _is_sure(name: str, hint: Hint) -> bool:
    """Whether ``name`` alone stands for a class of ``hint``: several libraries have an ``OperationalError``."""
    if "." in name or f"builtins.{name}" in hint.errors:
        return True
    return len({full for known in _by_name[name] for full in known.errors if full.rpartition(".")[2] == name}) == 1


def _names(kind: type[BaseException]) -> Iterator[str]:
    for each in kind.__mro__:
        if each not in (Exception, BaseException, object):
            yield f"{each.__module__}.{each.__qualname__}"
