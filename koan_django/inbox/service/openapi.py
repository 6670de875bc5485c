"""The service as a document of OpenAPI 3.1."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from . import contract, problems

if TYPE_CHECKING:
    from collections.abc import Mapping

    from .contract import Body

#: Of the contract; it rises with what a client can see.
VERSION = "1.0.0"
_MOMENT: Mapping[str, Any] = {"type": ["string", "null"], "format": "date-time"}
#: Null where the store does not count.
_COUNT: Mapping[str, Any] = {"type": ["integer", "null"], "minimum": 0}
_SECONDS: Mapping[str, Any] = {"type": "integer", "minimum": 1}
_TOKEN: Mapping[str, Any] = {"type": "integer", "minimum": 1, "maximum": contract.LARGEST}
_EXPIRES: Mapping[str, Any] = {"type": "string", "format": "date-time"}
#: What each error means; those of a state come with ``code`` as the finer word.
_ERRORS: Mapping[int, str] = {
    400: "The request is not what the document says",
    401: "No token, or a wrong one",
    403: "The token is not good for this key",
    405: "This method does nothing here",
    409: "Another lease holds, or this one does no more",
    413: "The body is too large",
    415: "The body is not application/json",
    429: "Too many requests with this token",
    503: "The store or the tokens cannot be asked now",
}
_WRITE_ERRORS = (400, 401, 403, 413, 415, 429, 503)
_RETRIED = frozenset({429, 503})


def document() -> dict[str, Any]:
    """Return the document. Its addresses are relative to where it is served."""
    return {
        "openapi": "3.1.0",
        "info": {
            "title": "Inbox",
            "version": VERSION,
            "description": "Remembers which work was done, so that a message that comes twice has its effects once.",
            "license": {"name": "BSD-3-Clause", "identifier": "BSD-3-Clause"},
        },
        "servers": [{"url": "../.."}],
        "security": [{"token": []}],
        "paths": {
            "/v1/inbox/{key}": {"get": _look()},
            "/v1/inbox/try-begin": {"post": _try_begin()},
            "/v1/inbox/mark-processed": {"post": _mark_processed()},
            "/v1/inbox/renew": {"post": _renew()},
            "/v1/inbox/release": {"post": _release()},
        },
        "components": {
            "securitySchemes": {"token": {"type": "http", "scheme": "bearer"}},
            "schemas": {"Problem": _problem()},
            "responses": {f"Error{status}": _error(status) for status in _ERRORS},
        },
    }


def _look() -> dict[str, Any]:
    answer = _answer(
        ["Unknown", "Processing", "Processed"],
        leased={"type": "boolean"},
        attempts=_COUNT,
        duplicates=_COUNT,
        firstSeen=_MOMENT,
        processedAt=_MOMENT,
    )
    return {
        "operationId": "look",
        "summary": "What is known of a key; a key that nobody has used is Unknown, and no error",
        "parameters": [{"name": "key", "in": "path", "required": True, "schema": contract.Key().schema}],
        "responses": _responses(answer, (400, 401, 403, 429, 503)),
    }


def _try_begin() -> dict[str, Any]:
    answer = _answer(["Acquired", "Processed", "Busy"])
    answer["properties"] |= {"fencingToken": _TOKEN, "leaseSeconds": _SECONDS, "expiresAt": _EXPIRES}
    answer["if"] = {"properties": {"status": {"const": "Acquired"}}}
    answer["then"] = {"required": ["fencingToken", "leaseSeconds", "expiresAt"]}
    summary = "Take a key under a lease: Acquired with a fencing token, Processed before, or Busy in somebody's hands"
    return _operation("tryBegin", summary, contract.BEGIN, answer, _WRITE_ERRORS)


def _mark_processed() -> dict[str, Any]:
    summary = "The work of a key is done, under the fencing token of its lease or without having begun it"
    return _operation(
        "markProcessed", summary, contract.MARK, _answer(["Processed"]), tuple(sorted((409, *_WRITE_ERRORS)))
    )


def _renew() -> dict[str, Any]:
    answer = _answer(["Renewed"], leaseSeconds=_SECONDS, expiresAt=_EXPIRES)
    return _operation(
        "renew", "Hold on to a key for another while", contract.RENEW, answer, tuple(sorted((409, *_WRITE_ERRORS)))
    )


def _release() -> dict[str, Any]:
    summary = "Give a key back undone, to be begun again at once"
    return _operation("release", summary, contract.RELEASE, _answer(["Released"]), tuple(sorted((409, *_WRITE_ERRORS))))


def _operation(name: str, summary: str, body: Body, answer: dict[str, Any], errors: tuple[int, ...]) -> dict[str, Any]:
    return {
        "operationId": name,
        "summary": summary,
        "requestBody": {"required": True, "content": {"application/json": {"schema": body.schema}}},
        "responses": _responses(answer, errors),
    }


def _answer(statuses: list[str], **properties: Mapping[str, Any]) -> dict[str, Any]:
    """The schema of an answer: the key, its status, and ``properties`` that are always there."""
    named = {"key": {"type": "string"}, "status": {"type": "string", "enum": statuses}, **properties}
    return {"type": "object", "properties": named, "required": list(named)}


def _responses(answer: dict[str, Any], errors: tuple[int, ...]) -> dict[str, Any]:
    good = {"description": "The status of the key", "content": {"application/json": {"schema": answer}}}
    return {"200": good, **{str(status): {"$ref": f"#/components/responses/Error{status}"} for status in errors}}


def _error(status: int) -> dict[str, Any]:
    found: dict[str, Any] = {
        "description": _ERRORS[status],
        "content": {problems.MEDIA_TYPE: {"schema": {"$ref": "#/components/schemas/Problem"}}},
    }
    if status in _RETRIED:
        found["headers"] = {"Retry-After": {"description": "In seconds", "schema": {"type": "integer", "minimum": 1}}}
    return found


def _problem() -> dict[str, Any]:
    text = {"type": "string"}
    fields = {"type": text, "title": text, "status": {"type": "integer"}, "code": text, "detail": text}
    return {"type": "object", "description": "RFC 9457", "properties": fields, "required": list(fields)}
