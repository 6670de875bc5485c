"""What type checkers say about messages and handlers; checked by ``test_typing.py``."""

from __future__ import annotations

from collections.abc import Callable, Coroutine, Sequence
from datetime import timedelta
from typing import Any, assert_type

from koan_django.messaging import (
    Context,
    Envelope,
    IdempotencyKey,
    Message,
    PartitionKey,
    Receipt,
    Sensitive,
    handler,
    send_many,
    upcaster,
)


class Registered(Message):
    user_id: str
    tenant: PartitionKey[str]
    event_id: IdempotencyKey[str]
    token: Sensitive[str] = ""


class Other(Message):
    number: int


message = Registered("u-1", "acme", "evt-1")
assert_type(message.tenant, str)
assert_type(message.send(), Receipt)
assert_type(message.send_to("billing", delay=timedelta(minutes=5)), Receipt)
assert_type(send_many([message, Other(1)]), list[Receipt])
assert_type(message.send().cancel(), bool)
assert_type(Registered._meta.alias, str)
message.tenant = "x"  # type: ignore[misc]
Registered("u-1", "acme")  # type: ignore[call-arg]
Registered("u-1", "acme", 5)  # type: ignore[arg-type]
Registered("u-1", "acme", "evt-1", colour="red")  # type: ignore[call-arg]
message.send(delay=5)  # type: ignore[arg-type]


async def awaited() -> None:
    assert_type(await message.asend(), Receipt)
    assert_type(await message.send().acancel(), bool)


def plain(message: Registered) -> None: ...
def with_context(message: Registered, context: Context) -> None: ...
async def coroutine(message: Registered) -> None: ...
def of_the_base(message: Message) -> None: ...
def of_a_list(messages: list[Registered]) -> None: ...
def of_a_sequence(messages: Sequence[Registered], context: Context) -> None: ...
def of_another(message: Other) -> None: ...
def of_an_envelope(envelope: Envelope) -> None: ...
def with_a_wrong_context(message: Registered, context: int) -> None: ...
def with_an_answer(message: Registered) -> int:
    return 1


assert_type(handler(Registered)(plain), Callable[[Registered], None])
assert_type(handler(Registered, group="g")(with_context), Callable[[Registered, Context], None])
waited: Callable[[Registered], Coroutine[Any, Any, None]] = handler(Registered)(coroutine)
handler(Registered)(of_the_base)
handler(Registered, batch=50)(of_a_list)
handler(Registered, batch=50)(of_a_sequence)
handler("invoice.*")(of_an_envelope)
handler(Registered)(of_another)  # type: ignore[arg-type]
handler(Registered)(of_a_list)  # type: ignore[arg-type]
handler(Registered, batch=50)(plain)  # type: ignore[arg-type]
handler("invoice.*")(plain)  # type: ignore[arg-type]
handler(Registered)(with_a_wrong_context)  # type: ignore[arg-type]
handler(Registered)(with_an_answer)  # type: ignore[type-var]
handler(Registered, atomc=False)  # type: ignore[call-overload]


@handler(Registered, group="billing", max_attempts=5)
def decorated(message: Registered) -> None:
    assert_type(message, Registered)


@upcaster(Registered, from_version=1)
def lifted(body: dict[str, Any]) -> dict[str, Any]:
    return body


def of_a_pattern(envelope: Envelope) -> None:
    assert_type(envelope.decode(Registered), Registered)
