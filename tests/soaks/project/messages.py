"""What the workers are told to do."""

from koan_django.messaging import Message


class Work(Message):
    """``fails`` attempts raise an error, and then ``dies`` attempts end the process that they run in."""

    number: int
    fails: int = 0
    dies: int = 0

    class Meta:
        alias = "soak.work"
