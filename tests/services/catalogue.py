"""Everything that a test may ask for, by the name of its fixture."""

from __future__ import annotations

from .chromium import Chromium
from .mariadb import MariaDB
from .pgbouncer import PgBouncer
from .postgres import Postgres
from .rabbitmq import RabbitMQ
from .redis import Redis
from .requirement import Requirement
from .s3 import S3
from .server import Server

SERVERS: dict[str, type[Server]] = {kind.name: kind for kind in (RabbitMQ, Postgres, PgBouncer, MariaDB, Redis, S3)}
REQUIREMENTS: dict[str, type[Requirement]] = {**SERVERS, Chromium.name: Chromium}
