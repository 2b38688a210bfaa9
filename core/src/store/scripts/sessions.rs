//! The Lua scripts of sessions.

/// Remembers the rooms of a connection. `KEYS`: the hash of a token's sessions. `ARGV`: the connection, whether it is `open` or
/// `over`, how long it is remembered in milliseconds, its rooms.
///
/// A field holds until when it counts, whether the connection is over, and the rooms.
pub(in super::super) const SAVE_SESSION: &str = r"
local time = redis.call('TIME')
local till = time[1] * 1000 + math.floor(time[2] / 1000) + ARGV[3]
redis.call('HSET', KEYS[1], ARGV[1], string.format('%.0f:%s:', till, ARGV[2]) .. ARGV[4])
if redis.call('PTTL', KEYS[1]) < tonumber(ARGV[3]) then redis.call('PEXPIRE', KEYS[1], ARGV[3]) end
return 1
";

/// Takes the rooms of the connection that ended last, or copies those of the one that was saved last. `KEYS`: as of
/// [`SAVE_SESSION`]. Returns the rooms, or nothing.
pub(in super::super) const TAKE_SESSION: &str = r"
local time = redis.call('TIME')
local now = time[1] * 1000 + math.floor(time[2] / 1000)
local found, best, over = nil, -1, false
local fields = redis.call('HGETALL', KEYS[1])
for i = 1, #fields, 2 do
  local till, state, rooms = fields[i + 1]:match('^(%d+):(%a+):(.*)$')
  if tonumber(till) <= now then
    redis.call('HDEL', KEYS[1], fields[i])
  else
    local is_over = state == 'over'
    if (is_over and not over) or (is_over == over and tonumber(till) > best) then
      found, best, over = {fields[i], rooms}, tonumber(till), is_over
    end
  end
end
if not found then return false end
if over then redis.call('HDEL', KEYS[1], found[1]) end
return found[2]
";
