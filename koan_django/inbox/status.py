"""The inbox in ``koan_status``."""

from __future__ import annotations

from koan_django.core.stores import STORE_ERRORS
from koan_django.core.texts import counted
from koan_django.messaging.statistics.neighbours import Neighbour, neighbour

from .conf import options
from .stores import configured


@neighbour("inbox")
def inbox_status() -> Neighbour:
    """What is remembered, and the duplicates of each handler and source."""
    store = options().store
    try:
        figures = configured().figures()
    except STORE_ERRORS as error:
        trouble = f"the inbox cannot be asked: {error}"
        return Neighbour("inbox", f"{store}, unknown", {"store": store, "error": str(error)}, (trouble,))
    known = {"remembered": figures.processed, "being handled": figures.processing}
    words = [f"{value} {name}" for name, value in known.items() if value is not None]
    most = sorted(figures.duplicates.items(), key=lambda each: -each[1])[:5]
    of = ", ".join(f"{name} {count}" for name, count in most)
    words.append(counted(sum(figures.duplicates.values()), "duplicate suppressed", "duplicates suppressed"))
    return Neighbour(
        "inbox",
        f"{store}, {', '.join(words)}" + (f": {of}" if of else ""),
        {
            "store": store,
            "processed": figures.processed,
            "processing": figures.processing,
            "duplicates": dict(figures.duplicates),
        },
    )
