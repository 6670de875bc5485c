"""The bucket of a backend: its client, and what each request of it says."""

from __future__ import annotations

import copy
import os
from typing import TYPE_CHECKING, Any

from botocore.config import Config

from koan_django.storage import keys

from .refusals import translated

if TYPE_CHECKING:
    from collections.abc import Mapping

#: What the client does unless ``client_config`` of the backend says otherwise.
_CLIENT = Config(
    connect_timeout=5,
    read_timeout=60,
    max_pool_connections=32,
    retries={"mode": "standard", "total_max_attempts": 3},
)
#: Whoever asks whether the store is there wants to know soon.
_HASTY = Config(connect_timeout=2, read_timeout=2, retries={"total_max_attempts": 1})
#: Of the backend's ``object_parameters``, those that reading an object and sending a part of one need as well.
_SHARED = ("SSECustomerAlgorithm", "SSECustomerKey", "SSECustomerKeyMD5", "RequestPayer", "ExpectedBucketOwner")
#: More at a time hardly speeds an upload up, and each is a part in memory.
_WORKERS = 4


class Bucket:
    """What lies below ``location`` of the backend in its bucket."""

    def __init__(self, storage: Any) -> None:
        self.storage = storage
        self._clients: dict[str, tuple[int, Any]] = {}

    @property
    def client(self) -> Any:
        """The boto3 client, shared by the threads of this process. A fork has one of its own."""
        return self._client("usual", Config())

    @property
    def hasty(self) -> Any:
        """A client that tries once and gives up soon."""
        return self._client("hasty", _HASTY)

    def _client(self, name: str, config: Config) -> Any:
        owner, client = self._clients.get(name, (0, None))
        if owner != os.getpid():
            client = _connect(self.storage, config)
            self._clients[name] = (os.getpid(), client)
        return client

    @property
    def name(self) -> str:
        """The name of the bucket."""
        name: str = self.storage.bucket_name
        return name

    @property
    def prefix(self) -> str:
        """What all keys begin with in the bucket."""
        location = str(self.storage.location).strip("/")
        return f"{location}/" if location else ""

    @property
    def account(self) -> tuple[str, str, str]:
        """Endpoint and identity: two of one account can copy from each other."""
        backend = self.storage
        return (backend.endpoint_url or "aws", backend.access_key or "", backend.session_profile or "")

    @property
    def part_size(self) -> int:
        """How much is sent at once, in bytes: ``multipart_chunksize`` of the backend's ``transfer_config``."""
        size: int = self.storage.transfer_config.multipart_chunksize
        return size

    @property
    def workers(self) -> int:
        """How many parts are on their way at a time."""
        config = self.storage.transfer_config
        return min(_WORKERS, config.max_request_concurrency) if config.use_threads else 1

    def target(self, key: str) -> dict[str, str]:
        """Return how a request names the object; raises ``InvalidKeyError``."""
        return {"Bucket": self.name, "Key": self.prefix + keys.check(key)}

    def given(self, key: str) -> dict[str, Any]:
        """Return what the backend gives to a new object."""
        found: dict[str, Any] = dict(self.storage.get_object_parameters(self.prefix + key))
        if self.storage.default_acl:
            found.setdefault("ACL", self.storage.default_acl)
        return found

    def shared(self, key: str) -> dict[str, Any]:
        """Return what of it reading the object and sending its parts need as well."""
        found = self.storage.get_object_parameters(self.prefix + key)
        return {name: found[name] for name in _SHARED if name in found}

    def head(self, key: str, *, checksum: bool = False) -> Mapping[str, Any]:
        """Ask what the store knows; raises ``ObjectNotFoundError``."""
        mode = {"ChecksumMode": "ENABLED"} if checksum else {}
        with translated(key):
            found: Mapping[str, Any] = self.client.head_object(**self.target(key), **self.shared(key), **mode)
        return found

    def remove(self, key: str) -> None:
        """Remove the object, if there is one."""
        with translated(key):
            self.client.delete_object(**self.target(key))


def _connect(storage: Any, changes: Config) -> Any:
    """Return a client of the backend's own making: of a copy, which shares no connection with another process."""
    own = copy.copy(storage)
    config = _CLIENT.merge(storage.client_config)
    if config.signature_version is None:  # the old way of signing addresses is refused by most
        config = config.merge(Config(signature_version="s3v4"))
    own.client_config = config.merge(changes)
    return own.connection.meta.client
