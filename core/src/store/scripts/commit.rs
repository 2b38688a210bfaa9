//! Scripts that store effects and acknowledge entries.

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

/// See [`TOGETHER`]: with what a commit of messages that rooms remember needs beside it.
macro_rules! together {
    ($($keep:expr)?, $check:literal, $store:literal) => {
        concat!(
            mark!(),
            $($keep,)?
            r"
local group, fine, last = ARGV[1], true, 7 + ARGV[7]
for i = 3, 2 + ARGV[6] do fine = fine and redis.call('TYPE', KEYS[i]).ok == 'stream' end
local found = redis.pcall('XPENDING', KEYS[1], group, ARGV[3], ARGV[4], ARGV[5], ARGV[2])
local pending, ids = {}, {}
if not found.err then
  for _, entry in ipairs(found) do pending[entry[1]] = true end
end
for i = 8, last do
  fine = fine and pending[ARGV[i]]
  pending[ARGV[i]] = nil
  ids[#ids + 1] = ARGV[i]
end
",
            $check,
            r"
if fine then
",
            $store,
            r"
  acknowledge(group, ids)
  return 1
end
for i = 3, 2 + ARGV[6] do
  if redis.call('TYPE', KEYS[i]).ok == 'stream' then
    local last = redis.call('XREVRANGE', KEYS[i], '+', '-', 'COUNT', 1)[1]
    if last then redis.call('XDEL', KEYS[i], last[1]) end
  end
end
return found.err and found or 0
"
        )
    };
}

/// Acknowledges entries whose effects the same transaction has appended just before (contract C3).
///
/// `KEYS`: the source, the key of its mark, then every relay log written to. `ARGV`: the group, the consumer, the first and the
/// last of the entries, how many pending ones to look at, how many relay logs and how many entries there are, then the entries, and
/// the rules (see `keep!`), of which there are none.
/// Returns 1; or 0, where not every entry is pending with this consumer or something else than a stream stands in a log's place.
/// Then nothing is acknowledged, and what the transaction has appended is taken back: the last entry of each log.
///
/// The messages themselves never pass through a script: that would cost several times as much.
pub(in crate::store) const TOGETHER: &str = together!(, "", "");

/// [`TOGETHER`], where some of the messages are remembered by their rooms: these are stored by the script, after it has found all
/// as it should be.
///
/// `KEYS`: further, the relay logs that only such messages go to, and the keys of rooms. `ARGV`: further, the rules, then for each
/// relay log that such messages go to the index of its key, how many entries it keeps, the number of words of its messages, and
/// these (see `keep!`). It returns 0 as well where a key of theirs is of a wrong type.
pub(in crate::store) const TOGETHER_KEPT: &str = together!(
    keep!(),
    r"
local first = take_rules(last + 1)
local at = first
while fine and ARGV[at] do
  local to = at + 2 + ARGV[at + 2]
  fine = not (wrong(KEYS[tonumber(ARGV[at])], 'stream') or fault(at + 3, to))
  at = to + 1
end
",
    r"
  while ARGV[first] do
    local row, to = {}, first + 2 + ARGV[first + 2]
    keep(row, {}, first + 3, to)
    relay(KEYS[tonumber(ARGV[first])], ARGV[first + 1], row)
    first = to + 1
  end
  settle()
"
);

/// Stores the effects of entries and acknowledges them (contract C3), each by itself.
///
/// `KEYS`: the source, the key of its mark, then every other key. `ARGV`: the group, the consumer, the first and the last
/// of the entries, how many pending ones to look at, and the rules of rooms that remember (see `keep!`); then for each entry its
/// identifier and its number of appends; then for each append the index of its stream in `KEYS`, the stream's length, whether its
/// one word may be `joined` with those of other entries to one value, its words are messages to be `kept`, or they make an entry
/// `alone`, the number of its words, and these.
/// Returns for each entry 1 (stored and acknowledged), 0 (no longer pending, nothing done) or an error text (still pending).
///
/// The guard is "still pending": a second call, by a retry or by a consumer that was thought dead, writes nothing. Entries that
/// are pending with another consumer are looked for one by one.
/// Streams of a wrong type are found before anything is written, so an entry's effect is stored whole or not at all;
/// `MULTI` could not do that, it runs the acknowledgement even after a failed append. An append `alone` is all of its entry's
/// effect and may go to a stream of others, who can have used up its identifiers: where it fails, only its entry stays pending.
pub(in crate::store) const EACH: &str = concat!(
    mark!(),
    keep!(),
    r"
local faults, joined, lengths = {}, {}, {}
local group, at, out, acked, mine = ARGV[1], take_rules(6), {}, {}, {}
for _, entry in ipairs(redis.call('XPENDING', KEYS[1], group, ARGV[3], ARGV[4], ARGV[5], ARGV[2])) do mine[entry[1]] = true end
while ARGV[at] do
  local id, appends = ARGV[at], tonumber(ARGV[at + 1])
  local pending = mine[id]
  if pending == nil then pending = #redis.call('XPENDING', KEYS[1], group, id, id, 1) == 1 end
  local first, failure = at + 2, nil
  at = first
  for _ = 1, appends do
    local i, to = tonumber(ARGV[at]), at + 3 + ARGV[at + 3]
    if faults[i] == nil then faults[i] = wrong(KEYS[i], 'stream') or false end
    failure = failure or faults[i] or (ARGV[at + 2] == 'kept' and fault(at + 4, to))
    at = to + 1
  end
  if not pending then
    out[#out + 1] = 0
  elseif failure then
    out[#out + 1] = failure
  else
    local from = first
    for _ = 1, appends do
      local i, form, to = tonumber(ARGV[from]), ARGV[from + 2], from + 3 + ARGV[from + 3]
      lengths[i], joined[i] = ARGV[from + 1], joined[i] or {}
      if form == 'alone' then
        local added = redis.pcall('XADD', KEYS[i], 'MAXLEN', '~', lengths[i], '*', unpack(ARGV, from + 4, to))
        failure = type(added) == 'table' and added.err
      elseif form == 'kept' then
        keep(joined[i], {}, from + 4, to)
      else
        table.insert(joined[i], ARGV[from + 4])
      end
      from = to + 1
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
settle()
for i = 3, #KEYS do
  if joined[i] then relay(KEYS[i], lengths[i], joined[i]) end
end
acknowledge(group, acked)
return out
"
);

/// Stores the messages of entries whose stream stands in another Redis, those of each entry once.
///
/// `KEYS`: the set of the entries that were stored last, then every other key. `ARGV`: how many entries that set keeps and how
/// many a log keeps, and the rules of rooms that remember (see `keep!`); then for each entry its identifier and its number of
/// appends; then for each of these the index of its log in `KEYS`, whether its one word is to be `joined` with those of others or
/// its words are messages to be `kept`, the number of its words, and these.
/// Returns for each entry 1 (stored, now or before) or an error text (nothing is stored).
pub(in crate::store) const APPLY: &str = concat!(
    keep!(),
    r"
local at, out, joined, faults = take_rules(3), {}, {}, {}
while ARGV[at] do
  local id, appends, first, failure = ARGV[at], tonumber(ARGV[at + 1]), at + 2, nil
  at = first
  for _ = 1, appends do
    local i, to = tonumber(ARGV[at]), at + 2 + ARGV[at + 2]
    if faults[i] == nil then faults[i] = wrong(KEYS[i], 'stream') or false end
    failure = failure or faults[i] or (ARGV[at + 1] == 'kept' and fault(at + 3, to))
    at = to + 1
  end
  if not failure and redis.call('ZADD', KEYS[1], 'NX', id:match('^%d+'), id) == 1 then
    local from = first
    for _ = 1, appends do
      local i, to = tonumber(ARGV[from]), from + 2 + ARGV[from + 2]
      joined[i] = joined[i] or {}
      if ARGV[from + 1] == 'kept' then
        keep(joined[i], {}, from + 3, to)
      else
        table.insert(joined[i], ARGV[from + 3])
      end
      from = to + 1
    end
  end
  out[#out + 1] = failure or 1
end
settle()
for i = 2, #KEYS do
  if joined[i] then relay(KEYS[i], ARGV[2], joined[i]) end
end
redis.call('ZREMRANGEBYRANK', KEYS[1], 0, -1 - tonumber(ARGV[1]))
return out
"
);

/// Adds what entries become in another stream, each once.
///
/// `KEYS`: the stream, and the set of the entries that were added last, each with what it became. `ARGV`: how many entries that
/// set keeps and about how many the stream keeps; then for each entry its identifier, written so long that texts are in the order
/// of what they name, the number of its words, and these.
/// Returns for each entry the identifier of what it became, now or before, or, in an array, an error text.
pub(in crate::store) const PUT: &str = r"
local at, out = 3, {}
while ARGV[at] do
  local id, count = ARGV[at], tonumber(ARGV[at + 1])
  local known = redis.call('ZRANGEBYLEX', KEYS[2], '[' .. id .. '=', '[' .. id .. '=~', 'LIMIT', 0, 1)[1]
  if known then
    out[#out + 1] = known:sub(#id + 2)
  else
    local added = redis.pcall('XADD', KEYS[1], 'MAXLEN', '~', ARGV[2], '*', unpack(ARGV, at + 2, at + 1 + count))
    if type(added) == 'table' then
      out[#out + 1] = {added.err}
    else
      redis.call('ZADD', KEYS[2], 0, id .. '=' .. added)
      out[#out + 1] = added
    end
  end
  at = at + 2 + count
end
redis.call('ZREMRANGEBYRANK', KEYS[2], 0, -1 - tonumber(ARGV[1]))
return out
";
