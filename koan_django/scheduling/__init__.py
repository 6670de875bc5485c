"""Scheduled tasks: declared in code, adjusted in the admin, fired through Celery beat, every run recorded.

This face may be imported anywhere, also in ``models.py``: nothing here needs the app registry.
"""

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from .cron import Cron as Cron
    from .declaring import scheduled as scheduled
    from .exceptions import SchedulingError as SchedulingError
    from .handles import Run as Run
    from .triggers import Every as Every

__all__ = ["Cron", "Every", "Run", "SchedulingError", "scheduled"]

if not TYPE_CHECKING:
    from koan_django.core.faces import lazy

    __getattr__ = lazy(
        __name__,
        {
            "Cron": "cron",
            "Every": "triggers",
            "Run": "handles",
            "SchedulingError": "exceptions",
            "scheduled": "declaring",
        },
    )
    del lazy
del TYPE_CHECKING, Any
