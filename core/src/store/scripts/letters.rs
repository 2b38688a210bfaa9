//! Scripts about dead letters.

/// Puts dead letters back into their source.
///
/// `KEYS`: the dead-letter stream, then the source. `ARGV`: for each letter its identifier, the number of words of the entry
/// that it becomes, and these.
/// Returns for each letter the new entry's identifier, 0 (there is no such letter, nothing done) or, in an array, an error text
/// (it is still a letter).
///
/// The guard is "still there": a second call adds nothing. Letters never change, so their fields may have been read before.
/// Whoever may not delete is told so at the beginning, before anything is added.
pub(in crate::store) const REPLAY: &str = r"
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
