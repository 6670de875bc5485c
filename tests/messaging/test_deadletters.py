"""Many dead letters at once, their causes, and one that is corrected and sent again."""

from __future__ import annotations

import json
import sys
from datetime import timedelta
from io import StringIO
from typing import Any

import pytest
from django.contrib.auth.models import Permission, User
from django.core.management import CommandError, call_command
from django.db import connection
from django.test.utils import CaptureQueriesContext
from django.urls import reverse
from django.utils import timezone

from koan_django.core.models import AuditEvent
from koan_django.messaging.dead import deadletters, replaying
from koan_django.messaging.dead.editing import editable, edited
from koan_django.messaging.dead.replaying import Progress, Selection
from koan_django.messaging.envelope import Delivery, Envelope
from koan_django.messaging.exceptions import MessagingError, UnreadableMessageError
from koan_django.messaging.handling.verdicts import Verdict
from koan_django.messaging.models import DeadLetter, MessageEvent, QueuedDelivery
from tests.messaging.shop import OrderPlaced, StockMoved, listening

pytestmark = [pytest.mark.django_db(transaction=True), pytest.mark.database]
BODY = b'{"sku":"a-1","count":2,"supplier_token":"hunter2"}'


def dead(
    number: int = 0, group: str = "billing", error: str = "no", alias: str = "order.placed", body: bytes = b""
) -> DeadLetter:
    envelope = Envelope(f"m{number}", alias, 1, body or b'{"number":%d}' % number, {}, f"{alias}.p")
    verdict = Verdict("dead", f"shop.{group}", "permanent", "app.ShopError", error, f'  File "{error}", line 1\n')
    made = deadletters.dead_letter(Delivery(envelope, "main", group), verdict)
    made.save()
    return made


def command(*words: str) -> tuple[int, str]:
    out = StringIO()
    try:
        call_command("koan_deadletters", *words, stdout=out, stderr=StringIO())
    except SystemExit as stop:
        return int(stop.code or 0), out.getvalue()
    return 0, out.getvalue()


def test_a_selection_is_replayed_in_order_and_the_rest_stays() -> None:
    for number in range(5):
        dead(number)
    other = dead(9, group="audit")
    with listening(OrderPlaced, group="billing"):
        progress = replaying.replay_all(Selection(group="billing"))
    assert (progress.done, progress.failed) == (5, 0)
    assert list(QueuedDelivery.objects.order_by("id").values_list("message_id", flat=True)) == [
        f"m{n}" for n in range(5)
    ]
    assert list(DeadLetter.objects.dead()) == [other]
    assert MessageEvent.objects.filter(kind="replayed").count() == 5


def test_a_batch_costs_the_same_queries_however_many_it_holds(monkeypatch: pytest.MonkeyPatch) -> None:
    costs = []
    with listening(OrderPlaced, group="billing"):
        for count in (3, 30):
            for number in range(count):
                dead(number)
            with CaptureQueriesContext(
                connection,
            ) as queries:
                replaying.replay_all(Selection())
            costs.append(len(queries))
    assert costs[0] == costs[1]


def test_one_that_cannot_go_is_left_and_holds_up_no_other() -> None:
    dead(1), dead(2, group="nowhere"), dead(3)
    with listening(OrderPlaced, group="billing"):
        progress = replaying.replay_all(Selection())
    assert (progress.done, progress.failed) == (2, 1)
    assert "nobody" in progress.errors[0]
    assert [each.group for each in DeadLetter.objects.dead()] == ["nowhere"]


def test_a_run_can_be_limited_stopped_and_is_not_endless() -> None:
    for number in range(6):
        dead(number)
    assert replaying.discard_all(Selection(), limit=2).done == 2
    halfway: list[Progress] = []
    progress = replaying.discard_all(Selection(), rate=1000, tell=halfway.append, is_stopping=lambda: bool(halfway))
    assert progress.done == 4  # a batch that was begun is finished
    for number in range(2):
        dead(number)
    stopped = replaying.discard_all(Selection(), is_stopping=lambda: True)
    assert (stopped.done, stopped.stopped) == (0, True)


def test_what_dies_while_a_replay_runs_is_not_replayed_by_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(replaying, "BATCH", 1)
    for number in range(2):
        dead(number)
    progress = replaying.discard_all(Selection(), tell=lambda _: dead(50))
    assert progress.done == 2


def test_a_rate_is_kept_by_the_clock(monkeypatch: pytest.MonkeyPatch) -> None:
    now = [0.0]
    monkeypatch.setattr(replaying.time, "monotonic", lambda: now[0])
    monkeypatch.setattr(replaying.time, "sleep", lambda seconds: now.__setitem__(0, now[0] + seconds))
    for number in range(20):
        dead(number)
    replaying.discard_all(Selection(), rate=5)
    assert now[0] == pytest.approx(4, abs=0.1)  # twenty at five a second


def test_causes_are_counted_with_the_newest_error() -> None:
    for number in range(3):
        dead(number, error="shelf")
    dead(7, error="ladder")
    found = replaying.causes(Selection())
    assert [(each.count, each.example, each.handler) for each in found] == [
        (3, "shelf", "shop.billing"),
        (1, "ladder", "shop.billing"),
    ]
    assert replaying.causes(Selection(fingerprint=found[1].fingerprint))[0].count == 1


@pytest.mark.parametrize(
    ("filters", "numbers"),
    [
        ({"group": "audit"}, {1}),
        ({"alias": "order.placed"}, {0, 1}),
        ({"reason": "exhausted"}, set()),
        ({"tenant": "acme"}, set()),
        ({"until": timezone.now() - timedelta(days=1)}, set()),
        ({"since": timezone.now() - timedelta(days=1)}, {0, 1}),
    ],
)
def test_a_selection_takes_what_it_says(filters: dict[str, Any], numbers: set[int]) -> None:
    dead(0), dead(1, group="audit")
    assert {int(row.message_id[1:]) for row in Selection(**filters).rows()} == numbers


def test_the_command_asks_for_a_filter_and_a_dry_run_changes_nothing() -> None:
    dead(1), dead(2)
    with pytest.raises(CommandError, match="--all") as caught:
        command("replay")
    assert caught.value.returncode == 2
    assert command("discard", "--all", "--dry-run") == (0, "2 dead letters would be discarded\n")
    assert (
        command("replay", "--group", "billing", "--dry-run", "--limit", "1", "--format", "json")[1]
        == '{"would_replay": 1}\n'
    )
    assert DeadLetter.objects.dead().count() == 2
    refused = AuditEvent.objects.get(action="command.run")  # what was only asked about leaves none
    assert "--all" in refused.data["error"]


def test_the_command_replays_and_is_audited() -> None:
    dead(1), dead(2, group="nowhere")
    with listening(OrderPlaced, group="billing"):
        code, text = command("replay", "--alias", "order.placed", "--format", "json")
    assert code == 1
    assert (json.loads(text)["done"], json.loads(text)["failed"]) == (1, 1)
    assert AuditEvent.objects.get(action="command.run").data["alias"] == "order.placed"
    assert AuditEvent.objects.filter(action="messaging.replay").count() == 1


def test_the_command_lists_letters_and_causes() -> None:
    dead(1, error="shelf\nsecond line")
    assert command("list")[1].rstrip().endswith("billing  order.placed  shelf")
    assert json.loads(command("list", "--format", "json")[1])["message_id"] == "m1"
    assert command("causes")[1].startswith("1  ")
    assert json.loads(command("causes", "--format", "json")[1])[0]["count"] == 1


def test_a_body_is_corrected_without_showing_what_is_sensitive() -> None:
    row = dead(1, group="stock", alias="stock.moved", body=BODY)
    text = editable(row)
    assert "hunter2" not in text
    body = edited(row, text.replace('"count": 2', '"count": 3'))
    assert json.loads(body) == {"sku": "a-1", "count": 3, "supplier_token": "hunter2"}
    with listening(StockMoved, group="stock"):
        deadletters.replay(row, body=body)
    assert json.loads(bytes(QueuedDelivery.objects.get().body))["count"] == 3
    row.refresh_from_db()
    assert (row.state, bytes(row.body)) == ("replayed", BODY)  # what died stays on record
    assert MessageEvent.objects.get(kind="replayed").detail == "edited"


TWO = b'{"sku":"a","count":1,"items":[{"n":"x","supplier_token":"X"},{"n":"y","supplier_token":"Y"}]}'


def test_a_text_that_is_not_json_is_refused() -> None:
    with pytest.raises(MessagingError, match="not JSON"):
        edited(dead(1), "{")


def test_items_that_changed_places_do_not_change_their_secrets() -> None:
    row = dead(1, alias="stock.moved", body=TWO)
    shown = json.loads(editable(row))
    swapped = {**shown, "items": shown["items"][::-1]}
    for wrong in (
        swapped,
        {**shown, "items": shown["items"][1:]},
        {**shown, "items": [*shown["items"], shown["items"][0]]},
    ):
        with pytest.raises(MessagingError, match="changed or moved"):
            edited(row, json.dumps(wrong))
    kept = json.loads(edited(row, json.dumps({**shown, "count": 2})))
    assert [each["supplier_token"] for each in kept["items"]] == ["X", "Y"]
    shown["items"][1]["supplier_token"] = "Z"
    shown["items"][1]["n"] = "z"
    assert json.loads(edited(row, json.dumps(shown)))["items"][1] == {"n": "z", "supplier_token": "Z"}


def test_numbers_keep_every_digit() -> None:
    body = b'{"number":1,"weight":12345678901234567890.12,"big":123456789012345678901234567890}'
    row = dead(1, body=body)
    assert edited(row, editable(row).replace("\n", "\r\n")) == body
    assert edited(row, editable(row).replace('"number": 1', '"number": 2')) == body.replace(
        b'"number":1', b'"number":2'
    )


@pytest.mark.parametrize("alias", ["order.placed", "stock.moved"])
def test_a_body_that_is_too_deep_is_no_accident_for_the_page(client: Any, alias: str) -> None:
    client.force_login(User.objects.create_superuser("boss"))
    assert client.get(address(dead(1, alias=alias, body=b"[" * 900 + b"]" * 900))).status_code == 200


def test_a_body_that_no_handler_could_read_is_refused_and_nothing_moves() -> None:
    row = dead(1, group="stock", alias="stock.moved", body=BODY)
    with listening(StockMoved, group="stock"), pytest.raises(UnreadableMessageError):
        deadletters.replay(row, body=b'{"sku": 1}')
    assert DeadLetter.objects.dead().exists()
    assert not QueuedDelivery.objects.exists()


def test_the_command_sends_one_again_with_another_body(monkeypatch: pytest.MonkeyPatch) -> None:
    row = dead(1)
    monkeypatch.setattr(sys, "stdin", StringIO('{"number": 8}'))
    with listening(OrderPlaced, group="billing"):
        assert command("resend", str(row.pk)) == (0, "m1\n")
    assert bytes(QueuedDelivery.objects.get().body) == b'{"number":8}'
    with pytest.raises(CommandError, match="settled"):
        command("resend", str(row.pk))


def address(row: DeadLetter) -> str:
    return reverse("admin:koan_messaging_deadletter_resend", args=[row.pk])


def test_the_admin_corrects_one_and_masks_what_is_sensitive(client: Any) -> None:
    client.force_login(User.objects.create_superuser("boss"))
    row = dead(1, group="stock", alias="stock.moved", body=BODY)
    shown = client.get(address(row)).content.decode()
    assert "hunter2" not in shown
    assert "style=" not in shown
    refused = client.post(address(row), {"body": '{"sku": 1}'}).content.decode()
    assert "Expected" in refused
    with listening(StockMoved, group="stock"):
        answer = client.post(address(row), {"body": editable(row).replace("a-1", "a-2")})
    assert answer.status_code == 302
    assert json.loads(bytes(QueuedDelivery.objects.get().body))["supplier_token"] == "hunter2"
    assert AuditEvent.objects.filter(action="admin.resend").exists()
    assert client.get(address(row)).status_code == 404


def test_who_may_only_look_cannot_correct(client: Any) -> None:
    user = User.objects.create_user("looker", is_staff=True)
    user.user_permissions.add(Permission.objects.get(codename="view_deadletter"))
    client.force_login(user)
    assert client.get(address(dead(1))).status_code == 403


@pytest.mark.parametrize("verb", ["list", "causes", "replay", "discard"])
@pytest.mark.parametrize(
    ("option", "value"), [("--fingerprint", "5c1f"), ("--group", "biling"), ("--tenant", "acme"), ("--id", "999999999")]
)
def test_a_filter_that_no_letter_on_record_has_is_an_error_that_names_it(verb: str, option: str, value: str) -> None:
    dead(1)
    with pytest.raises(CommandError, match=f"has {option} {value}") as caught:
        command(verb, option, value, "--alias", "order.placed")
    assert caught.value.returncode == 2
    assert DeadLetter.objects.dead().count() == 1


@pytest.mark.parametrize("more", [(), ("--dry-run",)], ids=["", "dry-run"])
def test_a_change_that_finds_only_settled_letters_is_an_error_and_a_look_is_none(more: tuple[str, ...]) -> None:
    deadletters.discard(dead(1))
    with pytest.raises(CommandError, match="somebody has settled") as caught:
        command("replay", "--group", "billing", *more)
    assert caught.value.returncode == 2
    assert command("list", "--group", "billing") == (0, "")
    assert command("replay", "--all", *more)[0] == 0  # all of nothing is done


def test_an_unknown_reason_is_refused_with_the_known_ones() -> None:
    with pytest.raises(CommandError, match="exhausted"):
        command("list", "--reason", "exausted")


def test_one_letter_is_told_in_the_singular() -> None:
    dead(1)
    assert command("discard", "--all") == (0, "1 dead letter discarded, 0 left as they are\n")
