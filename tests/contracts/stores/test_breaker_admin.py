"""Breakers in the admin, whatever their store."""

from __future__ import annotations

from collections.abc import Callable, Iterator

import pytest
from django.contrib.admin.helpers import ACTION_CHECKBOX_NAME
from django.contrib.admin.models import LogEntry
from django.contrib.auth.models import Permission, User
from django.test import Client

from koan_django.core import facts
from koan_django.core.breaker import Breaker, BreakerOpenError, breaker, breakers
from koan_django.core.models import Breaker as Row
from koan_django.core.stores import breaker_store

pytestmark = [pytest.mark.django_db, pytest.mark.usefixtures("kind")]

ADDRESS = "/admin/koan_core/breaker/"
Login = Callable[..., Client]


@pytest.fixture
def stripe() -> Iterator[Breaker]:
    yield breaker("test.stripe", failures=1)
    breakers.remove("test.stripe")


@pytest.fixture
def login(client: Client) -> Login:
    def log_in(*codenames: str) -> Client:
        user = User.objects.create_user("ada", is_staff=True)
        user.user_permissions.set(Permission.objects.filter(codename__in=["view_breaker", *codenames]))
        client.force_login(user)
        return client

    return log_in


def choose(client: Client, action: str) -> str:
    row = Row.objects.get(name="test.stripe")
    return client.post(ADDRESS, {"action": action, ACTION_CHECKBOX_NAME: [row.pk]}, follow=True).text


def test_a_breaker_that_was_declared_is_listed_though_it_never_failed(login: Login, stripe: Breaker) -> None:
    page = login().get(ADDRESS).text
    assert "test.stripe" in page
    assert '<span class="koan-badge koan-healthy">closed</span>' in page


def test_what_has_failed_is_shown_with_its_reason(login: Login, stripe: Breaker) -> None:
    with pytest.raises(ConnectionError), stripe.guard():
        raise ConnectionError("no route")
    client = login()
    page = client.get(ADDRESS).text
    assert '<span class="koan-badge koan-unhealthy">open</span>' in page
    assert "ConnectionError: no route" in page
    assert client.get(f"{ADDRESS}{Row.objects.get(name='test.stripe').pk}/change/").status_code == 200


def test_the_process_says_what_it_saw(stripe: Breaker) -> None:
    stripe.trip("the provider asked for it")
    [fact] = [fact for fact in facts.own() if fact.subject == "breaker.test.stripe"]
    assert (fact.selection, fact.reason) == ("open", "the provider asked for it")


def test_it_is_opened_and_closed_by_those_who_may(login: Login, stripe: Breaker) -> None:
    client = login("trip_breaker", "reset_breaker")
    client.get(ADDRESS)
    assert "1 done" in choose(client, "trip")
    with pytest.raises(BreakerOpenError, match="opened by ada"), stripe.guard():
        raise AssertionError("the call was made")
    choose(client, "reset")
    assert breaker_store().read("test.stripe")[0].state == "closed"
    assert [entry.change_message for entry in LogEntry.objects.order_by("pk")] == ["opened", "closed"]


def test_who_may_only_look_can_do_neither(login: Login, stripe: Breaker) -> None:
    client = login()
    client.get(ADDRESS)
    for action in ("trip", "reset"):
        choose(client, action)
    assert breaker_store().read("test.stripe")[0].version == 0
    assert not LogEntry.objects.exists()
