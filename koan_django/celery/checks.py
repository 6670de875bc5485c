"""The deployment check of the project's Celery app."""

from __future__ import annotations

from typing import TYPE_CHECKING

from koan_django.core import defaults

if TYPE_CHECKING:
    from collections.abc import Callable

    from celery import Celery
    from django.core.checks import CheckMessage

#: What loses or hides tasks: a killed worker's (folders), every other process's (memory).
_SCHEMES = ("filesystem", "memory")


def check_broker(app: Celery) -> Callable[..., list[CheckMessage]]:
    """Return the check of ``app``. W001: Celery's own broker is a folder or this process's memory."""

    def check(app_configs: object, **kwargs: object) -> list[CheckMessage]:
        scheme = str(app.conf.broker_url or "").partition(":")[0]
        if scheme not in _SCHEMES:
            return []
        return defaults.in_force(
            f"Celery's broker is {scheme}://, which loses the tasks that a killed worker had fetched",
            instead="Set CELERY_BROKER_URL to a broker.",
            id="koan_celery.W001",
        )

    return check
