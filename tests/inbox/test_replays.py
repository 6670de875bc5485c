"""A dead letter that is older than what the inbox remembers: nobody knows whether it was handled meanwhile."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import timedelta
from io import StringIO
from typing import Any

import pytest
from django.contrib.auth.models import Permission, User
from django.core.management import call_command
from django.urls import reverse
from django.utils import timezone

from koan_django.messaging import envelope as wire
from koan_django.messaging.dead import deadletters
from koan_django.messaging.dead.replaying import Selection, replay_all
from koan_django.messaging.envelope import Delivery, Envelope
from koan_django.messaging.exceptions import ForgottenError
from koan_django.messaging.handling.verdicts import Verdict
from koan_django.messaging.models import DeadLetter
from koan_django.testing import override_koan
from tests.messaging.shop import OrderPlaced, listening

pytestmark = [pytest.mark.django_db(transaction=True), pytest.mark.database]


def dead(number: int, *, sent: float | str, died: float = 0, headers: dict[str, str] | None = None) -> DeadLetter:
    """A letter that was sent and died so many days ago."""
    at = sent if isinstance(sent, str) else (timezone.now() - timedelta(days=sent)).isoformat()
    body = b'{"number":%d}' % number
    envelope = Envelope(f"m{number}", "order.placed", 1, body, {wire.SENT_AT: at, **(headers or {})}, "order.placed.p")
    made = deadletters.dead_letter(Delivery(envelope, "main", "billing"), Verdict("dead", "shop.billing", "exhausted"))
    made.save()
    DeadLetter.objects.filter(pk=made.pk).update(dead_at=timezone.now() - timedelta(days=died))
    return DeadLetter.objects.get(pk=made.pk)


@pytest.fixture(autouse=True)
def billing() -> Iterator[None]:
    with listening(OrderPlaced, group="billing"):
        yield


def state(letter: DeadLetter) -> str:
    return DeadLetter.objects.values_list("state", flat=True).get(pk=letter.pk)


def test_what_was_sent_longer_ago_than_the_retention_is_refused_with_what_to_do() -> None:
    old, young = dead(1, sent=8), dead(2, sent=6)
    with pytest.raises(ForgottenError, match=r"the dead letter \d+ is not replayed: sent before .*--forgotten"):
        deadletters.replay(old)
    assert state(old) == "dead"
    deadletters.replay(young)
    deadletters.replay(old, forgotten=True)
    assert [state(old), state(young)] == ["replayed", "replayed"]


def test_the_retention_decides() -> None:
    with override_koan(INBOX={"RETENTION": "10d"}):
        deadletters.replay(dead(1, sent=8))
        with pytest.raises(ForgottenError):
            deadletters.replay(dead(2, sent=11))


def test_a_delayed_message_is_as_old_as_its_delay_is_over() -> None:
    due = (timezone.now() - timedelta(days=1)).isoformat()
    deadletters.replay(dead(1, sent=20, headers={wire.NOT_BEFORE: due}))


@pytest.mark.parametrize("sent", ["2999-01-01T00:00:00+00:00", "yesterday", ""])
def test_what_a_stranger_says_of_its_age_is_held_against_its_death(sent: str) -> None:
    deadletters.replay(dead(1, sent=sent))
    with pytest.raises(ForgottenError):
        deadletters.replay(dead(2, sent=sent, died=8))


def test_one_that_a_person_corrects_goes_at_any_age() -> None:
    deadletters.replay(dead(1, sent=8), body=b'{"number":3}')


def test_of_many_those_that_are_too_old_are_left_and_told() -> None:
    old, young = dead(1, sent=8), dead(2, sent=1)
    progress = replay_all(Selection(group="billing"))
    assert (progress.done, progress.failed) == (1, 1)
    assert "which is as far as duplicates are remembered" in progress.errors[0]
    assert [state(old), state(young)] == ["dead", "replayed"]


def test_the_command_wants_to_be_told() -> None:
    old = dead(1, sent=8)
    errors = StringIO()
    with pytest.raises(SystemExit):
        call_command("koan_deadletters", "replay", "--all", stdout=StringIO(), stderr=errors)
    assert "--forgotten" in errors.getvalue()
    assert state(old) == "dead"
    call_command("koan_deadletters", "replay", "--all", "--forgotten", stdout=StringIO(), stderr=StringIO())
    assert state(old) == "replayed"


def test_the_admin_refuses_it_and_offers_an_action_that_asks(client: Any) -> None:
    old = dead(1, sent=8)
    user = User.objects.create_user("staff", password="x", is_staff=True)
    user.user_permissions.set(Permission.objects.filter(codename__in=["view_deadletter", "replay_deadletter"]))
    client.force_login(user)

    def act(action: str, **data: str) -> str:
        url = reverse("admin:koan_messaging_deadletter_changelist")
        answer = client.post(url, {"action": action, "_selected_action": old.pk, **data}, follow=True)
        return str(answer.content.decode())

    assert "as far as duplicates are remembered" in act("replay")
    assert 'name="confirmed"' in act("replay_forgotten")
    assert state(old) == "dead"
    act("replay_forgotten", confirmed="1")
    assert state(old) == "replayed"
