"""Services of the inbox that are found by their name, over a real broker; what strangers say there is not believed."""

from __future__ import annotations

import json
import logging
import os
import signal
import socket
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import datetime, timedelta
from io import StringIO
from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

import pytest
from amqp.basic_message import Message
from django.core import checks
from django.core.management import CommandError, call_command
from django.db import connection, connections
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from koan_django import inbox
from koan_django.core import breaker, doctor, facts, health, rotation
from koan_django.core.context import new_id
from koan_django.core.exceptions import StoreUnavailableError
from koan_django.core.models import HealthFact
from koan_django.core.retry import RetryPolicy
from koan_django.core.telemetry import Event, subscribe
from koan_django.inbox.discovery import announcing, asking, bus, examinations, finding, signing, statements
from koan_django.inbox.discovery.announcing import Announcer
from koan_django.inbox.discovery.options import AnnounceOptions, DiscoveryOptions
from koan_django.inbox.discovery.refusals import RefusedError
from koan_django.inbox.discovery.statements import Ping, Service
from koan_django.inbox.exceptions import ServiceConflictError, ServiceNotFoundError
from koan_django.inbox.models import InboxEntry
from koan_django.inbox.panels import inbox_panel
from koan_django.inbox.scopes import Scope
from koan_django.inbox.service import limits
from koan_django.inbox.stores.http import HttpOptions, HttpStore
from koan_django.testing import override_koan, static_secrets
from tests.inbox.test_http_store import answering, says
from tests.messaging.test_rotation import Users, url_of
from tests.messaging.test_wire import MILLISECONDS
from tests.messaging.wire import Wire, wired
from tests.services.fixtures import StartProcess
from tests.services.process import Process
from tests.services.proxy import Proxy
from tests.services.rabbitmq import RabbitMQ, Vhost
from tests.services.waiting import free_port, wait_until

if TYPE_CHECKING:
    from pytest_django.live_server_helper import LiveServer

pytestmark = pytest.mark.django_db(transaction=True)

ROOT = Path(__file__).parents[2]
KEY, OTHER_KEY, FOREIGN_KEY = "k" * 32, "o" * 32, "f" * 32
TOKEN = "client-token-0123456789"
SECRETS = {"inbox/key": KEY, "inbox/other-key": OTHER_KEY}
TOKENS = {"client": {"TOKEN": TOKEN, "SCOPES": ["*"]}}
QUICK = RetryPolicy(max_attempts=3, first_delay=timedelta(milliseconds=10), max_delay=timedelta(milliseconds=20))
SCOPE = Scope("", "main", "billing", "h", "a", "k")
LONG = timedelta(seconds=60)
NOWHERE = "amqp://guest:wrong-pa55@127.0.0.1:1/"


@pytest.fixture(autouse=True)
def quick(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Announcers lose no time; what other tests have left behind is gone."""
    often = {"LOOK": 0.05, "PAUSE": 0.1, "CHECK": 0.2, "FRESH": 0.0, "CONFLICT": 0.3, "TAKEOVER": 0.3}
    for name, seconds in often.items():
        monkeypatch.setattr(announcing, f"{name}_SECONDS", seconds)
    monkeypatch.setattr(announcing, "OTHERS_TIMEOUT", timedelta(milliseconds=300))
    limits._buckets.clear()
    breaker.reset("inbox.http")
    breaker.breakers["inbox.http"].reset()
    with static_secrets(SECRETS):
        yield
    finding.forget()


@contextmanager
def meeting(
    url: str, store: str = "database", store_options: Any = None, unavailable: str = "raise", **discovery: Any
) -> Iterator[None]:
    """Meet on the broker at ``url``: by the same settings as clients and as services."""
    usual = {"KEYS": ["{{secret:inbox/key}}"], "TIMEOUT": 20}  # for a machine that is busy
    section = {"STORE": store, "OPTIONS": store_options or {}, "UNAVAILABLE": unavailable}
    with override_koan(
        MESSAGING={"BUSES": {"main": {"URL": url}}},
        INBOX={**section, "SERVICE": {"TOKENS": TOKENS}, "DISCOVERY": usual | discovery},
    ):
        yield


@pytest.fixture
def here(vhost: Vhost) -> Iterator[None]:
    with meeting(vhost.url):
        yield


@pytest.fixture
def here_with_time(vhost: Vhost) -> Iterator[None]:
    """Several services are heard though the machine is busy."""
    with meeting(vhost.url, SELECTION_WAIT=1):
        yield


@pytest.fixture(name="users")
def users_of_the_broker(vhost: Vhost) -> Iterator[Users]:
    made = Users(vhost)
    yield made
    made.close()


@pytest.fixture
def here_without_broker() -> Iterator[None]:
    with meeting(NOWHERE):
        yield


@contextmanager
def announced(url: str, name: str = "shop", wait: bool = True, **given: Any) -> Iterator[Announcer]:
    """Have the service at ``url`` announced for the block."""
    announcer = Announcer(AnnounceOptions(name=name, url=url, **given))
    announcer.start()
    try:
        if wait:
            wait_until(lambda: not announcer.trouble, 30, "the service to be announced")
        yield announcer
    finally:
        announcer.stop(30)
        assert not announcer.is_alive()


@contextmanager
def counting(prefix: str) -> Iterator[list[Event]]:
    found: list[Event] = []
    end = subscribe(found.append, prefix)
    try:
        yield found
    finally:
        end()


def client(name: str = "shop") -> HttpStore:
    return HttpStore(HttpOptions(url=f"discover:{name}", token=TOKEN, retry=QUICK, timeout=timedelta(seconds=20)))


@pytest.fixture
def url(live_server: LiveServer) -> str:
    """A service that is there."""
    return f"{live_server.url}/koan"


def under_another_name(url: str) -> str:
    """The same by an address that nobody would take for it."""
    assert "localhost" in url or "127.0.0.1" in url
    return url.replace("localhost", "127.0.0.1") if "localhost" in url else url.replace("127.0.0.1", "localhost")


@contextmanager
def announced_after(other: Announcer, **given: Any) -> Iterator[Announcer]:
    """Have the service of ``other`` announced by another address, which listens long enough to hear of that one."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(announcing, "OTHERS_TIMEOUT", timedelta(seconds=3))
        with announced(under_another_name(other.service.url), wait=False, **given) as second:
            yield second


# found


def test_the_defaults_are_those_that_are_promised() -> None:
    found = DiscoveryOptions()
    assert (found.timeout, found.expiry) == (timedelta(seconds=3), timedelta(seconds=2))
    assert (found.selection_wait, found.cache) == (timedelta(milliseconds=150), timedelta(minutes=5))


def test_a_running_service_is_found_within_three_seconds_and_asked(vhost: Vhost, url: str) -> None:
    with (
        meeting(vhost.url, TIMEOUT=3),
        announced(url, store="one", priority=3),
        counting("inbox.discover") as events,
    ):
        (begun,) = client().begin([SCOPE], LONG)
        assert begun.lease is not None
        client().finish([begun.lease])
        assert [each.status for each in client().begin([SCOPE], LONG)] == ["processed"]
    assert [each.phase for each in events] == ["start", "stop"]  # and kept
    assert InboxEntry.objects.count() == 1
    (fact,) = [each for each in facts.own() if each.subject == "inbox.service.shop"]
    assert (fact.selection, "priority 3" in fact.reason) == (url, True)


class Looking(threading.Thread):
    """A thread that leaves no connection to the database behind, as each must."""

    def run(self) -> None:
        try:
            super().run()
        finally:
            connections.close_all()


def test_a_service_that_starts_while_somebody_looks_is_heard(vhost: Vhost, url: str) -> None:
    with meeting(vhost.url, TIMEOUT=20), wired(vhost.url) as wire:
        heard = listener(wire)
        found: list[str] = []
        looking = Looking(target=lambda: found.append(finding.find("shop")))
        looking.start()
        taken(wire, heard)  # the question that nobody answers
        with announced(url):
            looking.join(30)
        assert found == [url]


def test_threads_that_look_at_once_ask_once_and_a_child_goes_by_what_its_parent_found(here: None, url: str) -> None:
    with announced(url), counting("inbox.discover") as events:
        found: list[str] = []
        threads = [Looking(target=lambda: found.append(finding.find("shop"))) for _ in range(5)]
        for each in threads:
            each.start()
        for each in threads:
            each.join(30)
        assert found == [url] * 5
        with finding._lock:  # as another thread might hold it
            child = os.fork()
            if not child:
                os._exit(0 if finding.find("shop") == url and not finding._lock.locked() else 1)
        assert os.waitpid(child, 0)[1] == 0
    assert len(events) == 2


def test_what_was_found_is_looked_for_again_after_a_while(vhost: Vhost, url: str) -> None:
    with meeting(vhost.url, CACHE=1), announced(url), counting("inbox.discover") as events:
        assert finding.find("shop") == url
        wait_until(lambda: finding.find("shop") == url and len(events) > 2, 30, "the cache to end")


def test_the_best_of_those_with_one_memory_is_selected_and_another_one_when_it_fails(
    here_with_time: None, url: str
) -> None:
    better = f"http://127.0.0.1:{free_port()}"
    with announced(url, store="one", priority=1), lying(better, store="one", priority=9) as lie:
        assert finding.find("shop") == better
        facts_now = {each.subject: each for each in facts.own()}
        assert [each.name for each in facts_now["inbox.service.shop"].alternatives] == [url]
        (begun,) = client().begin([SCOPE], LONG)  # it refuses, and the other one is asked
        assert begun.status == "acquired"
        assert finding.find("shop") == url
        finding.forget()
        lie.set()
        assert finding.find("shop") == url


ACQUIRED = {"key": "k", "status": "Acquired", "fencingToken": 7, "leaseSeconds": 60, "expiresAt": "x"}


@pytest.mark.parametrize(("status", "looks"), [(429, 1), (503, 2)], ids=["too-many", "unavailable"])
def test_a_service_that_fails_is_looked_for_once_more_and_one_that_is_busy_is_not(
    here: None, status: int, looks: int
) -> None:
    with (
        answering(says(status, {}), says(status, {}), says(200, ACQUIRED)) as (url, asked),
        lying(url),
        counting("inbox.discover") as events,
    ):
        (begun,) = client().begin([SCOPE], LONG)
    assert begun.status == "acquired"
    assert len(asked) == 3
    assert [each.phase for each in events].count("stop") == looks


def test_a_key_rotates_one_side_after_the_other(vhost: Vhost, url: str) -> None:
    old, new = "{{secret:inbox/key}}", "{{secret:inbox/other-key}}"
    for service, customer in (([old], [old, new]), ([new, old], [old, new]), ([new, old], [new])):
        with meeting(vhost.url, KEYS=service):
            said = statements.announcement(Service("shop", url, url, "i"), signing.keys()[0])
        with meeting(vhost.url, KEYS=customer):
            assert statements.read_service(said, "shop", "", signing.keys()).url == url


# not found


def test_without_a_service_nothing_is_handled_or_all_as_the_policy_says(vhost: Vhost) -> None:
    http = {"URL": "discover:shop", "TOKEN": TOKEN}
    with (
        meeting(vhost.url, "http", http, TIMEOUT=1),
        pytest.raises(ServiceNotFoundError, match="nobody has answered"),
        inbox.claim("stripe", "evt-1"),
    ):
        pass
    with meeting(vhost.url, "http", http, "process", TIMEOUT=1), inbox.claim("stripe", "evt-1") as claim:
        assert not claim.duplicate
    with meeting(vhost.url, "http", http, TIMEOUT=1):
        probed = {each.name: each for each in health.ready().findings}["inbox"]
        assert (probed.status, "'shop' was found" in probed.message) == ("unhealthy", True)


def test_who_waited_for_somebody_who_looked_in_vain_does_not_look_again(vhost: Vhost) -> None:
    with meeting(vhost.url, TIMEOUT=1), counting("inbox.discover") as events:
        raised: list[Exception] = []

        def look() -> None:
            try:
                finding.find("shop")
            except StoreUnavailableError as error:
                raised.append(error)

        threads = [Looking(target=look) for _ in range(8)]
        for each in threads:
            each.start()
        for each in threads:
            each.join(30)
    assert len(raised) == 8
    assert len(events) < 8


def test_a_broker_that_is_away_is_told_without_its_password(caplog: pytest.LogCaptureFixture) -> None:
    with meeting(NOWHERE), pytest.raises(StoreUnavailableError, match="cannot be looked for") as raised:
        finding.find("shop")
    assert "wrong-pa55" not in str(raised.value) + caplog.text


def test_a_broker_that_says_nothing_is_given_up() -> None:
    with socket.create_server(("127.0.0.1", 0)) as silent:
        place = f"amqp://127.0.0.1:{silent.getsockname()[1]}/"
        with meeting(place, TIMEOUT=1), pytest.raises(StoreUnavailableError, match=r"cannot be reached.*timed out"):
            finding.find("shop")


def test_a_network_that_stands_still_is_a_service_that_is_not_found(vhost: Vhost, url: str) -> None:
    with (
        Proxy.before(vhost.url) as proxy,
        meeting(vhost.url),
        announced(url),
        meeting(proxy.url(vhost.url), TIMEOUT=3),
    ):
        assert finding.find("shop") == url
        finding.forget()
        proxy.pause("down")
        with pytest.raises(StoreUnavailableError, match="cannot be looked for"):
            finding.find("shop")
        proxy.resume()
        assert wait_until(lambda: finding.find("shop"), 30, errors=(StoreUnavailableError,)) == url


def test_a_service_whose_address_nobody_answers_is_not_announced(
    vhost: Vhost, caplog: pytest.LogCaptureFixture
) -> None:
    with meeting(vhost.url, TIMEOUT=1), pytest.MonkeyPatch.context() as patch:
        patch.setattr(announcing, "BEGINNING_SECONDS", 0.0)
        with announced(f"http://127.0.0.1:{free_port()}", wait=False) as announcer:
            wait_until(lambda: "Refused" in announcer.trouble, 30, "the trouble")
            assert announcer.finding().status == "unhealthy"
            with pytest.raises(ServiceNotFoundError):
                finding.find("shop")
        assert caplog.text.count("is not announced") == 1


def test_a_service_that_fails_for_a_while_is_not_found_until_it_is_back(vhost: Vhost) -> None:
    well = threading.Event()
    well.set()

    def answer(request: Any) -> None:
        says(*((200, {"openapi": "3.1.0"}) if well.is_set() else (503, {})))(request)

    with meeting(vhost.url), answering(answer) as (url, _), announced(url) as announcer:
        assert finding.find("shop") == url
        for _ in range(2):
            well.clear()
            wait_until(lambda: "it answered 503" in announcer.trouble, 30, "the failure to be noticed")
            with meeting(vhost.url, TIMEOUT=1), pytest.raises(ServiceNotFoundError):
                finding.find("shop")
            well.set()
            wait_until(lambda: not announcer.trouble, 30, "the service to be announced again")
            assert finding.find("shop") == url
        assert announcer.finding().status == "healthy"


# two with one name


def test_two_services_with_one_name_and_two_memories_are_an_error_of_clients(here_with_time: None, url: str) -> None:
    other = under_another_name(url)
    with announced(url, store="one"), lying(other, store="two"):
        with pytest.raises(ServiceConflictError, match="duplicates would be missed") as raised:
            finding.find("shop")
        assert url in str(raised.value)
        assert other in str(raised.value)


def test_a_second_service_with_another_memory_stays_silent_and_says_why(
    here: None, url: str, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(announcing, "BEGINNING_SECONDS", 0.0)
    with announced(url, store="one") as first, announced_after(first, store="two") as second:
        wait_until(lambda: "duplicates would be missed" in second.trouble, 30, "the conflict")
        assert finding.find("shop") == url
        assert second.finding().status == "unhealthy"
        first.stop(30)
        wait_until(lambda: not second.trouble, 30, "the second one to take over")
    assert "is not announced: several inbox services are called 'shop'" in caplog.text


def test_services_that_meet_while_they_run_say_so_until_one_is_gone(here: None, url: str) -> None:
    with announced(url, store="one") as announcer:
        with lying(under_another_name(url), store="two"):
            wait_until(lambda: announcer.finding().status == "unhealthy", 30, "the conflict to be told")
            assert "several inbox services" in announcer.finding().message
        wait_until(lambda: announcer.finding().status == "healthy", 30, "the conflict to end")


# what is not believed


def listener(wire: Wire) -> str:
    """A queue of a stranger who hears every question."""
    wire.channel.exchange_declare("koan..broadcast", "topic", durable=True, auto_delete=False)
    queue = wire.queue(f"stranger-{new_id()}")
    wire.channel.queue_bind(queue, "koan..broadcast", "ping.#")
    return queue


def taken(wire: Wire, queue: str) -> Any:
    return wait_until(lambda: wire.channel.basic_get(queue, no_ack=True), 30, "a question")


@contextmanager
def lying(url: str, **given: Any) -> Iterator[threading.Event]:
    """Somebody who holds the key answers for ``url`` until the event is set, wherever that leads."""
    enough = threading.Event()
    said = Service("shop", url, **{"store": url, "instance": f"liar-{url}", **given})
    place, keys = bus._bus().url or "", signing.keys()

    def answer() -> None:
        with wired(place) as wire:
            queue = listener(wire)
            wire.channel.basic_publish(
                Message(statements.announcement(said, keys[0])), "koan..broadcast", bus.announcements("shop")
            )
            ready.set()
            while not enough.wait(0.01):
                message = wire.channel.basic_get(queue, no_ack=True)
                if message is not None:
                    asked = statements.read_ping(bytes(message.body), "shop", keys)
                    wire.publish(asked.answer_to, statements.answer(said, asked.nonce, keys[0]))

    ready = threading.Event()
    thread = threading.Thread(target=answer)
    thread.start()
    assert ready.wait(30)
    try:
        yield enough
    finally:
        enough.set()
        thread.join(30)


def honest(nonce: str, **changed: Any) -> bytes:
    """The content of an answer, with something in it that is otherwise."""
    now = int(time.time() * 1000)
    fields = {"kind": "answer", "tenant": "", "name": "shop", "issuedAt": now, "expiresAt": now + 2000, "nonce": nonce}
    fields |= {"url": "http://10.0.0.7", "store": "s", "instance": "visible-trap", "protocol": 1, "priority": 0}
    return json.dumps(fields | changed).encode()


def _signed(**changed: Any) -> Callable[[str], bytes]:
    return lambda nonce: signing.signed(honest(nonce, **changed), KEY.encode())


def _later(seconds: float) -> dict[str, int]:
    return {"issuedAt": int((time.time() + seconds) * 1000), "expiresAt": int((time.time() + seconds + 2) * 1000)}


BAD: dict[str, tuple[str, Callable[[str], bytes]]] = {
    "unsigned": ("unsigned", honest),
    "forged": ("forged", lambda nonce: signing.signed(honest(nonce), FOREIGN_KEY.encode())),
    "altered": ("forged", lambda nonce: _signed()(nonce).replace(b"10.0.0.7", b"10.0.0.8")),
    "other-purpose": ("forged", lambda nonce: b"0" * 64 + b"." + honest(nonce)),
    "expired": ("expired", lambda nonce: _signed(**_later(-60))(nonce)),
    "early": ("early", lambda nonce: _signed(**_later(60))(nonce)),
    "eternal": ("expired", lambda nonce: _signed(expiresAt=2**53)(nonce)),
    "replayed": ("stray", lambda nonce: _signed()("another")),
    "other-tenant": ("foreign", _signed(tenant="umbrella")),
    "other-name": ("foreign", _signed(name="bakery")),
    "question": ("unreadable", _signed(kind="ping")),
    "own-question": ("unexpected", _signed(kind="ping", answerTo="q")),
    "unknown-kind": ("unreadable", _signed(kind=["answer"])),
    "wrong-type": ("unreadable", _signed(priority="high")),
    "true-priority": ("unreadable", _signed(priority=True)),
    "list": ("unreadable", lambda nonce: signing.signed(b"[1]", KEY.encode())),
    "junk": ("unsigned", lambda nonce: b"\xff\x00" * 50),
    "signed-junk": ("unreadable", lambda nonce: signing.signed(b"\xff\x00" * 50, KEY.encode())),
    "empty": ("unsigned", lambda nonce: b""),
    "oversize": ("oversize", _signed(instance="visible-trap" * 500)),
    "user": ("address", _signed(url="http://user:visible-trap@10.0.0.7")),
    "scheme": ("address", _signed(url="file:///etc/visible-trap")),
    "query": ("address", _signed(url="http://10.0.0.7/?visible-trap")),
    "metadata": ("address", _signed(url="http://169.254.169.254/visible-trap")),
    "metadata-mapped": ("address", _signed(url="http://[::ffff:169.254.169.254]/visible-trap")),
    "everywhere": ("address", _signed(url="http://0.0.0.0/visible-trap")),
    "escape": ("address", _signed(url="http://10.0.0.7/\r\nvisible-trap")),
    "backslash": ("address", _signed(url="http://10.0.0.7\\@evil/visible-trap")),
    "other-host": ("address", _signed(url="http://evil.example/visible-trap")),
}


def test_whatever_is_not_an_answer_to_this_question_is_left_out_counted_and_not_shown(
    vhost: Vhost, caplog: pytest.LogCaptureFixture
) -> None:
    """All of them at once: each would be the only service that answers."""
    caplog.set_level(logging.DEBUG, "koan_django")
    found: list[Service] = []
    with meeting(vhost.url, TIMEOUT=25, HOSTS=["10.0.0.7"]), wired(vhost.url) as wire, counting("inbox.") as events:
        heard = listener(wire)
        looking = Looking(target=lambda: found.extend(asking.ask("shop")))
        looking.start()
        question = taken(wire, heard)
        nonce = statements.read_ping(bytes(question.body), "shop", [KEY.encode()]).nonce
        for _, made in BAD.values():
            wire.publish(question.properties["reply_to"], made(nonce), content_encoding="utf-16")
        wait_until(lambda: len(events) >= len(BAD), 30, "all of them to be heard")
        strange = {"application_headers": {"at": datetime(2000, 1, 1)}}  # which no client of Python could decode
        wire.publish_raw(question.properties["reply_to"], _signed()(nonce), MILLISECONDS, **strange)
        looking.join(30)
    assert [each.url for each in found] == ["http://10.0.0.7"]
    assert [each.metadata["reason"] for each in events] == [reason for reason, _ in BAD.values()]
    assert "does not believe what it hears" in caplog.text
    assert "visible-trap" not in caplog.text


@pytest.mark.parametrize("seconds", [-20, 20])
def test_clocks_may_be_a_little_apart(here: None, seconds: float) -> None:
    said = _signed(**_later(seconds))("n")
    assert statements.read_service(said, "shop", "n", [KEY.encode()]).url == "http://10.0.0.7"


_VALUES = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=20), lambda inner: st.lists(inner)
)


@given(
    st.dictionaries(st.sampled_from([*json.loads(honest("n")), "answerTo"]), _VALUES, max_size=4)
    | st.dictionaries(st.just("url"), st.from_regex(r"https?://[^ ]{0,30}"), min_size=1)
)
@settings(max_examples=60, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_whatever_a_holder_of_the_key_says_is_a_service_or_refused(
    here_without_broker: None, said: dict[str, Any]
) -> None:
    try:
        content = json.dumps(json.loads(honest("n")) | said).encode()
        found = statements.read_service(signing.signed(content, KEY.encode()), "shop", "n", [KEY.encode()])
    except RefusedError:
        return
    assert (found.name, type(found.priority), type(found.protocol)) == ("shop", int, int)
    place = urlsplit(found.url)
    assert place.scheme in ("http", "https")
    assert place.hostname
    assert place.username is None


def test_a_flood_that_is_not_believed_takes_no_more_than_the_time_to_look(vhost: Vhost) -> None:
    with meeting(vhost.url, TIMEOUT=3), wired(vhost.url) as wire:
        heard = listener(wire)
        raised: list[Exception] = []

        def look() -> None:
            try:
                finding.find("shop")
            except ServiceNotFoundError as error:
                raised.append(error)

        looking = Looking(target=look)
        looking.start()
        place = taken(wire, heard).properties["reply_to"]
        while looking.is_alive():
            wire.publish(place, b"x" * 20_000)
        looking.join(30)
        (error,) = raised
        assert f"what was heard is not believed: {asking.refusals.text}" in str(error)
    assert "unsigned" in asking.refusals.text or "oversize" in asking.refusals.text


def test_a_question_that_is_not_believed_is_not_answered(vhost: Vhost, url: str) -> None:
    with meeting(vhost.url), announced(url) as announcer, wired(vhost.url) as wire, counting("inbox.") as events:
        queue = wire.queue("koan..broadcast.stranger")
        good = statements.ping(Ping("shop", "n", queue), KEY.encode())
        late = signing.signed(json.dumps({**json.loads(good.partition(b".")[2]), **_later(-60)}).encode(), KEY.encode())
        for body in (b"", b"junk", good[:-1], statements.ping(Ping("shop", "n", queue), FOREIGN_KEY.encode()), late):
            wire.channel.basic_publish(Message(body, reply_to=queue), "koan..broadcast", "ping..shop")
        elsewhere = statements.ping(Ping("shop", "n", wire.queue("work")), KEY.encode())
        wire.channel.basic_publish(Message(elsewhere), "koan..broadcast", "ping..shop")
        wire.channel.basic_publish(Message(good, reply_to="work"), "koan..broadcast", "ping..shop")
        wait_until(lambda: wire.depth(queue) == 1, 30, "the only answer")
        assert statements.read_service(bytes(wire.take(queue)[0].body), "shop", "n", [KEY.encode()]).url == url
        assert wire.depth("work") == 0  # no question has anything put into a queue of others
        assert announcer._refusals.text == "1 expired, 2 forged, 2 unsigned"
        told = announcer.finding()
        assert (told.status, "2 forged" in told.message) == ("degraded", True)
        assert [each.metadata["where"] for each in events if each.name == "inbox.discovery_refused"] == [
            "announcing"
        ] * 5


def test_health_tells_that_somebody_says_what_is_not_believed(vhost: Vhost, url: str) -> None:
    with meeting(vhost.url), announced(url), wired(vhost.url) as wire:
        heard = listener(wire)
        looking = Looking(target=finding.find, args=["shop"])
        end = threading.Event()

        def lie() -> None:
            while not end.wait(0.001):  # without a pause nobody is heard on a machine that is busy
                wire.channel.basic_publish(Message(b"lie"), "koan..broadcast", bus.announcements("shop"))

        assert heard
        liar = threading.Thread(target=lie)
        liar.start()
        looking.start()
        looking.join(30)
        end.set()
        liar.join(30)
        told = {each.name: each for each in health.aggregate().findings}["inbox.discovery"]
    assert (told.status, "unsigned" in told.message) == ("degraded", True)


# the broker goes away


def test_a_service_is_found_again_after_the_broker_has_crashed_and_the_one_that_was_silent_is_silent_still(
    own_rabbitmq: RabbitMQ, url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(announcing, "BEGINNING_SECONDS", 0.0)
    monkeypatch.setattr(announcing, "TAKEOVER_SECONDS", 30.0)
    with (
        meeting(own_rabbitmq.url),
        announced(url, store="one") as announcer,
        announced_after(announcer, store="two") as silent,
    ):
        assert finding.find("shop") == url
        wait_until(lambda: "several inbox services" in silent.trouble, 30, "the second one to see the first")
        own_rabbitmq.kill()
        try:
            wait_until(lambda: announcer.trouble, 60, "the crash to be noticed")
        finally:
            own_rabbitmq.revive()
        wait_until(lambda: not announcer.trouble, 60, "the service to be announced again")
        finding.forget()
        assert finding.find("shop") == url
        wait_until(lambda: "several inbox services" in silent.trouble, 30, "the second one to see it again")


def test_credentials_that_rotate_do_not_make_a_service_silent(vhost: Vhost, url: str, users: Users) -> None:
    users.set("app", "f1rst-pa55")
    place = url_of(vhost, f"{users.name('app')}:{{{{secret:broker-password}}}}")
    with (
        static_secrets(SECRETS | {"broker-password": "f1rst-pa55"}),
        meeting(place),
        counting("inbox.announced") as events,
        announced(url),
    ):
        assert finding.find("shop") == url
        users.set("app", "sec0nd-pa55")
        with static_secrets(SECRETS | {"broker-password": "sec0nd-pa55"}):
            rotation.announce(["broker-password"])
            wait_until(lambda: len(events) == 2, 30, "the service to connect with the new ones, and announce anew")
            finding.forget()
            assert finding.find("shop") == url


def test_a_user_who_may_nothing_else_takes_part(vhost: Vhost, url: str, users: Users) -> None:
    users.set("app", "a-pa55w0rd")
    ours = "^koan\\.\\.broadcast"
    allowed = {"configure": ours, "read": ours, "write": rf"{ours}|^amq\.default$"}
    vhost.broker.api("PUT", f"permissions/{vhost.name}/{users.name('app')}", allowed)
    with meeting(url_of(vhost, f"{users.name('app')}:a-pa55w0rd")), announced(url):
        assert finding.find("shop") == url


# settings, commands


def told(**inbox: Any) -> list[str]:
    with override_koan(INBOX=inbox):
        found = checks.run_checks(include_deployment_checks=True)
    return [f"{each.id} {each.msg}" for each in found if (each.id or "").startswith("koan_inbox.")]


SHOP = {"NAME": "shop", "URL": "http://inbox:8080"}


@pytest.mark.parametrize(
    ("discovery", "text"),
    [
        ({"KEYS": ["short"]}, "KEYS must have at least 32 characters"),
        ({"KEYS": [KEY] * 9}, "KEYS must be at most 8"),
        ({"TENANT": "a b"}, "can be no tenant's name"),
        ({"TIMEOUT": 0.1}, "TIMEOUT must be"),
        ({"SELECTION_WAIT": 3}, "SELECTION_WAIT must be shorter"),
        ({"EXPIRY": 60}, "EXPIRY must be"),
        ({"CACHE": 0}, "CACHE must be"),
        ({"CLOCK_SKEW": 600}, "CLOCK_SKEW must be"),
        ({"HOSTS": ["http://inbox"]}, "HOSTS must be hosts"),
        ({"HOSTS": ["inbox:8000"]}, "HOSTS must be hosts"),
        ({"ANNOUNCE": {**SHOP, "NAME": "a.b"}}, "NAME: 'a.b' must be letters"),
        ({"ANNOUNCE": {**SHOP, "URL": "http://user:visible-trap@inbox"}}, "URL must have no user"),
        ({"ANNOUNCE": {**SHOP, "STORE": "a b"}}, "STORE must be letters"),
        ({"ANNOUNCE": {**SHOP, "PRIORITY": 1001}}, "PRIORITY must be"),
        ({"ANNOUNCE": SHOP, "HOSTS": ["other"]}, "URL of ANNOUNCE is at none of HOSTS"),
        ({"ANNOUNCE": {"NAME": "shop"}}, "['URL']: is required"),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
def test_options_that_are_wrong_are_told(discovery: dict[str, Any], text: str) -> None:
    found = " ".join(told(DISCOVERY=discovery))
    assert "koan_inbox.E001 KOAN['INBOX']['DISCOVERY']" in found
    assert text in found
    assert "visible-trap" not in found


@pytest.mark.parametrize(
    ("buses", "discovery", "texts"),
    [
        ({"main": {"URL": "amqp://h"}}, {"KEYS": [KEY]}, ["W005 Development default"]),
        ({"main": {"URL": "amqp://h"}}, {"KEYS": ["{{secret:k}}"]}, []),
        ({"main": {"URL": "amqp://h"}}, {}, ["E005 KOAN['INBOX']['DISCOVERY']: KEYS is empty"]),
        ({"main": {"URL": "database://"}}, {"KEYS": ["{{secret:k}}"]}, ["is database://: BUS must name one"]),
        ({"main": {}}, {"KEYS": ["{{secret:k}}"]}, ["E005", "BUS must name one"]),
        ({"main": {}}, {"KEYS": ["{{secret:k}}"], "BUS": "mian"}, ["there is no bus 'mian'; did you mean 'main'?"]),
        (
            {"main": {"URL": "amqp://h", "FAILOVER": ["amqp://i"]}},
            {"KEYS": ["{{secret:k}}"]},
            ["is on several brokers"],
        ),
    ],
    ids=["plain-key", "good", "no-key", "database", "elected", "unknown", "failover"],
)
def test_what_cannot_be_found_or_announced_by_these_settings_is_an_error(
    buses: dict[str, Any], discovery: dict[str, Any], texts: list[str]
) -> None:
    client = {"STORE": "http", "OPTIONS": {"URL": "discover:shop", "TOKEN": "{{secret:inbox/token}}"}}
    with override_koan(MESSAGING={"BUSES": buses}):
        for section in (client | {"DISCOVERY": discovery}, {"DISCOVERY": {"ANNOUNCE": SHOP, **discovery}}):
            found = [each for each in told(**section) if "E005" in each or "W005" in each]
            assert len(found) == bool(texts)
            assert all(text in found[0] for text in texts)
        assert not [each for each in told(DISCOVERY=discovery) if "E005" in each]  # who does neither needs nothing


def test_who_asks_another_service_announces_none() -> None:
    http = {"STORE": "http", "OPTIONS": {"URL": "https://inbox", "TOKEN": "{{secret:inbox/token}}"}}
    assert any("E005" in each and "STORE 'http'" in each for each in told(**http, DISCOVERY={"ANNOUNCE": SHOP}))


@pytest.mark.parametrize("written", ["discover:", "discover:a.b", "discover://shop", "DISCOVER:shop", "discover:a b"])
def test_a_name_that_nobody_could_have_is_told(written: str) -> None:
    found = " ".join(told(STORE="http", OPTIONS={"URL": written, "TOKEN": TOKEN}))
    assert "or discover:NAME" in found


def test_the_doctor_asks_the_bus(vhost: Vhost, url: str) -> None:
    http = {"URL": "discover:shop", "TOKEN": TOKEN}
    with meeting(vhost.url, "http", http, TIMEOUT=1):
        nobody = {each.name: each for each in doctor.examine()}["inbox.service.shop"]
        assert (nobody.status, "announces this name" in nobody.remedy) == ("unhealthy", True)
    with meeting(vhost.url, ANNOUNCE={"NAME": "shop", "URL": url}, TIMEOUT=1):
        (silent,) = examinations.services()
        assert (silent.name, silent.status) == ("inbox.announced.shop", "unhealthy")
        assert "koan_inbox_announce" in silent.remedy
    with meeting(vhost.url, ANNOUNCE={"NAME": "shop", "URL": url}), announced(url):
        (said,) = examinations.services()
        assert said.status == "healthy"
    with (
        meeting(vhost.url, "http", http, SELECTION_WAIT=1),
        lying(url, store="one"),
        lying(url + "/2", store="one"),
    ):
        (well,) = examinations.services()
        assert (well.name, well.status) == ("inbox.service.shop", "healthy")
        assert f"{url} (store one" in well.message
        assert f"also {url}/2" in well.message
        assert "not looked for yet in this process" in {line.value for line in inbox_panel()}
        finding.find("shop")
        assert url in {line.value for line in inbox_panel()}
        with lying(url + "/3", store="two"):
            (torn,) = examinations.services()
            assert (torn.status, "another NAME" in torn.remedy) == ("unhealthy", True)
    with meeting(vhost.url), override_koan(MESSAGING={"BUSES": {"main": {"URL": vhost.url}}}):
        assert list(examinations.services()) == []  # who does neither needs none


PROGRAM = """
import django, json, sys
django.setup()
from django.core.management import CommandError, call_command
from django.db import connection
from koan_django.testing import override_koan

override_koan(**json.loads(sys.argv[1])).enable()
call_command("koan_inbox_announce")
"""


def announcing_alone(process: StartProcess, koan: dict[str, Any]) -> Process:
    env = {
        **os.environ,
        "DJANGO_SETTINGS_MODULE": "tests.messaging.child_settings",
        "KOAN_CHILD_DATABASE": str(connection.settings_dict["NAME"]),
    }
    return process("announcer", [sys.executable, "-c", PROGRAM, json.dumps(koan)], env=env, cwd=ROOT)


def test_the_command_announces_until_it_is_told_to_end(vhost: Vhost, url: str, process: StartProcess) -> None:
    discovery = {"KEYS": [KEY], "ANNOUNCE": {"NAME": "shop", "URL": url}}
    koan = {"MESSAGING": {"BUSES": {"main": {"URL": vhost.url}}}, "INBOX": {"DISCOVERY": discovery}}
    child = announcing_alone(process, koan)
    with meeting(vhost.url, TIMEOUT=20):
        assert finding.find("shop") == url
        wait_until(HealthFact.objects.filter(name="inbox.announcing", status="healthy").exists, 30, "its health")
        child.send(signal.SIGTERM)
        assert child.wait(30) == 0, child.tail()
        assert not HealthFact.objects.exists()
    finding.forget()
    with meeting(vhost.url, TIMEOUT=1), pytest.raises(ServiceNotFoundError):
        finding.find("shop")
    assert KEY not in child.output


def test_a_command_that_can_announce_nothing_says_why_and_ends_with_2(vhost: Vhost) -> None:
    for discovery, why in (({}, "ANNOUNCE names no service"), ({"KEYS": [], "ANNOUNCE": SHOP}, "KEYS is empty")):
        with meeting(vhost.url, **discovery), pytest.raises(CommandError, match=why) as raised:
            call_command("koan_inbox_announce")
        assert raised.value.returncode == 2


def test_effective_settings_show_no_key(here: None) -> None:
    out = StringIO()
    call_command("koan_doctor", "--settings", stdout=out, stderr=out)
    assert "['DISCOVERY']['KEYS'] = ****" in out.getvalue()
