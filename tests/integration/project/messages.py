"""What the live workers are told to do."""

from koan_django.messaging import Message


class Work(Message):
    """``seconds`` of work. ``dies`` is the number of attempts that end the process they run in."""

    number: int
    seconds: float = 0.0
    dies: int = 0

    class Meta:
        alias = "live.work"


class LongWork(Message):
    """The same outside a transaction, under a lease of the inbox."""

    number: int
    seconds: float = 0.0
    dies: int = 0

    class Meta:
        alias = "live.long"


class Fragile(Message):
    """Work that fails as long as there is a file called ``broken`` in the folder of the project."""

    number: int

    class Meta:
        alias = "live.fragile"


class Trouble(Message):
    """What a handler is to do that no handler should: a function of ``troubles``, in the first ``times`` attempts."""

    number: int
    does: str = ""
    times: int = 99

    class Meta:
        alias = "live.trouble"


class LockingTrouble(Message):
    """The same inside a transaction, which on SQLite keeps everybody else from writing."""

    number: int
    does: str = ""
    times: int = 99

    class Meta:
        alias = "live.locking"
