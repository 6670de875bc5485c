"""The kit in Django's own test classes."""

from __future__ import annotations

from django.contrib.auth.models import User
from django.db import connection, transaction
from django.test import TestCase, TransactionTestCase

from koan_django.messaging.models import QueuedDelivery
from koan_django.testing import capture_messages, drain, override_koan
from tests.messaging.shop import OrderPlaced, listening

MEMORY = {"BUSES": {"main": {"URL": "memory://"}}}


class InATestCase(TestCase):
    """Nothing is committed here, and everything works as if it were."""

    @classmethod
    def setUpTestData(cls) -> None:
        cls.user = User.objects.create(username="all")

    def test_send_capture_and_drain(self) -> None:
        self.assertTrue(connection.in_atomic_block)
        with listening(OrderPlaced, group="billing") as arrived, capture_messages() as captured:
            with transaction.atomic():
                OrderPlaced(1).send()
            self.assertEqual(len(drain()), 1)
        captured.sent(OrderPlaced, 1)
        self.assertEqual([message.number for message, _ in arrived], [1])

    def test_and_leaves_nothing_to_the_next(self) -> None:
        self.assertFalse(QueuedDelivery.objects.exists())


class InATransactionTestCase(TransactionTestCase):
    def test_send_capture_and_drain(self) -> None:
        with listening(OrderPlaced, group="billing"), capture_messages() as captured:
            OrderPlaced(1).send()
            self.assertEqual(len(drain()), 1)
        captured.sent(OrderPlaced, 1)


@override_koan(MESSAGING=MEMORY)
class InATestCaseInMemory(InATestCase):
    pass
