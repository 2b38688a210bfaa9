//! The scripts of presence.
//!
//! The nodes stand in one sorted set, each with the time until which it lives. What a node has in the rooms of a partition is a
//! hash: a field for each room and user, and the empty field for the number of the node's last operation, or `dead`. Who is in a
//! room is a hash: a field for each user, and the empty field for the sum of all. No user's name is empty.

/// Names fields of `KEYS[1]`, other than the one without a name: about as many as are `enough`, or all. `ARGV[1]`: how many to look
/// at in one go.
macro_rules! some {
    () => {
        r"
local function some(enough)
  local fields, cursor = {}, '0'
  repeat
    local found = redis.call('HSCAN', KEYS[1], cursor, 'COUNT', ARGV[1])
    cursor = found[1]
    for i = 1, #found[2], 2 do
      if found[2][i] ~= '' then fields[#fields + 1] = found[2][i] end
    end
  until #fields >= enough or cursor == '0'
  return fields
end
"
    };
}

/// A node says that it lives.
///
/// `KEYS`: the nodes. `ARGV`: the node's name, how many milliseconds it lives, `new` or `known`, how many dead nodes to name.
/// Returns whether it lived, and the names of nodes that do not.
///
/// A name that should be known and is not may have left users in rooms, where a part of the store was lost: it is written down as
/// dead, so that they are looked for.
pub(in super::super) const BEAT: &str = r"
local time = redis.call('TIME')
local now = time[1] * 1000 + math.floor(time[2] / 1000)
local till = redis.call('ZSCORE', KEYS[1], ARGV[1])
local alive = ARGV[3] == 'new' or (till and tonumber(till) > now)
redis.call('ZADD', KEYS[1], alive and now + ARGV[2] or 0, ARGV[1])
return {alive and 1 or 0, redis.call('ZRANGEBYSCORE', KEYS[1], '-inf', now, 'LIMIT', 0, ARGV[4])}
";

/// A node says how many connections users have on it.
///
/// `KEYS`: the relay log, what the node has, then the room of each change. `ARGV`: how many entries the log keeps, the
/// operation's number, or nothing where another node takes the users of a dead one out; then for each change the field of what
/// the node has, the user, the connections, and the packed event.
/// Returns 1, or 0 where nothing was done: the node is condemned, or has said something newer.
///
/// What is to be written is found out first, and the log is written first: should it refuse, nothing is changed.
pub(in super::super) const PRESENT: &str = r"
local last = redis.call('HGET', KEYS[2], '')
if ARGV[2] ~= '' and last and (last == 'dead' or tonumber(last) >= tonumber(ARGV[2])) then return 0 end
local writes, events = {}, {}
for i = 3, #KEYS do
  local at = 4 * i - 9
  local field, user, wanted = ARGV[at], ARGV[at + 1], tonumber(ARGV[at + 2])
  local more = wanted - tonumber(redis.call('HGET', KEYS[2], field) or 0)
  if more ~= 0 then
    local before = tonumber(redis.call('HGET', KEYS[i], user) or 0)
    local after = math.max(before + more, 0)
    if (before == 0) ~= (after == 0) then events[#events + 1] = ARGV[at + 3] end
    writes[#writes + 1] = {KEYS[i], field, wanted, user, after, after - before}
  end
end
if #events > 0 then redis.call('XADD', KEYS[1], 'MAXLEN', '~', ARGV[1], '*', 'm', table.concat(events)) end
if ARGV[2] ~= '' then redis.call('HSET', KEYS[2], '', ARGV[2]) end
local function put(key, field, count)
  if count > 0 then redis.call('HSET', key, field, count) else redis.call('HDEL', key, field) end
end
for _, write in ipairs(writes) do
  local room, field, wanted, user, after, more = unpack(write)
  put(KEYS[2], field, wanted)
  put(room, user, after)
  if redis.call('HINCRBY', room, '', more) <= 0 then redis.call('HDEL', room, '') end
end
return 1
";

/// Takes nothing from a dead node any more, in one partition.
///
/// `KEYS`: what the node has. `ARGV`: how many fields to look at, for how many milliseconds this is remembered once there is
/// nothing left.
/// Returns fields, none only where none is left.
pub(in super::super) const CONDEMN: &str = concat!(
    some!(),
    r"
redis.call('HSET', KEYS[1], '', 'dead')
local left = some(1)
if #left == 0 then redis.call('PEXPIRE', KEYS[1], ARGV[2]) end
return left
"
);

/// Who is in a room.
///
/// `KEYS`: the room. `ARGV`: how many users to name.
/// Returns how many users there are, how many connections, and about as many users as were wanted: some may be named twice.
pub(in super::super) const WHO: &str = concat!(
    some!(),
    r"
local users = some(tonumber(ARGV[1]))
local sum = redis.call('HGET', KEYS[1], '')
return {redis.call('HLEN', KEYS[1]) - (sum and 1 or 0), tonumber(sum or 0), users}
"
);
