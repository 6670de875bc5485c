"""What ``koan_doctor`` asks of secrets: the providers answer, and every reference in ``KOAN`` has a value."""

from __future__ import annotations

from typing import TYPE_CHECKING

from koan_django.core import conf
from koan_django.core.doctor import examination
from koan_django.core.exceptions import KoanError
from koan_django.core.health import Finding
from koan_django.core.texts import counted

from .namespace import Templates
from .resolver import current

if TYPE_CHECKING:
    from collections.abc import Iterator

_REMEDY = "Mend it, or take the provider out of KOAN['SECRETS']['CHAIN']."


@examination("secrets.providers")
def providers() -> Iterator[Finding]:
    """Each provider of the chain can be built and finds nothing in its way."""
    chain = current()
    for alias in chain.options.chain:
        name = f"secrets.{alias}"
        try:
            problems = list(chain.provider(alias).problems())
        except KoanError as error:
            yield Finding(name, "unhealthy", str(error), remedy=error.fix or _REMEDY)
            continue
        if problems:
            yield Finding(name, "degraded", "; ".join(problems), remedy=_REMEDY)
        else:
            yield Finding(name, "healthy", "nothing is in its way")


@examination("secrets.references")
def references() -> Iterator[Finding]:
    """Each secret that ``KOAN`` refers to is there. Its value is fetched and not shown."""
    found = Templates(dict(conf.effective(conf.current()))).places
    missing = False
    for reference, paths in found.items():
        try:
            current().get(reference)
        except KoanError as error:
            missing = True
            text = f"{reference} for {', '.join(paths)}: {error.what}"
            yield Finding(
                "secrets.references", "unhealthy", text, remedy=error.fix or "Store it, or correct the reference."
            )
    if not missing:
        yield Finding(
            "secrets.references",
            "healthy",
            f"{counted(len(found), 'reference in KOAN has', 'references in KOAN have')} a value",
        )
