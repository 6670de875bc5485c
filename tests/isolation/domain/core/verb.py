"""A job runs after the commit, in the context of its caller; health is reported and summed up."""

from django.db import transaction

from koan_django.core import health, job, tenant

SEEN: list[tuple[str, str | None]] = []


@job("domain.note")
def note(text: str) -> None:
    SEEN.append((text, tenant.current()))


def main() -> None:
    with tenant.use("acme"), transaction.atomic():
        note.dispatch("hello")
        assert not SEEN
    assert SEEN == [("hello", "acme")]
    health.report("domain", "degraded", "half of it")
    assert health.aggregate().status == "degraded"
