"""Two workers, some work and a clock that may jump: whatever happens, work is marked by who has it, and once."""

from __future__ import annotations

import math
import uuid
from dataclasses import dataclass, field
from datetime import timedelta
from typing import Any

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, rule, run_state_machine_as_test

from koan_django.core.exceptions import LeaseLostError
from koan_django.inbox.scopes import Scope
from koan_django.inbox.stores import configured
from koan_django.inbox.stores.base import Lease
from koan_django.testing import frozen_clock

pytestmark = [pytest.mark.django_db(transaction=True), pytest.mark.database]

TTL = timedelta(seconds=10)
WORKERS = st.sampled_from(["ada", "grace"])
KEYS = st.lists(st.sampled_from(["one", "two", "three"]), min_size=1, max_size=3, unique=True)


@dataclass
class Work:
    """What the model knows of one key. ``ends`` is a time of the store's clock."""

    processed: bool = False
    token: int = 0
    ends: float = 0.0
    tokens: list[int] = field(default_factory=list)
    marks: int = 0


class Workers(RuleBasedStateMachine):
    #: Whether the store goes by a clock that does not jump.
    monotonic: bool

    def __init__(self) -> None:
        super().__init__()
        self.frozen = frozen_clock()
        self.clock = self.frozen.__enter__()
        self.store, self.handler = configured(), f"h-{uuid.uuid4().hex[:8]}"
        self.work = {key: Work() for key in ("one", "two", "three")}
        self.leases: dict[tuple[str, str], Lease] = {}
        self.duplicates = 0

    def teardown(self) -> None:
        self.frozen.__exit__(None, None, None)

    def now(self) -> float:
        return self.clock.monotonic() if self.monotonic else self.clock.now().timestamp()

    def scopes(self, keys: list[str]) -> list[Scope]:
        return [Scope("", "main", "g", self.handler, "a", key) for key in keys]

    def of(self, worker: str, keys: list[str]) -> dict[str, Lease]:
        return {key: self.leases[worker, key] for key in keys if (worker, key) in self.leases}

    def is_mine(self, key: str, lease: Lease) -> bool:
        return not self.work[key].processed and self.work[key].token == lease.token

    @rule(worker=WORKERS, keys=KEYS)
    def begin(self, worker: str, keys: list[str]) -> None:
        for key, begun in zip(keys, self.store.begin(self.scopes(keys), TTL), strict=True):
            work = self.work[key]
            if work.processed:
                assert begun.status == "processed"
                self.duplicates += 1
            elif work.token and self.now() < work.ends:
                assert begun.status == "busy"
            else:
                assert begun.status == "acquired"
                assert begun.lease is not None
                self.leases[worker, key] = begun.lease
                work.token, work.ends = begun.lease.token, self.now() + TTL.total_seconds()
                work.tokens.append(work.token)

    @rule(worker=WORKERS, keys=KEYS)
    def renew(self, worker: str, keys: list[str]) -> None:
        held = self.of(worker, keys)
        if not held:
            return
        alive = {key: self.is_mine(key, lease) and self.now() < self.work[key].ends for key, lease in held.items()}
        for key, lease in held.items():
            if alive[key]:
                self.store.renew([lease])
                self.work[key].ends = self.now() + TTL.total_seconds()
        if not all(alive.values()):
            with pytest.raises(LeaseLostError):
                self.store.renew([lease for key, lease in held.items() if not alive[key]])

    @rule(worker=WORKERS, keys=KEYS)
    def finish(self, worker: str, keys: list[str]) -> None:
        """A worker that was paused marks what it has done without knowing whether it still holds the lease."""
        held = self.of(worker, keys)
        mine = [key for key, lease in held.items() if self.is_mine(key, lease)]
        if len(mine) == len(held):
            self.store.finish(list(held.values()))
        else:
            with pytest.raises(LeaseLostError):
                self.store.finish(list(held.values()))
        for key in mine:
            self.work[key].processed = True
            self.work[key].marks += 1

    @rule(worker=WORKERS, keys=KEYS)
    def release(self, worker: str, keys: list[str]) -> None:
        held = self.of(worker, keys)
        self.store.release(list(held.values()))
        for key, lease in held.items():
            if self.is_mine(key, lease):
                self.work[key].ends = -math.inf

    @rule(seconds=st.floats(0, 15))
    def time_passes(self, seconds: float) -> None:
        self.clock.advance(seconds=seconds)

    @rule(seconds=st.floats(-3600, 3600))
    def the_clock_jumps(self, seconds: float) -> None:
        self.clock._at += timedelta(seconds=seconds)

    @invariant()
    def tokens_rise(self) -> None:
        assert all(work.tokens == sorted(set(work.tokens)) for work in self.work.values())

    @invariant()
    def nothing_is_marked_twice(self) -> None:
        assert all(work.marks == work.processed for work in self.work.values())

    @invariant()
    def every_duplicate_is_counted(self) -> None:
        assert self.store.figures().duplicates.get(self.handler, 0) == self.duplicates


def test_whatever_happens_work_is_marked_by_who_has_it(kind: str) -> None:
    examples = 5 if kind in ("database", "elsewhere") else 15
    machine: Any = type("Workers", (Workers,), {"monotonic": kind == "memory"})
    run_state_machine_as_test(machine, settings=settings(max_examples=examples, stateful_step_count=25))
