from __future__ import annotations

from typing import Any
from urllib.parse import urlsplit

import pymysql
import pytest

from tests.services.mariadb import MariaDB


def connect(dsn: str) -> Any:
    parts = urlsplit(dsn)
    name = parts.path.lstrip("/")
    return pymysql.connect(host=parts.hostname, port=parts.port or 3306, user=parts.username, database=name)


def test_a_database_is_empty_and_usable_and_gone_afterwards(mariadb: MariaDB) -> None:
    with mariadb.database() as dsn, connect(dsn) as connection, connection.cursor() as cursor:
        cursor.execute("SHOW TABLES")
        assert cursor.fetchall() == ()
        cursor.execute("CREATE TABLE notes (text text)")
        cursor.execute("INSERT INTO notes VALUES ('naïve café 🙂')")
        cursor.execute("SELECT text FROM notes")
        assert cursor.fetchall() == (("naïve café 🙂",),)
    with pytest.raises(pymysql.err.OperationalError, match="Unknown database"):
        connect(dsn)
