"""A webhook that arrives twice counts once."""

from koan_django import inbox


def main() -> None:
    seen = []
    for _ in range(2):
        with inbox.claim("stripe", "evt-1") as claim:
            seen.append(claim.duplicate)
    assert seen == [False, True]
