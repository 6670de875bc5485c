"""Circuit breakers in Redis. A value is the version and the circuit as JSON."""

from __future__ import annotations

import json
from dataclasses import asdict
from typing import TYPE_CHECKING

from koan_django.core.circuits import Circuit
from koan_django.core.stores.base import compare_and_set

from .connection import RedisStore, text_of

if TYPE_CHECKING:
    from koan_django.core.circuits import Step
    from koan_django.core.stores import Change

#: name
READ = """
local time = redis.call('TIME')
return {time[1], time[2], redis.call('HGET', KEYS[1], ARGV[1])}
"""
#: name, the version to replace, the next value
WRITE = """
local found = redis.call('HGET', KEYS[1], ARGV[1]) or '0|'
if found:match('^(%d+)|') ~= ARGV[2] then return 0 end
redis.call('HSET', KEYS[1], ARGV[1], ARGV[3])
return 1
"""


class RedisBreakers(RedisStore):
    """Circuits that cost the database nothing, and that no transaction of the caller touches."""

    keeps = "breakers"

    def read(self, name: str) -> tuple[Circuit, float]:
        seconds, micros, value = self.run(READ, name)
        return _circuit(value), int(seconds) + int(micros) / 1e6

    def change(self, name: str, step: Step) -> Change:
        def write(circuit: Circuit) -> bool:
            value = json.dumps(asdict(circuit))
            return bool(self.run(WRITE, name, circuit.version - 1, f"{circuit.version}|{value}"))

        return compare_and_set(lambda: self.read(name), write, step)

    def circuits(self) -> dict[str, Circuit]:
        with self.answering():
            found = self.client.hgetall(self.key)
        return {text_of(name): _circuit(value) for name, value in found.items()}


def _circuit(value: object) -> Circuit:
    if value is None:
        return Circuit()
    fields = json.loads(text_of(value).split("|", 1)[1])
    return Circuit(**{**fields, "failures": tuple(fields["failures"]), "probes": tuple(fields["probes"])})
