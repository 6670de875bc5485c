"""Which service this project looks for."""

from __future__ import annotations

from django.core.exceptions import ImproperlyConfigured

from koan_django.inbox.stores import configured
from koan_django.inbox.stores.http import HttpStore


def wanted() -> str:
    """Return the name of the service that the store is to be found by; empty where none is looked for."""
    try:
        store = configured()
    except ImproperlyConfigured:
        return ""  # the check of the store reports it
    return store.options.service if isinstance(store, HttpStore) else ""
