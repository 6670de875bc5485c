"""Text that is rendered otherwise after a while, and who learns of it."""

from __future__ import annotations

import threading
from collections.abc import Iterator

import pytest

from koan_django.core import rotation, templating
from koan_django.core.rotation import Watched, announce
from koan_django.core.signals import secrets_rotated
from tests.services.waiting import wait_until


class Vault:
    """What a resolver keeps, and what it would find now."""

    def __init__(self) -> None:
        self.now = self.kept = "one"

    def forget(self) -> None:
        self.kept = self.now


@pytest.fixture
def vault() -> Iterator[Vault]:
    made = Vault()
    templating.register("vault", lambda body, in_authority: made.kept, made.forget)
    yield made
    templating._resolvers.pop("vault")
    templating._forgets.pop("vault")


def test_whoever_watches_learns_at_once_when_somebody_says_so(vault: Vault) -> None:
    told: list[str] = []
    watched = Watched("amqp://u:{{vault:x}}@h/", told.append)
    watched.use("amqp://u:one@h/")
    vault.now = "two"
    heard: list[object] = []

    def hear(names: tuple[str, ...], **kwargs: object) -> None:
        heard.append(names)

    secrets_rotated.connect(hear)
    try:
        announce(["x"])
    finally:
        secrets_rotated.disconnect(hear)
    wait_until(lambda: told, 30, "the news")
    assert told == ["amqp://u:two@h/"]
    assert heard == [("x",)]


def test_a_change_that_nobody_announces_is_noticed(vault: Vault, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(rotation, "PERIOD_SECONDS", 0.02)
    told: list[str] = []
    watched = Watched("{{vault:x}}", told.append)
    watched.use("one")
    announce()  # ends the wait that may be under way
    vault.now = vault.kept = "two"
    wait_until(lambda: told, 30, "the news")
    vault.now = vault.kept = "three"
    wait_until(lambda: len(told) == 2, 30, "more news")
    assert told == ["two", "three"]
    del watched


def test_what_cannot_be_used_yet_is_tried_again_and_said_once(vault: Vault, caplog: pytest.LogCaptureFixture) -> None:
    tries: list[str] = []

    def changed(text: str) -> None:
        tries.append(text)
        if len(tries) < 3:
            raise ConnectionError("amqp://u:two@h refuses")

    watched = Watched("{{vault:x}}", changed)
    watched._digest = rotation._digest("one")
    vault.now = vault.kept = "two"
    for _ in range(5):
        watched.look()
    assert tries == ["two"] * 3
    assert caplog.text.count("cannot be used yet") == 1
    assert "two" not in caplog.text


def test_text_without_a_reference_is_not_watched_and_the_thread_ends_with_the_last(
    vault: Vault, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(rotation, "PERIOD_SECONDS", 0.02)
    plain = Watched("amqp://u:one@h/", lambda text: None)
    plain.use("amqp://u:one@h/")
    assert plain not in rotation._watched
    watched = Watched("{{vault:x}}", lambda text: None)
    watched.use("one")
    assert any(each.name == "koan-rotation" for each in threading.enumerate())
    del watched
    announce()
    wait_until(
        lambda: rotation._watched or not any(each.name == "koan-rotation" for each in threading.enumerate()),
        30,
        "the end of the thread",
    )
