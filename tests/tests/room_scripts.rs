//! What rooms remember, on a real Redis: what others can make of its keys, and what is too large for the comparison of the engines.

use std::collections::BTreeMap;
use std::time::Duration;

use bytes::Bytes;
use roomcast_core::config::Config;
use roomcast_core::id::StreamId;
use roomcast_core::position::Position;
use roomcast_core::store::redis::Redis;
use roomcast_core::store::{
    Answer, Committed, Effect, GroupRef, Kept, Once, Page, Place, Posting, Postings, Query, Share, StoreOp,
};
use roomcast_core::time::UnixMillis;
use roomcast_tests::real::engine::Engine;
use roomcast_tests::real::redis::{RedisServer, Value};

const RELAY: &str = "rc:relay:{0}";
const HOUR: Duration = Duration::from_secs(3_600);
/// More than any room here has messages.
const ALL: usize = 1_000;

/// A server, and a node of one partition.
struct Store {
    server: RedisServer,
    engine: Engine,
    node: Redis,
    tags: u32,
}

#[test]
fn a_key_of_a_wrong_type_leaves_nothing_half_done() {
    let mut store = Store::start();
    let messages = store.messages();
    for key in [RELAY, "rc:{0}:log:meta", "rc:{0}:log:log", "rc:{0}:inbox:meta", "rc:{0}:inbox:inbox", "rc:id:{0}:3:log:1"] {
        store.begin_with(key);
        let before = store.contents();

        let append = StoreOp::Append { partition: 0, messages: messages.clone() };
        assert!(store.engine.ask(&store.node, &append).is_err(), "{key}");
        assert_eq!(store.contents(), before, "{key}");

        let apply = StoreOp::Apply {
            group: group("elsewhere"),
            share: Share::Relay { partition: 0, entries: vec![(id(1), messages.clone())] },
        };
        assert!(matches!(store.ask(&apply), Answer::Committed(outcomes) if is_failed(&outcomes)), "{key}");
        assert_eq!(store.contents(), before, "{key}");

        assert_eq!(store.ask(&commit(&messages, true)), Answer::Declined, "{key}");
        assert_eq!(store.contents(), before, "{key}");

        assert!(matches!(store.ask(&commit(&messages, false)), Answer::Committed(outcomes) if is_failed(&outcomes)), "{key}");
        assert_eq!(store.contents(), before, "{key}");

        // The entry is still pending, and the key is all that was wrong.
        store.server.command(&["DEL", key]);
        assert_eq!(store.ask(&commit(&messages, true)), Answer::Committed(vec![Committed::Stored]));
        assert_eq!(store.newest("log", Place::Log).messages.len(), 1);
        assert_eq!(store.newest("inbox", Place::Inbox).messages.len(), 1);
    }
}

#[test]
fn an_entry_that_cannot_be_stored_does_not_touch_the_others() {
    let mut store = Store::start();
    store.begin_with("rc:{0}:inbox:inbox");
    store.server.command(&["XADD", "s", "2-0", "a", "1"]);
    store.server.command(&["XREADGROUP", "GROUP", "g", "n1", "STREAMS", "s", ">"]);
    let effect = |messages: Vec<Posting>| Effect::Relay(vec![(0, messages)]);
    let [good, bad] = ["log", "inbox"].map(|room| store.message(room));
    let effects = vec![(id(1), effect(vec![good.clone(), bad])), (id(2), effect(vec![good.clone()]))].into();
    let commit = StoreOp::Commit { group: group("s"), effects, together: false };
    let Answer::Committed(outcomes) = store.ask(&commit) else { panic!("no outcomes") };
    assert!(matches!(&outcomes[..], [Committed::Failed(_), Committed::Stored]), "{outcomes:?}");
    assert_eq!(store.newest("log", Place::Log).messages.len(), 1);
    assert_eq!(store.relayed(), [good.payload]);
}

#[test]
fn what_others_have_relayed_is_not_taken_back() {
    let mut store = Store::start();
    store.begin_with("unused");
    let first = store.message("log");
    store.append(vec![first.clone()]);
    for messages in [vec![store.message("log")], vec![store.message("log"), Posting::plain("p".into(), "plain".into())]] {
        let effects = vec![(id(1), Effect::Relay(vec![(0, messages)])), (id(7), Effect::Nothing)].into();
        assert_eq!(store.ask(&StoreOp::Commit { group: group("s"), effects, together: true }), Answer::Declined);
        assert_eq!(store.relayed(), std::slice::from_ref(&first.payload));
    }
}

#[test]
fn a_log_that_is_ahead_of_its_position_is_begun_anew() {
    let mut store = Store::start();
    for _ in 0..3 {
        let message = store.message("log");
        store.append(vec![message]);
    }
    for (trim, back) in [(false, "7.1.1"), (true, "7.1.1"), (false, "7.2.ffffffff")] {
        if trim {
            store.server.command(&["XTRIM", "rc:{0}:log:log", "MAXLEN", "0"]);
        }
        store.server.command(&["SET", "rc:{0}:log:meta", back]);
        let mut message = store.message("log");
        if let Some(kept) = &mut message.kept {
            kept.epoch = 8;
        }
        let position = Position { epoch: 8, offset: 1, tag: store.tags };
        assert_eq!(store.append(vec![message.clone()]), [Some(position)]);
        let page = Page { messages: vec![(position, message.payload)], head: position, whole: true };
        assert_eq!(store.newest("log", Place::Log), page);
        // Further than the position of the next round.
        for _ in 0..3 {
            let message = store.message("log");
            store.append(vec![message]);
        }
    }
}

#[test]
fn offsets_are_exact_as_far_as_numbers_of_scripts_are() {
    let mut store = Store::start();
    store.server.command(&["SET", "rc:{0}:log:meta", "7.9007199254740989.1"]);
    let messages: Postings = (0..3).map(|_| store.message("log")).collect();
    let offsets = |positions: &[Option<Position>]| -> Vec<(u64, u64)> {
        positions.iter().flatten().map(|position| (position.epoch, position.offset)).collect()
    };
    let positions = store.append(messages);
    let last = 1 << 53;
    assert_eq!(offsets(&positions), [(7, last - 2), (7, last - 1), (7, last)]);
    let after = StoreOp::Page {
        room: "log".into(),
        place: Place::Log,
        query: Query::After(positions[0].expect("a position")),
        since: UnixMillis(0),
        count: ALL,
    };
    assert!(matches!(store.ask(&after), Answer::Page(Page { messages, whole: true, .. }) if messages.len() == 2));
    let mut message = store.message("log");
    if let Some(kept) = &mut message.kept {
        kept.epoch = 8;
    }
    assert_eq!(offsets(&store.append(vec![message])), [(8, 1)], "no offset is given twice");
}

#[test]
fn a_long_inbox_is_read_and_emptied_as_a_short_one() {
    let mut store = Store::start();
    let messages: Postings = (0..350).map(|_| store.message("inbox")).collect();
    let positions: Vec<Position> = store.append(messages).into_iter().flatten().collect();
    let mut read = |since: usize, count: usize| {
        let (since, query) = (UnixMillis(since as u64), Query::Oldest);
        let op = StoreOp::Page { room: "inbox".into(), place: Place::Inbox, query, since, count };
        let Answer::Page(page) = store.ask(&op) else { panic!("no page") };
        page.messages.into_iter().map(|(position, _)| position).collect::<Vec<_>>()
    };
    // The first message was published at one.
    assert_eq!(read(0, ALL), positions);
    assert_eq!(read(231, 50), positions[230..280]);
    assert_eq!(read(341, 50), positions[340..]);
    assert_eq!(read(0, 100), positions[..100]);
    for (upto, left) in [(99, 100), (99, 100), (260, 261), (100, 261), (349, 350)] {
        let upto = positions[upto];
        assert_eq!(store.ask(&StoreOp::Delivered { room: "inbox".into(), upto }), Answer::Done);
        let left = positions[left..].iter().copied();
        assert!(store.newest("inbox", Place::Inbox).messages.iter().map(|(position, _)| *position).eq(left));
    }
}

#[test]
fn positions_of_many_rooms_are_told_at_once() {
    let mut store = Store::start();
    let rooms: Vec<_> = (0..2_500).map(|number| (format!("room:{number}").as_str().into(), HOUR)).collect();
    let positions = StoreOp::Positions { partition: 0, rooms, epoch: 9 };
    assert_eq!(store.ask(&positions), Answer::Positions(vec![Position::start(9); 2_500]));
}

impl Store {
    fn start() -> Store {
        let server = RedisServer::start();
        let mut config = Config { node: "n1".into(), ..Config::default() };
        config.relay.partitions = 1;
        Store { engine: Engine::new(&server), server, node: Redis::new(&config), tags: 0 }
    }

    /// Nothing but a pending entry, and something that is no string, no list and no stream.
    fn begin_with(&mut self, key: &str) {
        self.server.command(&["FLUSHDB"]);
        self.server.command(&["HSET", key, "a", "1"]);
        self.server.command(&["XADD", "s", "1-0", "a", "1"]);
        self.server.command(&["XGROUP", "CREATE", "s", "g", "0"]);
        self.server.command(&["XREADGROUP", "GROUP", "g", "n1", "STREAMS", "s", ">"]);
    }

    /// A message of a room that remembers as its name says. It has the number of its payload and of its time for a tag.
    fn message(&mut self, room: &str) -> Posting {
        self.tags += 1;
        let place = if room == "inbox" { Place::Inbox } else { Place::Log };
        let kept = Kept { place, size: ALL as u32, ttl: HOUR, epoch: 7, tag: self.tags, at: UnixMillis(self.tags.into()) };
        Posting { kept: Some(kept), ..Posting::plain(room.into(), self.tags.to_string().into()) }
    }

    /// Messages of every sort.
    fn messages(&mut self) -> Postings {
        let once = Some(Once { id: "1".into(), window: HOUR });
        vec![Posting::plain("p".into(), "plain".into()), self.message("inbox"), Posting { once, ..self.message("log") }]
    }

    fn ask(&mut self, op: &StoreOp) -> Answer {
        self.engine.ask(&self.node, op).expect("Redis answers")
    }

    fn append(&mut self, messages: Postings) -> Vec<Option<Position>> {
        let Answer::Appended(positions) = self.ask(&StoreOp::Append { partition: 0, messages }) else { panic!("not appended") };
        positions
    }

    fn newest(&mut self, room: &str, place: Place) -> Page {
        let op = StoreOp::Page { room: room.into(), place, query: Query::Newest, since: UnixMillis(0), count: ALL };
        let Answer::Page(page) = self.ask(&op) else { panic!("no page") };
        page
    }

    fn relayed(&mut self) -> Vec<Bytes> {
        let read = StoreOp::RelayRead { cursors: vec![(0, StreamId::ZERO)], count: ALL, block: Duration::ZERO };
        let Answer::Relayed(entries) = self.ask(&read) else { panic!("not entries") };
        entries.into_iter().flat_map(|entry| entry.messages).map(|message| message.payload).collect()
    }

    /// What can be read of every key. A stream without entries is nothing.
    fn contents(&self) -> BTreeMap<String, Value> {
        let keys: Vec<String> = self.server.query(&["KEYS", "*"]);
        let read = |key: String| {
            let kind: String = self.server.query(&["TYPE", &key]);
            let content = match &*kind {
                "stream" => self.server.command(&["XRANGE", &key, "-", "+"]),
                "hash" => self.server.command(&["HGETALL", &key]),
                "list" => self.server.command(&["LRANGE", &key, "0", "-1"]),
                "zset" => self.server.command(&["ZRANGE", &key, "0", "-1"]),
                _ => self.server.command(&["GET", &key]),
            };
            (key, content)
        };
        keys.into_iter().map(read).filter(|(_, content)| *content != Value::Array(vec![])).collect()
    }
}

/// One entry is stored with these messages.
fn commit(messages: &Postings, together: bool) -> StoreOp {
    let effects = vec![(id(1), Effect::Relay(vec![(0, messages.clone())]))].into();
    StoreOp::Commit { group: group("s"), effects, together }
}

fn is_failed(outcomes: &[Committed]) -> bool {
    matches!(outcomes, [Committed::Failed(_)])
}

fn group(stream: &str) -> GroupRef {
    GroupRef { stream: stream.into(), group: "g".into() }
}

fn id(millis: u64) -> StreamId {
    StreamId { millis, sequence: 0 }
}
