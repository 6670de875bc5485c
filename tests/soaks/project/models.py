"""The two sides of the sum."""

from __future__ import annotations

from django.db import models


class Sent(models.Model):
    """A message that was sent. ``certain`` once its sender knows it; until then it may have been, or not."""

    bus = models.CharField(max_length=20)
    certain = models.BooleanField(default=True)


class Effect(models.Model):
    """What a handler did, in its transaction. Nothing keeps it from doing so twice but the inbox."""

    number = models.BigIntegerField(db_index=True)
    bus = models.CharField(max_length=20)


class Taken(models.Model):
    """What was done for one step of one key, in the handler's transaction: the order of rows is the order of work."""

    bus = models.CharField(max_length=20)
    key = models.CharField(max_length=20)
    number = models.IntegerField()


class Served(models.Model):
    """How long a tenant's message took from its sending to the end of its handler."""

    tenant = models.CharField(max_length=63, db_index=True)
    seconds = models.FloatField()


class Account(models.Model):
    """A ledger. ``transfers`` counts those that left it: each of them has its number."""

    balance = models.BigIntegerField()
    transfers = models.BigIntegerField(default=0)


class Transfer(models.Model):
    """What was debited and announced, in the same transaction."""

    source = models.BigIntegerField()
    target = models.BigIntegerField()
    amount = models.BigIntegerField()
    number = models.BigIntegerField()


class Posting(models.Model):
    """What was credited, in the handler's transaction: the order of rows is the order of work.

    Nothing keeps a handler from posting a transfer twice but the inbox.
    """

    source = models.BigIntegerField()
    target = models.BigIntegerField()
    amount = models.BigIntegerField()
    number = models.BigIntegerField()
