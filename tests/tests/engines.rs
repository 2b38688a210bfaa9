//! The memory engine and the Redis engine give the same answers to the same operations.
//!
//! Operations are drawn at random; the memory engine is asked first, so that positions, pending entries and delivered messages
//! can be named. Then everything is sent to a real Redis in one go, and every answer must be the same, as must be what is left at
//! the end: relay logs, rooms, and the stream that entries are routed to. Nothing is left out but this:
//!
//! * How messages are spread over the entries of a relay log, and the identifiers of these. What a log carries of each room is
//!   compared, in order. No relay log reaches its length; somebody else empties one now and then.
//! * Rooms' logs are cut to about their size, which in Redis is a matter of whole nodes. The server here puts each entry in a node
//!   of its own, so that about is exactly, and sizes are small, so that logs are cut all the time.
//! * Time is not waited for: it passes in the memory engine, and in Redis every key's time to live is made as much shorter. It
//!   passes in half hours and everything lives for whole ones, so the time that the test itself takes decides nothing.
//! * Within one operation a room has one rule and one epoch to begin with, as it has in a node but for the epoch, which is random.

use std::collections::BTreeMap;
use std::time::Duration;

use bytes::Bytes;
use rand_chacha::ChaCha8Rng;
use rand_chacha::rand_core::{Rng as _, SeedableRng as _};
use roomcast_core::config::Config;
use roomcast_core::id::{StreamId, Ticket};
use roomcast_core::message::RoomName;
use roomcast_core::position::Position;
use roomcast_core::store::memory::{ClientId, Memory};
use roomcast_core::store::redis::{Redis, Reply, Words};
use roomcast_core::store::{
    Answer, Committed, Effect, Entry, GroupRef, Kept, Lane, NewEntry, Once, Page, Place, Posting, Postings, Query, RelayEntry,
    Relayed, Replayed, Share, StoreError, StoreOp,
};
use roomcast_core::time::{Time, UnixMillis};
use roomcast_tests::real::engine::Engine;
use roomcast_tests::real::redis::RedisServer;

const SEQUENCES: u64 = 10_000;
/// Entries of a relay log at the most: more than there ever are.
const LENGTH: u32 = 1_000;
const PARTITIONS: u16 = 2;
/// Some of them look like keys.
const ROOMS: [&str; 6] = ["a", "b", "a:id:b", "1:a:meta", "{c}", "\u{1f980}:log"];
const IDENTIFIERS: [&str; 6] = ["", "1", "2", "b:1", "meta", "1:meta"];
const HOUR: Duration = Duration::from_secs(3_600);
/// Everything that lives for a while has so much less of it left.
const PASS: &str = r"
for _, key in ipairs(redis.call('KEYS', '*')) do
  local left = redis.call('PTTL', key)
  if left >= 0 and left <= tonumber(ARGV[1]) then redis.call('DEL', key) end
  if left > tonumber(ARGV[1]) then redis.call('PEXPIRE', key, left - ARGV[1]) end
end
";

#[test]
fn both_engines_give_the_same_answers() {
    let server = RedisServer::start_with(&["--stream-node-max-entries", "1"]);
    let (mut engine, nodes) = (Engine::new(&server), ["n1", "n2"].map(|node| Redis::new(&config(node))));
    let mut seen = BTreeMap::new();
    for seed in 0..SEQUENCES {
        Sequence::draw(seed).compare(&mut engine, &nodes, &mut seen);
    }
    // What has never happened has not been compared.
    for what in [
        "appended: a position",
        "appended: none",
        "appended: again",
        "positions: known",
        "positions: new",
        "page after: whole",
        "page after: not whole",
        "page before: whole",
        "page newest: whole",
        "page newest: not whole",
        "page of a log: empty",
        "page of an inbox: empty",
        "page of an inbox: messages",
        "page: no such room",
        "page: full",
        "delivered: some",
        "delivered: none",
        "commit: stored",
        "commit: not pending",
        "commit together: stored",
        "commit together: declined",
        "commit: remembered",
        "apply",
        "put",
        "relayed",
        "time passes",
        "trimmed",
        "forgotten",
    ] {
        let times = seen.get(what).copied().unwrap_or_default();
        assert!(times >= 100, "{what}: {times} times in {seen:?}");
    }
}

fn config(node: &str) -> Config {
    let mut config = Config { node: node.into(), ..Config::default() };
    (config.relay.length, config.relay.partitions) = (LENGTH, PARTITIONS);
    config
}

/// What is done, and what the memory engine has answered.
struct Sequence {
    seed: u64,
    rng: ChaCha8Rng,
    now: Time,
    memory: Memory,
    nodes: [ClientId; 2],
    /// Who speaks to Redis in these words.
    redis: Redis,
    source: GroupRef,
    /// The rule by which each room remembers, where it does.
    rules: [Option<(Place, u32, Duration)>; ROOMS.len()],
    payloads: u32,
    /// Positions that have been told, the last ones last.
    told: Vec<Position>,
    steps: Vec<Step>,
    seen: Vec<&'static str>,
}

enum Step {
    /// A node asks.
    Ask(usize, StoreOp, Result<Answer, StoreError>),
    /// Somebody else does something.
    Other(Words),
    /// This is what entries were routed with.
    Routed(Vec<Bytes>),
}

impl Sequence {
    fn draw(seed: u64) -> Sequence {
        let mut memory = Memory::new(LENGTH as usize);
        let nodes = ["n1", "n2"].map(|node| memory.connect(node));
        let mut sequence = Sequence {
            seed,
            rng: ChaCha8Rng::seed_from_u64(seed),
            now: Time::from_micros(1_000_000),
            memory,
            nodes,
            redis: Redis::new(&config("n1")),
            source: GroupRef { stream: "s".into(), group: "g".into() },
            rules: [None; ROOMS.len()],
            payloads: 0,
            told: Vec::new(),
            steps: vec![Step::Other(words(&["FLUSHDB"]))],
            seen: Vec::new(),
        };
        for room in 0..ROOMS.len() {
            sequence.rules[room] = sequence.rule();
        }
        for _ in 0..5 + sequence.below(16) {
            sequence.step();
        }
        sequence.look_at_everything();
        sequence
    }

    fn step(&mut self) {
        if self.below(8) == 0 {
            let room = self.below(ROOMS.len());
            self.rules[room] = self.rule();
        }
        match self.below(20) {
            0..7 => self.append(),
            7 => self.positions(),
            8..11 => self.page(),
            11 => self.deliver(),
            12..15 => self.commit(),
            15 => self.apply(),
            16 => self.read_relay(),
            17 => self.pass(),
            18 => self.trim(),
            _ => self.forget(),
        }
    }

    fn append(&mut self) {
        let room = self.room();
        let partition = self.partition(&room);
        let rooms: Vec<usize> = (0..ROOMS.len()).filter(|room| self.partition(ROOMS[*room]) == partition).collect();
        let messages = self.postings(&rooms);
        let before = self.tip(partition);
        let Ok(Answer::Appended(positions)) = self.ask(0, StoreOp::Append { partition, messages: messages.clone() }) else {
            panic!("not appended")
        };
        for (posting, position) in messages.iter().zip(positions) {
            self.seen.push(if position.is_some() { "appended: a position" } else { "appended: none" });
            let is_new = self.memory.relayed_after(partition, before).any(|(_, relayed)| holds(relayed, posting));
            if !is_new {
                self.seen.push("appended: again");
            }
            self.told.extend(position);
        }
    }

    fn positions(&mut self) {
        let count = 1 + self.below(8);
        let rooms: Vec<(RoomName, Duration)> = (0..count).map(|_| (self.room(), self.hours(40))).collect();
        let epoch = self.rng.next_u32().max(1);
        let Ok(Answer::Positions(positions)) = self.ask(0, StoreOp::Positions { partition: 0, rooms, epoch }) else {
            panic!("no positions")
        };
        for position in positions {
            let is_new = position == Position::start(epoch.into());
            self.seen.push(if is_new { "positions: new" } else { "positions: known" });
            self.told.push(position);
        }
    }

    fn page(&mut self) {
        let room = self.room();
        let place = if self.below(3) == 0 { Place::Inbox } else { Place::Log };
        let query = match self.below(6) {
            0..3 => Query::After(self.position(&room)),
            3 => Query::Before(self.position(&room)),
            4 => Query::Newest,
            _ => Query::Oldest,
        };
        let (since, count) = (UnixMillis(self.below(100) as u64), self.below(8));
        self.read(room, place, query, since, count);
    }

    fn read(&mut self, room: RoomName, place: Place, query: Query, since: UnixMillis, count: usize) {
        let Ok(Answer::Page(Page { messages, head, whole })) = self.ask(0, StoreOp::Page { room, place, query, since, count })
        else {
            panic!("no page")
        };
        if head == Position::default() {
            self.seen.push("page: no such room");
        } else {
            self.seen.push(match (place, messages.is_empty()) {
                (Place::Log, true) => "page of a log: empty",
                (Place::Log, false) => "page of a log: messages",
                (Place::Inbox, true) => "page of an inbox: empty",
                (Place::Inbox, false) => "page of an inbox: messages",
            });
            self.seen.extend(match (query, whole) {
                (Query::After(_), true) => Some("page after: whole"),
                (Query::After(_), false) => Some("page after: not whole"),
                (Query::Before(_), true) => Some("page before: whole"),
                (Query::Newest, true) => Some("page newest: whole"),
                (Query::Newest, false) => Some("page newest: not whole"),
                _ => None,
            });
        }
        if !messages.is_empty() && messages.len() == count && messages.last().is_some_and(|(last, _)| *last != head) {
            self.seen.push("page: full");
        }
    }

    fn deliver(&mut self) {
        let room = self.room();
        let upto = self.position(&room);
        let before = self.memory.remembered(&room).count();
        assert_eq!(self.ask(0, StoreOp::Delivered { room: room.clone(), upto }), Ok(Answer::Done));
        let some = self.memory.remembered(&room).count() < before;
        self.seen.push(if some { "delivered: some" } else { "delivered: none" });
    }

    /// Entries come, are read by either node, and come to their end, or to that of another.
    fn commit(&mut self) {
        let group = self.source.clone();
        self.ask(0, StoreOp::GroupOpen(group.clone())).expect("a group can be opened");
        let count = 1 + self.below(4);
        for number in 0..count {
            let field = (Bytes::from("n"), Bytes::from(number.to_string()));
            let id = self.memory.add(self.now, &group.stream, vec![field]);
            self.steps.push(Step::Other(words(&["XADD", "s", &id.to_string(), "n", &number.to_string()])));
        }
        let reader = usize::from(self.below(4) == 0);
        let read = StoreOp::GroupRead { group: group.clone(), count: 9, block: Duration::ZERO };
        let Ok(Answer::Entries(entries)) = self.ask(reader, read) else { panic!("no entries") };
        let mut effects: Vec<(StreamId, Effect)> = entries.iter().map(|Entry { id, .. }| (*id, self.effect())).collect();
        if self.below(3) == 0 {
            let pending = self.memory.pending("s", "g").map(|(id, _)| id).next();
            let id = pending.unwrap_or(StreamId { millis: 1, sequence: 1 });
            effects.push((id, self.effect()));
        }
        if self.below(8) == 0 {
            let id = StreamId { millis: 7, sequence: 7 };
            effects.push((id, self.effect()));
        }
        let together =
            self.below(2) == 0 && effects.iter().all(|(_, effect)| matches!(effect, Effect::Relay(_) | Effect::Nothing));
        let remembered = |(_, effect): &(StreamId, Effect)| match effect {
            Effect::Relay(partitions) => partitions.iter().flat_map(|(_, all)| all).any(|posting| posting.kept.is_some()),
            _ => false,
        };
        let remembered = effects.iter().any(remembered);
        match self.ask(0, StoreOp::Commit { group, effects: effects.into(), together }).expect("there is the group") {
            Answer::Declined => self.seen.push("commit together: declined"),
            Answer::Committed(outcomes) => {
                for outcome in outcomes {
                    self.seen.push(match outcome {
                        Committed::Stored if together => "commit together: stored",
                        Committed::Stored => "commit: stored",
                        _ => "commit: not pending",
                    });
                }
                if remembered {
                    self.seen.push("commit: remembered");
                }
            }
            other => panic!("not an outcome: {other:?}"),
        }
    }

    fn effect(&mut self) -> Effect {
        match self.below(8) {
            0 => Effect::Nothing,
            1 => {
                let fields = vec![(Bytes::from("f"), self.payload())];
                Effect::Route(NewEntry { stream: "t".into(), length: 3, fields })
            }
            _ => Effect::Relay(self.partitions()),
        }
    }

    fn apply(&mut self) {
        let group = GroupRef { stream: "elsewhere".into(), group: "g".into() };
        let count = 1 + self.below(3);
        let ids: Vec<StreamId> = (0..count).map(|_| StreamId { millis: self.below(5) as u64, sequence: 1 }).collect();
        if self.below(4) == 0 {
            let entries = ids.into_iter().map(|id| (id, vec![(Bytes::from("f"), self.payload())])).collect();
            let share = Share::Stream { stream: "t".into(), length: 3, entries };
            self.ask(0, StoreOp::Apply { group, share }).expect("there is room");
            return self.seen.push("put");
        }
        let Some((partition, _)) = self.partitions().pop() else { return };
        let mut entries = Vec::new();
        for id in ids {
            let messages = self.partitions().into_iter().find(|(other, _)| *other == partition);
            entries.extend(messages.map(|(_, messages)| (id, messages)));
        }
        self.ask(0, StoreOp::Apply { group, share: Share::Relay { partition, entries } }).expect("there is room");
        self.seen.push("apply");
    }

    /// Reads all there is. Where there is nothing, Redis would wait.
    fn read_relay(&mut self) {
        let cursors: Vec<(u16, StreamId)> = (0..PARTITIONS).map(|partition| (partition, StreamId::ZERO)).collect();
        if cursors.iter().any(|(partition, cursor)| self.memory.relayed_after(*partition, *cursor).next().is_some()) {
            let read = StoreOp::RelayRead { cursors, count: LENGTH as usize, block: Duration::ZERO };
            self.ask(0, read).expect("there are entries");
            self.seen.push("relayed");
        }
    }

    fn pass(&mut self) {
        let half_hours = [1, 2, 5, 20, 60][self.below(5)];
        let time = HOUR / 2 * half_hours;
        self.now = self.now + time;
        self.steps.push(Step::Other(words(&["EVAL", PASS, "0", &time.as_millis().to_string()])));
        self.seen.push("time passes");
    }

    /// Somebody else cuts what is remembered.
    fn trim(&mut self) {
        let (room, keep) = (self.room(), self.below(3));
        if self.below(3) == 0 {
            let partition = self.below(usize::from(PARTITIONS)) as u16;
            self.memory.trim_relay(partition, 0);
            self.steps.push(Step::Other(words(&["XTRIM", &format!("rc:relay:{{{partition}}}"), "MAXLEN", "0"])));
            return;
        }
        self.memory.trim_room(&room, keep);
        let [_, log, inbox] = self.keys(&room);
        if keep == 0 {
            self.steps.push(Step::Other(words(&["DEL", &log, &inbox])));
        } else {
            self.steps.push(Step::Other(words(&["XTRIM", &log, "MAXLEN", &keep.to_string()])));
            self.steps.push(Step::Other(words(&["LTRIM", &inbox, &format!("-{keep}"), "-1"])));
        }
        self.seen.push("trimmed");
    }

    /// A position is evicted, or is made unreadable; the rest may stay.
    fn forget(&mut self) {
        let room = self.room();
        self.memory.forget_room(&room);
        let [position, ..] = self.keys(&room);
        let nonsense = self.below(4) == 0;
        self.steps.push(Step::Other(if nonsense { words(&["SET", &position, "1.2.x"]) } else { words(&["DEL", &position]) }));
        self.seen.push("forgotten");
    }

    fn look_at_everything(&mut self) {
        for room in ROOMS {
            for place in [Place::Log, Place::Inbox] {
                self.read(room.into(), place, Query::Oldest, UnixMillis(0), 1_000);
            }
            self.read(room.into(), Place::Log, Query::Newest, UnixMillis(0), 1_000);
        }
        let rooms = ROOMS.map(|room| (RoomName::from(room), HOUR)).into();
        self.ask(0, StoreOp::Positions { partition: 0, rooms, epoch: 7 }).expect("positions can be asked for");
        self.read_relay();
        let routed = self.memory.entries("t").map(|(_, fields)| fields[0].1.clone()).collect();
        self.steps.push(Step::Routed(routed));
    }

    /// Asks the memory engine.
    fn ask(&mut self, node: usize, op: StoreOp) -> Result<Answer, StoreError> {
        self.now = self.now + Duration::from_millis(1);
        self.memory.submit(self.now, self.nodes[node], Lane::Command, Ticket(1), op.clone());
        let (_, _, answer) = self.memory.poll_answer().unwrap_or_else(|| panic!("{op:?} waits"));
        self.steps.push(Step::Ask(node, op, answer.clone()));
        answer
    }

    fn postings(&mut self, rooms: &[usize]) -> Postings {
        let epoch = self.rng.next_u32().max(1);
        let count = 1 + self.below(5);
        let rooms: Vec<usize> = (0..count).map(|_| rooms[self.below(rooms.len())]).collect();
        rooms.into_iter().map(|room| self.posting(room, epoch)).collect()
    }

    fn posting(&mut self, room: usize, epoch: u32) -> Posting {
        let rule = self.rules[room];
        let at = UnixMillis(self.below(100) as u64);
        // Small ones are drawn again and again.
        let tag = if self.below(2) == 0 { 1 + self.below(3) as u32 } else { self.rng.next_u32().max(1) };
        let kept = rule.map(|(place, size, ttl)| Kept { place, size, ttl, epoch, tag, at });
        let id = IDENTIFIERS[self.below(IDENTIFIERS.len())];
        let once = (self.below(3) == 0).then(|| Once { id: id.into(), window: HOUR * 3 });
        Posting { room: ROOMS[room].into(), payload: self.payload(), kept, once }
    }

    /// Messages of an entry, by partition.
    fn partitions(&mut self) -> Vec<(u16, Postings)> {
        // A room has one rule and one epoch in an operation, and all its messages are remembered or none is.
        let rules = self.rules;
        let mut partitions: BTreeMap<u16, Postings> = BTreeMap::new();
        for _ in 0..self.below(5) {
            let room = self.below(ROOMS.len());
            let mut posting = self.posting(room, 1 + self.seed as u32);
            if rules[room].is_none() {
                posting.once = None;
            }
            partitions.entry(self.partition(ROOMS[room])).or_default().push(posting);
        }
        partitions.into_iter().collect()
    }

    fn payload(&mut self) -> Bytes {
        self.payloads += 1;
        match self.below(20) {
            0 => Bytes::new(),
            1 => Bytes::from(format!("{},1:\0\r\n\u{ff}", self.payloads)),
            _ => Bytes::from(self.payloads.to_string()),
        }
    }

    fn rule(&mut self) -> Option<(Place, u32, Duration)> {
        let place = match self.below(4) {
            0 => return None,
            1 => Place::Inbox,
            _ => Place::Log,
        };
        Some((place, 1 + self.below(5) as u32, self.hours(30)))
    }

    fn hours(&mut self, most: usize) -> Duration {
        HOUR * (1 + self.below(most) as u32)
    }

    fn room(&mut self) -> RoomName {
        ROOMS[self.below(ROOMS.len())].into()
    }

    /// One that is remembered, was told before, or is nearly right.
    fn position(&mut self, room: &str) -> Position {
        let remembered: Vec<Position> = self.memory.remembered(room).map(|(position, _)| position).collect();
        let at = self.below(1_000);
        let is_of_any_room = self.below(4) == 0;
        let known = if remembered.is_empty() || is_of_any_room { &self.told } else { &remembered };
        let Some(position) = known.get(at % known.len().max(1)).copied() else {
            return Position::default();
        };
        match self.below(12) {
            0 => Position { tag: position.tag ^ 1, ..position },
            1 => Position { epoch: position.epoch + 1, ..position },
            2 => Position { offset: position.offset + 1, ..position },
            3 => Position { offset: u64::MAX, ..position },
            4 | 5 => Position::start(position.epoch),
            _ => position,
        }
    }

    fn tip(&self, partition: u16) -> StreamId {
        self.memory.relayed_after(partition, StreamId::ZERO).last().map_or(StreamId::ZERO, |(id, _)| id)
    }

    /// The partition of a room, as the words of Redis have it.
    fn partition(&self, room: &str) -> u16 {
        let [position, ..] = self.keys(room);
        let (_, rest) = position.split_once('{').expect("a key names its partition");
        rest.split_once('}').and_then(|(partition, _)| partition.parse().ok()).expect("a partition is a number")
    }

    /// The keys of a room's position, its log and its inbox.
    fn keys(&self, room: &str) -> [String; 3] {
        let op = StoreOp::Positions { partition: 0, rooms: vec![(room.into(), HOUR)], epoch: 1 };
        let words = self.redis.commands(&op).concat();
        [3, 4, 5].map(|at| String::from_utf8(words[at].to_vec()).expect("names of rooms are text"))
    }

    fn below(&mut self, bound: usize) -> usize {
        self.rng.next_u32() as usize % bound
    }

    /// Does the same with Redis.
    fn compare(self, engine: &mut Engine, nodes: &[Redis; 2], seen: &mut BTreeMap<&'static str, usize>) {
        let Sequence { seed, steps, .. } = self;
        for step in &steps {
            match step {
                Step::Ask(node, op, _) => engine.put(&nodes[*node], op),
                Step::Other(words) => engine.put_commands(std::slice::from_ref(words)),
                Step::Routed(_) => engine.put_commands(&[words(&["XRANGE", "t", "-", "+"])]),
            }
        }
        engine.flush();
        for (number, step) in steps.iter().enumerate() {
            let place = format!("step {number} of sequence {seed}");
            match step {
                Step::Ask(node, op, expected) => {
                    let answer = by_room(engine.answer(&nodes[*node], op));
                    assert_eq!(answer, by_room(expected.clone()), "{place}: Redis, then memory, to {op:?}");
                }
                Step::Other(words) => {
                    let reply = engine.reply();
                    assert!(!matches!(reply, Reply::Error(_)), "{place}: {reply:?} to {words:?}");
                }
                Step::Routed(expected) => assert_eq!(routed(engine.reply()), *expected, "{place}"),
            }
        }
        for what in self.seen {
            *seen.entry(what).or_default() += 1;
        }
    }
}

fn holds(relayed: &[Relayed], posting: &Posting) -> bool {
    relayed.iter().any(|message| message.payload == posting.payload)
}

/// Relay logs as if each had one entry, in which the messages of each room stand together.
fn by_room(answer: Result<Answer, StoreError>) -> Result<Answer, StoreError> {
    let entries = match answer {
        Ok(Answer::Relayed(entries)) => entries,
        // What an entry is called is up to the store.
        Ok(Answer::Replayed(outcomes)) => {
            let unnamed = |outcome| if let Replayed::Added(_) = outcome { Replayed::Added(StreamId::ZERO) } else { outcome };
            return Ok(Answer::Replayed(outcomes.into_iter().map(unnamed).collect()));
        }
        other => return other,
    };
    let mut logs: BTreeMap<u16, Vec<Relayed>> = BTreeMap::new();
    entries.into_iter().for_each(|entry| logs.entry(entry.partition).or_default().extend(entry.messages));
    let log = |(partition, mut messages): (u16, Vec<Relayed>)| {
        messages.sort_by(|a, b| a.room.cmp(&b.room));
        RelayEntry { partition, id: StreamId::ZERO, messages, mark: None }
    };
    Ok(Answer::Relayed(logs.into_iter().map(log).collect()))
}

/// The values in the reply to a look at the stream that entries are routed to.
fn routed(reply: Reply) -> Vec<Bytes> {
    fn array(reply: Reply) -> Vec<Reply> {
        if let Reply::Array(items) = reply { items } else { panic!("not an array: {reply:?}") }
    }
    let value = |entry| match array(array(entry).remove(1)).remove(1) {
        Reply::Bytes(value) => value,
        other => panic!("not a value: {other:?}"),
    };
    array(reply).into_iter().map(value).collect()
}

fn words(words: &[&str]) -> Words {
    words.iter().map(|word| Bytes::copy_from_slice(word.as_bytes())).collect()
}
