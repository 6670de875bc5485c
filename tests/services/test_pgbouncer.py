from __future__ import annotations

import psycopg

from tests.services.pgbouncer import PgBouncer


def test_a_connection_is_another_one_in_each_transaction(pgbouncer: PgBouncer) -> None:
    with pgbouncer.database() as dsn, psycopg.connect(dsn) as one, psycopg.connect(dsn) as other:
        first = one.execute("SELECT pg_backend_pid()").fetchone()
        one.commit()
        assert other.execute("SELECT pg_backend_pid()").fetchone() == first
        assert one.execute("SELECT pg_backend_pid()").fetchone() != first


def test_a_database_is_gone_afterwards(pgbouncer: PgBouncer) -> None:
    with pgbouncer.database() as dsn, psycopg.connect(dsn) as connection:
        connection.execute("SELECT 1")
    found = f"SELECT count(*) FROM pg_database WHERE datname = '{dsn.rpartition('/')[2]}'"
    with psycopg.connect(pgbouncer.dsn) as behind:
        assert behind.execute(found).fetchone() == (0,)
