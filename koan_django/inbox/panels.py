"""The inbox on the Overview page."""

from __future__ import annotations

from typing import TYPE_CHECKING

from django.urls import reverse

from koan_django.core import facts
from koan_django.core.overview import Line, panel

from .conf import options
from .discovery.finding import subject
from .discovery.wanted import wanted
from .stores import configured
from .stores.database import DatabaseStore

if TYPE_CHECKING:
    from collections.abc import Iterator


@panel("koan_inbox", "Inbox", order=40)
def inbox_panel() -> Iterator[Line]:
    """How much is remembered and how often that mattered."""
    store = configured()
    url = reverse("admin:koan_inbox_inboxentry_changelist") if isinstance(store, DatabaseStore) else ""
    if not url:
        yield Line("Store", options().store)
    if name := wanted():
        found = [each.selection for each in facts.own() if each.subject == subject(name)]
        yield Line(f"Service {name}", found[0] if found else "not looked for yet in this process")
    figures = store.figures()
    if figures.processed is not None:
        yield Line("Remembered", str(figures.processed), "", url and f"{url}?state__exact=processed")
    if figures.processing is not None:
        yield Line("Being handled", str(figures.processing), "", url and f"{url}?state__exact=processing")
    yield Line("Duplicates suppressed", str(sum(figures.duplicates.values())), "", url)
