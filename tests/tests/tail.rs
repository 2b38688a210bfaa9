//! Publishers' streams at the backplane's door, without a hub: what is told, and what is asked of the store.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use roomcast_core::backplane::{Backplane, BackplaneAction};
use roomcast_core::config::{Config, Keep, RoomRule, Stream};
use roomcast_core::door::{Ask, Publish, PublishError, PublishId, ReadId, Tell};
use roomcast_core::id::{ShardId, StreamId, Ticket};
use roomcast_core::message::RoomName;
use roomcast_core::pattern::Pattern;
use roomcast_core::position::Position;
use roomcast_core::report::Report;
use roomcast_core::snapshot::Request;
use roomcast_core::store::memory::{ClientId, Memory};
use roomcast_core::store::{Answer, Lane, Page, Query, StoreError, StoreOp, TailAnswer, TailOp};
use roomcast_core::time::Time;
use serde_json::Value;

const SHARD: ShardId = ShardId(0);
const KEY: &str = "job:updates:1";

/// A backplane on a store that answers at once.
struct Bench {
    backplane: Backplane,
    memory: Memory,
    client: ClientId,
    now: Time,
    tells: Vec<(ShardId, Tell)>,
    reports: Vec<Report>,
    requests: Vec<Request>,
    /// The cursors of the last read that was sent.
    cursors: Vec<(Arc<str>, StreamId)>,
    reads: usize,
    /// Whether the store cannot be reached.
    away: bool,
    /// Whether it does not let reads be ended.
    deaf: bool,
    /// Whether it keeps its answers to pages back, and those.
    holds_pages: bool,
    held: Vec<(Ticket, Result<Answer, StoreError>)>,
}

impl Bench {
    fn new() -> Bench {
        Bench::with(Config::default())
    }

    fn with(config: Config) -> Bench {
        let config = Config { sources: Vec::new(), ..config };
        let mut memory = Memory::new(100);
        let client = memory.connect("n");
        let now = Time::from_micros(1_000_000);
        let mut backplane = Backplane::new(Arc::new(config), [1; 32], now).expect("the configuration is good");
        backplane.set_reporting(true);
        let (tells, reports, requests, cursors) = (Vec::new(), Vec::new(), Vec::new(), Vec::new());
        let mut bench = Bench {
            backplane,
            memory,
            client,
            now,
            tells,
            reports,
            requests,
            cursors,
            reads: 0,
            away: false,
            deaf: false,
            holds_pages: false,
            held: Vec::new(),
        };
        bench.settle();
        bench
    }

    fn ask(&mut self, shard: ShardId, ask: Ask) {
        self.backplane.ask(self.now, shard, ask);
    }

    fn join(&mut self, shard: ShardId, room: &str) -> Vec<Tell> {
        self.ask(shard, Ask::Join { room: room.into(), join: 7 });
        self.told()
    }

    /// A publisher adds an update with this number.
    fn add(&mut self, key: &str, number: u64) {
        self.add_text(key, &format!(r#"{{"type":"t","data":{number}}}"#));
    }

    fn add_text(&mut self, key: &str, text: &str) {
        self.now = self.now + Duration::from_millis(1);
        self.memory.add(self.now, key, vec![(Bytes::from("message"), Bytes::copy_from_slice(text.as_bytes()))]);
        self.settle();
    }

    /// What the hub was told since it was asked last.
    fn told(&mut self) -> Vec<Tell> {
        self.settle();
        self.tells.drain(..).map(|(_, tell)| tell).collect()
    }

    fn page(&mut self, query: Query, count: usize) -> Page {
        self.ask(SHARD, Ask::Read { read: ReadId(1), room: "job:1".into(), query, count });
        match &self.told()[..] {
            [Tell::Page { read: ReadId(1), result: Ok(page) }] => page.clone(),
            other => panic!("{other:?}"),
        }
    }

    fn snapshot(&mut self, room: &str) -> Option<Bytes> {
        self.ask(SHARD, Ask::Snapshot { read: ReadId(2), room: room.into() });
        match &self.told()[..] {
            [Tell::Snapshot { read: ReadId(2), data }] => data.clone(),
            other => panic!("{other:?}"),
        }
    }

    fn pass(&mut self, duration: Duration) {
        let end = self.now + duration;
        let next = |bench: &Bench| [bench.backplane.next_deadline(), bench.memory.next_deadline()].into_iter().flatten().min();
        while let Some(at) = next(self).filter(|at| *at <= end) {
            self.now = self.now.max(at);
            self.memory.tick(self.now);
            self.backplane.tick(self.now);
            self.settle();
        }
        self.now = end;
    }

    fn settle(&mut self) {
        loop {
            while let Some((_, ticket, answer)) = self.memory.poll_answer() {
                if self.holds_pages && matches!(answer, Ok(Answer::Tail(TailAnswer::Row { .. }))) {
                    self.held.push((ticket, answer));
                    continue;
                }
                let answer = if self.away { Err(StoreError::Disconnected("away".into())) } else { answer };
                self.backplane.answer(self.now, ticket, answer);
            }
            let Some(action) = self.backplane.poll_action(self.now) else { return };
            match action {
                BackplaneAction::Store { ticket, .. } if self.away => {
                    self.backplane.answer(self.now, ticket, Err(StoreError::Disconnected("away".into())));
                }
                BackplaneAction::Store { ticket, lane, op } => {
                    if let StoreOp::Tail(TailOp::Read { cursors, .. }) = &op {
                        assert_eq!(lane, Lane::Tail);
                        (self.cursors, self.reads) = (cursors.clone(), self.reads + 1);
                    }
                    self.memory.submit(self.now, self.client, lane, ticket, op);
                }
                BackplaneAction::Interrupt(_) if self.deaf => {}
                BackplaneAction::Interrupt(lane) | BackplaneAction::Reset(lane) => self.memory.interrupt(self.client, lane),
                BackplaneAction::Tell(shard, tell) => self.tells.push((shard, tell)),
                BackplaneAction::Report(report) => self.reports.push(report),
                BackplaneAction::Snapshot(request) => self.requests.push(request),
                other => panic!("{other:?}"),
            }
        }
    }
}

fn joined(tells: &[Tell]) -> Position {
    match tells {
        [Tell::Joined { join: 7, position: Some(position), .. }] => *position,
        other => panic!("{other:?}"),
    }
}

/// The numbers of messages and their positions.
fn messages(tells: &[Tell]) -> (Vec<u64>, Vec<Position>) {
    let (mut numbers, mut places) = (Vec::new(), Vec::new());
    for tell in tells {
        let Tell::Messages { payloads, positions, .. } = tell else { panic!("{tell:?}") };
        assert_eq!(payloads.len(), positions.len());
        numbers.extend(payloads.iter().map(number));
        places.extend(positions);
    }
    (numbers, places)
}

fn number(payload: &Bytes) -> u64 {
    serde_json::from_slice::<Value>(payload).expect("envelopes are JSON")["data"].as_u64().expect("it has a number")
}

#[test]
fn a_join_tells_where_the_stream_ends_and_what_follows_comes_with_positions() {
    let mut bench = Bench::new();
    assert_eq!(joined(&bench.join(SHARD, "job:1")), Position::default());
    bench.add(KEY, 1);
    bench.add(KEY, 2);
    let (numbers, positions) = messages(&bench.told());
    assert_eq!(numbers, [1, 2]);
    assert!(positions[1].is_after(positions[0]) && positions.iter().all(|position| position.tag != 0));
    assert_eq!(joined(&bench.join(ShardId(1), "job:1")), positions[1], "another hub goes on from the same place");
    bench.add(KEY, 3);
    bench.settle();
    let shards: Vec<ShardId> = bench.tells.iter().map(|(shard, _)| *shard).collect();
    assert_eq!(shards, [SHARD, ShardId(1)]);
    assert!(!bench.memory.exists("job:updates:11"));
}

#[test]
fn positions_and_envelopes_are_the_same_on_every_node_and_in_every_page() {
    let (mut one, mut two) = (Bench::new(), Bench::new());
    for bench in [&mut one, &mut two] {
        bench.join(SHARD, "job:1");
        bench.add(KEY, 1);
        bench.add_text(KEY, r#"{"type":"t","data":2,"message_id":"m-2","extra":[1]}"#);
    }
    let told = one.told();
    assert_eq!(told, two.told());
    let Page { messages: page, head, whole } = one.page(Query::Newest, 10);
    let (_, positions) = messages(&told);
    assert_eq!((head, whole), (positions[1], true));
    let Tell::Messages { payloads, .. } = &told[1] else { panic!() };
    assert_eq!(page[1], (positions[1], payloads[0].clone()));
}

#[test]
fn a_stream_of_interest_is_read_without_delay_and_one_of_none_no_more() {
    let mut bench = Bench::new();
    bench.join(SHARD, "job:1");
    bench.join(SHARD, "job:11");
    assert_eq!(bench.cursors.iter().map(|(key, _)| &**key).collect::<Vec<_>>(), [KEY, "job:updates:11"]);
    bench.ask(SHARD, Ask::Leave { room: "job:1".into() });
    bench.add(KEY, 1);
    bench.add("job:updates:11", 11);
    assert_eq!(messages(&bench.told()).0, [11]);
    assert_eq!(bench.cursors.iter().map(|(key, _)| &**key).collect::<Vec<_>>(), ["job:updates:11"]);
}

#[test]
fn many_joins_at_once_cost_few_reads() {
    let mut bench = Bench::new();
    for number in 0..1_000 {
        bench.ask(SHARD, Ask::Join { room: format!("job:{number}").as_str().into(), join: 7 });
    }
    assert_eq!(bench.told().len(), 1_000);
    assert_eq!(bench.cursors.len(), 1_000);
    assert!(bench.reads < 20, "{} reads", bench.reads);
}

#[test]
fn two_rooms_of_one_stream_are_both_told() {
    let keep = || Keep::Stream(Stream::default());
    let rooms = vec![RoomRule::keep("job:*", keep()), RoomRule::keep("watch:*", keep())];
    let mut bench = Bench::with(Config { rooms, ..Config::default() });
    bench.join(SHARD, "job:1");
    bench.join(SHARD, "watch:1");
    assert_eq!(bench.cursors.len(), 1);
    bench.add(KEY, 5);
    let rooms: Vec<_> =
        bench.told().into_iter().map(|tell| if let Tell::Messages { room, .. } = tell { room } else { panic!() }).collect();
    assert_eq!(rooms, ["job:1", "watch:1"].map(RoomName::from));
    bench.ask(SHARD, Ask::Leave { room: "job:1".into() });
    bench.add(KEY, 6);
    assert_eq!(messages(&bench.told()).0, [6]);
}

#[test]
fn what_begins_anew_with_lower_identifiers_is_told_as_lost_from_its_end() {
    let mut bench = Bench::new();
    bench.join(SHARD, "job:1");
    bench.add(KEY, 1);
    let (_, before) = messages(&bench.told());
    bench.memory.delete(KEY);
    let message = |number: u64| vec![(Bytes::from("message"), Bytes::from(format!(r#"{{"type":"t","data":{number}}}"#)))];
    for millis in [2, 3] {
        bench.memory.add_as(bench.now, KEY, StreamId { millis, sequence: 0 }, message(millis));
    }
    assert_eq!(bench.told(), []);
    bench.pass(Duration::from_secs(40));
    let [Tell::Lost { position, .. }] = &bench.told()[..] else { panic!("nothing is told as lost") };
    assert_eq!((position.epoch, position.offset), (3, 0));
    bench.memory.add_as(bench.now, KEY, StreamId { millis: 4, sequence: 0 }, message(4));
    assert_eq!(messages(&bench.told()).0, [4]);
    assert!(!bench.page(Query::After(before[0]), 10).whole);
    assert!(bench.page(Query::After(*position), 10).whole);

    // Whoever reads notices at once.
    bench.memory.delete(KEY);
    bench.memory.add_as(bench.now, KEY, StreamId { millis: 1, sequence: 0 }, message(1));
    bench.ask(SHARD, Ask::Read { read: ReadId(1), room: "job:1".into(), query: Query::Newest, count: 10 });
    assert!(matches!(bench.told()[..], [Tell::Page { .. }, Tell::Lost { position: Position { epoch: 1, .. }, .. }]));
}

#[test]
fn a_read_from_before_a_room_was_left_and_joined_again_leaves_nothing_out() {
    let mut bench = Bench::new();
    bench.join(SHARD, "job:1");
    bench.add(KEY, 1);
    bench.told();
    bench.deaf = true;
    bench.ask(SHARD, Ask::Leave { room: "job:1".into() });
    bench.memory.delete(KEY);
    let add_as = |bench: &mut Bench, millis: u64| {
        let text = format!(r#"{{"type":"t","data":{millis}}}"#);
        let id = StreamId { millis, sequence: 0 };
        bench.memory.add_as(bench.now, KEY, id, vec![(Bytes::from("message"), Bytes::from(text))]);
    };
    add_as(&mut bench, 2);
    assert_eq!(joined(&bench.join(SHARD, "job:1")).epoch, 2);
    add_as(&mut bench, 3);
    assert_eq!(bench.told(), [], "the read under way waits for greater identifiers");
    bench.add(KEY, 4);
    assert_eq!(messages(&bench.told()).0, [3, 4]);
}

#[test]
fn a_page_that_is_older_than_what_was_told_says_nothing_against_the_stream() {
    let mut bench = Bench::new();
    bench.join(SHARD, "job:1");
    bench.add(KEY, 1);
    bench.told();
    bench.holds_pages = true;
    bench.ask(SHARD, Ask::Read { read: ReadId(1), room: "job:1".into(), query: Query::Newest, count: 10 });
    assert_eq!(bench.told(), []);
    bench.add(KEY, 2);
    assert_eq!(messages(&bench.told()).0, [2]);
    bench.memory.delete(KEY);
    bench.holds_pages = false;
    for (ticket, answer) in std::mem::take(&mut bench.held) {
        bench.backplane.answer(bench.now, ticket, answer);
    }
    assert!(matches!(bench.told()[..], [Tell::Page { .. }]), "nothing is told as lost");
}

#[test]
fn after_an_outage_what_follows_is_told_with_proof() {
    let mut bench = Bench::new();
    for number in 1..=3 {
        bench.join(SHARD, &format!("job:{number}"));
    }
    bench.add(KEY, 1);
    bench.add("job:updates:2", 2);
    bench.told();
    bench.away = true;
    for number in 0..600 {
        bench.add(KEY, 100 + number);
        bench.add("job:updates:2", 1_000 + number);
    }
    bench.memory.trim("job:updates:2", 10);
    bench.pass(Duration::from_secs(30));
    assert!(bench.backplane.unready().iter().any(|reason| reason.contains("publishers' streams")));
    assert_eq!(bench.told(), []);
    bench.away = false;
    bench.pass(Duration::from_secs(15));
    assert!(bench.backplane.unready().is_empty());
    let (lost, rest): (Vec<Tell>, Vec<Tell>) = bench.told().into_iter().partition(|tell| matches!(tell, Tell::Lost { .. }));
    let of = |name: &str| {
        let is_of = |tell: &&Tell| matches!(tell, Tell::Messages { room, .. } if **room == *name);
        messages(&rest.iter().filter(is_of).cloned().collect::<Vec<_>>()).0
    };
    assert_eq!(of("job:1"), (100..700).collect::<Vec<_>>(), "nothing is missing");
    assert_eq!(of("job:2"), (1_590..1_600).collect::<Vec<_>>(), "what is left");
    let rooms: Vec<_> = lost.into_iter().map(|tell| if let Tell::Lost { room, .. } = tell { room } else { panic!() }).collect();
    assert_eq!(rooms, ["job:2", "job:3"].map(RoomName::from), "of what was trimmed and what never was, nobody can tell");
}

#[test]
fn what_is_no_message_is_counted_reported_once_and_skipped() {
    let mut bench = Bench::new();
    bench.join(SHARD, "job:1");
    bench.add_text(KEY, "nonsense");
    bench.add(KEY, 1);
    bench.add_text(KEY, "[]");
    bench.add(KEY, 2);
    bench.add_text(KEY, "{}");
    let (numbers, positions) = messages(&bench.told());
    assert_eq!((numbers, bench.backplane.stats().skipped), (vec![1, 2], 3));
    let skipped: Vec<_> = bench.reports.iter().filter(|report| matches!(report, Report::Skipped { .. })).collect();
    let [Report::Skipped { sample, .. }] = skipped[..] else { panic!("{skipped:?}") };
    assert_eq!(&**sample, "nonsense");
    let page = bench.page(Query::Newest, 10);
    assert_eq!((page.messages.len(), page.head), (2, positions[1]));
    let mut late = bench.join(ShardId(1), "job:1");
    assert_eq!(joined(&late), positions[1]);
    for shard in [SHARD, ShardId(1)] {
        bench.ask(shard, Ask::Leave { room: "job:1".into() });
    }
    late = bench.join(SHARD, "job:1");
    assert_eq!(joined(&late), positions[1], "it looks behind what is no message");
}

#[test]
fn a_publish_stands_in_the_stream_once_and_its_position_comes_back() {
    let mut bench = Bench::new();
    bench.join(SHARD, "job:1");
    let publish = |id: u64, once: &str| {
        let payload = Bytes::from_static(br#"{"type":"t","data":1,"timestamp":"x","message_id":"m","room":"job:1"}"#);
        Ask::Publish(Publish { id: PublishId(id), room: "job:1".into(), payload, once: Some(once.into()) })
    };
    let (mut places, mut told) = (Vec::new(), Vec::new());
    for (id, once) in [(1, "a"), (2, "a"), (3, "b")] {
        bench.ask(SHARD, publish(id, once));
        for tell in bench.told() {
            match tell {
                Tell::Published { result, .. } => places.push(result.unwrap().unwrap()),
                Tell::Messages { positions, .. } => told.extend(positions),
                other => panic!("{other:?}"),
            }
        }
    }
    assert_eq!((places[0], bench.memory.entries(KEY).count()), (places[1], 2));
    assert_eq!(told, places[1..]);
    bench.pass(Duration::from_secs(24 * 3600));
    assert!(!bench.memory.exists(KEY), "it lives for a day");
    bench.memory.set_refused(KEY, true);
    bench.ask(SHARD, publish(4, "c"));
    assert!(matches!(bench.told()[..], [Tell::Published { result: Err(PublishError::Unavailable), .. }]));
}

#[test]
fn a_snapshot_is_the_value_of_its_key() {
    let mut bench = Bench::new();
    assert_eq!(bench.snapshot("job:1"), None);
    bench.memory.set_value("job:state:1", r#" {"status": "processing"} "#);
    assert_eq!(bench.snapshot("job:1").unwrap(), r#"{"status": "processing"}"#);
    assert_eq!((bench.snapshot("task:1"), bench.backplane.stats().snapshots_failed), (None, 0));
    bench.memory.set_value("job:state:1", "{nonsense");
    assert_eq!((bench.snapshot("job:1"), bench.backplane.stats().snapshots_failed), (None, 1));
}

#[test]
fn a_snapshot_is_what_the_host_gives_in_time() {
    let mut bench = Bench::new();
    bench.memory.set_value("job:state:1", "1");
    bench.backplane.provide_snapshots(vec![Pattern::new("job:*")]);
    let request = |bench: &mut Bench| {
        bench.ask(SHARD, Ask::Snapshot { read: ReadId(2), room: "job:1".into() });
        assert_eq!(bench.told(), []);
        bench.requests.pop().expect("the host is asked")
    };
    let told = |bench: &mut Bench| match &bench.told()[..] {
        [Tell::Snapshot { data, .. }] => data.clone(),
        other => panic!("{other:?}"),
    };
    for (given, expected, failures) in [(Some("{\"a\":1}"), Some("{\"a\":1}"), 0), (None, None, 0), (Some("{"), None, 1)] {
        let Request { ticket, room, .. } = request(&mut bench);
        assert_eq!(&*room, "job:1");
        bench.backplane.snapshot(ticket, given.map(Bytes::from));
        assert_eq!(told(&mut bench), expected.map(Bytes::from));
        assert_eq!(bench.backplane.stats().snapshots_failed, failures);
        bench.backplane.snapshot(ticket, Some("1".into()));
        assert_eq!(bench.told(), [], "a second word is one too many");
    }
    let late = request(&mut bench);
    bench.pass(Duration::from_secs(6));
    assert_eq!((told(&mut bench), bench.backplane.stats().snapshots_failed), (None, 2));
    bench.backplane.snapshot(late.ticket, Some("1".into()));
    assert_eq!(bench.told(), []);
}
