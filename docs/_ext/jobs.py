"""The directive ``jobs``: a table of every job, from its declaration and the first sentence of its docstring."""

from __future__ import annotations

import inspect
from typing import TYPE_CHECKING, Any

from sphinx.util.docutils import SphinxDirective

from koan_django.core import dispatch

if TYPE_CHECKING:
    from docutils import nodes
    from sphinx.application import Sphinx

    from koan_django.core.dispatch import Job


def setup(app: Sphinx) -> dict[str, Any]:
    """Called by Sphinx."""
    app.add_directive("jobs", Jobs)
    return {"parallel_read_safe": True}


class Jobs(SphinxDirective):
    """Takes nothing; the apps that are installed have declared their jobs."""

    def run(self) -> list[nodes.Node]:
        """Return the table."""
        rows = sorted(_row(job) for job in dispatch.jobs)
        return self.parse_text_to_nodes("\n".join(["| job | sweeps every | does |", "|---|---|---|", *rows]))


def _row(job: Job[...]) -> str:
    first = (inspect.getdoc(job.function) or "").split("\n\n")[0].replace("\n", " ").replace("``", "`")
    return f"| `{job.name}` | {_period(job)} | {first} |"


def _period(job: Job[...]) -> str:
    if job.every is None:
        return "-"
    seconds = int(job.every.total_seconds())
    units = ((86400, "d"), (3600, "h"), (60, "min"), (1, "s"))
    return next(f"{seconds // size} {unit}" for size, unit in units if seconds >= size)
