"""The inbox over HTTP: who may ask, what is answered, and what each wrong request is told."""

from __future__ import annotations

import json
import logging
import os
from collections.abc import Iterator
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
from django.conf import settings
from django.core import checks
from django.core.management import call_command
from django.db import OperationalError
from django.test import Client, override_settings
from django.utils import timezone

from koan_django.core import rotation
from koan_django.core.telemetry import Event, subscribe
from koan_django.inbox.models import InboxEntry
from koan_django.inbox.service import limits, openapi
from koan_django.inbox.stores.database import DatabaseStore
from koan_django.testing import override_koan, static_secrets

pytestmark = [pytest.mark.django_db, pytest.mark.database]

DOCUMENT = Path(__file__).parents[2] / "docs/reference/inbox-openapi.json"
BILLING, EVERYTHING = "billing-token-0123456789", "everything-token-0123456789"
TOKENS: dict[str, Any] = {
    "billing": {"TOKEN": "{{secret:inbox/billing}}", "SCOPES": ["main:billing:", "main:invoices:"]},
    "everything": {"TOKEN": EVERYTHING, "SCOPES": ["*"]},
}


@pytest.fixture(autouse=True)
def service() -> Iterator[None]:
    with static_secrets({"inbox/billing": BILLING}), serving(TOKENS):
        limits._buckets.clear()
        yield


def serving(tokens: dict[str, Any], **options: Any) -> Any:
    """These tokens and no others."""
    return override_settings(KOAN={**settings.KOAN, "INBOX": {"SERVICE": {"TOKENS": tokens, **options}}})


class Inbox:
    """A client that a browser's session would not help."""

    def __init__(self, token: str = BILLING) -> None:
        self.client = Client(
            enforce_csrf_checks=True, raise_request_exception=False, headers={"authorization": f"Bearer {token}"}
        )

    def get(self, key: str, **headers: str) -> Any:
        return self.client.get(f"/koan/v1/inbox/{key}", headers=headers)

    def post(self, operation: str, body: object = None, **fields: object) -> Any:
        content = body if isinstance(body, bytes) else json.dumps(fields if body is None else body).encode()
        return self.client.generic("POST", f"/koan/v1/inbox/{operation}", content, "application/json")

    def begin(self, key: str = "main:billing:1", **fields: object) -> dict[str, Any]:
        answer = self.post("try-begin", key=key, **fields)
        assert answer.status_code == 200, answer.content
        found: dict[str, Any] = answer.json()
        return found


@pytest.fixture
def inbox() -> Inbox:
    return Inbox()


def problem(answer: Any) -> tuple[int, str]:
    """The status and the code; every error looks alike."""
    assert answer["Content-Type"] == "application/problem+json"
    body = answer.json()
    assert set(body) == {"type", "title", "status", "code", "detail"}
    assert (body["status"], body["type"]) == (answer.status_code, f"urn:koan:inbox:{body['code']}")
    return answer.status_code, body["code"]


def overdue() -> None:
    """The lease of the only entry has ended."""
    InboxEntry.objects.update(lease_until=timezone.now() - timedelta(seconds=1))


# what it does


def test_work_is_begun_by_one_marked_by_its_token_and_then_known(inbox: Inbox) -> None:
    unknown = inbox.get("main:billing:1").json()
    assert (unknown["status"], unknown["firstSeen"]) == ("Unknown", None)
    begun = inbox.begin(leaseSeconds=30)
    assert (begun["status"], begun["leaseSeconds"]) == ("Acquired", 30)
    assert inbox.begin() == {"key": "main:billing:1", "status": "Busy"}
    seen = inbox.get("main:billing:1").json()
    assert (seen["status"], seen["attempts"]) == ("Processing", 1)
    assert seen["leased"] is True
    assert "fencingToken" not in seen  # or anybody who may look could mark another's work
    marked = inbox.post("mark-processed", key="main:billing:1", fencingToken=begun["fencingToken"])
    assert (marked.status_code, marked.json()["status"]) == (200, "Processed")
    assert inbox.begin()["status"] == "Processed"
    seen = inbox.get("main:billing:1").json()
    assert (seen["status"], seen["duplicates"], seen["leased"]) == ("Processed", 1, False)


def test_a_mark_that_is_sent_again_is_told_that_the_work_is_done(inbox: Inbox) -> None:
    token = inbox.begin()["fencingToken"]
    assert inbox.post("mark-processed", key="main:billing:1", fencingToken=token).status_code == 200
    answer = inbox.post("mark-processed", key="main:billing:1", fencingToken=token)
    assert problem(answer) == (409, "already-processed")


def test_work_that_was_never_begun_is_marked_without_a_token(inbox: Inbox) -> None:
    for _ in range(2):
        assert inbox.post("mark-processed", key="main:billing:1").json()["status"] == "Processed"
    assert InboxEntry.objects.get().duplicates == 1
    assert inbox.begin()["status"] == "Processed"


def test_what_is_released_is_begun_again_at_once_under_a_higher_token(inbox: Inbox) -> None:
    first = inbox.begin()["fencingToken"]
    assert inbox.post("release", key="main:billing:1", fencingToken=first).json()["status"] == "Released"
    assert inbox.begin()["fencingToken"] > first


def test_a_lease_that_is_renewed_holds_for_another_while(inbox: Inbox) -> None:
    token = inbox.begin(leaseSeconds=5)["fencingToken"]
    before = InboxEntry.objects.get().lease_until
    renewed = inbox.post("renew", key="main:billing:1", fencingToken=token, leaseSeconds=120)
    assert (renewed.status_code, renewed.json()["status"]) == (200, "Renewed")
    after = InboxEntry.objects.get().lease_until
    assert before is not None and after is not None
    assert (after - before).total_seconds() > 100


def test_keys_of_the_service_are_not_those_of_this_projects_handlers(inbox: Inbox) -> None:
    inbox.begin()
    assert InboxEntry.objects.get().handler == "http"


# leases that do not hold


@pytest.mark.parametrize("operation", ["mark-processed", "renew", "release"])
def test_a_foreign_fencing_token_is_refused_and_changes_nothing(inbox: Inbox, operation: str) -> None:
    token = inbox.begin()["fencingToken"]
    assert problem(inbox.post(operation, key="main:billing:1", fencingToken=token + 1)) == (409, "foreign-token")
    assert problem(inbox.post(operation, key="main:billing:2", fencingToken=token)) == (409, "foreign-token")
    entry = InboxEntry.objects.get()
    assert (entry.state, entry.lease_token) == ("processing", token)
    assert inbox.begin()["status"] == "Busy"


@pytest.mark.parametrize("operation", ["renew", "release"])
def test_an_expired_lease_is_refused(inbox: Inbox, operation: str) -> None:
    token = inbox.begin()["fencingToken"]
    overdue()
    assert problem(inbox.post(operation, key="main:billing:1", fencingToken=token)) == (409, "lease-expired")


def test_an_expired_lease_marks_nothing_once_somebody_else_has_begun(inbox: Inbox) -> None:
    late = inbox.begin()["fencingToken"]
    overdue()
    now = inbox.begin()["fencingToken"]
    answer = inbox.post("mark-processed", key="main:billing:1", fencingToken=late)
    assert problem(answer) == (409, "foreign-token")
    assert inbox.post("mark-processed", key="main:billing:1", fencingToken=now).status_code == 200
    answer = inbox.post("mark-processed", key="main:billing:1", fencingToken=late)
    assert problem(answer) == (409, "already-processed")


def test_a_mark_without_a_token_does_not_overrule_who_holds_the_lease(inbox: Inbox) -> None:
    inbox.begin()
    answer = inbox.post("mark-processed", key="main:billing:1")
    assert problem(answer) == (409, "busy")
    assert int(answer["Retry-After"]) > 0
    assert InboxEntry.objects.get().state == "processing"


# who asks


def test_without_a_token_or_with_a_wrong_one_nothing_is_told() -> None:
    for header in ("", "Basic abc", "Bearer", f"Basic {BILLING}"):
        answer = Client(headers={"authorization": header}).get("/koan/v1/inbox/k")
        assert problem(answer) == (401, "no-token")
        assert answer["WWW-Authenticate"].startswith("Bearer ")
    for wrong in (BILLING[:-1], BILLING + "0", "\xe9" * 20, "x" * 5000):
        assert problem(Inbox(wrong).get("main:billing:1")) == (401, "wrong-token")
        assert problem(Inbox(wrong).post("try-begin", key="main:billing:1")) == (401, "wrong-token")
    assert not InboxEntry.objects.exists()


@pytest.mark.parametrize("key", ["main:shipping:1", "main:billing", "other:billing:1"])
def test_a_token_is_good_for_its_scopes_only(inbox: Inbox, key: str) -> None:
    assert problem(inbox.get(key)) == (403, "out-of-scope")
    for operation in ("try-begin", "mark-processed"):
        assert problem(inbox.post(operation, key=key)) == (403, "out-of-scope")
    for operation in ("renew", "release"):
        assert problem(inbox.post(operation, key=key, fencingToken=1)) == (403, "out-of-scope")
    assert not InboxEntry.objects.exists()
    assert Inbox(EVERYTHING).begin(key)["status"] == "Acquired"


def test_a_token_that_has_rotated_counts_from_then_on(tmp_path: Path) -> None:
    secret = tmp_path / "billing"
    secret.write_text("old-token-0123456789")
    providers = {
        "file": {
            "BACKEND": "koan_django.secrets.providers.file.FileProvider",
            "OPTIONS": {"root": str(tmp_path)},
        }
    }
    tokens = {"billing": {"TOKEN": "{{secret:file:billing}}", "SCOPES": ["*"]}}
    from koan_django.secrets import resolver

    before = resolver.replace(None)
    try:
        with serving(tokens), override_koan(SECRETS={"CHAIN": ["file"], "PROVIDERS": providers}):
            assert Inbox("old-token-0123456789").get("k").status_code == 200
            secret.write_text("new-token-0123456789")
            os.utime(secret, (1, 1))
            rotation.announce(["billing"])
            assert Inbox("new-token-0123456789").get("k").status_code == 200
            assert problem(Inbox("old-token-0123456789").get("k")) == (401, "wrong-token")
    finally:
        resolver.replace(before)


@pytest.mark.parametrize(
    "tokens",
    [
        {},
        {"billing": {"TOKEN": "{{secret:inbox/nobody-has-it}}", "SCOPES": ["*"]}},
        {"billing": {"TOKEN": "tooshort", "SCOPES": ["*"]}},
    ],
    ids=["none", "unknown", "short"],
)
def test_where_tokens_cannot_be_checked_nobody_is_told_that_theirs_is_wrong(
    tokens: dict[str, Any], caplog: pytest.LogCaptureFixture
) -> None:
    with serving(tokens), caplog.at_level(logging.ERROR):
        answer = Inbox("tooshort").get("k")
    assert problem(answer) == (503, "no-tokens")
    assert int(answer["Retry-After"]) > 0
    assert len(caplog.records) == 1
    assert "tooshort" not in caplog.text


def test_a_token_that_asks_too_often_is_told_when_to_come_again_and_the_others_go_on() -> None:
    tokens = {**TOKENS, "slow": {"TOKEN": "slow-token-0123456789", "SCOPES": ["*"], "RATE": 3}}
    with serving(tokens):
        slow = Inbox("slow-token-0123456789")
        answers = [slow.get("k") for _ in range(20)]
        refused = [answer for answer in answers if answer.status_code != 200]
        assert answers[0].status_code == 200
        assert refused
        assert {problem(answer) for answer in refused} == {(429, "too-many")}
        assert refused[0]["Retry-After"] == "1"
        assert Inbox().get("main:billing:1").status_code == 200


def test_no_token_is_ever_said(inbox: Inbox, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(*args: object) -> None:
        raise OperationalError(f"could not connect with {BILLING}")

    monkeypatch.setattr(DatabaseStore, "look", fail)
    answer = inbox.get("main:billing:1")
    assert problem(answer) == (503, "unavailable")
    assert "does not answer" in caplog.text
    monkeypatch.setattr(DatabaseStore, "look", lambda *_: 1 / 0)
    failed = inbox.get("main:billing:1")
    assert problem(failed) == (500, "failed")
    for text in (caplog.text, answer.content.decode(), failed.content.decode()):
        assert BILLING not in text


# requests that are wrong


@pytest.mark.parametrize(
    ("body", "detail"),
    [
        (b" ", "not JSON"),
        (b"{", "not JSON"),
        (b"\xff", "not JSON"),
        (b"[" * 3000, "not JSON"),
        ([], "not an object"),
        ({}, "key is missing"),
        ({"key": None}, "key is not text"),
        ({"key": ""}, "key must have 1 to 255 characters"),
        ({"key": "x" * 256}, "key must have 1 to 255 characters"),
        ({"key": "a/b"}, "key may hold letters"),
        ({"key": "a b"}, "key may hold letters"),
        ({"key": "a\n"}, "key may hold letters"),
        ({"key": "../x"}, "key may hold letters"),
        ({"key": "release"}, "key is a word of the service"),
        ({"key": "main:billing:1", "lease_seconds": 5}, "unknown field; did you mean 'leaseSeconds'?"),
        ({"key": "main:billing:1", "leaseSeconds": 4}, "leaseSeconds must be between 5 and 120"),
        ({"key": "main:billing:1", "leaseSeconds": True}, "leaseSeconds is not a whole number"),
        ({"key": "main:billing:1", "leaseSeconds": "60"}, "leaseSeconds is not a whole number"),
    ],
    ids=lambda value: str(value)[:40],
)
def test_a_body_that_is_wrong_is_told_what(inbox: Inbox, body: object, detail: str) -> None:
    answer = inbox.post("try-begin", body)
    assert problem(answer)[0] == 400
    assert detail in answer.json()["detail"]
    assert not InboxEntry.objects.exists()


@pytest.mark.parametrize("key", ["", "a/b", "a%20b", "a%0a", "%2e%2e", "x" * 256])
def test_an_address_whose_key_can_be_none_is_a_problem_and_no_page(inbox: Inbox, key: str) -> None:
    assert problem(inbox.get(key)) == (400, "invalid")


def test_a_body_over_the_limit_is_refused(inbox: Inbox) -> None:
    body = json.dumps({"key": "main:billing:1"}).encode().ljust(4097)
    assert problem(inbox.post("try-begin", body)) == (413, "too-large")
    assert not InboxEntry.objects.exists()
    assert inbox.post("try-begin", body[:4096]).status_code == 200
    with serving(TOKENS, MAX_BODY=512):
        assert problem(inbox.post("try-begin", body[:513])) == (413, "too-large")


def test_other_methods_and_types_are_refused(inbox: Inbox) -> None:
    answer = inbox.client.put("/koan/v1/inbox/k")
    assert problem(answer) == (405, "method")
    assert answer["Allow"] == "GET, HEAD"
    answer = inbox.client.get("/koan/v1/inbox/try-begin")
    assert problem(answer) == (405, "method")
    assert answer["Allow"] == "POST"
    form = inbox.client.post("/koan/v1/inbox/try-begin", {"key": "main:billing:1"})
    assert problem(form) == (415, "not-json")


def test_what_is_asked_and_what_is_refused_are_events(inbox: Inbox) -> None:
    seen: list[Event] = []
    unsubscribe = subscribe(seen.append, "inbox.")
    try:
        inbox.begin()
        inbox.get("elsewhere")
    finally:
        unsubscribe()
    told = [(event.name, event.phase, event.metadata.get("code")) for event in seen]
    assert told == [
        ("inbox.serve", "start", None),
        ("inbox.serve", "stop", None),
        ("inbox.serve", "start", None),
        ("inbox.refused", "fact", "out-of-scope"),
        ("inbox.serve", "stop", None),
    ]


# the document


def test_the_document_is_the_one_that_is_kept_printed_and_served() -> None:
    kept = json.loads(DOCUMENT.read_text())
    assert kept == openapi.document(), "manage.py koan_inbox_openapi > docs/reference/inbox-openapi.json"
    assert Client().get("/koan/v1/inbox/openapi.json").json() == kept


def test_the_command_prints_what_is_kept(capsys: pytest.CaptureFixture[str]) -> None:
    call_command("koan_inbox_openapi")
    assert capsys.readouterr().out == DOCUMENT.read_text()


# checks


def found(**inbox: Any) -> dict[str, str]:
    with override_settings(KOAN={**settings.KOAN, "INBOX": inbox}):
        told = checks.run_checks(include_deployment_checks=True)
    return {each.id: each.msg for each in told if (each.id or "").startswith("koan_inbox.")}


@pytest.mark.parametrize(
    ("service", "text"),
    [
        ({"TOKENS": {"a": {"SCOPES": ["*"]}}}, "['TOKEN']: is required"),
        ({"TOKENS": {"a": {"TOKEN": BILLING}}}, "['SCOPES']: is required"),
        ({"TOKENS": {"a": {"TOKEN": BILLING, "SCOPES": []}}}, "SCOPES must name"),
        ({"TOKENS": {"a": {"TOKEN": BILLING, "SCOPES": [""]}}}, "SCOPES must name"),
        ({"TOKENS": {"a": {"TOKEN": BILLING, "SCOPES": ["*"], "RATE": 0}}}, "RATE must be"),
        ({"TOKENS": {"a b": {"TOKEN": BILLING, "SCOPES": ["*"]}}}, "must be letters"),
        ({"MAX_BODY": 1}, "MAX_BODY must be"),
    ],
    ids=["token", "scopes", "empty", "blank", "rate", "name", "body"],
)
def test_options_that_are_wrong_are_told_and_tokens_are_not(service: dict[str, Any], text: str) -> None:
    (told,) = found(SERVICE=service).values()
    assert text in told
    assert BILLING not in told


def test_a_service_that_lets_nobody_in_and_a_token_in_the_settings_are_told() -> None:
    assert "lets nobody in" in found()["koan_inbox.W002"]
    told = found(SERVICE={"TOKENS": TOKENS})
    assert "'everything'" in told["koan_inbox.W003"]
    assert EVERYTHING not in told["koan_inbox.W003"]
    assert set(found(SERVICE={"TOKENS": {"billing": TOKENS["billing"]}})) == set()
