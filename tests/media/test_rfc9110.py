"""Delivery against RFC 9110, row by row: each names the section that it holds us to."""

from __future__ import annotations

import io
from collections.abc import Iterator
from typing import Any, NamedTuple
from unittest import mock

import pytest
from django.core.signals import request_finished
from django.db import transaction
from django.test import RequestFactory
from django.utils.http import http_date
from hypothesis import example, given
from hypothesis import strategies as st

from koan_django.media.ranges import ByteRange, UnsatisfiableError, parse
from koan_django.media.views import MediaView
from tests.media import pictures
from tests.media.testapp.models import Photo

pytestmark = pytest.mark.django_db

CONTENT = pictures.camera(6)
SIZE = len(CONTENT)
LAST = SIZE - 1


class Row(NamedTuple):
    """What is asked, and what 9110 says about it. ``part`` is the range of a 206, first and last byte."""

    section: str
    because: str
    asked: dict[str, str]
    status: int = 200
    part: tuple[int, int] | None = None
    method: str = "GET"


def ranged(section: str, because: str, spec: str, status: int = 200, part: tuple[int, int] | None = None) -> Row:
    return Row(section, because, {"Range": spec}, status, part)


def bounded(because: str, if_range: str, *, holds: bool, spec: str = "bytes=0-9") -> Row:
    part = (0, 9) if holds else None
    return Row("13.1.5", because, {"Range": spec, "If-Range": if_range}, 206 if holds else 200, part)


RANGES = [
    ranged("14.1.2", "first and last byte are included", "bytes=0-0", 206, (0, 0)),
    ranged("14.1.2", "from the middle", "bytes=5-99", 206, (5, 99)),
    ranged("14.1.2", "an open end is the end", "bytes=100-", 206, (100, LAST)),
    ranged("14.1.2", "the last byte", f"bytes={LAST}-", 206, (LAST, LAST)),
    ranged("14.1.2", "a suffix", "bytes=-50", 206, (SIZE - 50, LAST)),
    ranged("14.1.2", "a suffix longer than the content is all of it", f"bytes=-{SIZE * 2}", 206, (0, LAST)),
    ranged("14.1.2", "an end beyond the content is clamped", f"bytes=10-{SIZE * 2}", 206, (10, LAST)),
    ranged("14.1.2", "also one of many digits", f"bytes=10-{'9' * 40}", 206, (10, LAST)),
    ranged("14.1.2", "leading zeros mean nothing", f"bytes={'0' * 40}1-02", 206, (1, 2)),
    ranged("14.1.2", "the whole as a range is still a range", f"bytes=0-{LAST}", 206, (0, LAST)),
    ranged("14.1", "names of units are case-insensitive", "BYTES=0-3", 206, (0, 3)),
    ranged("5.6.1.2", "empty elements of a list do not count", "bytes=, ,0-3,", 206, (0, 3)),
    ranged("5.6.1.1", "white space around an element", "bytes= 0-3 ", 206, (0, 3)),
    ranged("15.5.17", "a start at the end", f"bytes={SIZE}-", 416),
    ranged("15.5.17", "a start of many digits", f"bytes={'9' * 40}-", 416),
    ranged("14.1.2", "a suffix of nothing", "bytes=-0", 416),
    ranged("14.2", "an unknown unit is ignored", "pages=0-1"),
    ranged("14.1.1", "a last byte before the first is not valid", "bytes=5-2"),
    ranged("14.1.1", "nor are letters", "bytes=a-b"),
    ranged("14.1.1", "nor nothing on both sides", "bytes=-"),
    ranged("14.1.1", "nor no range at all", "bytes="),
    ranged("14.1.1", "nor a sign", "bytes=+1-2"),
    ranged("14.1.1", "nor white space within", "bytes=0 - 3"),
    ranged("14.1.1", "nor white space before the equals sign", "bytes =0-3"),
    ranged("14.1.1", "nor another dash", "bytes=0-1-2"),
    ranged("14.1.1", "nor digits of another script", "bytes=\u00b9-\u00b2"),
    ranged("14.2", "several ranges may be ignored, and are", "bytes=0-1,5-9"),
    ranged("14.2", "also when they meet", "bytes=0-4,5-9"),
    ranged("14.2", "also when none can be satisfied", f"bytes={SIZE}-,{SIZE + 5}-"),
    Row("14.2", "only GET has ranges", {"Range": "bytes=0-9"}, method="HEAD"),
    Row("14.2", "not even one that cannot be", {"Range": f"bytes={SIZE}-"}, method="HEAD"),
]
IF_RANGE = [
    bounded("the tag it has", "{etag}", holds=True),
    bounded("white space around it", " {etag} ", holds=True),
    bounded("another tag", '"other"', holds=False),
    bounded("a weak tag never compares strongly", "W/{etag}", holds=False),
    bounded("a list is no tag", '{etag}, "other"', holds=False),
    bounded("a star is none either", "*", holds=False),
    bounded("the very date", "{modified}", holds=True),
    bounded("a later date is not the very date", "{later}", holds=False),
    bounded("nor is an earlier one", "{earlier}", holds=False),
    bounded("nonsense names nothing", "yesterday", holds=False),
    bounded("one that does not hold makes an impossible range no error", '"other"', holds=False, spec=f"bytes={SIZE}-"),
    Row("13.1.5", "without a range it is ignored", {"If-Range": '"other"'}),
    Row("13.1.5", "one that holds lets the range fail", {"Range": f"bytes={SIZE}-", "If-Range": "{etag}"}, 416),
]
CONDITIONS = [
    Row("13.1.2", "the tag it has", {"If-None-Match": "{etag}"}, 304),
    Row("13.1.2", "weakly compared", {"If-None-Match": "W/{etag}"}, 304),
    Row("13.1.2", "in a list", {"If-None-Match": '"other", {etag} ,"third"'}, 304),
    Row("13.1.2", "anything", {"If-None-Match": "*"}, 304),
    Row("13.1.2", "another tag", {"If-None-Match": '"other"'}),
    Row("13.1.2", "no tag", {"If-None-Match": ""}),
    Row("8.8.3", "a tag without quotes is none", {"If-None-Match": "sha256"}),
    Row("13.1.3", "the date it has", {"If-Modified-Since": "{modified}"}, 304),
    Row("13.1.3", "a later date", {"If-Modified-Since": "{later}"}, 304),
    Row("13.1.3", "an earlier date", {"If-Modified-Since": "{earlier}"}),
    Row("13.1.3", "no date is ignored", {"If-Modified-Since": "yesterday"}),
    Row("5.6.7", "a date in the format of RFC 850", {"If-Modified-Since": "Sunday, 06-Nov-94 08:49:37 GMT"}),
    Row("5.6.7", "a date in the format of asctime", {"If-Unmodified-Since": "Sun Nov  6 08:49:37 1994"}, 412),
    Row("13.1.1", "the tag it has", {"If-Match": "{etag}"}),
    Row("13.1.1", "in a list", {"If-Match": '"other", {etag}'}),
    Row("13.1.1", "anything", {"If-Match": "*"}),
    Row("13.1.1", "another tag", {"If-Match": '"other"'}, 412),
    Row("13.1.1", "strongly compared", {"If-Match": "W/{etag}"}, 412),
    Row("13.1.1", "what cannot be read names nothing", {"If-Match": "sha256"}, 412),
    Row("13.1.4", "the date it has", {"If-Unmodified-Since": "{modified}"}),
    Row("13.1.4", "a later date", {"If-Unmodified-Since": "{later}"}),
    Row("13.1.4", "an earlier date", {"If-Unmodified-Since": "{earlier}"}, 412),
    Row("13.1.4", "no date is ignored", {"If-Unmodified-Since": "tomorrow"}),
]
PRECEDENCE = [
    Row("13.1.3", "a tag outweighs a date", {"If-None-Match": '"other"', "If-Modified-Since": "{later}"}),
    Row("13.1.3", "also one that cannot be read", {"If-None-Match": "sha256", "If-Modified-Since": "{later}"}),
    Row("13.1.3", "and the other way", {"If-None-Match": "{etag}", "If-Modified-Since": "{earlier}"}, 304),
    Row("13.1.4", "a tag outweighs a date", {"If-Match": "{etag}", "If-Unmodified-Since": "{earlier}"}),
    Row("13.2.2", "If-Match comes first", {"If-Match": '"other"', "If-None-Match": "{etag}"}, 412),
    Row("13.2.2", "then If-None-Match", {"If-Match": "{etag}", "If-None-Match": "{etag}"}, 304),
    Row("13.2.2", "a date that failed comes first", {"If-Unmodified-Since": "{earlier}", "If-None-Match": "*"}, 412),
    Row("13.2.2", "both dates", {"If-Unmodified-Since": "{later}", "If-Modified-Since": "{later}"}, 304),
    Row("13.2.2", "a range comes last", {"Range": "bytes=0-9", "If-None-Match": "{etag}"}, 304),
    Row("13.2.2", "also after a failure", {"Range": "bytes=0-9", "If-Match": '"other"'}, 412),
    Row("13.2.2", "also an impossible one", {"Range": f"bytes={SIZE}-", "If-Modified-Since": "{later}"}, 304),
    Row("13.2.2", "and counts when all holds", {"Range": "bytes=0-9", "If-Match": "{etag}"}, 206, (0, 9)),
    Row(
        "13.2.2",
        "If-Range is the very last",
        {"Range": "bytes=0-9", "If-None-Match": '"other"', "If-Range": "{etag}"},
        206,
        (0, 9),
    ),
]
HEADS = [row._replace(method="HEAD") for row in [*CONDITIONS, *PRECEDENCE] if "Range" not in row.asked]
TABLE = [*RANGES, *IF_RANGE, *CONDITIONS, *PRECEDENCE, *HEADS]


@pytest.fixture(scope="module")
def photo(django_db_setup: None, django_db_blocker: Any) -> Iterator[Photo]:
    """One for all rows: none changes it. Its transaction is around theirs, and leaves nothing."""
    with django_db_blocker.unblock(), transaction.atomic():
        yield Photo.objects.upload(io.BytesIO(CONTENT), name="IMG 1.jpg")
        transaction.set_rollback(True)


class Open(MediaView):
    model = Photo
    public = True


def ask(photo: Photo, row: Row) -> Any:
    """What the view answers, with its body read."""
    when = int(photo.stored_at.timestamp())
    words = {
        "etag": f'"sha256-{photo.sha256}"',
        "modified": http_date(when),
        "later": http_date(when + 100),
        "earlier": http_date(when - 100),
    }
    headers = {name: value.format(**words) for name, value in row.asked.items()}
    request = RequestFactory().generic(row.method, "/", headers=headers)
    response = Open.as_view()(request, public_id=photo.public_id)
    response.body = b"".join(response.streaming_content) if response.streaming else response.content
    with mock.patch.object(request_finished, "send"):  # it would close the connection of the test
        response.close()
    return response


@pytest.mark.parametrize("row", TABLE, ids=lambda row: f"{row.section}-{row.method}-{row.because}".replace(" ", "-"))
def test_a_row_of_the_table(photo: Photo, storage_calls: Any, row: Row) -> None:
    storage_calls.events.clear()
    response = ask(photo, row)
    assert response.status_code == row.status
    read = row.status in (200, 206) and row.method == "GET"
    assert bool(storage_calls.events) is read  # all but the bytes comes from the row
    checks = {200: whole, 206: partial, 304: not_modified, 412: failed, 416: unsatisfiable}
    checks[row.status](photo, response, row)


def whole(photo: Photo, response: Any, row: Row) -> None:
    """15.3.1; to HEAD the same without the content (9.3.2)."""
    assert response.body == (CONTENT if row.method == "GET" else b"")
    assert response["Content-Length"] == str(SIZE)
    assert response["Accept-Ranges"] == "bytes"
    assert "Content-Range" not in response


def partial(photo: Photo, response: Any, row: Row) -> None:
    """15.3.7: with the fields that a 200 would have had."""
    assert row.part is not None
    first, last = row.part
    assert response.body == CONTENT[first : last + 1]
    assert response["Content-Range"] == f"bytes {first}-{last}/{SIZE}"
    assert response["Content-Length"] == str(last - first + 1)
    full = ask(photo, Row("15.3.1", "all of it", {}))
    for name in ("ETag", "Last-Modified", "Cache-Control", "Content-Type", "X-Content-Type-Options"):
        assert response[name] == full[name]


def not_modified(photo: Photo, response: Any, row: Row) -> None:
    """15.4.5: what a 200 would have said to caches, and no content."""
    assert response.body == b""
    full = ask(photo, Row("15.3.1", "all of it", {}))
    for name in ("ETag", "Last-Modified", "Cache-Control"):
        assert response[name] == full[name]
    assert "Content-Range" not in response


def failed(photo: Photo, response: Any, row: Row) -> None:
    """15.5.13; nothing that a cache could take for the picture."""
    assert response.body == b""
    assert "ETag" not in response
    assert "Cache-Control" not in response


def unsatisfiable(photo: Photo, response: Any, row: Row) -> None:
    """15.5.17: the length, so that the next request can be right; and no cache may answer others with it."""
    assert response.body == b""
    assert response["Content-Range"] == f"bytes */{SIZE}"
    assert response["Cache-Control"] == "no-store"
    assert "ETag" not in response


def test_head_says_what_get_would(photo: Photo) -> None:
    """9.3.2"""
    head, get = (ask(photo, Row("9.3.2", "", {}, method=method)) for method in ("HEAD", "GET"))
    assert dict(head.headers) == dict(get.headers)


@given(st.text(alphabet="bytes=0123456789-, ", max_size=30), st.integers(0, 10_000))
@example("bytes=-5", 0)
def test_whatever_is_asked_the_range_lies_inside(header: str, size: int) -> None:
    try:
        found = parse(header, size)
    except UnsatisfiableError:
        return
    if found is not None:
        assert isinstance(found, ByteRange)
        assert 0 <= found.start <= found.end < size
