"""Secrets are masked by the name of their key and by their value, on error pages too."""

from __future__ import annotations

import base64
import html
import json
import logging
import threading
from collections.abc import Iterator
from typing import Any
from urllib.parse import quote, quote_plus

import django
import pytest
from django.conf import global_settings
from django.core import mail
from django.http import HttpRequest, HttpResponse
from django.test import Client, RequestFactory, override_settings
from django.urls import path
from django.utils.log import AdminEmailHandler
from django.views.debug import get_default_exception_reporter_filter
from hypothesis import given
from hypothesis import strategies as st

from koan_django.core import redaction
from koan_django.core.error_pages import RedactingReporter, RedactingReporterFilter
from koan_django.core.redaction import MASK, forget_value, redact, redact_text, register_value

#: Used by name, since an error page shows the lines around a failure.
TYPED = "typed-in-a-form"
SECRET = "p@ss 'word'/\"quoted\" <é>\n\\end"


@pytest.fixture(autouse=True)
def _clean() -> Iterator[None]:
    before = redaction.registered()
    yield
    for value in redaction.registered() - before:
        forget_value(value)


def test_a_registered_value_is_masked_inside_longer_text_until_it_is_forgotten() -> None:
    register_value("hunter2-x")
    assert redact_text("a hunter2-xb") == f"a {MASK}b"
    forget_value("hunter2-x")
    forget_value("hunter2-x")
    assert redact_text("a hunter2-xb") == "a hunter2-xb"


def test_a_value_too_short_to_mask_without_masking_words_is_left() -> None:
    register_value("abc")
    assert redact_text("abcdef") == "abcdef"


def test_the_longer_of_two_values_is_masked_whole() -> None:
    register_value("secret-one")
    register_value("secret-one-and-two")
    assert redact_text("secret-one-and-two") == MASK


@pytest.mark.parametrize(
    "written",
    [
        SECRET,
        quote(SECRET, safe=""),
        quote_plus(SECRET),
        json.dumps({"a": SECRET}),
        json.dumps(SECRET, ensure_ascii=False),
        repr([SECRET]),
        html.escape(SECRET),
        html.escape(repr(SECRET)),
        repr(SECRET + "'\""),
        base64.b64encode(SECRET.encode()).decode(),
    ],
)
def test_a_value_is_known_as_others_write_it(written: str) -> None:
    register_value(SECRET)
    shown = redact_text(f"<<{written}>>")
    assert MASK in shown
    assert "end" not in shown
    assert "word" not in shown


@given(st.text(min_size=redaction.MIN_LENGTH), st.text(), st.text())
def test_no_registered_value_survives(value: str, before: str, after: str) -> None:
    register_value(value)
    try:
        assert value not in redact_text(before + value + after).replace(MASK, "\0")
    finally:
        forget_value(value)


def test_passwords_of_urls_are_masked_without_being_known() -> None:
    assert redact_text("amqp://shop:hunter2@h/v http://h:80/a@b") == f"amqp://shop:{MASK}@h/v http://h:80/a@b"


@pytest.mark.parametrize(
    "name", ["password", "DB_PASSWD", "api_key", "apiKey", "X-Authorization", "sessioncookie", "client_secret", "token"]
)
def test_a_key_gives_a_secret_away_by_its_name(name: str) -> None:
    assert redact({name: "x"}) == {name: MASK}
    assert redact("x", name) == MASK


@pytest.mark.parametrize("name", ["user", "passenger", "key", "host", "monkey"])
def test_an_ordinary_key_does_not(name: str) -> None:
    assert redact({name: "x"}) == {name: "x"}


def test_nested_values_are_walked_and_others_kept() -> None:
    register_value("hunter2-x")
    value: dict[Any, Any] = {
        "a": [("hunter2-x", {"b": "x hunter2-x"})],
        "b": b"hunter2-x",
        "c": {"hunter2-x"},
        "hunter2-x": 1,
        3: None,
        (1, 2): 4.5,
    }
    assert redact(value) == {
        "a": [[MASK, {"b": f"x {MASK}"}]],
        "b": MASK,
        "c": [MASK],
        MASK: 1,
        3: None,
        (1, 2): 4.5,
    }


def test_values_may_be_registered_while_others_redact() -> None:
    failures: list[BaseException] = []
    ended = threading.Event()

    def read() -> None:
        try:
            while not ended.is_set():
                redact_text("nothing to see")
        except BaseException as error:
            failures.append(error)

    readers = [threading.Thread(target=read) for _ in range(3)]
    for reader in readers:
        reader.start()
    for number in range(200):
        register_value(f"value-number-{number}")
        forget_value(f"value-number-{number - 50}")
    assert redact_text("value-number-199") == MASK
    ended.set()
    for reader in readers:
        reader.join()
    assert failures == []


class Printing:
    """An object whose repr holds a secret."""

    def __repr__(self) -> str:
        return f"Printing({SECRET!r})"


class Broken:
    """An object that cannot be printed."""

    def __repr__(self) -> str:
        raise RuntimeError(SECRET)


def fail(request: HttpRequest) -> HttpResponse:
    url = f"amqp://u:{SECRET}@h"  # noqa: F841
    nested = {"deep": [SECRET, Printing()], "wide": "x " * 60 + SECRET}  # noqa: F841
    data, holder, broken = SECRET.encode(), Printing(), Broken()  # noqa: F841
    password = "by its name"  # noqa: F841
    error = ValueError(f"refused: {SECRET}")
    error.add_note(f"note: {SECRET}")
    raise error from KeyError(SECRET)


def posted() -> HttpRequest:
    """A request with a password."""
    return RequestFactory().post("/fail", {"password": TYPED, "user": "u"})


urlpatterns = [path("fail", fail)]
PAGES = {
    "DEFAULT_EXCEPTION_REPORTER": "koan_django.core.error_pages.RedactingReporter",
    "DEFAULT_EXCEPTION_REPORTER_FILTER": "koan_django.core.error_pages.RedactingReporterFilter",
}


SETTINGS = {
    "ROOT_URLCONF": __name__,
    "KOAN": {"MESSAGING": {"BUSES": {"main": {"URL": f"amqp://u:{SECRET}@h"}}}},
    "MY_LIST": [{"a": f"x {SECRET}"}, SECRET.encode()],
    **PAGES,
}


class TestErrorPages:
    @pytest.fixture(autouse=True)
    def _registered(self) -> Iterator[None]:
        register_value(SECRET)
        get_default_exception_reporter_filter.cache_clear()  # Django keeps the one of the first page of the process
        with override_settings(**SETTINGS):
            yield
        get_default_exception_reporter_filter.cache_clear()

    def leaks(self, page: str) -> list[str]:
        """The forms in which the secret stands on the page, other than in its own source line."""
        forms = [SECRET, html.escape(SECRET), repr(SECRET)[1:-1], html.escape(repr(SECRET)[1:-1])]
        forms += [quote(SECRET, safe=""), json.dumps(SECRET)[1:-1]]
        forms += ["/&quot;quoted", '/"quoted']  # a long text is printed in pieces
        return [form for form in forms if form in page]

    @pytest.mark.parametrize("accept", ["text/html", "text/plain"])
    def test_the_page_of_debug_shows_no_secret_anywhere(self, accept: str) -> None:
        client = Client(raise_request_exception=False)
        with override_settings(DEBUG=True):
            page = client.get("/fail", {"q": SECRET}, headers={"Accept": accept, "X-Url": f"a {SECRET}"}).text
        assert "refused: ********" in page
        assert "note: ********" in page
        assert self.leaks(page) == []

    def test_without_it_the_page_would_show_the_secret(self) -> None:
        client = Client(raise_request_exception=False)
        plain = dict.fromkeys(PAGES)

        plain = {name: getattr(global_settings, name) for name in PAGES}
        with override_settings(DEBUG=True, **plain):
            get_default_exception_reporter_filter.cache_clear()
            assert self.leaks(client.get("/fail").text)

    def test_a_variable_is_hidden_by_its_name_where_debug_is_off(self) -> None:
        request = posted()
        try:
            fail(request)
        except ValueError as error:
            reporter = RedactingReporter(request, type(error), error, error.__traceback__)
        assert isinstance(reporter.filter, RedactingReporterFilter)
        with override_settings(DEBUG=False):
            page = reporter.get_traceback_html()
        assert TYPED not in page
        assert "Error in formatting: RuntimeError" in page
        variables = page.partition("<td>password</td>")[2][:200]
        assert "by its name" not in variables
        assert self.leaks(page) == []

    def test_the_mail_to_the_admins_shows_none(self) -> None:
        logger = logging.Logger("test")
        logger.addHandler(AdminEmailHandler(include_html=True))
        request = RequestFactory().get("/fail")
        address = "a@example.org" if django.VERSION >= (6, 0) else ("a", "a@example.org")
        with override_settings(ADMINS=[address]):
            try:
                fail(request)
            except ValueError:
                logger.exception("failed", extra={"request": request})
        [sent] = mail.outbox
        assert self.leaks(str(sent.body) + str(sent.alternatives)) == []


@pytest.mark.parametrize(
    "text",
    ["a" * 1_000_000 + " ://", "a+" * 500_000 + "://", "://" * 300_000, "x://a:" * 150_000, "://a:" + "b" * 1_000_000],
)
def test_a_megabyte_that_only_looks_like_addresses_is_read_once(text: str) -> None:
    """A pattern that looks again from each place would take minutes."""
    assert redact_text(text) == text


@pytest.mark.parametrize("scheme", ["amqp", "a" * 60, "postgresql+psycopg", ""])
def test_the_password_of_an_address_is_masked_whatever_its_scheme(scheme: str) -> None:
    assert redact_text(f"see {scheme}://shop:s3cret@host/db") == f"see {scheme}://shop:{MASK}@host/db"
