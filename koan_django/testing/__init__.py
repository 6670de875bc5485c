"""The kit for the tests of projects that use koan-django.

Each name loads on its first use, so that a project needs no more installed than what it tests.
"""

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from .clock import FrozenClock as FrozenClock
    from .clock import frozen_clock as frozen_clock
    from .faults import Fault as Fault
    from .faults import fault as fault
    from .secrets import static_secrets as static_secrets
    from .settings import override_koan as override_koan

__all__ = ["Fault", "FrozenClock", "fault", "frozen_clock", "override_koan", "static_secrets"]

if not TYPE_CHECKING:
    from koan_django.core.faces import lazy

    __getattr__ = lazy(
        __name__,
        {
            "Fault": "faults",
            "FrozenClock": "clock",
            "fault": "faults",
            "frozen_clock": "clock",
            "override_koan": "settings",
            "static_secrets": "secrets",
        },
    )
    del lazy
del TYPE_CHECKING
