"""Health facts in Redis.

A field is ``reporter|name``, a value ``since|reported|until|status|`` and the rest of the fact as JSON; times are the
server's, in milliseconds.
"""

from __future__ import annotations

import json
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING

from koan_django.core.stores import Fact, KnownFact

from .connection import RedisStore, text_of

if TYPE_CHECKING:
    from collections.abc import Iterable

_NOW = """
local time = redis.call('TIME')
local now = time[1] * 1000 + math.floor(time[2] / 1000)
"""
#: field, status, the rest, ttl. Whoever reports keeps the hash for another day.
RECORD = f"""{_NOW}
local since, status = (redis.call('HGET', KEYS[1], ARGV[1]) or ''):match('^(%d+)|%d+|%d+|(%a+)|')
if status ~= ARGV[2] then since = string.format('%.0f', now) end
local head = since .. string.format('|%.0f|%.0f|', now, now + ARGV[4]) .. ARGV[2] .. '|'
redis.call('HSET', KEYS[1], ARGV[1], head .. ARGV[3])
redis.call('EXPIRE', KEYS[1], 86400)
"""
#: how long facts are remembered
FACTS = f"""{_NOW}
local found = redis.call('HGETALL', KEYS[1])
local kept = {{}}
for i = 1, #found, 2 do
  local ends = found[i + 1]:match('^%d+|%d+|(%d+)|')
  if tonumber(ends) + ARGV[1] <= now then
    redis.call('HDEL', KEYS[1], found[i])
  else
    kept[#kept + 1] = found[i]
    kept[#kept + 1] = found[i + 1]
  end
end
return {{now, kept}}
"""
#: the reporter, and whether only the names that follow
RETRACT = """
if ARGV[2] == 'some' then
  for i = 3, #ARGV do redis.call('HDEL', KEYS[1], ARGV[1] .. '|' .. ARGV[i]) end
  return
end
for _, field in ipairs(redis.call('HKEYS', KEYS[1])) do
  if field:sub(1, #ARGV[1] + 1) == ARGV[1] .. '|' then redis.call('HDEL', KEYS[1], field) end
end
"""


class RedisHealth(RedisStore):
    """Health facts that processes report without writing to the database."""

    keeps = "health"

    def record(self, fact: Fact, ttl: timedelta) -> None:
        rest = json.dumps([fact.critical, fact.message, fact.data], default=str)
        self.run(RECORD, f"{fact.reporter}|{fact.name}", fact.status, rest, _millis(ttl))

    def facts(self, remembered: timedelta) -> list[KnownFact]:
        now, pairs = self.run(FACTS, _millis(remembered))
        words = [text_of(word) for word in pairs]
        known = (_known(*pair, now) for pair in zip(words[::2], words[1::2], strict=True))
        return sorted(known, key=lambda each: (each.fact.name, each.fact.reporter))

    def retract(self, reporter: str, names: Iterable[str] | None) -> None:
        self.run(RETRACT, reporter, *(["all"] if names is None else ["some", *names]))


def _known(field: str, value: str, now: int) -> KnownFact:
    reporter, name = field.split("|", 1)
    since, reported, until, status, rest = value.split("|", 4)
    critical, message, data = json.loads(rest)
    fact = Fact(name, reporter, status, critical, message, data)  # type: ignore[arg-type]  # written by record()
    return KnownFact(fact, _moment(since), _moment(reported), expired=int(until) <= now)


def _moment(millis: str) -> datetime:
    return datetime.fromtimestamp(int(millis) / 1000, UTC)


def _millis(duration: timedelta) -> int:
    return duration // timedelta(milliseconds=1)
