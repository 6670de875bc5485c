"""What is sent."""

from koan_django.messaging import Message


class Empty(Message):
    """Nothing is done about it. ``text`` makes it as large as messages are."""

    number: int
    text: str

    class Meta:
        alias = "bench.empty"
