"""What the workers are told to do."""

from koan_django.messaging import Message, PartitionKey


class Work(Message):
    """``fails`` attempts raise an error, and then ``dies`` attempts end the process that they run in."""

    number: int
    fails: int = 0
    dies: int = 0

    class Meta:
        alias = "soak.work"


class StepMade(Message):
    """The next step of ``key``. The first ``fails`` attempts raise an error."""

    key: PartitionKey[str]
    number: int
    fails: int = 0

    class Meta:
        alias = "soak.step.made"


class StepChecked(Message):
    """A step of another kind with the same key."""

    key: PartitionKey[str]
    number: int
    fails: int = 0

    class Meta:
        alias = "soak.step.checked"


class Visit(Message):
    """Something that takes 5 ms."""

    number: int

    class Meta:
        alias = "soak.visit"


class Debited(Message):
    """The ``number``-th transfer of an account; its target is still to be credited."""

    source: PartitionKey[int]
    target: int
    amount: int
    number: int

    class Meta:
        alias = "soak.debited"
