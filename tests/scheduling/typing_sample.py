"""What type checkers say about ``@scheduled``; checked by ``test_typing.py``."""

from __future__ import annotations

from collections.abc import Callable, Coroutine
from datetime import UTC, datetime
from typing import Any, assert_type

from koan_django.scheduling import Cron, Every, Run, scheduled

every = scheduled(Every(seconds=30), timeout=5, critical=True)


def plain() -> None: ...
def with_run(run: Run) -> None: ...
async def coroutine(run: Run) -> None: ...


class WithRun:
    def run(self, run: Run) -> None: ...


class Bare:
    async def run(self) -> None: ...


assert_type(every(plain), Callable[[], None])
same: Callable[[Run], None] = every(with_run)
waited: Callable[[Run], Coroutine[Any, Any, None]] = every(coroutine)
every(with_run)(run=None)  # type: ignore[arg-type]
assert_type(every(WithRun), type[WithRun])
assert_type(every(Bare), type[Bare])


class Nothing: ...


def two(run: Run, other: int) -> None: ...


every(Nothing)  # type: ignore[type-var]
every(two)  # type: ignore[type-var]
scheduled(30)  # type: ignore[arg-type]
scheduled(Cron("0 3 * * *"), misfire="later")  # type: ignore[arg-type]
assert_type(Cron("0 3 * * *", timezone="Europe/Madrid").following(datetime.now(UTC)), datetime)
