"""A process that transfers money until it is told to stop: ``python -m tests.soaks.project.teller SEED``.

Each transfer is debited and announced in one transaction. Some transactions are rolled back, and in some a savepoint.
"""

from __future__ import annotations

import random
import sys

import django

from .looping import RolledBack, until_stopped

PAUSE_SECONDS = 0.02
MOST = 100


def transfer_some(chance: random.Random) -> None:
    """Make a few transfers of one account in a transaction: two tellers wait for each other, and do not lock up."""
    from django.db import transaction

    from .models import Account

    source = chance.choice(list(Account.objects.order_by("pk").values_list("pk", flat=True)))
    with transaction.atomic():
        for _ in range(chance.randint(1, 4)):
            transfer(source, chance)
        if chance.random() < 0.2:
            take_back(source, chance)
        if chance.random() < 0.1:
            raise RolledBack


def take_back(source: int, chance: random.Random) -> None:
    """Transfer in a savepoint that is rolled back; the next transfer gets the same number."""
    from django.db import transaction

    try:
        with transaction.atomic():
            transfer(source, chance)
            raise RolledBack
    except RolledBack:
        transfer(source, chance)


def transfer(source: int, chance: random.Random) -> None:
    """Debit ``source`` and announce it."""
    from django.db.models import F

    from .messages import Debited
    from .models import Account, Transfer

    account = Account.objects.select_for_update().get(pk=source)
    target = chance.choice(list(Account.objects.exclude(pk=source).order_by("pk").values_list("pk", flat=True)))
    amount, number = chance.randint(1, MOST), account.transfers + 1
    Account.objects.filter(pk=source).update(balance=F("balance") - amount, transfers=number)
    Transfer.objects.create(source=source, target=target, amount=amount, number=number)
    Debited(source=source, target=target, amount=amount, number=number).send(bus="rabbitmq")


if __name__ == "__main__":
    django.setup()
    until_stopped(transfer_some, sys.argv[1], PAUSE_SECONDS)
