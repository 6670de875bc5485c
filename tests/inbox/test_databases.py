"""A claim of work that is done in another database than the inbox's own stands and falls with that work."""

from __future__ import annotations

import pytest
from django.db import transaction

from koan_django import inbox
from koan_django.inbox.exceptions import InboxError
from koan_django.inbox.models import InboxEntry

pytestmark = [
    pytest.mark.django_db(transaction=True, databases=["default", "orders"]),
    pytest.mark.database,
    pytest.mark.usefixtures("orders"),
]


def claimed() -> bool:
    with inbox.claim("stripe", "evt-1") as claim:
        return not claim.duplicate


def test_a_transaction_that_is_rolled_back_takes_the_claim_back() -> None:
    with pytest.raises(ZeroDivisionError), transaction.atomic(using="orders"):
        assert claimed()
        raise ZeroDivisionError
    InboxEntry.objects.update(lease_until=None)  # as at the end of its lease
    with transaction.atomic(using="orders"):
        assert claimed()
    assert not claimed()
    with transaction.atomic(using="orders"):
        assert not claimed()


def test_the_database_may_be_named() -> None:
    with pytest.raises(ZeroDivisionError), inbox.claim("stripe", "evt-1", using="orders") as claim:
        assert not claim.duplicate
        assert transaction.get_connection("orders").in_atomic_block
        raise ZeroDivisionError
    assert claimed()


def test_of_several_transactions_one_has_to_be_named() -> None:
    with transaction.atomic(), transaction.atomic(using="orders"):
        with pytest.raises(InboxError, match=r"'default', 'orders', and none is named.*using='default'"):
            claimed()
        with inbox.claim("stripe", "evt-1", using="default") as claim:
            assert not claim.duplicate
    assert not claimed()


@pytest.mark.parametrize(("source", "key"), [("stripe", 5), ("stripe", None), (b"stripe", "1")])
def test_what_is_no_text_is_refused(source: object, key: object) -> None:
    with pytest.raises(TypeError, match="is no text"), inbox.claim(source, key):  # type: ignore[arg-type]  # that is it
        pass


@pytest.mark.parametrize(("source", "key"), [("stripe", ""), ("", "1")])
def test_what_is_empty_is_refused(source: str, key: str) -> None:
    with pytest.raises(ValueError, match="is empty"), inbox.claim(source, key):
        pass
    assert not InboxEntry.objects.exists()
