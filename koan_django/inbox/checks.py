"""System checks of the inbox."""

from __future__ import annotations

from datetime import timedelta

from django.apps import apps
from django.core.checks import CheckMessage, Warning
from django.core.exceptions import ImproperlyConfigured

from koan_django.core.checks import section_check

from .conf import options

check_options = section_check(options, "koan_inbox.E001")


def check_reach(app_configs: object, **kwargs: object) -> list[CheckMessage]:
    """W001: a retried message may come back after the inbox has forgotten it."""
    if not apps.is_installed("koan_django.messaging"):
        return []
    from koan_django.messaging.conf import options as messaging

    try:
        retention, buses = options().retention, messaging().buses
    except ImproperlyConfigured:
        return []
    found: list[CheckMessage] = []
    for alias, bus in buses.items():
        longest = sum((bus.retry.delay(n) for n in range(2, bus.retry.max_attempts + 1)), timedelta())
        if longest > retention:
            found.append(
                Warning(
                    f"The inbox forgets after {retention}, but the bus {alias!r} may retry for {longest}",
                    hint="Raise KOAN['INBOX']['RETENTION'], or lower MAX_ATTEMPTS or MAX_DELAY of the bus.",
                    id="koan_inbox.W001",
                )
            )
    return found
