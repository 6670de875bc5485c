"""A few figures above a list: how much there is, and what needs attention."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from django.utils.translation import gettext as _

if TYPE_CHECKING:
    from collections.abc import Iterable


#: So many rows are read for a figure and no more, however large the table is: the list is looked at often.
MOST = 10_000


def up_to(count: int) -> object:
    """Return how to show a count of at most one row more than :data:`MOST`."""
    return count if count <= MOST else _("more than %d") % MOST


@dataclass(frozen=True, slots=True)
class Figure:
    """One figure; ``status`` colours it (``degraded``), for what somebody should look at."""

    label: object
    value: object
    status: str = ""


@dataclass(frozen=True, slots=True)
class Row:
    """Figures that belong together; ``name`` says to what."""

    name: object
    figures: tuple[Figure, ...]


class Figured:
    """Mix-in of a ModelAdmin whose list has figures above it."""

    change_list_template: Any = "admin/koan_core/figures.html"

    def figures(self) -> Iterable[Row]:
        """Return the figures, in rows; asked each time the list is shown."""
        raise NotImplementedError  # a list without figures does not mix this in

    def changelist_view(self, request: Any, extra_context: Any = None) -> Any:
        """Show the list with the figures; Django itself refuses who may not see it."""
        context = {**(extra_context or {}), "figures": self.figures}
        return super().changelist_view(request, context)  # type: ignore[misc]  # of the ModelAdmin
