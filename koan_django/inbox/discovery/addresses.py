"""Which addresses a service may have: the token of every client is sent there."""

from __future__ import annotations

import ipaddress
import re
from typing import TYPE_CHECKING
from urllib.parse import urlsplit

from django.http.request import validate_host

if TYPE_CHECKING:
    from collections.abc import Sequence

LONGEST = 512
_VISIBLE = re.compile(r"[\x21-\x7e]+")


class AddressError(ValueError):
    """The address is none that a service may have. The text says why, and not what it is."""


def checked(url: str, hosts: Sequence[str] = ()) -> str:
    """Return ``url``; raises :class:`AddressError` for one that no service has, or that is at none of ``hosts``."""
    if len(url) > LONGEST or _VISIBLE.fullmatch(url) is None or "\\" in url:
        raise AddressError(f"must be at most {LONGEST} visible ASCII characters")
    try:
        parts = urlsplit(url)
        host, _ = parts.hostname or "", parts.port
    except ValueError:
        raise AddressError("cannot be read") from None
    if parts.scheme not in ("http", "https") or not host:
        raise AddressError("must be http:// or https:// with a host")
    if parts.username is not None or parts.query or parts.fragment:
        raise AddressError("must have no user, query or fragment")
    if _is_special(host):
        raise AddressError("leads to no machine, or to the metadata of the machine that asks")
    if hosts and not validate_host(f"[{host}]" if ":" in host else host, hosts):
        raise AddressError("is at none of HOSTS")
    return url


def _is_special(host: str) -> bool:
    """Whether ``host`` is a number that stands for many or nobody, or is local to a link, as cloud metadata is."""
    try:
        number = ipaddress.ip_address(host)
    except ValueError:
        return False
    number = getattr(number, "ipv4_mapped", None) or number
    return number.is_link_local or number.is_multicast or number.is_unspecified
