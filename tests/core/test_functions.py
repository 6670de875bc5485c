"""What queries say."""

from __future__ import annotations

from typing import Any

import pytest
from django.db import connection
from django.db.models import F
from django.test.utils import CaptureQueriesContext

from koan_django.core.functions import IsOneOf
from koan_django.inbox.models import InboxEntry

pytestmark = [pytest.mark.django_db, pytest.mark.database]


@pytest.fixture
def rows() -> list[InboxEntry]:
    new = [InboxEntry(fingerprint=str(number), handler="h", key=f"k'{number}%s") for number in range(5)]
    InboxEntry.objects.bulk_create(new)
    return list(InboxEntry.objects.order_by("pk"))


@pytest.mark.parametrize("name", ["pk", "key"])
@pytest.mark.parametrize("count", [0, 1, 3, 5])
def test_one_of_a_list_is_what_in_is(rows: list[InboxEntry], name: str, count: int) -> None:
    values: list[Any] = [getattr(row, name) for row in rows[:count]]
    found = InboxEntry.objects.order_by("pk")
    assert list(found.filter(IsOneOf(F(name), values))) == rows[:count]
    assert list(found.exclude(IsOneOf(F(name), values))) == rows[count:]
    InboxEntry.objects.filter(IsOneOf(F(name), values))._raw_delete("default")
    assert list(found.all()) == rows[count:]


def test_on_postgresql_the_text_is_the_same_for_any_number(rows: list[InboxEntry]) -> None:
    with CaptureQueriesContext(connection) as queries:
        for count in (1, 4):
            list(InboxEntry.objects.filter(IsOneOf(F("pk"), [row.pk for row in rows[:count]])).values_list("pk"))
    assert ["ANY" in query["sql"] for query in queries] == [connection.vendor == "postgresql"] * 2
