"""The options of the service, a part of ``KOAN["INBOX"]``."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from types import MappingProxyType

from koan_django.core.options import shown

#: A shorter bearer token can be guessed.
SHORTEST_TOKEN = 16
_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9_-]{0,63}")


@dataclass(frozen=True, slots=True, kw_only=True)
class TokenOptions:
    """A client of the service over HTTP. ``scopes`` are what the keys that it may use begin with, ``*`` all of them."""

    #: May hold secret references; it is resolved with each request.
    token: str = field(repr=False)
    scopes: tuple[str, ...]
    #: How many requests a second, in each process of the service.
    rate: int = 200

    def __post_init__(self) -> None:
        if not self.scopes or "" in self.scopes:
            raise ValueError("SCOPES must name what keys begin with, such as 'main:billing:', or '*' for all")
        if not 1 <= self.rate <= 100_000:
            raise ValueError("RATE must be between 1 and 100000 requests a second")


@dataclass(frozen=True, slots=True, kw_only=True)
class ServiceOptions:
    """The inbox over HTTP, for others."""

    tokens: Mapping[str, TokenOptions] = field(default_factory=lambda: MappingProxyType({}))
    #: The largest body of a request in bytes.
    max_body: int = 4096

    def __post_init__(self) -> None:
        for name in self.tokens:
            if _NAME.fullmatch(name) is None:
                raise ValueError(f"TOKENS: {shown(name)} must be letters, digits, '_' and '-', at most 64")
        if not 512 <= self.max_body <= 1024 * 1024:
            raise ValueError("MAX_BODY must be between 512 and 1048576 bytes")
