"""Two handlers that lock the same rows in another order: the database ends one, and the bus tries it again."""

from __future__ import annotations

from collections import Counter
from threading import Barrier

import pytest
from django.db import connection
from django.db.models import F

from koan_django.core.models import Lease
from koan_django.messaging import send_many
from koan_django.messaging.models import QueuedDelivery
from tests.messaging.conftest import UseBus, running
from tests.messaging.shop import OrderPlaced, listening
from tests.services.waiting import wait_until

pytestmark = [pytest.mark.django_db(transaction=True), pytest.mark.database]


def test_a_handler_that_the_database_ended_is_tried_again_and_nothing_of_it_counts_twice(use_bus: UseBus) -> None:
    if connection.vendor == "sqlite":
        pytest.skip("one writer at a time deadlocks with nobody")
    use_bus("database://", RETRY={"FIRST_DELAY": 0.1, "FACTOR": 1, "MAX_ATTEMPTS": 5, "JITTER": 0})
    rows = [Lease.objects.create(name=name) for name in ("one", "two")]
    meeting = Barrier(2)

    def lock_both(message: OrderPlaced) -> None:
        order = rows if message.number else rows[::-1]
        for row in order:
            Lease.objects.filter(pk=row.pk).update(lease_owner=str(message.number), lease_token=F("lease_token") + 1)
            if len(arrived) < 3 and row is order[0]:
                meeting.wait(20)

    with listening(OrderPlaced, lock_both, group="billing") as arrived, running(2):
        send_many([OrderPlaced(0), OrderPlaced(1)])
        wait_until(lambda: not QueuedDelivery.objects.exists(), 30, "both to be handled")
    assert Counter(context.attempt for _, context in arrived) == {1: 2, 2: 1}
    assert set(Lease.objects.values_list("lease_token", flat=True)) == {2}
