"""The kit for the tests of projects that use koan-django.

Each name loads on its first use, so that a project needs no more installed than what it tests.
"""

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from .broker_io import BrokerIO as BrokerIO
    from .broker_io import broker_io_outside_transactions as broker_io_outside_transactions
    from .capturing import Captured as Captured
    from .capturing import capture_messages as capture_messages
    from .clock import FrozenClock as FrozenClock
    from .clock import frozen_clock as frozen_clock
    from .draining import DeadLettersError as DeadLettersError
    from .draining import Drained as Drained
    from .draining import drain as drain
    from .faults import Fault as Fault
    from .faults import fault as fault
    from .secrets import static_secrets as static_secrets
    from .settings import override_koan as override_koan
    from .unrest import Chaos as Chaos
    from .unrest import chaos as chaos

__all__ = [
    "BrokerIO",
    "Captured",
    "Chaos",
    "DeadLettersError",
    "Drained",
    "Fault",
    "FrozenClock",
    "broker_io_outside_transactions",
    "capture_messages",
    "chaos",
    "drain",
    "fault",
    "frozen_clock",
    "override_koan",
    "static_secrets",
]

if not TYPE_CHECKING:
    from koan_django.core.faces import lazy

    __getattr__ = lazy(
        __name__,
        {
            "BrokerIO": "broker_io",
            "Captured": "capturing",
            "broker_io_outside_transactions": "broker_io",
            "Chaos": "unrest",
            "DeadLettersError": "draining",
            "Drained": "draining",
            "Fault": "faults",
            "FrozenClock": "clock",
            "capture_messages": "capturing",
            "chaos": "unrest",
            "drain": "draining",
            "fault": "faults",
            "frozen_clock": "clock",
            "override_koan": "settings",
            "static_secrets": "secrets",
        },
    )
    del lazy
del TYPE_CHECKING
