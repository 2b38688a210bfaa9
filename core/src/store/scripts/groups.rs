//! Scripts about groups.

/// Opens a group; creates it where it does not exist.
///
/// `KEYS`: the stream, the key of its mark (see [`super::EACH`]). `ARGV`: the group.
/// Returns the entry behind which a new group begins, or nothing where the group exists.
///
/// A mark beyond the stream's last entry is of another stream that had this key before. Identifiers are compared as texts: Lua's
/// numbers are exact only up to 2^53, and publishers may choose greater ones.
pub(in crate::store) const OPEN: &str = r"
local function reaches(a, b)
  if #a ~= #b then return #a > #b end
  return a >= b
end
local function is_beyond(a, b)
  local ms, seq = a:match('^(%d+)-(%d+)$')
  local other_ms, other_seq = b:match('^(%d+)-(%d+)$')
  if ms == other_ms then return not reaches(other_seq, seq) end
  return not reaches(other_ms, ms)
end
local from = '0-0'
local mark = redis.call('EXISTS', KEYS[1]) == 1 and redis.call('GET', KEYS[2])
if mark then
  local id = mark:gsub('^%(', '')
  local info = redis.call('XINFO', 'STREAM', KEYS[1])
  for i = 1, #info, 2 do
    if info[i] == 'last-generated-id' and not is_beyond(id, info[i + 1]) then from = id end
  end
  if from ~= '0-0' and from ~= mark then
    local before = redis.call('XREVRANGE', KEYS[1], mark, '-', 'COUNT', 1)[1]
    from = before and before[1] or '0-0'
  end
end
local created = redis.pcall('XGROUP', 'CREATE', KEYS[1], ARGV[1], from, 'MKSTREAM')
if not created.err then return from end
if created.err:find('BUSYGROUP') then return false end
return created
";

/// Takes pending entries over.
///
/// `KEYS`: the stream. `ARGV`: the group, the consumer, the least idle time in milliseconds, `own` or `any`, then for each entry
/// its identifier and the number of deliveries it has from then on.
/// Returns the entries, and the identifiers of those whose content is gone: these are pending no longer.
///
/// Redis from 7.0 on drops a pending entry without content by itself when it is claimed; before, that is done here.
pub(in crate::store) const CLAIM: &str = r"
local group, consumer, entries, gone = ARGV[1], ARGV[2], {}, {}
for i = 5, #ARGV, 2 do
  local id = ARGV[i]
  local held = redis.call('XPENDING', KEYS[1], group, id, id, 1)[1]
  if held and (ARGV[4] == 'any' or held[2] == consumer) then
    local claimed = redis.call('XCLAIM', KEYS[1], group, consumer, ARGV[3], id, 'RETRYCOUNT', ARGV[i + 1])[1]
    if claimed and claimed[2] then
      entries[#entries + 1] = claimed
    elseif #redis.call('XRANGE', KEYS[1], id, id) == 0 then
      local pending = redis.call('XPENDING', KEYS[1], group, id, id, 1)[1]
      if not pending or pending[2] == consumer then
        redis.call('XACK', KEYS[1], group, id)
        gone[#gone + 1] = id
      end
    end
  end
end
return {entries, gone}
";

/// Touches own pending entries.
///
/// `KEYS`: the stream. `ARGV`: the group, the consumer, then the identifiers of the entries.
/// Returns those that are still pending with this consumer.
///
/// One whose content was trimmed is left as it is: a claim would end it, and its content is still in somebody's hand.
pub(in crate::store) const HOLD: &str = r"
local group, consumer, held = ARGV[1], ARGV[2], {}
for i = 3, #ARGV do
  local id = ARGV[i]
  if #redis.call('XPENDING', KEYS[1], group, id, id, 1, consumer) == 1 then
    if #redis.call('XRANGE', KEYS[1], id, id) == 1 then
      redis.call('XCLAIM', KEYS[1], group, consumer, 0, id, 'JUSTID')
    end
    held[#held + 1] = id
  end
end
return held
";

/// How a group is doing.
///
/// `KEYS`: the stream. `ARGV`: the group.
/// Returns the store's time in milliseconds, then the figures of [`super::super::GroupHealth`] in its order, without the dead
/// letters, which may stand elsewhere; for an age the milliseconds
/// of the entry's identifier, or nothing where there is none.
///
/// What Redis says of the lag is wrong after deletions, and nothing at all after some. It is zero where the last entry has been
/// delivered, and the whole stream where its first has not. Otherwise entries are counted, up to a hundred of them or 256 KiB;
/// only where there are more, Redis is believed, within these limits.
pub(in crate::store) const HEALTH: &str = r"
local function fields(list)
  local of = {}
  for i = 1, #list, 2 do of[list[i]] = list[i + 1] end
  return of
end
local function millis(id) return math.min(tonumber(id:match('^%d+')), 2 ^ 53) end
local function first(from) return redis.call('XRANGE', KEYS[1], from, '+', 'COUNT', 1)[1] end

local time = redis.call('TIME')
local now = time[1] * 1000 + math.floor(time[2] / 1000)
local group
for _, info in ipairs(redis.call('XINFO', 'GROUPS', KEYS[1])) do
  local of = fields(info)
  if of.name == ARGV[1] then group = of end
end
if not group then return redis.error_reply('NOGROUP no such consumer group') end

local length = redis.call('XLEN', KEYS[1])
local oldest = first('-')
local unread = first('(' .. group['last-delivered-id'])
local lag, exact, trimmed = 0, 1, 0
if unread and unread[1] == oldest[1] then
  lag = length
  local stream = fields(redis.call('XINFO', 'STREAM', KEYS[1]))
  if stream['entries-added'] and group['entries-read'] then
    trimmed = math.max(0, stream['entries-added'] - length - group['entries-read'])
  end
elseif unread then
  local entry, bytes = unread, 0
  while entry and lag < 100 and bytes < 262144 do
    lag = lag + 1
    for _, word in ipairs(entry[2]) do bytes = bytes + #word end
    entry = first('(' .. entry[1])
  end
  if entry then
    exact = 0
    lag = math.min(length, math.max(lag + 1, group.lag or length))
  end
end
local pending = redis.call('XPENDING', KEYS[1], ARGV[1])
local most = 0
for _, entry in ipairs(redis.call('XPENDING', KEYS[1], ARGV[1], '-', '+', 100)) do most = math.max(most, entry[4]) end
return {
  now, length, lag, exact, unread and millis(unread[1]) or false, pending[1], pending[1] > 0 and millis(pending[2]), most, trimmed,
  group.consumers,
}
";

/// Removes other consumers that have nothing pending and were idle for long.
///
/// `KEYS`: the stream. `ARGV`: the group, the consumer that asks, the least idle time in milliseconds.
/// Returns the names of the consumers that were removed.
///
/// With a consumer its pending entries would go, and nobody would ever have them. That is why it is one step.
/// Before Redis 7.2 a read that waits in vain is not seen, so a consumer that asks says by a look beyond all entries that it lives.
pub(in crate::store) const TIDY: &str = r"
redis.call('XREADGROUP', 'GROUP', ARGV[1], ARGV[2], 'COUNT', 1, 'STREAMS', KEYS[1], '18446744073709551615-18446744073709551614')
local removed = {}
for _, info in ipairs(redis.call('XINFO', 'CONSUMERS', KEYS[1], ARGV[1])) do
  local of = {}
  for i = 1, #info, 2 do of[info[i]] = info[i + 1] end
  if of.name ~= ARGV[2] and of.pending == 0 and of.idle >= tonumber(ARGV[3]) then
    redis.call('XGROUP', 'DELCONSUMER', KEYS[1], ARGV[1], of.name)
    removed[#removed + 1] = of.name
  end
end
return removed
";
