"""What can be said about the options of an S3 backend without making it."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from django.conf import settings
from django.core.checks import CheckMessage, Error, Warning

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

#: The settings that django-storages falls back to.
_FALLBACKS = {
    "bucket_name": "AWS_STORAGE_BUCKET_NAME",
    "endpoint_url": "AWS_S3_ENDPOINT_URL",
    "gzip": "AWS_IS_GZIPPED",
    "location": "AWS_LOCATION",
}
_LOCAL = ("http://localhost", "http://127.", "http://[::1]")


def option(options: Mapping[str, Any], name: str) -> Any:
    """Return the option, or the setting that stands in for it."""
    return options.get(name, getattr(settings, _FALLBACKS[name], None))


def check(alias: str, options: Mapping[str, Any]) -> Iterator[CheckMessage]:
    """E008: there is no bucket. W003: the backend is to compress, which the driver does not do."""
    path = f"STORAGES[{alias!r}]['OPTIONS']"
    if not option(options, "bucket_name"):
        yield Error(f"{path} names no bucket", hint="Set bucket_name.", id="koan_storage.E008")
    if option(options, "gzip"):
        yield Warning(
            f"{path}['gzip'] has no effect on the objects of a profile",
            hint="They are stored as they come, so that their hash is that of what you gave. Take the option out.",
            id="koan_storage.W003",
        )


def check_deployment(alias: str, options: Mapping[str, Any]) -> Iterator[CheckMessage]:
    """W004: bytes and signed addresses travel in the clear."""
    endpoint = str(option(options, "endpoint_url") or "")
    if endpoint.startswith("http://") and not endpoint.startswith(_LOCAL):
        yield Warning(
            f"STORAGES[{alias!r}]['OPTIONS']['endpoint_url'] is not encrypted",
            hint="Use https://: whoever sees a signed address on its way can use it.",
            id="koan_storage.W004",
        )
