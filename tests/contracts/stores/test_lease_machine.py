"""Two owners, a resource and a clock that may jump: whatever happens, nothing late is written."""

from __future__ import annotations

import uuid
from datetime import timedelta
from typing import Any

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule, run_state_machine_as_test

from koan_django.core.exceptions import LeaseLostError
from koan_django.core.leases import NamedLease, acquire
from koan_django.core.models import Lease
from koan_django.core.stores import lease_store
from koan_django.testing import frozen_clock
from tests.contracts.stores.conftest import COMMITTING

pytestmark = [pytest.mark.database, COMMITTING, pytest.mark.usefixtures("kind")]

TTL = timedelta(seconds=10)
OWNERS = st.sampled_from(["ada", "grace"])


class Owners(RuleBasedStateMachine):
    """The model knows who holds the name and until when by the clock of the store, which a jump sets wrong."""

    def __init__(self) -> None:
        super().__init__()
        self.frozen = frozen_clock()
        self.clock = self.frozen.__enter__()
        self.name = f"ledger-{uuid.uuid4().hex[:8]}"
        #: A resource that keeps the highest token it was written with.
        Lease.objects.create(name=f"{self.name}-resource")
        self.leases: dict[str, NamedLease] = {}
        self.holder = ""
        self.ends = self.clock.now()
        self.tokens: list[int] = []
        self.written: list[int] = []

    def teardown(self) -> None:
        self.frozen.__exit__(None, None, None)

    @property
    def held(self) -> bool:
        return bool(self.holder) and self.clock.now() < self.ends

    @rule(owner=OWNERS)
    def take(self, owner: str) -> None:
        taken = acquire(self.name, TTL)
        assert (taken is None) == self.held
        if taken is not None:
            self.leases[owner], self.holder, self.ends = taken, owner, self.clock.now() + TTL
            self.tokens.append(taken.token)

    @precondition(lambda self: self.leases)
    @rule(owner=OWNERS)
    def renew(self, owner: str) -> None:
        if self.is_mine(owner):
            self.leases[owner].renew()
            self.ends = self.clock.now() + TTL
        elif owner in self.leases:
            with pytest.raises(LeaseLostError):
                self.leases[owner].renew()

    @precondition(lambda self: self.leases)
    @rule(owner=OWNERS)
    def release(self, owner: str) -> None:
        if owner in self.leases:
            mine = self.is_mine(owner)
            self.leases[owner].release()
            if mine:
                self.holder = ""

    @precondition(lambda self: self.leases)
    @rule(owner=OWNERS)
    def write(self, owner: str) -> None:
        """An owner writes without asking whether it still holds the lease, as one that was paused does."""
        if owner not in self.leases:
            return
        token = self.leases[owner].token
        resource = Lease.objects.filter(name=f"{self.name}-resource", lease_token__lte=token)
        late = bool(self.written) and token < self.written[-1]
        assert bool(resource.update(lease_token=token)) is not late
        if not late:
            self.written.append(token)

    @rule(seconds=st.floats(0, 15))
    def time_passes(self, seconds: float) -> None:
        self.clock.advance(seconds=seconds)

    @rule(seconds=st.floats(-3600, 3600))
    def the_clock_of_the_store_jumps(self, seconds: float) -> None:
        self.clock._at += timedelta(seconds=seconds)

    @invariant()
    def tokens_rise(self) -> None:
        assert self.tokens == sorted(set(self.tokens))

    @invariant()
    def what_was_written_is_never_older_than_before(self) -> None:
        assert self.written == sorted(self.written)

    @invariant()
    def the_store_agrees_on_who_holds_it(self) -> None:
        for owner, lease in self.leases.items():
            assert lease_store().holds(self.name, lease.token) == self.is_mine(owner)

    def is_mine(self, owner: str) -> bool:
        return self.held and owner == self.holder and self.leases[owner].token == self.tokens[-1]


def test_whatever_happens_nothing_late_is_written() -> None:
    machine: Any = Owners
    run_state_machine_as_test(machine, settings=settings(max_examples=15, stateful_step_count=25))
