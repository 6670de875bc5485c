"""The numbers behind the charts, and the page that draws them."""

from __future__ import annotations

import random
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from django.contrib.auth.models import Permission, User
from django.db import DatabaseError
from django.test import Client
from django.urls import reverse
from hypothesis import given
from hypothesis import strategies as st

from koan_django.core.exceptions import PermanentError
from koan_django.messaging import send_many
from koan_django.messaging.buses import registry
from koan_django.messaging.control.tallying import Tally
from koan_django.messaging.envelope import NOT_BEFORE, SENT_AT, Delivery, Envelope
from koan_django.messaging.handling.verdicts import Verdict
from koan_django.messaging.models import DepthSample, HandlerSample
from koan_django.messaging.statistics import latency
from koan_django.messaging.statistics.sampling import DepthSampler, Minutes
from koan_django.messaging.statistics.traffic import STEPS, traffic
from koan_django.messaging.tasks import forget_old
from koan_django.testing import frozen_clock
from tests.messaging.conftest import UseBus, running
from tests.messaging.shop import OrderPlaced, listening
from tests.services.rabbitmq import Vhost
from tests.services.waiting import wait_until

NOON = datetime(2031, 5, 4, 12, 0, tzinfo=UTC)


def delivery(sent: datetime | None = None, **headers: str) -> Delivery:
    times = {SENT_AT: sent.isoformat()} if sent else {}
    return Delivery(Envelope("1", "a", 1, b"", times | headers, "a.p"), "main", "billing")


# latency


@given(st.lists(st.floats(0, 10_000), min_size=1), st.sampled_from([0.5, 0.9, 0.99]))
def test_a_quantile_lies_in_the_bucket_of_the_exact_one(seconds: list[float], part: float) -> None:
    counts = latency.empty()
    for each in seconds:
        counts[latency.bucket(each)] += 1
    ordered = sorted(seconds)
    exact = ordered[min(int(part * len(ordered) - 1e-9), len(ordered) - 1)]
    found = latency.quantile(counts, part)
    place = latency.bucket(exact)
    assert found is not None
    assert (latency.BOUNDS[place - 1] if place else 0) <= found <= latency.BOUNDS[min(place, len(latency.BOUNDS) - 1)]


def test_nothing_has_no_quantile_and_strange_counts_are_left_out() -> None:
    assert latency.quantile(latency.empty(), 0.5) is None
    assert latency.total([[1, 2], latency.empty()]) == latency.empty()
    assert latency.total([]) == latency.empty()


# counting


def test_each_minute_of_a_handler_is_counted_for_itself() -> None:
    minutes = Minutes("main")
    with frozen_clock(NOON) as clock:
        minutes.note([(delivery(NOON - timedelta(seconds=0.15)), Verdict("handled", "h"))])
        minutes.note([(delivery(NOON), Verdict("retry", "h"))])
        minutes.note([(delivery(NOON), Verdict("postpone", "h"))])
        minutes.note([(delivery(NOON), Verdict("dead", ""))])
        assert minutes.over() == []
        clock.advance(seconds=61)
        minutes.note([(delivery(NOON), Verdict("dead", "h"))])
        [over] = minutes.over()
        assert (over.minute, over.handled, over.retried, over.dead) == (NOON, 1, 1, 0)
        assert over.latencies[latency.bucket(0.15)] == sum(over.latencies) == 1
        minutes.forget([over])
        [rest] = minutes.over(everything=True)
    assert (rest.minute, rest.dead) == (NOON + timedelta(minutes=1), 1)


@pytest.mark.parametrize(
    ("headers", "seconds"),
    [
        ({NOT_BEFORE: (NOON - timedelta(seconds=4)).isoformat()}, 4.0),
        ({SENT_AT: (NOON + timedelta(hours=1)).isoformat()}, 0.0),
        ({SENT_AT: "2031-05-04T12:00:00"}, None),
        ({SENT_AT: "yesterday"}, None),
    ],
    ids=["a delay does not count", "a clock that is ahead", "no zone", "no time"],
)
def test_latency_is_counted_from_when_it_might_be_handled(headers: dict[str, str], seconds: float | None) -> None:
    minutes = Minutes("main")
    with frozen_clock(NOON):
        minutes.note([(delivery(NOON - timedelta(hours=2), **headers), Verdict("handled", "h"))])
        [row] = minutes.over(everything=True)
    counted = [index for index, count in enumerate(row.latencies) if count]
    assert counted == ([] if seconds is None else [latency.bucket(seconds)])
    assert row.handled == 1


@pytest.mark.django_db
def test_what_cannot_be_written_is_written_later(monkeypatch: pytest.MonkeyPatch) -> None:
    tally = Tally("main")
    tally.note([(delivery(NOON), Verdict("handled", "h"))])
    with monkeypatch.context() as patch:
        patch.setattr(HandlerSample.objects, "bulk_create", _refuse)
        tally.flush(everything=True)
    assert not HandlerSample.objects.exists()
    tally.flush(everything=True)
    tally.flush(everything=True)
    assert HandlerSample.objects.get().handled == 1


# from a worker to the chart


@pytest.mark.services
@pytest.mark.django_db(transaction=True)
@pytest.mark.parametrize("url", ["database://", "amqp"])
def test_what_a_worker_did_and_what_waits_is_on_the_page(
    use_bus: UseBus, request: pytest.FixtureRequest, url: str, admin_client: Client
) -> None:
    vhost: Vhost | None = request.getfixturevalue("vhost") if url == "amqp" else None
    bus = use_bus(vhost.url if vhost else url)

    def refuse(message: OrderPlaced) -> None:
        if message.number == 3:
            raise PermanentError("no")

    with listening(OrderPlaced, refuse, group="billing") as arrived:
        with running():
            send_many([OrderPlaced(number) for number in range(10)])
            wait_until(lambda: len(arrived) == 10, what="all to arrive")
        if vhost:
            assert all(receipt.state == "published" for receipt in send_many([OrderPlaced(1), OrderPlaced(2)]))
        else:
            send_many([OrderPlaced(1), OrderPlaced(2)])
        wait_until(lambda: bus.depths()[0].waiting == 2, what="the bus to say so")
        DepthSampler([bus]).take()
        assert DepthSample.objects.get().waiting == 2
        rows = list(HandlerSample.objects.all())
        assert sum(row.handled for row in rows) == sum(sum(row.latencies) for row in rows) == 9
        assert sum(row.dead for row in rows) == 1
        HandlerSample.objects.update(minute=rows[0].minute - timedelta(minutes=5))
        page = admin_client.get(reverse("admin:koan_messaging_traffic_changelist")).content.decode()
    assert page.count('class="koan-chart"') == 3
    assert "billing" in page
    registry.reset()


@pytest.mark.django_db
def test_one_worker_of_all_takes_the_depths(use_bus: UseBus) -> None:
    bus = use_bus("database://")
    with listening(OrderPlaced, group="billing"):
        first, second = DepthSampler([bus]), DepthSampler([bus])
        for _ in range(2):
            first.take()
            second.take()
    assert DepthSample.objects.count() == 2


@pytest.mark.django_db
def test_a_bus_that_does_not_answer_leaves_a_gap_and_hides_no_other(use_bus: UseBus, caplog: Any) -> None:
    bus = use_bus("database://")
    with listening(OrderPlaced, group="billing"):
        sampler = DepthSampler([_Silent("other", bus.options), bus])
        sampler.take()
        sampler.take()
    assert set(DepthSample.objects.values_list("bus", flat=True)) == {"main"}
    assert caplog.text.count("does not say how much waits") == 1


@pytest.mark.django_db
@pytest.mark.parametrize("hours", [1, 6, 24])
def test_steps_hold_what_was_counted_in_them_in_two_queries(hours: int, django_assert_num_queries: Any) -> None:
    drawn = random.Random(5)
    rows = [
        HandlerSample(
            minute=NOON - timedelta(minutes=drawn.randrange(1, hours * 60 + 1)),
            bus="main",
            group="billing",
            handler=f"h{number % 2}",
            handled=number,
            latencies=latency.empty(),
        )
        for number in range(50)
    ]
    HandlerSample.objects.bulk_create(rows)
    DepthSample.objects.create(at=NOON - timedelta(seconds=1), bus="main", group="billing", waiting=7)
    DepthSample.objects.create(at=NOON - timedelta(seconds=2), bus="main", group="billing", waiting=9)
    with django_assert_num_queries(2):
        [found] = traffic(hours, NOON)
    step = (found.end - found.start) / len(found.handled)
    assert (len(found.handled), found.end - found.start) == (STEPS, timedelta(hours=hours))
    assert sum(value or 0 for value in found.handled) * step.total_seconds() == pytest.approx(sum(range(50)))
    assert found.waiting[-1] == 9
    assert found.waiting[0] is None


# the page


@pytest.mark.django_db
def test_the_page_needs_its_permission_and_stands_any_query(client: Client) -> None:
    url = reverse("admin:koan_messaging_traffic_changelist")
    user = User.objects.create_user("u", is_staff=True)
    client.force_login(user)
    assert client.get(url).status_code == 403
    user.user_permissions.add(Permission.objects.get(codename="view_traffic"))
    for query in ("", "?hours=6", "?hours=7", "?hours=<script>"):
        response = client.get(url + query)
        assert response.status_code == 200
        assert "Nothing was counted yet" in response.content.decode()


@pytest.mark.django_db
def test_samples_are_forgotten_after_a_day() -> None:
    for hours in (1, 25):
        when = NOON - timedelta(hours=hours)
        HandlerSample.objects.create(minute=when, bus="main", group="g", handler="h")
        DepthSample.objects.create(at=when, bus="main", group="g")
    with frozen_clock(NOON):
        forget_old()
    assert HandlerSample.objects.count() == DepthSample.objects.count() == 1


def _refuse(*args: Any, **kwargs: Any) -> None:
    raise DatabaseError("gone")


class _Silent:
    def __init__(self, alias: str, options: Any) -> None:
        self.alias, self.options = alias, options

    def depths(self) -> list[Any]:
        raise ConnectionError("nobody there")
