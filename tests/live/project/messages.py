"""What the tests send to the live processes."""

from koan_django.messaging import Message


class Store(Message):
    number: int

    class Meta:
        alias = "live.store"
