"""The conditions of a request (RFC 9110, 13), against what the row says.

Django's ``get_conditional_response`` takes a list of tags that it cannot read for no list at all: it then looks at the
date beside it, which 13.1.3 forbids, and lets an ``If-Match`` pass that names nothing.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Literal

from django.utils.http import parse_etags, parse_http_date_safe

if TYPE_CHECKING:
    from collections.abc import Mapping

#: ``proceed``: answer as if nothing had been asked. The others are 304 and 412.
Answer = Literal["proceed", "not modified", "failed"]


def evaluate(asked: Mapping[str, str], etag: str, modified: int) -> Answer:
    """Judge the headers ``asked`` of a GET or HEAD, in the order of 13.2.2; ``etag`` is a strong one.

    ``modified`` is in seconds, as ``Last-Modified`` says it. A date that is none is as good as absent.
    """
    if (tags := asked.get("If-Match")) is not None:
        if not _names(tags, etag, weakly=False):
            return "failed"
    elif (since := _date(asked, "If-Unmodified-Since")) is not None and modified > since:
        return "failed"
    if (tags := asked.get("If-None-Match")) is not None:
        return "not modified" if _names(tags, etag, weakly=True) else "proceed"
    since = _date(asked, "If-Modified-Since")
    return "not modified" if since is not None and modified <= since else "proceed"


def wants_part(asked: Mapping[str, str], etag: str, modified: int) -> bool:
    """Whether the range of the request counts (13.1.5): without an ``If-Range``, or when it names this very content.

    Tags compare strongly and dates exactly; what is neither names nothing.
    """
    given = asked.get("If-Range")
    return given is None or given.strip() == etag or parse_http_date_safe(given) == modified


def _names(tags: str, etag: str, *, weakly: bool) -> bool:
    """Compare by 8.8.3.2: weakly, ``W/"x"`` is ``"x"``."""
    listed = parse_etags(tags)
    return listed == ["*"] or etag in listed or (weakly and f"W/{etag}" in listed)


def _date(asked: Mapping[str, str], name: str) -> int | None:
    return parse_http_date_safe(asked.get(name, ""))
