//! Scripts about what rooms remember.

/// Stores messages that are remembered, or that must not be stored twice, for every script that does so.
///
/// Messages refer to rules, which say all that those of a room have in common. `take_rules(at)` reads the rules that begin at
/// `ARGV[at]` and returns where the next word stands. There is their number, then eight words for each: the netstring of the
/// room's name; the index in `KEYS` of its position, behind which its log and its inbox stand, or 0 where it remembers nothing;
/// `log` or `inbox`; how many messages are kept; how many milliseconds long; how long the position is; the epoch that begins where
/// there is none; and how long an identifier is remembered.
///
/// A message has five words: the number of its rule; the netstring of its envelope; its tag; for an inbox, the netstring of when
/// it was published; and the index in `KEYS` of its identifier, or nothing. For those from `ARGV[from]` to `ARGV[to]`,
/// `fault(from, to)` says what stands in the way, without writing anything. `keep(row, out, from, to)` stores them: what is to be
/// relayed of them is added to `row`, their positions to `out`, each an empty text where there is none; one that is known already
/// is only told of. Then `settle()` writes down where the rooms stand, and `relay` appends a row to a log, where it is not empty.
///
/// A log that has come further than its room's position says is not the room's any more: another epoch begins.
macro_rules! keep {
    () => {
        r"
local rules, rooms, known, used = {}, {}, {}, {}
local function wrong(key, kind)
  local found = redis.call('TYPE', key).ok
  if found ~= kind and found ~= 'none' then return 'WRONGTYPE ' .. key .. ' is a ' .. found end
end
local function take_rules(at)
  for i = 1, tonumber(ARGV[at]) do
    local first, meta = at + 8 * i - 7, tonumber(ARGV[at + 8 * i - 6])
    local place = ARGV[first + 2]
    rules[tostring(i)] = {
      room = ARGV[first], meta = meta, place = place, key = KEYS[meta + (place == 'log' and 1 or 2)], size = ARGV[first + 3],
      ttl = ARGV[first + 4], outlives = ARGV[first + 5], epoch = ARGV[first + 6], window = ARGV[first + 7],
    }
  end
  return at + 1 + 8 * tonumber(ARGV[at])
end
local function look(rule)
  if not rooms[rule.meta] then
    local head = redis.pcall('GET', KEYS[rule.meta])
    if type(head) == 'table' then return head.err end
    local epoch, offset, tag = (head or ''):match('^(%x+)%.(%d+)%.(%x+)$')
    offset = tonumber(offset)
    rooms[rule.meta] = offset and offset < 2 ^ 53 and {epoch = epoch, offset = offset, tag = tag} or {}
  end
  return wrong(rule.key, rule.place == 'log' and 'stream' or 'list') or false
end
local function fault(from, to)
  for at = from, to, 5 do
    local rule, id = rules[ARGV[at]], ARGV[at + 4]
    if rule.fault == nil then rule.fault = rule.meta > 0 and look(rule) end
    if rule.fault then return rule.fault end
    if id ~= '' and known[id] == nil then known[id] = redis.pcall('GET', KEYS[tonumber(id)]) end
    if type(known[id]) == 'table' then return known[id].err end
  end
end
local function begin(room, rule)
  room.epoch, room.offset, room.tag = rule.epoch, 0, '0'
  local log, inbox = KEYS[rule.meta + 1], KEYS[rule.meta + 2]
  if redis.call('EXISTS', log, inbox) > 0 then redis.call('DEL', log, inbox) end
end
local function remember(rule, payload, tag, time)
  local room = rooms[rule.meta]
  if not room.epoch then begin(room, rule) end
  local offset, hex = string.format('%.0f', room.offset + 1), string.format('%x', tag)
  local position = room.epoch .. '.' .. offset .. '.' .. hex
  if rule.place == 'log' then
    local added = redis.pcall('XADD', rule.key, 'MAXLEN', '~', rule.size, offset .. '-' .. tag, 'm', payload)
    if type(added) == 'table' then
      if not added.err:find('smaller') and not added.err:find('exhausted') then error(added.err) end
      begin(room, rule)
      return remember(rule, payload, tag, time)
    end
  else
    redis.call('RPUSH', rule.key, #position .. ':' .. position .. ',' .. time .. payload)
  end
  local stamp = position .. '.' .. room.tag
  room.offset, room.tag, room.position = room.offset + 1, hex, position
  if not rule.used then
    rule.used = true
    used[#used + 1] = rule
  end
  return position, stamp
end
local function keep(row, out, from, to)
  for at = from, to, 5 do
    local rule, payload, id = rules[ARGV[at]], ARGV[at + 1], ARGV[at + 4]
    local position = known[id]
    if not position then
      local stamp
      if rule.meta > 0 then
        position, stamp = remember(rule, payload, ARGV[at + 2], ARGV[at + 3])
      else
        position, stamp = '', ''
      end
      row[#row + 1] = rule.room .. #stamp .. ':' .. stamp .. ','
      row[#row + 1] = payload
      if id ~= '' then
        known[id] = position
        redis.call('SET', KEYS[tonumber(id)], position, 'PX', rule.window)
      end
    end
    out[#out + 1] = position
  end
end
local function settle()
  for _, rule in ipairs(used) do
    redis.call('SET', KEYS[rule.meta], rooms[rule.meta].position, 'PX', rule.outlives)
    if rule.place == 'inbox' then redis.call('LTRIM', rule.key, '-' .. rule.size, -1) end
    redis.call('PEXPIRE', rule.key, rule.ttl)
  end
end
local function relay(key, length, row)
  if #row > 0 then redis.call('XADD', key, 'MAXLEN', '~', length, '*', 'm', table.concat(row)) end
end
"
    };
}

/// Appends messages to a relay log, as one entry, and to what their rooms remember.
///
/// `KEYS`: the relay log, then those of rooms and identifiers. `ARGV`: how many entries the relay log keeps, the rules, then the
/// messages (see `keep!`).
/// Returns the position of each message, an empty text where it has none.
///
/// Keys of a wrong type are found before anything is written. Where all messages are known already, nothing is appended.
pub(in crate::store) const APPEND: &str = concat!(
    keep!(),
    r"
local first, row, out = take_rules(2), {}, {}
local failure = wrong(KEYS[1], 'stream') or fault(first, #ARGV)
if failure then return redis.error_reply(failure) end
keep(row, out, first, #ARGV)
settle()
relay(KEYS[1], ARGV[1], row)
return out
"
);

/// Says where rooms stand.
///
/// `KEYS`: for each room its position, its log and its inbox. `ARGV`: the position of a room that has none, then for each room for
/// how many milliseconds its position stays known.
/// Returns the positions.
///
/// A room without a position begins anew: what may be left of its log is of an epoch that nobody can name any more.
pub(in crate::store) const POSITIONS: &str = r"
local out = {}
for i = 1, #KEYS, 3 do
  local position, ttl = redis.call('GET', KEYS[i]), ARGV[(i + 5) / 3]
  if position and position:find('^%x+%.%d+%.%x+$') then
    redis.call('PEXPIRE', KEYS[i], ttl)
  else
    position = ARGV[1]
    redis.call('SET', KEYS[i], position, 'PX', ttl)
    redis.call('DEL', KEYS[i + 1], KEYS[i + 2])
  end
  out[#out + 1] = position
end
return out
";

/// Reads the oldest messages of an inbox.
///
/// `KEYS`: the room's position, its inbox. `ARGV`: how many messages at the most, and the millisecond before which they must not
/// have been published.
/// Returns the position, and the messages as they stand there.
///
/// Those that are too old are not counted, so they are left out here, where the next ones are at hand.
pub(in crate::store) const INBOX: &str = r"
local most, since, from, out = tonumber(ARGV[1]), tonumber(ARGV[2]), 0, {}
repeat
  local messages = redis.call('LRANGE', KEYS[2], from, from + most - 1)
  for _, message in ipairs(messages) do
    local time = tonumber(message:match('^%d+:[^,]*,%d+:(%d+),'))
    if #out < most and time and time >= since then out[#out + 1] = message end
  end
  from = from + most
until #out == most or #messages < most
return {redis.call('GET', KEYS[1]), out}
";

/// Drops from an inbox what has been delivered.
///
/// `KEYS`: the inbox. `ARGV`: the netstring of the position of the last message that was delivered, and its offset.
///
/// That very message must be there: under another tag it is another message, which nobody has seen. Where it is not, it has been
/// dropped before.
pub(in crate::store) const DELIVERED: &str = r"
local last, upto, from, chunk = ARGV[1], tonumber(ARGV[2]), 0, 100
repeat
  local messages = redis.call('LRANGE', KEYS[1], from, from + chunk - 1)
  for i, message in ipairs(messages) do
    if message:sub(1, #last) == last then
      redis.call('LTRIM', KEYS[1], from + i, -1)
      return redis.status_reply('OK')
    end
    if (tonumber(message:match('^%d+:%x+%.(%d+)')) or 0) > upto then return redis.status_reply('OK') end
  end
  from = from + chunk
until #messages < chunk
return redis.status_reply('OK')
";
