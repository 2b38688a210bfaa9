//! The Lua scripts, each one atomic step of the contract.

/// Stores the effects of entries and acknowledges them (contract C3).
///
/// `KEYS`: the source, then every stream written to. `ARGV`: the group; then for each entry its identifier and its number of
/// appends; then for each append the index of its stream in `KEYS`, the stream's length and the number of field words, and these.
/// Returns for each entry 1 (stored and acknowledged), 0 (no longer pending, nothing done) or an error text (still pending).
///
/// The guard is "still pending": a second call, by a retry or by a consumer that was thought dead, writes nothing.
/// Streams of a wrong type are found before anything is written, so an entry's effect is stored whole or not at all;
/// `MULTI` could not do that, it runs the acknowledgement even after a failed append.
pub(super) const COMMIT: &str = r"
local wrong = {}
for i = 2, #KEYS do
  local kind = redis.call('TYPE', KEYS[i]).ok
  if kind ~= 'stream' and kind ~= 'none' then
    wrong[i] = 'WRONGTYPE ' .. KEYS[i] .. ' is a ' .. kind
  end
end
local group, at, out = ARGV[1], 2, {}
while ARGV[at] do
  local id, appends = ARGV[at], tonumber(ARGV[at + 1])
  local pending = #redis.call('XPENDING', KEYS[1], group, id, id, 1) == 1
  local first, failure = at + 2, nil
  at = first
  for _ = 1, appends do
    failure = failure or wrong[tonumber(ARGV[at])]
    at = at + 3 + tonumber(ARGV[at + 2])
  end
  if not pending then
    out[#out + 1] = 0
  elseif failure then
    out[#out + 1] = failure
  else
    local from = first
    for _ = 1, appends do
      local words = tonumber(ARGV[from + 2])
      redis.call('XADD', KEYS[tonumber(ARGV[from])], 'MAXLEN', '~', ARGV[from + 1], '*', unpack(ARGV, from + 3, from + 2 + words))
      from = from + 3 + words
    end
    redis.call('XACK', KEYS[1], group, id)
    out[#out + 1] = 1
  end
end
return out
";
