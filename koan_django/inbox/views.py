"""The inbox over HTTP. Whoever has a token may ask; there are no sessions here, and so nothing to forge with one."""

from __future__ import annotations

import logging
from functools import wraps
from typing import TYPE_CHECKING, Any

from django.core.exceptions import RequestDataTooBig
from django.core.signals import got_request_exception
from django.http import HttpResponse, JsonResponse, UnreadablePostError
from django.views.decorators.cache import never_cache
from django.views.decorators.csrf import csrf_exempt

from koan_django.core.exceptions import KoanError
from koan_django.core.redaction import redact_text
from koan_django.core.stores import STORE_ERRORS
from koan_django.core.telemetry import emit, span

from .conf import options
from .exceptions import InboxBusyError
from .service import contract, limits, openapi, operations, tokens
from .service.problems import Problem

if TYPE_CHECKING:
    from collections.abc import Callable

    from django.http import HttpRequest

    from .service.contract import Body

    View = Callable[..., HttpResponse]

logger = logging.getLogger(__name__)
_READS, _WRITES = ("GET", "HEAD"), ("POST",)


def _answering(operation: str, methods: tuple[str, ...]) -> Callable[[View], View]:
    """Turn what goes wrong in a view into a problem, and count both."""

    def decorate(view: View) -> View:
        @csrf_exempt
        @never_cache
        @wraps(view)
        def answer(request: HttpRequest, **kwargs: Any) -> HttpResponse:
            with span("inbox.serve", operation=operation):
                try:
                    if request.method not in methods:
                        raise Problem(405, "method", "This method does nothing here", {"Allow": ", ".join(methods)})
                    return view(request, **kwargs)
                except Exception as error:
                    problem = _problem(error, request)
                    emit("inbox.refused", operation=operation, code=problem.code)
                    return problem.response()

        return answer

    return decorate


@_answering("document", _READS)
def document(request: HttpRequest) -> HttpResponse:
    """The OpenAPI document, for everybody: it names no address and no token."""
    return JsonResponse(openapi.document())


@_answering("look", _READS)
def look(request: HttpRequest, key: str) -> HttpResponse:
    """What is known of a key."""
    caller = _caller(request)
    tokens.allow(caller, contract.key_of(key))
    return JsonResponse(operations.look(key))


@_answering("try-begin", _WRITES)
def try_begin(request: HttpRequest) -> HttpResponse:
    """Take a key under a lease. Whatever the answer is, it is a 200 with a status."""
    asked = _asked(request, contract.BEGIN)
    return JsonResponse(operations.begin(asked["key"], asked.get("leaseSeconds")))


@_answering("mark-processed", _WRITES)
def mark_processed(request: HttpRequest) -> HttpResponse:
    """Note that the work of a key is done."""
    asked = _asked(request, contract.MARK)
    return JsonResponse(operations.mark(asked["key"], asked.get("fencingToken")))


@_answering("renew", _WRITES)
def renew(request: HttpRequest) -> HttpResponse:
    """Hold on to a key."""
    asked = _asked(request, contract.RENEW)
    return JsonResponse(operations.renew(asked["key"], asked["fencingToken"], asked.get("leaseSeconds")))


@_answering("release", _WRITES)
def release(request: HttpRequest) -> HttpResponse:
    """Give a key back."""
    asked = _asked(request, contract.RELEASE)
    return JsonResponse(operations.release(asked["key"], asked["fencingToken"]))


def _caller(request: HttpRequest) -> str:
    """The name of the token that asks, counted against its rate."""
    caller = tokens.authenticate(request.headers.get("Authorization", ""))
    limits.take(caller, options().service.tokens[caller].rate)
    return caller


def _asked(request: HttpRequest, body: Body) -> dict[str, Any]:
    """What the request says, if its token may say it."""
    caller = _caller(request)
    if request.content_type != "application/json":
        raise Problem(415, "not-json", "Content-Type must be application/json")
    asked = body.read(_content(request, options().service.max_body))
    tokens.allow(caller, asked["key"])
    return asked


def _content(request: HttpRequest, limit: int) -> bytes:
    """The body, of which no more than the limit is read."""
    content = request.read(limit + 1)
    if len(content) > limit:
        raise Problem(413, "too-large", f"The body has more than {limit} bytes")
    return content


def _problem(error: Exception, request: HttpRequest) -> Problem:
    if isinstance(error, Problem):
        return error
    if isinstance(error, InboxBusyError):
        return Problem(409, "busy", "Somebody holds the lease of this key", {"Retry-After": "2"})
    if isinstance(error, STORE_ERRORS) or (isinstance(error, KoanError) and error.transient):
        logger.error("The store of the inbox service does not answer: %s", redact_text(f"{error}"))
        return Problem(503, "unavailable", "The store does not answer now", {"Retry-After": "2"})
    if isinstance(error, UnreadablePostError | RequestDataTooBig):
        return Problem(400, "not-json", "The body could not be read")
    got_request_exception.send(sender=None, request=request)
    logger.exception("The inbox service failed")
    return Problem(500, "failed", "The service failed; its log says why")
