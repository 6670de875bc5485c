"""What every app stands on: options, context, health, leases, dispatch, errors and the admin kit.

This face is safe to import before Django is configured; names that lead to models load on first use.

Where things live:

- settings: ``conf options section defaults effective policy environment durations suggestions checks``
- choices and their reasons: ``election facts choices boot``
- health: ``health probes reporter doctor examinations overview panels gauges``
- who, what, when: ``context middleware process clock functions telemetry signals logs trail audit/``
- failing well: ``exceptions classification hints known_failures retry breaker circuits faults reading``
- one at a time: ``leases heartbeats stores/``, and work off the request: ``dispatch tasks threads bell databases``
- in the database: ``models querysets inserting libpq``
- what apps register and export: ``registry faces appconfig apps extras``
- pages and commands: ``admin/ views urls commands tabular texts``
- secrets kept out of sight: ``redaction rotation error_pages templating keys``
- programs on a laptop: ``development supervisor programs guard console watching celeryapps adoption/``
"""

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from . import health as health
    from .context import correlation as correlation
    from .context import tenant as tenant
    from .dispatch import job as job
    from .exceptions import KoanError as KoanError
    from .exceptions import PermanentError as PermanentError
    from .exceptions import TransientError as TransientError

__all__ = ["KoanError", "PermanentError", "TransientError", "correlation", "health", "job", "tenant"]

if not TYPE_CHECKING:
    from koan_django.core.faces import lazy

    __getattr__ = lazy(
        __name__,
        {
            "correlation": "context",
            "tenant": "context",
            "job": "dispatch",
            "KoanError": "exceptions",
            "PermanentError": "exceptions",
            "TransientError": "exceptions",
        },
    )
    del lazy
del TYPE_CHECKING, Any
