"""What a message's field means beyond its type. msgspec ignores metadata it does not know, so the types stay plain."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from typing import Annotated, TypeVar

import msgspec

T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class Marker:
    """One of the meanings below."""

    name: str


@dataclass(frozen=True, slots=True)
class Header:
    """``Annotated[str, Header("x-region")]``: the value also travels as a header of that name."""

    name: str


PARTITION = Marker("partition key")
IDEMPOTENCY = Marker("idempotency key")
SENSITIVE = Marker("sensitive")

#: Messages with the same value belong to one partition. At most one per message, never optional.
PartitionKey = Annotated[T, PARTITION]
#: Messages with the same value are handled once per handler. Several fields make a compound key.
IdempotencyKey = Annotated[T, IDEMPOTENCY]
#: Masked in ``repr``, logs and the admin; it still travels in the body.
Sensitive = Annotated[T, SENSITIVE]
#: A ``datetime`` that must have a time zone.
AwareDatetime = Annotated[datetime, msgspec.Meta(tz=True)]
