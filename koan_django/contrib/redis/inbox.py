"""The inbox in Redis. Each verb is one script, one round trip for any number of keys.

An entry is ``token|until|owner`` while its work is under a lease, and ``processed`` after that; both are kept for the
retention. The token is the server's time in microseconds, or one more than the last: it rises even when Redis has lost
everything it held.
"""

from __future__ import annotations

from datetime import timedelta
from typing import TYPE_CHECKING, Any

from koan_django.core.leases import new_owner
from koan_django.inbox.conf import options as inbox
from koan_django.inbox.stores.base import Begun, Figures, Lease, Seen, overtaken

from .connection import RedisStore, text_of

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence

    from koan_django.inbox.scopes import Scope

_NOW = """
local time = redis.call('TIME')
local now = time[1] * 1000000 + time[2]
"""
_FOUND = "local token, ends, owner = (redis.call('GET', key) or ''):match('^(%d+)|(%d+)|(.*)$')\n"

#: The first key is the hash of duplicates. Lease in microseconds, retention in milliseconds, owner, then the handler of
#: all, or each one's. Its owner asks again when the answer was lost on the way. One text is returned: to read a list of
#: them takes redis-py 10 µs for each.
BEGIN = f"""{_NOW}
local first = string.format('%.0f', now)
local rest = string.format('|%.0f|', now + ARGV[1]) .. ARGV[3]
local answers = {{}}
for i = 2, #KEYS do
  local key = KEYS[i]
  local answer = first
  if not redis.call('SET', key, first .. rest, 'NX', 'PX', ARGV[2]) then
    {_FOUND}
    if not token then
      redis.call('HINCRBY', KEYS[1], ARGV[#ARGV > 4 and i + 2 or 4], 1)
      answer = 'processed'
    elseif tonumber(ends) > now then
      answer = owner == ARGV[3] and token or 'busy'
    else
      answer = string.format('%.0f', math.max(token + 1, now))
      redis.call('SET', key, answer .. rest, 'PX', ARGV[2])
    end
  end
  answers[i - 1] = answer
end
return table.concat(answers, ' ')
"""
#: lease in microseconds, then each one's token; returns how many still hold
RENEW = f"""{_NOW}
local held = 0
for i, key in ipairs(KEYS) do
  {_FOUND}
  if token == ARGV[i + 1] and tonumber(ends) > now then
    redis.call('SET', key, token .. string.format('|%.0f|', now + ARGV[1]) .. owner, 'KEEPTTL')
    held = held + 1
  end
end
return held
"""
#: retention in milliseconds, then each one's token; returns how many were marked
FINISH = f"""
local marked = 0
for i, key in ipairs(KEYS) do
  {_FOUND}
  if token == ARGV[i + 1] then
    redis.call('SET', key, 'processed', 'PX', ARGV[1])
    marked = marked + 1
  end
end
return marked
"""
#: returns the entry, and whether its lease holds
LOOK = f"""{_NOW}
local key = KEYS[1]
{_FOUND}
return {{redis.call('GET', key), (token and tonumber(ends) > now) and 1 or 0}}
"""
#: each one's token
RELEASE = f"""
for i, key in ipairs(KEYS) do
  {_FOUND}
  if token == ARGV[i] then redis.call('SET', key, token .. '|0|' .. owner, 'KEEPTTL') end
end
"""
#: Answers that are no token.
_KNOWN: Mapping[str, Begun] = {"busy": Begun("busy"), "processed": Begun("processed")}
_MICROSECOND, _MILLISECOND = timedelta(microseconds=1), timedelta(milliseconds=1)


class RedisInbox(RedisStore):
    """One key for each piece of work, in one slot of a cluster. A failover may forget the newest."""

    keeps = "inbox"

    def commits_with(self, using: str) -> bool:
        """No database's transaction reaches into Redis."""
        return False

    def look(self, scope: Scope) -> Seen:
        found, held = self.run(LOOK, keys=[self._key_of(scope.fingerprint)])
        if found is None:
            return Seen("unknown")
        token, separator, _ = text_of(found).partition("|")
        return Seen("processing", int(token), bool(held)) if separator else Seen("processed")

    def begin(self, scopes: Sequence[Scope], ttl: timedelta) -> list[Begun]:
        if not scopes:
            return []
        fingerprints = [scope.fingerprint for scope in scopes]
        prefix = self._key_of("")
        keys = [self._duplicates, *[prefix + fingerprint for fingerprint in fingerprints]]
        names = [scope.handler for scope in scopes]
        handlers = [name.encode("utf-8", "replace") for name in (names[:1] if len(set(names)) == 1 else names)]
        answers = self.run(BEGIN, ttl // _MICROSECOND, _retention(), new_owner(), *handlers, keys=keys)
        pairs = zip(text_of(answers).split(), fingerprints, strict=True)
        return [_begun(answer, fingerprint, ttl) for answer, fingerprint in pairs]

    def renew(self, leases: Sequence[Lease]) -> None:
        for ttl in {lease.ttl for lease in leases}:
            same = [lease for lease in leases if lease.ttl == ttl]
            if self._run_on(same, RENEW, ttl // _MICROSECOND) < len(same):
                raise overtaken()

    def finish(self, leases: Sequence[Lease]) -> None:
        if leases and self._run_on(leases, FINISH, _retention()) < len(leases):
            raise overtaken()

    def release(self, leases: Sequence[Lease]) -> None:
        if leases:
            self._run_on(leases, RELEASE)

    def count_duplicates(self, scopes: Sequence[Scope]) -> None:
        with self.answering():
            for scope in scopes:
                self.client.hincrby(self._duplicates, scope.handler.encode("utf-8", "replace"), 1)

    def figures(self) -> Figures:
        """Duplicates since they are counted; how many keys there are, only a walk through all of them would tell."""
        with self.answering():
            found = self.client.hgetall(self._duplicates)
        return Figures(duplicates={text_of(name): int(found[name]) for name in sorted(found)})

    def _run_on(self, leases: Iterable[Lease], script: str, *arguments: object) -> Any:
        held = list(leases)
        tokens = [lease.token for lease in held]
        return self.run(script, *arguments, *tokens, keys=[self._key_of(lease.fingerprint) for lease in held])

    @property
    def _duplicates(self) -> str:
        return self._key_of("duplicates")

    def _key_of(self, name: str) -> str:
        """The braces keep all keys in one slot, or a cluster would refuse a batch."""
        return f"{{{self.options.prefix}:{self.keeps}}}:{name}"


def _begun(answer: str, fingerprint: str, ttl: timedelta) -> Begun:
    known = _KNOWN.get(answer)
    return Begun("acquired", Lease(fingerprint, int(answer), ttl)) if known is None else known


def _retention() -> int:
    return inbox().retention // _MILLISECOND
