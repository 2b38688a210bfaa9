//! The Lua scripts, each one atomic step of the contract.

mod presence;

pub(super) use presence::{BEAT, CONDEMN, PRESENT, WHO};

/// Sets the mark of a group: up to where all entries have been acknowledged, so that a group that is lost begins there again. It
/// is an identifier, or `(` and the identifier of the oldest pending entry. `KEYS[1]` is the source, `KEYS[2]` the key of its mark.
macro_rules! mark {
    () => {
        r"
local function mark(group)
  local pending = redis.call('XPENDING', KEYS[1], group)
  local mark = pending[1] > 0 and '(' .. pending[2]
  if not mark then
    for _, info in ipairs(redis.call('XINFO', 'GROUPS', KEYS[1])) do
      local of = {}
      for i = 1, #info, 2 do of[info[i]] = info[i + 1] end
      if of.name == group then mark = of['last-delivered-id'] end
    end
  end
  redis.pcall('SET', KEYS[2], mark)
end
local function acknowledge(group, ids)
  for i = 1, #ids, 1000 do
    redis.call('XACK', KEYS[1], group, unpack(ids, i, math.min(i + 999, #ids)))
  end
  if #ids > 0 then mark(group) end
end
"
    };
}

/// Acknowledges entries whose effects the same transaction has appended just before (contract C3).
///
/// `KEYS`: the source, the key of its mark, then every relay log written to. `ARGV`: the group, the consumer, the first and the
/// last of the entries, how many pending ones to look at, then the entries.
/// Returns 1; or 0, where not every entry is pending with this consumer or something else than a stream stands in a log's place.
/// Then nothing is acknowledged, and what the transaction has appended is taken back: the last entry of each log.
///
/// The messages themselves never pass through a script: that would cost several times as much.
pub(super) const TOGETHER: &str = concat!(
    mark!(),
    r"
local group, fine = ARGV[1], true
for i = 3, #KEYS do fine = fine and redis.call('TYPE', KEYS[i]).ok == 'stream' end
local found = redis.pcall('XPENDING', KEYS[1], group, ARGV[3], ARGV[4], ARGV[5], ARGV[2])
local pending, ids = {}, {}
if not found.err then
  for _, entry in ipairs(found) do pending[entry[1]] = true end
end
for i = 6, #ARGV do
  fine = fine and pending[ARGV[i]]
  pending[ARGV[i]] = nil
  ids[#ids + 1] = ARGV[i]
end
if fine then
  acknowledge(group, ids)
  return 1
end
for i = 3, #KEYS do
  if redis.call('TYPE', KEYS[i]).ok == 'stream' then
    local last = redis.call('XREVRANGE', KEYS[i], '+', '-', 'COUNT', 1)[1]
    if last then redis.call('XDEL', KEYS[i], last[1]) end
  end
end
return found.err and found or 0
"
);

/// Stores the effects of entries and acknowledges them (contract C3), each by itself.
///
/// `KEYS`: the source, the key of its mark, then every stream written to. `ARGV`: the group, the consumer, the first and the last
/// of the entries, how many pending ones to look at; then for each entry its identifier and its number of appends; then for each
/// append the index of its stream in `KEYS`, the stream's length, whether its one word may be `joined` with those of other entries
/// to one value or its words make an entry `alone`, the number of its words, and these.
/// Returns for each entry 1 (stored and acknowledged), 0 (no longer pending, nothing done) or an error text (still pending).
///
/// The guard is "still pending": a second call, by a retry or by a consumer that was thought dead, writes nothing. Entries that
/// are pending with another consumer are looked for one by one.
/// Streams of a wrong type are found before anything is written, so an entry's effect is stored whole or not at all;
/// `MULTI` could not do that, it runs the acknowledgement even after a failed append. An append `alone` is all of its entry's
/// effect and may go to a stream of others, who can have used up its identifiers: where it fails, only its entry stays pending.
pub(super) const EACH: &str = concat!(
    mark!(),
    r"
local wrong, joined, lengths = {}, {}, {}
for i = 3, #KEYS do
  local kind = redis.call('TYPE', KEYS[i]).ok
  if kind ~= 'stream' and kind ~= 'none' then
    wrong[i] = 'WRONGTYPE ' .. KEYS[i] .. ' is a ' .. kind
  end
  joined[i] = {}
end
local group, at, out, acked, mine = ARGV[1], 6, {}, {}, {}
for _, entry in ipairs(redis.call('XPENDING', KEYS[1], group, ARGV[3], ARGV[4], ARGV[5], ARGV[2])) do mine[entry[1]] = true end
while ARGV[at] do
  local id, appends = ARGV[at], tonumber(ARGV[at + 1])
  local pending = mine[id]
  if pending == nil then pending = #redis.call('XPENDING', KEYS[1], group, id, id, 1) == 1 end
  local first, failure = at + 2, nil
  at = first
  for _ = 1, appends do
    failure = failure or wrong[tonumber(ARGV[at])]
    at = at + 4 + tonumber(ARGV[at + 3])
  end
  if not pending then
    out[#out + 1] = 0
  elseif failure then
    out[#out + 1] = failure
  else
    local from = first
    for _ = 1, appends do
      local i, count = tonumber(ARGV[from]), tonumber(ARGV[from + 3])
      lengths[i] = ARGV[from + 1]
      if ARGV[from + 2] == 'alone' then
        local added = redis.pcall('XADD', KEYS[i], 'MAXLEN', '~', lengths[i], '*', unpack(ARGV, from + 4, from + 3 + count))
        failure = type(added) == 'table' and added.err
      else
        table.insert(joined[i], ARGV[from + 4])
      end
      from = from + 4 + count
    end
    if failure then
      out[#out + 1] = failure
    else
      mine[id] = false
      acked[#acked + 1] = id
      out[#out + 1] = 1
    end
  end
end
for i = 3, #KEYS do
  if #joined[i] > 0 then redis.call('XADD', KEYS[i], 'MAXLEN', '~', lengths[i], '*', 'm', table.concat(joined[i])) end
end
acknowledge(group, acked)
return out
"
);

/// Stores the messages of entries whose stream stands in another Redis, those of each entry once.
///
/// `KEYS`: the set of the entries that were stored last, then every relay log written to. `ARGV`: how many entries that set keeps
/// and how many a log keeps; then for each entry its identifier and its number of logs; then for each of these the index of its
/// key in `KEYS`, and the packed messages.
/// Returns for each entry 1 (stored, now or before) or an error text (nothing is stored).
pub(super) const APPLY: &str = r"
local at, out, joined, wrong = 3, {}, {}, {}
for i = 2, #KEYS do
  local kind = redis.call('TYPE', KEYS[i]).ok
  if kind ~= 'stream' and kind ~= 'none' then wrong[i] = 'WRONGTYPE ' .. KEYS[i] .. ' is a ' .. kind end
  joined[i] = {}
end
while ARGV[at] do
  local id, first, failure = ARGV[at], at + 2, nil
  at = first + 2 * tonumber(ARGV[at + 1])
  for i = first, at - 1, 2 do failure = failure or wrong[tonumber(ARGV[i])] end
  if not failure and redis.call('ZADD', KEYS[1], 'NX', id:match('^%d+'), id) == 1 then
    for i = first, at - 1, 2 do table.insert(joined[tonumber(ARGV[i])], ARGV[i + 1]) end
  end
  out[#out + 1] = failure or 1
end
for i = 2, #KEYS do
  if #joined[i] > 0 then redis.call('XADD', KEYS[i], 'MAXLEN', '~', ARGV[2], '*', 'm', table.concat(joined[i])) end
end
redis.call('ZREMRANGEBYRANK', KEYS[1], 0, -1 - tonumber(ARGV[1]))
return out
";

/// Opens a group; creates it where it does not exist.
///
/// `KEYS`: the stream, the key of its mark (see [`EACH`]). `ARGV`: the group.
/// Returns the entry behind which a new group begins, or nothing where the group exists.
///
/// A mark beyond the stream's last entry is of another stream that had this key before. Identifiers are compared as texts: Lua's
/// numbers are exact only up to 2^53, and publishers may choose greater ones.
pub(super) const OPEN: &str = r"
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
pub(super) const CLAIM: &str = r"
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
pub(super) const HOLD: &str = r"
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
/// `KEYS`: the stream, the dead-letter stream. `ARGV`: the group.
/// Returns the store's time in milliseconds, then the figures of [`super::GroupHealth`] in its order; for an age the milliseconds
/// of the entry's identifier, or nothing where there is none.
///
/// What Redis says of the lag is wrong after deletions, and nothing at all after some. It is zero where the last entry has been
/// delivered, and the whole stream where its first has not. Otherwise entries are counted, up to a hundred of them or 256 KiB;
/// only where there are more, Redis is believed, within these limits.
pub(super) const HEALTH: &str = r"
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
local letters = redis.call('TYPE', KEYS[2]).ok == 'stream' and redis.call('XLEN', KEYS[2]) or 0
return {
  now, length, lag, exact, unread and millis(unread[1]) or false, pending[1], pending[1] > 0 and millis(pending[2]), most, trimmed,
  group.consumers, letters,
}
";

/// Removes other consumers that have nothing pending and were idle for long.
///
/// `KEYS`: the stream. `ARGV`: the group, the consumer that asks, the least idle time in milliseconds.
/// Returns the names of the consumers that were removed.
///
/// With a consumer its pending entries would go, and nobody would ever have them. That is why it is one step.
/// Before Redis 7.2 a read that waits in vain is not seen, so a consumer that asks says by a look beyond all entries that it lives.
pub(super) const TIDY: &str = r"
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

/// Puts dead letters back into their source.
///
/// `KEYS`: the dead-letter stream, then the source. `ARGV`: for each letter its identifier, the number of words of the entry
/// that it becomes, and these.
/// Returns for each letter the new entry's identifier, 0 (there is no such letter, nothing done) or, in an array, an error text
/// (it is still a letter).
///
/// The guard is "still there": a second call adds nothing. Letters never change, so their fields may have been read before.
/// Whoever may not delete is told so at the beginning, before anything is added.
pub(super) const REPLAY: &str = r"
redis.call('XDEL', KEYS[1], '0-0')
local at, out = 1, {}
while ARGV[at] do
  local letter, count = ARGV[at], tonumber(ARGV[at + 1])
  if #redis.call('XRANGE', KEYS[1], letter, letter) == 0 then
    out[#out + 1] = 0
  else
    local added = redis.pcall('XADD', KEYS[2], '*', unpack(ARGV, at + 2, at + 1 + count))
    if type(added) == 'table' then
      out[#out + 1] = {added.err}
    else
      redis.call('XDEL', KEYS[1], letter)
      out[#out + 1] = added
    end
  end
  at = at + 2 + count
end
return out
";
