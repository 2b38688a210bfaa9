//! The Lua scripts, each one atomic step of the contract.

/// Stores the effects of entries and acknowledges them (contract C3).
///
/// `KEYS`: the source, then every stream written to. `ARGV`: the group; then for each entry its identifier and its number of
/// appends; then for each append the index of its stream in `KEYS`, the stream's length, whether its words may be `joined` with
/// those of other entries or make an entry `alone`, the number of its words, and these.
/// Returns for each entry 1 (stored and acknowledged), 0 (no longer pending, nothing done) or an error text (still pending).
///
/// The guard is "still pending": a second call, by a retry or by a consumer that was thought dead, writes nothing.
/// Streams of a wrong type are found before anything is written, so an entry's effect is stored whole or not at all;
/// `MULTI` could not do that, it runs the acknowledgement even after a failed append. An append `alone` is all of its entry's
/// effect and may go to a stream of others, who can have used up its identifiers: where it fails, only its entry stays pending.
/// What all entries append to one stream leaves as one entry there, in pieces that `unpack` can take: that is most of the speed.
pub(super) const COMMIT: &str = r"
local wrong, words = {}, {}
for i = 2, #KEYS do
  local kind = redis.call('TYPE', KEYS[i]).ok
  if kind ~= 'stream' and kind ~= 'none' then
    wrong[i] = 'WRONGTYPE ' .. KEYS[i] .. ' is a ' .. kind
  end
  words[i] = {}
end
local group, at, out, acked, lengths = ARGV[1], 2, {}, {}, {}
local function append(i)
  if #words[i] > 0 then
    redis.call('XADD', KEYS[i], 'MAXLEN', '~', lengths[i], '*', unpack(words[i]))
    words[i] = {}
  end
end
while ARGV[at] do
  local id, appends = ARGV[at], tonumber(ARGV[at + 1])
  local pending = #redis.call('XPENDING', KEYS[1], group, id, id, 1) == 1
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
      if #words[i] + count > 4000 or ARGV[from + 2] == 'alone' then append(i) end
      lengths[i] = ARGV[from + 1]
      if ARGV[from + 2] == 'alone' then
        local added = redis.pcall('XADD', KEYS[i], 'MAXLEN', '~', lengths[i], '*', unpack(ARGV, from + 4, from + 3 + count))
        failure = type(added) == 'table' and added.err
      else
        local into = words[i]
        for word = from + 4, from + 3 + count do into[#into + 1] = ARGV[word] end
      end
      from = from + 4 + count
    end
    if failure then
      out[#out + 1] = failure
    else
      acked[#acked + 1] = id
      out[#out + 1] = 1
    end
  end
end
for i = 2, #KEYS do append(i) end
for i = 1, #acked, 1000 do
  redis.call('XACK', KEYS[1], group, unpack(acked, i, math.min(i + 999, #acked)))
end
return out
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
