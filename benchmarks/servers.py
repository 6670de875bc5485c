"""The servers of a run: those of the tests, with PostgreSQL as it runs in production."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager
from typing import ClassVar

from tests.services.install import install, may_install
from tests.services.postgres import Postgres
from tests.services.rabbitmq import RabbitMQ
from tests.services.redis import Redis
from tests.services.requirement import missing
from tests.services.s3 import S3
from tests.services.server import Server

from .vault import Vault


class DurablePostgres(Postgres):
    """A commit reaches the disk, as it does where rows matter. What the tests leave out would be in our favour."""

    options: ClassVar[Mapping[str, str]] = {
        **Postgres.options,
        "fsync": "on",
        "synchronous_commit": "on",
        "full_page_writes": "on",
    }

    def exports(self) -> dict[str, str]:
        return {"BENCH_DATABASE_URL": self.dsn}


class Broker(RabbitMQ):
    """RabbitMQ as the tests start it, durable as it is, and waiting for work as it does in production."""

    erlang: ClassVar[str] = RabbitMQ.erlang.replace("very_short", "none")
    settings: ClassVar[str] = ""

    def exports(self) -> dict[str, str]:
        return {"BENCH_AMQP_URL": self.url}


class Cache(Redis):
    """Redis as the tests start it: it keeps everything in memory, on both sides."""

    def exports(self) -> dict[str, str]:
        return {"BENCH_REDIS_URL": self.url}


class Store(S3):
    """SeaweedFS with a bucket for both sides."""

    def exports(self) -> dict[str, str]:
        self.client.create_bucket(Bucket="bench")
        return {"BENCH_S3": json.dumps({**self.options, "bucket_name": "bench"})}


_KINDS: Mapping[str, type[Server]] = {
    "postgres": DurablePostgres,
    "rabbitmq": Broker,
    "redis": Cache,
    "s3": Store,
    "vault": Vault,
}


@contextmanager
def started(names: tuple[str, ...]) -> Iterator[dict[str, str]]:
    """Start servers and yield the variables by which they are found; end them afterwards."""
    lacking = missing(_KINDS[name] for name in names)
    if lacking and may_install():
        install(lacking)
    with ExitStack() as stack:
        exports: dict[str, str] = {}
        for name in names:
            server = _KINDS[name]()
            server.start()
            stack.callback(server.stop)
            exports |= server.exports()
        yield exports
