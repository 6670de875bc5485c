from __future__ import annotations

import psycopg
import pytest

from tests.services.postgres import Postgres


def test_a_database_is_empty_and_usable(postgres_database: str) -> None:
    with psycopg.connect(postgres_database) as connection:
        assert connection.execute("SELECT count(*) FROM pg_tables WHERE schemaname = 'public'").fetchone() == (0,)
        connection.execute("CREATE TABLE notes (text text)")
        connection.execute("INSERT INTO notes VALUES ('naïve café')")
        assert connection.execute("SELECT text FROM notes").fetchone() == ("naïve café",)


def test_a_database_is_gone_afterwards_though_somebody_is_connected(postgres: Postgres) -> None:
    with postgres.database() as dsn:
        lingering = psycopg.connect(dsn)
    with pytest.raises(psycopg.OperationalError, match="does not exist"):
        psycopg.connect(dsn)
    lingering.close()
