"""What an app needs that is not installed with koan-django itself: the names of its extras."""

from __future__ import annotations

from contextlib import contextmanager
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterator

#: The extra of each app that needs one.
_EXTRAS = {
    "koan_django.media": "media",
    "koan_django.messaging": "messaging",
    "koan_django.scheduling": "scheduling",
    "koan_django.testing": "messaging",
}


@contextmanager
def naming_extra(app: str) -> Iterator[None]:
    """Have a package that ``app`` needs and that is not installed end in an error that says which extra brings it.

    Raises ``ModuleNotFoundError``, as without it.
    """
    try:
        yield
    except ModuleNotFoundError as error:
        extra, missing = _EXTRAS.get(app), error.name or ""
        if extra is None or missing.partition(".")[0] in ("", "koan_django"):
            raise
        raise ModuleNotFoundError(
            f"{app} needs {missing!r}, which is not installed. Install the extra: pip install 'koan-django[{extra}]'.",
            name=missing,
        ) from error
