"""What is known about failures: of real libraries, of records, of what apps add."""

from __future__ import annotations

import json
import socket
import ssl
import subprocess
import sys
import urllib.error
from collections.abc import Iterator
from email.message import Message
from io import StringIO
from typing import Any

import amqp
import kombu.exceptions
import pytest
import redis.exceptions
from billiard.exceptions import SoftTimeLimitExceeded, WorkerLostError
from botocore.exceptions import ClientError, EndpointConnectionError
from django.core.exceptions import ValidationError
from django.core.management import CommandError, call_command
from django.db import IntegrityError, OperationalError, ProgrammingError
from hypothesis import given
from hypothesis import strategies as st

from koan_django.core import hints
from koan_django.core.admin.guidance import Guided
from koan_django.core.classification import PERMANENT, is_transient
from koan_django.core.commands import AuditedCommand
from koan_django.core.exceptions import KoanError, LeaseLostError, RegistrationError, StoreUnavailableError
from koan_django.core.hints import Hint
from koan_django.inbox.exceptions import ServiceNotFoundError


def client_error(code: str, status: int = 400) -> ClientError:
    answer: Any = {"Error": {"Code": code, "Message": "no"}, "ResponseMetadata": {"HTTPStatusCode": status}}
    return ClientError(answer, "PutObject")


def http(status: int) -> urllib.error.HTTPError:
    return urllib.error.HTTPError("http://shop/orders/429", status, "no", Message(), None)


#: Each as its library raises it.
REAL: list[tuple[BaseException, str, bool]] = [
    (
        OperationalError('connection to server at "db", port 5432 failed: Connection refused'),
        "database.unreachable",
        True,
    ),
    (OperationalError("FATAL: sorry, too many clients already"), "database.connections", True),
    (OperationalError('FATAL:  password authentication failed for user "koan"'), "database.login", True),
    (OperationalError("database is locked"), "database.locked", True),
    (OperationalError("deadlock detected"), "database.deadlock", True),
    (
        OperationalError(1213, "Deadlock found when trying to get lock"),
        "database.deadlock",
        True,
    ),
    (OperationalError(1020, "Record has changed since last read in table 'x'"), "database.deadlock", True),
    (OperationalError(1205, "Lock wait timeout exceeded; try restarting transaction"), "database.locked", True),
    (OperationalError("canceling statement due to statement timeout"), "database.timeout", True),
    (OperationalError("no such table: shop_order"), "database.schema", False),
    (ProgrammingError('relation "shop_order" does not exist'), "database.schema", False),
    (IntegrityError("UNIQUE constraint failed: shop_order.number"), "database.constraint", True),
    (kombu.exceptions.OperationalError("[Errno 111] Connection refused"), "broker.unreachable", True),
    (amqp.exceptions.ConnectionForced("broker shuts down"), "broker.unreachable", True),
    (amqp.exceptions.AccessRefused("no"), "broker.login", False),
    (amqp.exceptions.NotFound("no queue"), "broker.missing", False),
    (amqp.exceptions.PreconditionFailed("inequivalent arg"), "broker.mismatch", False),
    (amqp.exceptions.ResourceLocked("exclusive"), "broker.locked", True),
    (kombu.exceptions.EncodeError("not JSON"), "broker.content", False),
    (redis.exceptions.ConnectionError("Error 111"), "redis.unreachable", True),
    (redis.exceptions.AuthenticationError("WRONGPASS"), "redis.login", False),
    (redis.exceptions.ReadOnlyError("replica"), "redis.busy", True),
    (StoreUnavailableError("Redis is away"), "redis.unreachable", True),
    (StoreUnavailableError("the store of inbox in Redis does not answer"), "redis.unreachable", True),
    (StoreUnavailableError("the inbox at http://a cannot be asked", why="it answered 403"), "inbox.unreachable", True),
    (ServiceNotFoundError("no inbox service 'a' was found"), "inbox.unreachable", True),
    (EndpointConnectionError(endpoint_url="http://s3"), "s3.unreachable", True),
    (client_error("AccessDenied", 403), "s3.access", False),
    (client_error("403", 403), "s3.access", False),
    (client_error("NoSuchBucket", 404), "s3.bucket", False),
    (client_error("NoSuchKey", 404), "s3.missing", False),
    (client_error("SlowDown", 503), "s3.busy", True),
    (client_error("InvalidAccessKeyId", 403), "s3.credentials", False),
    (client_error("RequestTimeTooSkewed", 403), "s3.clock", False),
    (socket.gaierror(-2, "Name or service not known"), "dns.unknown_host", True),
    (ssl.SSLCertVerificationError("certificate has expired"), "tls.certificate", False),
    (ssl.SSLEOFError("EOF"), "tls.failed", True),
    (ConnectionRefusedError(111, "Connection refused"), "network.refused", True),
    (BrokenPipeError(32, "Broken pipe"), "network.broken", True),
    (TimeoutError("timed out"), "network.timeout", True),
    (OSError(28, "No space left on device"), "disk.full", True),
    (OSError(24, "Too many open files"), "process.files", True),
    (http(429), "http.rate_limited", True),
    (http(503), "http.unavailable", True),
    (http(408), "http.unavailable", True),
    (http(401), "http.unauthorized", False),
    (http(404), "http.rejected", False),
    (http(501), "http.rejected", False),
    (urllib.error.URLError("no route"), "http.unreachable", True),
    (SoftTimeLimitExceeded(), "work.time_limit", True),
    (WorkerLostError("signal 9"), "work.lost", True),
    (LeaseLostError("gone"), "lease.lost", True),
]


@pytest.mark.parametrize(
    ("error", "code", "transient"), REAL, ids=[f"{code}-{n}" for n, (_, code, _t) in enumerate(REAL)]
)
def test_the_errors_of_libraries_are_known(error: BaseException, code: str, transient: bool) -> None:
    hint = hints.explain(error)
    assert hint is not None
    assert (hint.code, is_transient(error)) == (code, transient)
    # and so are those that were written down
    kind = type(error)
    if any(name == f"{kind.__module__}.{kind.__qualname__}" for name in hint.errors):
        assert hints.explain_text(str(error), f"{kind.__module__}.{kind.__qualname__}") == hint


@pytest.mark.parametrize(
    ("text", "code"),
    [
        ("OperationalError: database is locked", "database.locked"),
        ("ConnectionRefusedError: [Errno 111] Connection refused", "network.refused"),
        ("ConnectionError: reset", "network.broken"),
        ("the broker at h cannot be reached: gaierror: [Errno -2] Name or service not known", "dns.unknown_host"),
        ("HTTPError: 429 Client Error: Too Many Requests for url: http://h/500", "http.rate_limited"),
    ],
)
def test_a_line_of_a_record_is_recognised(text: str, code: str) -> None:
    hint = hints.explain_text(text)
    assert hint is not None
    assert hint.code == code


@pytest.mark.parametrize("text", ["", "ValueError: x", "nothing: here", "OperationalError: something new"])
def test_what_is_not_known_is_not_guessed(text: str) -> None:
    assert hints.explain_text(text) is None


@given(st.sampled_from([error for error, _, _ in REAL]), st.booleans())
def test_an_exception_that_says_it_itself_is_believed(error: BaseException, said: bool) -> None:
    kind = type(error)
    mine = type("Mine", (kind,), {"transient": said})
    assert is_transient(mine.__new__(mine)) is said


@given(st.sampled_from(PERMANENT), st.integers(0, 4))
def test_what_is_below_a_permanent_error_is_permanent(kind: type[BaseException], depth: int) -> None:
    for _ in range(depth):
        kind = type("Below", (kind,), {})
    assert not is_transient(kind.__new__(kind))


@given(st.lists(st.booleans(), min_size=1, max_size=6))
def test_of_the_classes_above_an_error_the_nearest_that_is_known_decides(known: list[bool]) -> None:
    """``known``: for each class of a chain, topmost first, whether there is a hint, each with the opposite verdict."""
    base: type[BaseException] = Exception
    registered, expected = [], None
    with removed(registered):
        for depth, is_known in enumerate(known):
            base = type(f"Level{depth}", (base,), {"__module__": "chain", "__qualname__": f"Level{depth}"})
            if is_known:
                hint = made(f"chain.{depth}", transient=depth % 2 == 0, errors=(f"chain.Level{depth}",))
                hints.register(hint)
                registered.append(hint)
                expected = hint
        assert hints.explain(base("x")) == expected
        assert is_transient(base("x")) is (True if expected is None else expected.transient)


def made(code: str, **fields: Any) -> Hint:
    return Hint(**{"code": code, "transient": True, "what": "A.", "why": "B.", "fix": "C.", "errors": (), **fields})


class removed:
    """Takes the hints out of the catalogue again."""

    def __init__(self, registered: list[Hint]) -> None:
        self.registered = registered

    def __enter__(self) -> None: ...

    def __exit__(self, *exc_info: object) -> None:
        for hint in self.registered:
            del hints._by_code[hint.code]
            for known in hints._by_name.values():
                if hint in known:
                    known.remove(hint)


class Declined(Exception):
    """Of an app."""


@pytest.fixture
def declined() -> Iterator[Hint]:
    hint = made("shop.declined", transient=False, errors=(f"{__name__}.Declined",), text="card")
    hints.register(hint)
    with removed([hint]):
        yield hint


def test_apps_add_their_own(declined: Hint) -> None:
    hints.register(declined)  # a module that is imported twice
    assert hints.explain(Declined("the card was declined")) == declined
    assert hints.explain(Declined("no")) is None
    with pytest.raises(RegistrationError, match=r"'shop\.declined' is defined twice"):
        hints.register(made("shop.declined"))


def test_a_later_hint_is_asked_first(declined: Hint) -> None:
    later = made("shop.later", errors=declined.errors, text="card")
    hints.register(later)
    with removed([later]):
        assert hints.explain(Declined("card")) == later


def test_the_catalogue_is_written_for_people() -> None:
    for hint in hints.catalogue():
        assert all(text.endswith(".") and text[0].isupper() for text in (hint.what, hint.why)), hint.code
        assert hint.fix.rstrip(".")[:1].isupper() and hint.fix.endswith("."), hint.code
        assert hint.errors, hint.code


def test_no_library_is_imported_for_it() -> None:
    program = (
        "import sys, koan_django.core.hints, koan_django.core.known_failures\n"
        "libraries = ('amqp', 'kombu', 'redis', 'botocore', 'hvac', 'requests', 'django')\n"
        "print([name for name in libraries if name in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


def test_the_admin_shows_what_to_do() -> None:
    class Row:
        error_type, last_error = "django.db.utils.OperationalError", "database is locked <b>"

    shown = Guided().guidance(Row())
    assert "SQLite has one writer at a time" in shown
    assert "[database.locked]" in shown
    Row.error_type, Row.last_error = "builtins.ValueError", "x"
    assert Guided().guidance(Row()) == "-"


def test_a_command_explains() -> None:
    out = StringIO()
    call_command("koan_explain", "OperationalError: database is locked", stdout=out)
    assert out.getvalue().startswith("[database.locked] A row or the whole database was locked")
    out = StringIO()
    call_command("koan_explain", "broker.mismatch", format="json", stdout=out)
    assert [each["code"] for each in json.loads(out.getvalue())] == ["broker.mismatch"]
    out = StringIO()
    call_command("koan_explain", stdout=out)
    assert len(out.getvalue().splitlines()) == len(hints.catalogue())
    with pytest.raises(CommandError, match="nothing is known"):
        call_command("koan_explain", "what is this")


def test_the_traceback_of_a_command_ends_with_what_to_do() -> None:
    class Failing(AuditedCommand):
        requires_system_checks = []

        def is_audited(self, options: dict[str, Any]) -> bool:
            return False

        def handle(self, *args: Any, **options: Any) -> None:
            raise OSError(28, "No space left on device")

    with pytest.raises(OSError, match="No space left") as caught:
        Failing().run_from_argv(["manage.py", "failing"])
    assert caught.value.__notes__[0].startswith("[disk.full] The disk is full.")


def test_the_log_of_a_failed_event_says_what_to_do(caplog: pytest.LogCaptureFixture) -> None:
    from koan_django.core.logs import log_event
    from koan_django.core.telemetry import Event

    with caplog.at_level("WARNING", "koan_django"):
        log_event(Event("storage.put", "exception", {}, 0.1, OSError(28, "No space left on device")))
    assert "hint=[disk.full] The disk is full." in caplog.text


def test_errors_of_our_own_say_it_by_themselves() -> None:
    assert not is_transient(KoanError("x"))
    assert not is_transient(ValidationError("x"))


def test_half_a_megabyte_of_dots_is_read_once() -> None:
    assert list(hints._WRITTEN.finditer("a." * 250_000)) == []
    assert [found[1] for found in hints._WRITTEN.finditer("x\nshop.errors.Late: a.B: no")] == [
        "shop.errors.Late",
        "a.B",
    ]
