"""Secrets: a value that is known already."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from importlib.metadata import version

from benchmarks.harness import Case, Side, seconds_each

SERVERS = ("vault",)
_REFERENCE = "app/database#password"
_MICRO = 1_000_000


def cases() -> list[Case]:
    """Return the cases."""
    return [
        Case(
            name="resolve-cached/hvac",
            peer_name=f"hvac {version('hvac')}",
            unit="us",
            goal=100,
            sides=_sides,
            with_cpu=False,
            note="Ours gives a value that it has fetched, with its age checked. hvac keeps nothing and asks the server"
            " (one of our own on the loopback interface that answers like Vault's KV 2) each time.",
        )
    ]


@contextmanager
def _sides() -> Iterator[tuple[Side, Side]]:
    from benchmarks.project.provider import client, read
    from koan_django import secrets

    vault = client()

    def asked() -> str:
        return read(vault, "app/database")["password"]

    def resolved() -> str:
        return secrets.get(_REFERENCE).reveal()

    assert asked() == resolved()
    yield lambda: seconds_each(resolved, 20_000) * _MICRO, lambda: seconds_each(asked, 200) * _MICRO
