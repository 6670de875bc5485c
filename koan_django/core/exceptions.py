"""Errors that say what happened, why, and what to do about it.

Each error is transient (the same attempt may succeed later, so it is retried) or permanent (it never will, so the
message is dead-lettered or the run fails). Every app derives its own base from :class:`KoanError`.
"""

from __future__ import annotations

from typing import ClassVar


class KoanError(Exception):
    """Base of every error that koan-django raises on purpose.

    ``what`` is one clause without a full stop; ``why`` gives the cause and ``fix`` the remedy, each a sentence.
    """

    transient: ClassVar[bool] = False

    def __init__(self, what: str, *, why: str = "", fix: str = "") -> None:
        super().__init__(what)
        self.what = what
        self.why = why
        self.fix = fix

    def __str__(self) -> str:
        text = self.what
        if self.why:
            text = f"{text}: {self.why}"
        end = "" if text.endswith(("?", ".")) else "."
        return f"{text}{end} {self.fix}" if self.fix else text

    def __reduce__(self) -> tuple[object, ...]:
        return (_rebuild, (type(self), self.what, self.why, self.fix))


class TransientError(KoanError):
    """The same attempt may succeed later: a dead broker, a held lease, a full disk."""

    transient: ClassVar[bool] = True


class PermanentError(KoanError):
    """The same attempt can never succeed: raise it from a handler to dead-letter a message without retries."""


class LeaseLostError(TransientError):
    """Another owner holds the lease now; whatever this owner still does must not be committed."""


class StoreUnavailableError(TransientError):
    """The store of health facts, leases or breakers does not answer, or what it answered is no use."""


class RegistrationError(PermanentError):
    """Two places define the same name, or a definition is not usable."""


def _rebuild(kind: type[KoanError], what: str, why: str, fix: str) -> KoanError:
    """Unpickle an error: its constructor may take other arguments than its base."""
    error = kind.__new__(kind)
    KoanError.__init__(error, what, why=why, fix=fix)
    return error
