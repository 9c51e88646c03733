"""Lua scripts that run inside Redis, where any number of workers may change the data of one user at once.

A value of another type, or one that is not a log, is a fault of one user. It is renamed, so that nothing is lost and the user's next
events have a place.
"""

from __future__ import annotations

__all__ = ["APPEND", "LEFT", "SET_ASIDE", "WRITE"]

# `user_log.is_sound`, and what becomes of a log that is not.
_SOUND = """
local function events_of(key, aside, ttl)
  local log = redis.pcall('GET', key)
  if type(log) == 'table' then
    if not string.find(log.err, 'WRONGTYPE', 1, true) then return nil, log end
  elseif not log or #log == 0 then
    return '', false
  elseif #log >= 16 and (#log - 16) % 24 == 0 and struct.unpack('<i8', log, 9) >= (#log - 16) / 24 then
    return log, false
  end
  redis.call('RENAME', key, aside)
  redis.call('EXPIRE', aside, ttl)
  return '', true
end
"""

# `user_log.append`, with the same outcomes and the same bytes.
APPEND = (
    _SOUND
    + """
local limit, ttl, epoch, entries = tonumber(ARGV[1]), tonumber(ARGV[2]), ARGV[3], ARGV[4]
local log, fault = events_of(KEYS[1], KEYS[3], ttl)
if not log then return fault end

local own, count, events = epoch, 0, ''
if #log > 0 then
  own, count, events = string.sub(log, 1, 8), struct.unpack('<i8', log, 9), string.sub(log, 17)
end
local many = #entries > 192
local outcomes, known, first, held = {}, {}, 0, #events / 24  -- first: bytes of events that the limit has pushed out
local added, times = {}, {}  -- of the accepted events, in order of arrival
local heap, overflows = {}, (#events + #entries) / 24 > limit
local ordered, newest = true, nil
if #events > 0 then newest = struct.unpack('<i8', events, #events - 23) end

local function is_held(key)
  if known[key] ~= nil or many then return known[key] end
  local at = first + 1
  while true do
    local found = string.find(events, key, at, true)
    if not found or found % 24 == 17 then return found end
    at = found + 1
  end
end

local function before(one, other)
  if times[one] == times[other] then return one < other end
  return times[one] < times[other]
end

local function push(number)
  local place = #heap + 1
  while place > 1 do
    local parent = math.floor(place / 2)
    if not before(number, heap[parent]) then break end
    heap[place] = heap[parent]
    place = parent
  end
  heap[place] = number
end

local function pop()
  local last = table.remove(heap)
  local size, place = #heap, 1
  while size > 0 and place * 2 <= size do
    local child = place * 2
    if child < size and before(heap[child + 1], heap[child]) then child = child + 1 end
    if not before(heap[child], last) then break end
    heap[place] = heap[child]
    place = child
  end
  if size > 0 then heap[place] = last end
end

local function oldest()
  local stored = first < #events and struct.unpack('<i8', events, first + 1) or nil
  local new = heap[1] and times[heap[1]]
  if stored and not (new and new < stored) then return stored, true end
  return new, false
end

local covered = many and string.find(events, entries, 1, true)
if covered and covered % 24 == 1 then
  outcomes[1] = string.rep('\\2', #entries / 24)
  entries = ''
elseif many then
  for at = 17, #events, 24 do known[string.sub(events, at, at + 7)] = true end
end
for start = 1, #entries, 24 do
  local key, time = string.sub(entries, start + 16, start + 23), struct.unpack('<i8', entries, start)
  local outcome = '\\0'
  if is_held(key) then
    outcome = '\\2'
  elseif held >= limit and time < oldest() then
    outcome = '\\3'
  else
    if newest and time < newest then
      own, outcome = epoch, '\\1'
    else
      newest = time
    end
    local number = #times + 1
    ordered = ordered and (number == 1 or times[number - 1] <= time)
    times[number], added[number], known[key] = time, string.sub(entries, start, start + 23), true
    count, held = count + 1, held + 1
    if overflows then push(number) end
    while held > limit do
      local _, stored = oldest()
      if stored then
        known[string.sub(events, first + 17, first + 24)] = nil
        first = first + 24
      else
        known[string.sub(added[heap[1]], 17, 24)] = nil
        added[heap[1]] = false
        pop()
      end
      held = held - 1
    end
  end
  outcomes[#outcomes + 1] = outcome
end

local order = {}
for number = 1, #times do
  if added[number] then order[#order + 1] = number end
end
if not ordered then table.sort(order, before) end
local pieces, from = {}, first  -- from: bytes of events that are placed or pushed out
for _, number in ipairs(order) do
  local low, high = from / 24, #events / 24
  if high > low and struct.unpack('<i8', events, #events - 23) <= times[number] then low = high end
  while low < high do
    local middle = math.floor((low + high) / 2)
    if struct.unpack('<i8', events, middle * 24 + 1) <= times[number] then low = middle + 1 else high = middle end
  end
  if low * 24 > from then pieces[#pieces + 1] = string.sub(events, from + 1, low * 24) end
  pieces[#pieces + 1] = added[number]
  from = low * 24
end
pieces[#pieces + 1] = string.sub(events, from + 1)
local after = own .. struct.pack('<i8', count) .. table.concat(pieces)
if after ~= log then redis.call('SET', KEYS[1], after, 'EX', ttl) else ttl = redis.call('TTL', KEYS[1]) end
local state = redis.pcall('GET', KEYS[2])
if type(state) == 'table' then state = false end
return {after, state, table.concat(outcomes), ttl, fault and 1 or 0}
"""
)

# A state is stored only if it belongs to the current log and is newer than the stored state.
WRITE = """
local own = redis.pcall('GETRANGE', KEYS[1], 0, 7)
if own ~= string.sub(ARGV[2], 1, 8) then return 0 end
local before = redis.pcall('GETRANGE', KEYS[2], 0, 15)
if type(before) == 'string' and #before == 16 and string.sub(before, 1, 8) == own
  and struct.unpack('<i8', before, 9) >= struct.unpack('<i8', ARGV[2], 9) then return 0 end
redis.call('SET', KEYS[2], ARGV[2], 'EX', tonumber(ARGV[1]))
return 1
"""

# Rename a user's log if it is damaged, and return whether it was renamed.
SET_ASIDE = (
    _SOUND
    + """
local log, fault = events_of(KEYS[1], KEYS[2], tonumber(ARGV[1]))
if not log then return fault end
return fault and 1 or 0
"""
)

# The seconds that each key will still be kept: -1 for ever, -2 if there is none.
LEFT = """
local left = {}
for place, key in ipairs(KEYS) do left[place] = redis.call('TTL', key) end
return left
"""
