"""Media's panel on the Overview page."""

from __future__ import annotations

from typing import TYPE_CHECKING

from django.db.models import Count
from django.urls import reverse
from django.utils.translation import gettext as _

from koan_django.core.overview import Line, panel

from .models import Derivation, State

if TYPE_CHECKING:
    from collections.abc import Iterator

_HEALTH = {State.FAILED: "degraded"}


@panel("koan_media.derivations", "Media", order=40)
def derivations() -> Iterator[Line]:
    """How many derivations there are in each state, and the last that failed."""
    url = reverse("admin:koan_media_derivation_changelist")
    counts = dict(Derivation.objects.order_by().values_list("state").annotate(Count("pk")))
    for state in State:
        number = counts.get(state.value, 0)
        status = _HEALTH.get(state, "healthy") if number else ""
        yield Line(str(state.label), str(number), status, f"{url}?state__exact={state.value}")
    late = Derivation.objects.due().count()
    if late:
        yield Line(_("waiting for a worker"), str(late), "degraded", f"{url}?state__exact={State.PENDING.value}")
    last = Derivation.objects.filter(state=State.FAILED).order_by("-finished_at").first()
    if last is not None:
        yield Line(
            _("last failure"),
            f"{last}: {last.reason}",
            "",
            reverse("admin:koan_media_derivation_change", args=[last.pk]),
        )
