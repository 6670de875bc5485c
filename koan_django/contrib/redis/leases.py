"""Named leases in Redis.

A value is ``token|until|owner``. The token is the server's time in microseconds, or one more than the last: it rises
even when Redis has lost everything it held. Lua counts in doubles, which hold these numbers exactly until 2255.
"""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

from koan_django.core.stores import KnownLease

from .connection import RedisStore, text_of

_NOW = """
local time = redis.call('TIME')
local now = time[1] * 1000000 + time[2]
local found = redis.call('HGET', KEYS[1], ARGV[1]) or '0|0|'
local token, ends, owner = found:match('^(%d+)|(%d+)|(.*)$')
local held = tonumber(ends) > now
"""
_WRITE = "redis.call('HSET', KEYS[1], ARGV[1], %s)\n"

#: name, owner, ttl in microseconds. Its owner asks again when the answer was lost on the way.
ACQUIRE = f"""{_NOW}
if held and owner ~= ARGV[2] then return false end
if not held then token = string.format('%.0f', math.max(token + 1, now)) end
{_WRITE % "token .. string.format('|%.0f|', now + ARGV[3]) .. ARGV[2]"}
return token
"""
#: name, token, ttl in microseconds
RENEW = f"""{_NOW}
if not held or token ~= ARGV[2] then return 0 end
{_WRITE % "token .. string.format('|%.0f|', now + ARGV[3]) .. owner"}
return 1
"""
#: name, token
RELEASE = f"""{_NOW}
if not held or token ~= ARGV[2] then return 0 end
{_WRITE % "token .. '|0|' .. owner"}
return 1
"""
#: name, token
HOLDS = f"""{_NOW}
if held and token == ARGV[2] then return 1 end
return 0
"""
LIST = """
local time = redis.call('TIME')
return {time[1] * 1000000 + time[2], redis.call('HGETALL', KEYS[1])}
"""


class RedisLeases(RedisStore):
    """Leases by one script each. A Redis that fails over to a replica may have forgotten who holds what."""

    keeps = "leases"

    def acquire(self, name: str, owner: str, ttl: timedelta) -> int | None:
        token = self.run(ACQUIRE, name, owner, _micros(ttl))
        return None if token is None else int(token)

    def renew(self, name: str, token: int, ttl: timedelta) -> bool:
        return bool(self.run(RENEW, name, token, _micros(ttl)))

    def holds(self, name: str, token: int) -> bool:
        return bool(self.run(HOLDS, name, token))

    def release(self, name: str, token: int) -> bool:
        return bool(self.run(RELEASE, name, token))

    def leases(self) -> list[KnownLease]:
        now, pairs = self.run(LIST)
        words = [text_of(word) for word in pairs]
        return sorted((_known(*pair, now) for pair in zip(words[::2], words[1::2], strict=True)), key=lambda k: k.name)


def _known(name: str, value: str, now: int) -> KnownLease:
    token, until, owner = value.split("|", 2)
    ends = datetime.fromtimestamp(int(until) / 1e6, UTC) if int(until) > now else None
    return KnownLease(name, owner, int(token), ends)


def _micros(ttl: timedelta) -> int:
    return ttl // timedelta(microseconds=1)
