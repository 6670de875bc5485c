"""System checks of the service."""

from __future__ import annotations

from django.conf import settings
from django.core.checks import CheckMessage, Error, Warning
from django.core.exceptions import ImproperlyConfigured
from django.urls import NoReverseMatch, reverse

from koan_django.core import defaults
from koan_django.core.templating import has_reference
from koan_django.inbox.conf import options


def check_service(app_configs: object, **kwargs: object) -> list[CheckMessage]:
    """E004: the service stands on a service. W002: its addresses are there, and nobody has a token."""
    try:
        store, tokens = options().store, options().service.tokens
    except ImproperlyConfigured:
        return []  # check_options reports it
    if not _is_served():
        return []
    if store == "http" and tokens:
        hint = "Choose another STORE here, or leave koan_django.inbox.urls out of the urls: clients ask the other one."
        text = "The inbox over HTTP has STORE 'http': it would ask a service like itself, or itself"
        return [Error(text, hint=hint, id="koan_inbox.E004")]
    if tokens or store == "http":
        return []
    return [
        Warning(
            "The inbox over HTTP lets nobody in: it has no tokens",
            hint="Set KOAN['INBOX']['SERVICE']['TOKENS'], or leave koan_django.inbox.urls out of the urls.",
            id="koan_inbox.W002",
        )
    ]


def check_tokens(app_configs: object, **kwargs: object) -> list[CheckMessage]:
    """W003, ``--deploy``: a token stands in the settings for everybody to read."""
    try:
        tokens = options().service.tokens
    except ImproperlyConfigured:
        return []  # check_options reports it
    plain = ", ".join(repr(name) for name, each in tokens.items() if not has_reference(each.token))
    if not plain:
        return []
    instead = "Name a secret instead, such as '{{secret:inbox/billing-token}}'."
    return defaults.in_force(
        f"tokens of the inbox service stand in the settings: {plain}", instead=instead, id="koan_inbox.W003"
    )


def _is_served() -> bool:
    if not getattr(settings, "ROOT_URLCONF", None):  # a project of workers needs no addresses
        return False
    try:
        reverse("koan_inbox:try-begin")
    except NoReverseMatch:
        return False
    return True
