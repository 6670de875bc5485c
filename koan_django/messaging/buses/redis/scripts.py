"""The verbs of the bus, in Lua.

Each sees and changes a group as a whole, by the server's clock. In all of them the first keys are the two streams of a
group, and entries are named by the number of their stream and their id.
"""

from __future__ import annotations

#: The consumer group of each stream.
GROUP = "koan"
#: Who holds what a worker gave back.
FREE = "free"
#: A consumer that holds nothing and has not been seen for so long is removed.
GONE_MS = 3_600_000

_COMMON = f"""
local GROUP, FREE = '{GROUP}', '{FREE}'
local function owns(key, id, owner) return #redis.call('XPENDING', key, GROUP, id, id, 1, owner) > 0 end
local function remove(key, id)
  redis.call('XACK', key, GROUP, id)
  redis.call('XDEL', key, id)
end
local function milliseconds(moved)
  if moved ~= '' then return tonumber(moved) end
  local time = redis.call('TIME')
  return time[1] * 1000 + math.floor(time[2] / 1000)
end
local function ring(asleep, bell)
  if redis.call('DEL', asleep) == 1 then redis.call('PUBLISH', bell, '') end
end
-- A full server refuses what needs memory, but not to a script that has written already. What empties it must not fail.
local function insist(key) redis.call('PERSIST', key) end
"""

#: streams, bindings, version, later | group, patterns. Adds bindings, makes the streams, and forgets consumers that are
#: gone.
BIND = f"""{_COMMON}
for i, wanted in ipairs({{'stream', 'stream', 'set', 'string', 'zset'}}) do
  local found = redis.call('TYPE', KEYS[i]).ok
  if found ~= wanted and found ~= 'none' then
    return redis.error_reply('WRONGTYPE the key ' .. KEYS[i] .. ' holds a ' .. found .. ' instead of a ' .. wanted)
  end
end
insist(KEYS[3])
local added = 0
for i = 2, #ARGV do added = added + redis.call('SADD', KEYS[3], ARGV[1] .. ' ' .. ARGV[i]) end
local known = redis.call('GET', KEYS[4])
if added > 0 or not known then
  local time = redis.call('TIME')
  redis.call('SET', KEYS[4], string.format('%.0f', math.max(time[1] * 1000000 + time[2], (known or 0) + 1)))
end
for i = 1, 2 do
  local made = redis.pcall('XGROUP', 'CREATE', KEYS[i], GROUP, '0', 'MKSTREAM')
  if made.err and not made.err:find('BUSYGROUP') then return made end
  for _, consumer in ipairs(redis.call('XINFO', 'CONSUMERS', KEYS[i], GROUP)) do
    local facts = {{}}
    for j = 1, #consumer, 2 do facts[consumer[j]] = consumer[j + 1] end
    if facts.pending == 0 and facts.idle > {GONE_MS} then
      redis.call('XGROUP', 'DELCONSUMER', KEYS[i], GROUP, facts.name)
    end
  end
end
return redis.status_reply('OK')
"""

#: bindings, version
BINDINGS = "return {redis.call('GET', KEYS[2]) or '', redis.call('SMEMBERS', KEYS[1])}"

#: version, asleep, the streams of the receiving groups | the version that they were chosen by, bell, fields.
#: Nothing is written, and 0 returned, when the bindings have changed meanwhile. Where one stream refuses the message
#: the others lose it again: whoever tries once more would double it there.
PUBLISH = f"""{_COMMON}
if (redis.call('GET', KEYS[1]) or '') ~= ARGV[1] then return 0 end
local ids = {{}}
for i = 3, #KEYS do
  local id = redis.pcall('XADD', KEYS[i], '*', unpack(ARGV, 3))
  if type(id) == 'table' then
    for j = 3, i - 1 do redis.call('XDEL', KEYS[j], ids[j]) end
    return redis.error_reply(id.err .. ' (the key ' .. KEYS[i] .. ')')
  end
  ids[i] = id
end
ring(KEYS[2], ARGV[2])
return 1
"""

#: streams, later, asleep | consumer, limit, time. Returns entries: what is due first becomes an entry again, then what
#: was given back is taken before what is new, and the urgent before the ordinary.
FETCH = f"""{_COMMON}
insist(KEYS[3])
for _, member in ipairs(redis.call('ZRANGEBYSCORE', KEYS[3], '-inf', milliseconds(ARGV[3]), 'LIMIT', 0, 100)) do
  local kept = cmsgpack.unpack(member:sub(member:find('|', 1, true) + 1))
  redis.call('XADD', KEYS[kept[1]], '*', unpack(kept[2]))
  redis.call('ZREM', KEYS[3], member)
end
local found, limit = {{}}, tonumber(ARGV[2])
local function add(number, entries)
  for _, entry in ipairs(entries) do
    if entry and entry[2] then found[#found + 1] = {{number, entry[1], entry[2]}} end
  end
end
for number = 2, 1, -1 do
  local key, ids = KEYS[number], {{}}
  if #found < limit then
    for _, held in ipairs(redis.call('XPENDING', key, GROUP, '-', '+', limit - #found, FREE)) do
      ids[#ids + 1] = held[1]
    end
  end
  for _, id in ipairs(ids) do  -- it counts as delivered once: whoever gave it back was not silent
    add(number, redis.call('XCLAIM', key, GROUP, ARGV[1], 0, id, 'RETRYCOUNT', 1))
  end
  if #found < limit then
    local read = redis.call('XREADGROUP', 'GROUP', GROUP, ARGV[1], 'COUNT', limit - #found, 'STREAMS', key, '>')
    if read then add(number, read[1][2]) end
  end
end
if #found == 0 then redis.call('SET', KEYS[4], 1) end
return found
"""

#: streams | consumer, lease in milliseconds, limit. Takes what a silent consumer holds; returns entries with the number
#: of their deliveries.
CLAIM = f"""{_COMMON}
local found, limit = {{}}, tonumber(ARGV[3])
for number = 2, 1, -1 do
  local key, cursor = KEYS[number], '0-0'
  repeat
    if #found >= limit then break end
    local page = redis.call('XAUTOCLAIM', key, GROUP, ARGV[1], ARGV[2], cursor, 'COUNT', limit - #found)
    cursor = page[1]
    for _, entry in ipairs(page[2]) do
      if entry and entry[2] then
        local held = redis.call('XPENDING', key, GROUP, entry[1], entry[1], 1)[1]
        found[#found + 1] = {{number, entry[1], entry[2], held[4]}}
      end
    end
  until cursor == '0-0'
end
return found
"""

#: streams | consumer, entries. Holds on to entries; returns those that somebody else has now.
KEEP = f"""{_COMMON}
local lost = {{}}
for i = 2, #ARGV, 2 do
  local key, id = KEYS[tonumber(ARGV[i])], ARGV[i + 1]
  if owns(key, id, ARGV[1]) then
    redis.call('XCLAIM', key, GROUP, ARGV[1], 0, id, 'JUSTID')
  else
    lost[#lost + 1] = {{tonumber(ARGV[i]), id}}
  end
end
return lost
"""

#: streams | entries. They are over, whoever holds them.
FINISH = f"""{_COMMON}
for i = 1, #ARGV, 2 do remove(KEYS[tonumber(ARGV[i])], ARGV[i + 1]) end
return #ARGV / 2
"""

#: streams, later | consumer, number, id, wait in milliseconds, time, fields to change. Returns 0 for an entry that
#: somebody else has now.
PUT_OFF = f"""{_COMMON}
local number, id = tonumber(ARGV[2]), ARGV[3]
local key = KEYS[number]
if not owns(key, id, ARGV[1]) then return 0 end
insist(KEYS[3])
local entry = redis.call('XRANGE', key, id, id)[1]
if entry then
  local fields = entry[2]
  for i = 6, #ARGV, 2 do
    local place = #fields + 1
    for j = 1, #fields, 2 do
      if fields[j] == ARGV[i] then place = j end
    end
    fields[place], fields[place + 1] = ARGV[i], ARGV[i + 1]
  end
  local member = number .. ':' .. id .. '|' .. cmsgpack.pack({{number, fields}})
  redis.call('ZADD', KEYS[3], milliseconds(ARGV[5]) + ARGV[4], member)
end
remove(key, id)
return 1
"""

#: streams, asleep | consumer, bell, entries. Others may have them at once, before what is new.
GIVE_BACK = f"""{_COMMON}
for i = 3, #ARGV, 2 do
  local key, id = KEYS[tonumber(ARGV[i])], ARGV[i + 1]
  if owns(key, id, ARGV[1]) then redis.call('XCLAIM', key, GROUP, FREE, 0, id, 'JUSTID') end
end
ring(KEYS[3], ARGV[2])
return 1
"""

#: streams | consumer. A consumer that holds nothing leaves.
LEAVE = f"""{_COMMON}
for i = 1, 2 do
  if #redis.call('XPENDING', KEYS[i], GROUP, '-', '+', 1, ARGV[1]) == 0 then
    redis.call('XGROUP', 'DELCONSUMER', KEYS[i], GROUP, ARGV[1])
  end
end
return 1
"""

#: streams, later. Returns how many entries there are, how many of them somebody holds, and how many wait.
DEPTH = f"""{_COMMON}
local held, all = 0, 0
for i = 1, 2 do
  all = all + redis.call('XLEN', KEYS[i])
  if redis.call('EXISTS', KEYS[i]) == 1 then held = held + redis.call('XPENDING', KEYS[i], GROUP)[1] end
end
return {{all, held, redis.call('ZCARD', KEYS[3])}}
"""
