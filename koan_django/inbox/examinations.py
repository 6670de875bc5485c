"""What ``koan_doctor`` asks of the inbox over HTTP: whether its token is good for what the handlers here claim."""

from __future__ import annotations

from typing import TYPE_CHECKING

from django.apps import apps

from koan_django.core.doctor import examination
from koan_django.core.health import Finding
from koan_django.core.stores import STORE_ERRORS

from .stores import configured

if TYPE_CHECKING:
    from collections.abc import Iterator


@examination("inbox.scopes")
def scopes() -> Iterator[Finding]:
    """Ask the service for a key of each group. That it cannot be asked is for the readiness probe to say."""
    from .stores.http import HttpStore

    store = configured()
    if not isinstance(store, HttpStore) or not apps.is_installed("koan_django.messaging"):
        return
    from koan_django.messaging import handlers

    claimed = sorted({(each.bus, each.group) for each in handlers.every()})
    try:
        refused = store.refused(claimed)
    except STORE_ERRORS:
        return
    if refused:
        named = ", ".join(f"{bus}:{group}:" for bus, group in refused)
        yield Finding(
            "inbox.scopes",
            "unhealthy",
            f"the token of the inbox is not good for {named}, so what these groups receive is not claimed",
            remedy="Add these scopes to the token, in KOAN['INBOX']['SERVICE']['TOKENS'] of the service.",
        )
    elif claimed:
        yield Finding("inbox.scopes", "healthy", "the token of the inbox is good for every group here")
