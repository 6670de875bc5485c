"""Errors say what, why and what to do; each is transient or permanent, also after a pickle."""

from __future__ import annotations

import pickle

import pytest
from django.core.exceptions import ImproperlyConfigured, ObjectDoesNotExist, PermissionDenied, ValidationError
from django.db import DataError, IntegrityError, OperationalError, ProgrammingError

from koan_django.core.classification import is_transient
from koan_django.core.exceptions import KoanError, LeaseLostError, PermanentError, RegistrationError, TransientError


class ChattyError(TransientError):
    """Its constructor takes other arguments than its base."""

    def __init__(self, name: str, number: int) -> None:
        super().__init__(f"{name} failed {number} times", why="it is down", fix="Start it.")


def test_the_text_is_what_why_and_fix() -> None:
    assert str(KoanError("a broke")) == "a broke"
    assert str(KoanError("a broke", why="b was gone")) == "a broke: b was gone"
    assert str(KoanError("a broke", fix="Mend it.")) == "a broke. Mend it."
    assert str(KoanError("a broke", why="b was gone", fix="Mend it.")) == "a broke: b was gone. Mend it."


def test_a_pickle_keeps_class_and_text() -> None:
    copy = pickle.loads(pickle.dumps(ChattyError("x", 3)))
    assert type(copy) is ChattyError
    assert str(copy) == "x failed 3 times: it is down. Start it."
    assert (copy.what, copy.why, copy.fix, copy.args) == (
        "x failed 3 times",
        "it is down",
        "Start it.",
        ("x failed 3 times",),
    )


class Undecided(Exception):
    """Says of itself what it is, in a way that is no answer."""

    transient = "maybe"


@pytest.mark.parametrize(
    ("error", "expected"),
    [
        (TransientError("x"), True),
        (LeaseLostError("x"), True),
        (PermanentError("x"), False),
        (RegistrationError("x"), False),
        (KoanError("x"), False),
        (OperationalError("gone away"), True),
        (IntegrityError("race"), True),
        (ConnectionError("refused"), True),
        (TimeoutError("late"), True),
        (ObjectDoesNotExist("not yet"), True),
        (ValueError("x"), True),
        (Undecided("x"), True),
        (ValidationError("x"), False),
        (PermissionDenied("x"), False),
        (ImproperlyConfigured("x"), False),
        (DataError("x"), False),
        (ProgrammingError("x"), False),
        (NotImplementedError("x"), False),
        (RecursionError("x"), False),
    ],
)
def test_each_error_is_transient_or_permanent(error: BaseException, expected: bool) -> None:
    assert is_transient(error) is expected
