"""What an app needs that is not installed with koan-django itself: the names of its extras."""

from __future__ import annotations

from contextlib import contextmanager
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterator

#: The extra of each app that needs one, and what that brings. Any other module that is missing is a project's own.
_EXTRAS = {
    "koan_django.media": ("media", {"PIL"}),
    "koan_django.messaging": ("messaging", {"msgspec", "celery", "kombu", "amqp", "billiard", "vine"}),
    "koan_django.scheduling": ("scheduling", {"celery", "kombu", "cronsim", "django_celery_beat"}),
    "koan_django.testing": ("messaging", {"msgspec", "celery", "kombu"}),
}


@contextmanager
def naming_extra(app: str) -> Iterator[None]:
    """Have a package that ``app`` needs and that is not installed end in an error that says which extra brings it.

    Raises ``ModuleNotFoundError``, as without it.
    """
    try:
        yield
    except ModuleNotFoundError as error:
        missing = error.name or ""
        extra, brings = _EXTRAS.get(app, ("", set[str]()))
        if missing.partition(".")[0] not in brings:
            raise
        raise ModuleNotFoundError(
            f"{app} needs {missing!r}, which is not installed. Install the extra: pip install 'koan-django[{extra}]'.",
            name=missing,
        ) from error
