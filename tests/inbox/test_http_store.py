"""The store of another project, asked over HTTP: the service is a live server with rows behind it."""

from __future__ import annotations

import json
import socket
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import timedelta
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import TYPE_CHECKING, Any

import pytest
from django.conf import settings
from django.core import checks
from django.test import override_settings

from koan_django.core import breaker, rotation
from koan_django.core.context import correlation
from koan_django.core.exceptions import LeaseLostError, StoreUnavailableError
from koan_django.core.retry import RetryPolicy
from koan_django.inbox import examinations
from koan_django.inbox.models import InboxEntry
from koan_django.inbox.scopes import Scope
from koan_django.inbox.service import limits
from koan_django.inbox.stores.http import HttpOptions, HttpStore, key_of
from koan_django.messaging import handlers
from koan_django.testing import static_secrets
from tests.messaging.shop import OrderPlaced, listening

if TYPE_CHECKING:
    from pytest_django.live_server_helper import LiveServer

TOKEN = "client-token-0123456789"
LONG = timedelta(seconds=60)
QUICK = RetryPolicy(max_attempts=3, first_delay=timedelta(milliseconds=10), max_delay=timedelta(milliseconds=20))


def scope(key: str = "k", **parts: str) -> Scope:
    return Scope(
        **{"tenant": "acme", "bus": "main", "group": "billing", "handler": "h", "alias": "a", "key": key, **parts}
    )


def client(url: str, token: str = TOKEN, **options: Any) -> HttpStore:
    return HttpStore(HttpOptions(url=url, token=token, **{"retry": QUICK, "timeout": timedelta(seconds=20), **options}))


@pytest.fixture(autouse=True)
def closed_breaker(db: None) -> Iterator[None]:
    breaker.reset("inbox.http")
    breaker.breakers["inbox.http"].reset()
    yield


@contextmanager
def serving(**tokens: Any) -> Iterator[None]:
    given = tokens or {"client": {"TOKEN": TOKEN, "SCOPES": ["main:billing:", "claim:"]}}
    limits._buckets.clear()
    with override_settings(KOAN={**settings.KOAN, "INBOX": {"SERVICE": {"TOKENS": given}}}):
        yield


@pytest.fixture
def store(live_server: LiveServer) -> Iterator[HttpStore]:
    with serving():
        yield client(f"{live_server.url}/koan/")


# what the doctor asks


@pytest.fixture
def examined(live_server: LiveServer, monkeypatch: pytest.MonkeyPatch) -> Callable[..., list[tuple[str, str]]]:
    """What the doctor says in a project whose handlers are of two groups, with a token of these scopes."""

    def ask(*scopes: str, token: str = TOKEN) -> list[tuple[str, str]]:
        # The service itself, which is this process, must not be a client of its own.
        asked = client(f"{live_server.url}/koan/", token, retry=RetryPolicy(max_attempts=1))
        monkeypatch.setattr(examinations, "configured", lambda: asked)
        known = serving(client={"TOKEN": TOKEN, "SCOPES": list(scopes)})
        with known, listening(OrderPlaced, group="billing"), listening(OrderPlaced, group="search"):
            return [(each.status, each.message) for each in examinations.scopes()]

    return ask


def test_the_doctor_names_the_groups_that_the_token_is_not_good_for(
    examined: Callable[..., list[tuple[str, str]]],
) -> None:
    mine = {"main:billing:", "main:search:"}
    others = sorted({f"{each.bus}:{each.group}:" for each in handlers.every()} - mine)
    [(status, message)] = examined("main:billing:", "claim:", *others)
    assert status == "unhealthy"
    assert "not good for main:search:, so" in message
    assert [status for status, _ in examined("main:", *others)] == ["healthy"]
    assert [status for status, _ in examined("*")] == ["healthy"]


def test_the_doctor_leaves_it_to_readiness_that_a_service_does_not_answer(
    examined: Callable[..., list[tuple[str, str]]],
) -> None:
    assert examined("*", token="another-token-0123456789") == []


def test_the_doctor_asks_for_no_scopes_where_the_store_has_none() -> None:
    assert list(examinations.scopes()) == []


# what a store does


def test_work_is_taken_by_one_renewed_and_done_once(store: HttpStore) -> None:
    with correlation.use("story-1"):
        (first,) = store.begin([scope()], LONG)
    assert first.status == "acquired"
    assert [each.status for each in store.begin([scope(), scope("other")], LONG)] == ["busy", "acquired"]
    assert first.lease is not None
    before = InboxEntry.objects.get(key=key_of(scope())).lease_until
    store.renew([first.lease])
    entry = InboxEntry.objects.get(key=key_of(scope()))
    assert before is not None and entry.lease_until is not None
    assert entry.lease_until > before
    assert entry.correlation_id == "story-1"  # the trail over there tells of the same story
    store.finish([first.lease])
    assert [each.status for each in store.begin([scope()], LONG)] == ["processed"]
    seen = store.look(scope())
    assert (seen.status, seen.held, seen.duplicates) == ("processed", False, 1)
    assert seen.processed_at is not None
    assert store.look(scope("new")).status == "unknown"


def test_work_that_is_given_back_is_begun_again_and_who_was_overtaken_marks_nothing(store: HttpStore) -> None:
    (first,) = store.begin([scope()], LONG)
    assert first.lease is not None
    store.release([first.lease])
    (second,) = store.begin([scope()], LONG)
    assert second.lease is not None
    assert second.lease.token > first.lease.token
    for late in (store.finish, store.renew):
        with pytest.raises(LeaseLostError):
            late([first.lease])
    store.release([first.lease])  # nor take it from who has it now
    assert store.begin([scope()], LONG)[0].status == "busy"
    store.finish([second.lease])


def test_scopes_are_told_apart_and_their_keys_tell_nothing(store: HttpStore) -> None:
    scopes = [scope(), scope(tenant="umbrella"), scope(handler="h2"), scope(alias="b"), scope("\x00/ä" * 2000)]
    webhook = Scope("", "", "", "stripe", "", "evt-1")
    assert [each.status for each in store.begin([*scopes, webhook], LONG)] == ["acquired"] * 6
    keys = set(InboxEntry.objects.values_list("key", flat=True))
    assert len(keys) == 6
    assert {key.rpartition(":")[0] for key in keys} == {"main:billing", "claim"}


def test_a_group_that_the_token_is_not_good_for_is_told_what_to_do(store: HttpStore) -> None:
    with pytest.raises(StoreUnavailableError, match=r"403 out-of-scope.*scopes"):
        store.begin([scope(group="shipping")], LONG)
    store.probe()  # which the token need not be good for


def test_begun_work_of_a_batch_that_fails_is_given_back(store: HttpStore) -> None:
    with pytest.raises(StoreUnavailableError):
        store.begin([scope("1"), scope("2"), scope("3", group="shipping")], LONG)
    assert [each.status for each in store.begin([scope("1"), scope("2")], LONG)] == ["acquired"] * 2


def test_a_token_that_has_rotated_is_asked_for_again(live_server: LiveServer) -> None:
    store = client(f"{live_server.url}/koan", "{{secret:inbox/token}}")
    for current in ("first-token-0123456789", "second-token-0123456789"):
        with static_secrets({"inbox/token": current}), serving(client={"TOKEN": current, "SCOPES": ["*"]}):
            rotation.announce(["inbox/token"])
            store.probe()
    with (
        static_secrets({"inbox/token": "third-token-0123456789"}),
        serving(client={"TOKEN": "fourth-token-0123456789", "SCOPES": ["*"]}),
        pytest.raises(StoreUnavailableError, match="401 wrong-token"),
    ):
        store.probe()


# what may go wrong on the way


@contextmanager
def answering(*answers: Callable[[BaseHTTPRequestHandler], None]) -> Iterator[tuple[str, list[str]]]:
    """A server that answers each request by the next of ``answers``, the last one for ever."""
    left, asked = list(answers), []

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def do_POST(self) -> None:
            asked.append(self.path)
            self.rfile.read(int(self.headers.get("Content-Length", 0)))
            (left.pop(0) if len(left) > 1 else left[0])(self)

        do_GET = do_POST

        def log_message(self, format: str, *args: object) -> None:
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    server.daemon_threads = True
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    try:
        yield f"http://127.0.0.1:{server.server_address[1]}", asked
    finally:
        server.shutdown()
        server.server_close()
        thread.join(20)


def says(status: int, body: object, **headers: str) -> Callable[[BaseHTTPRequestHandler], None]:
    content = body if isinstance(body, bytes) else json.dumps(body).encode()

    def answer(request: BaseHTTPRequestHandler) -> None:
        request.send_response(status)
        request.send_header("Content-Length", str(len(content)))
        for name, value in headers.items():
            request.send_header(name, value)
        request.end_headers()
        request.wfile.write(content)

    return answer


def cut(request: BaseHTTPRequestHandler) -> None:
    """What was asked is done, and the answer does not arrive."""
    request.connection.shutdown(socket.SHUT_RDWR)
    request.close_connection = True


ACQUIRED = {"key": "k", "status": "Acquired", "fencingToken": 7, "leaseSeconds": 60, "expiresAt": "x"}
DONE = {"status": 409, "code": "already-processed"}


@pytest.mark.parametrize(
    "first",
    [cut, says(503, {"code": "unavailable"}), says(429, b"slow"), says(502, b"<html>")],
    ids=["cut", "unavailable", "slow", "proxy"],
)
def test_what_may_pass_is_tried_again(first: Any) -> None:
    with answering(first, says(200, ACQUIRED)) as (url, asked):
        (begun,) = client(url).begin([scope()], LONG)
    assert begun.lease is not None
    assert begun.lease.token == 7
    assert asked == ["/v1/inbox/try-begin"] * 2


def test_a_mark_whose_answer_was_lost_is_done_and_one_of_another_worker_is_not() -> None:
    with answering(says(200, ACQUIRED), cut, says(409, DONE)) as (url, _):
        store = client(url)
        (begun,) = store.begin([scope()], LONG)
        assert begun.lease is not None
        store.finish([begun.lease])
        with pytest.raises(LeaseLostError):
            store.finish([begun.lease])  # nothing was lost on the way this time: somebody else has done it


@pytest.mark.parametrize(
    ("answer", "why"),
    [
        (says(302, b"", Location="http://127.0.0.1:1/stolen"), "it answered 302"),
        (says(200, b"<html>hello</html>"), "something else listens there"),
        (says(200, [1]), "something else listens there"),
        (says(200, {"status": "x" * 70_000}), "more than 65536 bytes"),
        (says(401, {"code": "wrong-token"}), "401 wrong-token"),
    ],
    ids=["redirect", "page", "list", "flood", "token"],
)
def test_what_is_no_answer_of_the_service_is_no_answer(answer: Any, why: str) -> None:
    with answering(answer) as (url, asked):
        with pytest.raises(StoreUnavailableError, match=why) as raised:
            client(url).begin([scope()], LONG)
        assert {path.split("?")[0] for path in asked} == {"/v1/inbox/try-begin"}
    assert TOKEN not in str(raised.value)


def test_a_service_that_is_away_is_asked_three_times_and_then_left_alone_by_the_breaker() -> None:
    with answering(cut) as (url, asked):
        store = client(url)
        for _ in range(5):
            with pytest.raises(StoreUnavailableError, match="cannot be asked"):
                store.probe()
        assert len(asked) == 15
        with pytest.raises(StoreUnavailableError, match="is open"):
            store.probe()
        assert len(asked) == 15


def test_a_service_that_says_nothing_is_given_up_in_time() -> None:
    with socket.create_server(("127.0.0.1", 0)) as silent:
        url = f"http://127.0.0.1:{silent.getsockname()[1]}"
        store = client(url, timeout=timedelta(milliseconds=100))
        with pytest.raises(StoreUnavailableError, match="timed out"):
            store.probe()


def test_a_token_that_nobody_knows_is_told_without_asking() -> None:
    with static_secrets({}), answering(cut) as (url, asked):
        with pytest.raises(StoreUnavailableError, match="inbox/token"):
            client(url, "{{secret:inbox/token}}").probe()
        assert asked == []


# settings


def told(**inbox: Any) -> str:
    with override_settings(KOAN={**settings.KOAN, "INBOX": inbox}):
        found = checks.run_checks()
    return " ".join(f"{each.id} {each.msg}" for each in found if (each.id or "").startswith("koan_inbox."))


@pytest.mark.parametrize(
    ("options", "text"),
    [
        ({"TOKEN": TOKEN}, "['URL']: is required"),
        ({"URL": "https://inbox"}, "['TOKEN']: is required"),
        ({"URL": "ftp://inbox", "TOKEN": TOKEN}, "URL must be http:// or https://"),
        ({"URL": "http://user:pw@inbox", "TOKEN": TOKEN}, "URL must be http:// or https://"),
        ({"URL": "http://inbox:port/", "TOKEN": TOKEN}, "URL must be http:// or https://"),
        ({"URL": "http://inbox/?x=1", "TOKEN": TOKEN}, "URL must be http:// or https://"),
        ({"URL": "https://inbox", "TOKEN": ""}, "TOKEN must not be empty"),
        ({"URL": "https://inbox", "TOKEN": TOKEN, "TIMEOUT": 0}, "TIMEOUT must be"),
    ],
    ids=["no-url", "no-token", "scheme", "user", "port", "query", "empty", "timeout"],
)
def test_options_that_are_wrong_are_told_and_the_token_is_not(options: dict[str, Any], text: str) -> None:
    found = told(STORE="http", OPTIONS=options)
    assert text in found
    assert TOKEN not in found
    assert "pw@" not in found


def test_a_service_never_stands_on_a_service(live_server: LiveServer) -> None:
    loop = {"STORE": "http", "OPTIONS": {"URL": f"{live_server.url}/koan", "TOKEN": TOKEN}}
    tokens = {"client": {"TOKEN": TOKEN, "SCOPES": ["*"]}}
    assert "koan_inbox.E004" in told(**loop, SERVICE={"TOKENS": tokens})
    assert "koan_inbox.E004" not in told(**loop)
    with (
        override_settings(KOAN={**settings.KOAN, "INBOX": {**loop, "SERVICE": {"TOKENS": tokens}}}),
        pytest.raises(StoreUnavailableError, match="503 loop"),
    ):
        client(f"{live_server.url}/koan").begin([scope()], LONG)
