"""System checks of discovery. None opens a socket."""

from __future__ import annotations

from typing import TYPE_CHECKING

from django.core.checks import CheckMessage, Error
from django.core.exceptions import ImproperlyConfigured

from koan_django.core import defaults
from koan_django.core.templating import has_reference
from koan_django.inbox.conf import options

from . import announcing, bus
from .wanted import wanted

if TYPE_CHECKING:
    from collections.abc import Iterator


def check_discovery(app_configs: object, **kwargs: object) -> list[CheckMessage]:
    """E005: a service is looked for or announced, and by these settings it cannot be."""
    try:
        wrong = list(_objections())
    except ImproperlyConfigured:
        return []  # other checks report it
    hint = (
        "Services and clients need an alias of a bus on one RabbitMQ in KOAN['INBOX']['DISCOVERY']['BUS'], and in KEYS"
        " a secret that they share."
    )
    return [Error(f"KOAN['INBOX']['DISCOVERY']: {text}", hint=hint, id="koan_inbox.E005") for text in wrong]


def check_keys(app_configs: object, **kwargs: object) -> list[CheckMessage]:
    """W005, ``--deploy``: a key stands in the settings for everybody to read, and to sign with."""
    try:
        plain = any(not has_reference(key) for key in options().discovery.keys)
    except ImproperlyConfigured:
        return []  # check_options reports it
    if not plain:
        return []
    return defaults.in_force(
        "keys of discovery stand in the settings",
        instead="Name a secret instead, such as '{{secret:inbox/discovery-key}}'.",
        id="koan_inbox.W005",
    )


def _objections() -> Iterator[str]:
    if options().discovery.announce is not None:
        yield from announcing.objections()
    elif wanted():
        yield from bus.objections()
