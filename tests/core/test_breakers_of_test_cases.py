"""What a ``TestCase`` does to a breaker ends with it, on databases with several writers too."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor

import pytest
from django.db import connections, transaction

from koan_django.core.breaker import trip
from koan_django.core.circuits import Circuit
from koan_django.core.stores import breaker_store

pytestmark = [pytest.mark.django_db, pytest.mark.database]


def committed() -> dict[str, Circuit]:
    """Return the circuits that other connections see."""
    try:
        return breaker_store().circuits()
    finally:
        connections.close_all()


@pytest.mark.parametrize("in_block", [False, True], ids=["in the transaction of the test", "in one of the code"])
def test_a_breaker_that_a_test_case_opens_is_open_in_no_other(in_block: bool) -> None:
    if in_block:
        with transaction.atomic():
            trip("stripe", "down")
    else:
        trip("stripe", "down")
    assert breaker_store().circuits()["stripe"].state == "open"
    with ThreadPoolExecutor(1) as other:
        assert other.submit(committed).result() == {}
