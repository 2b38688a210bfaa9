//! What callers inside the process ask of a backplane, on a store in memory that answers at once.

use bytes::Bytes;

use super::*;
use crate::door::{Publish, PublishId, ReadId};
use crate::position::Position;
use crate::store::Subscription;
use crate::store::memory::{ClientId, Memory};

const LOCAL: ShardId = ShardId::LOCAL;

/// A backplane and its store.
struct Bench {
    backplane: Backplane,
    memory: Memory,
    client: ClientId,
    now: Time,
    /// Whether the store does not answer.
    away: bool,
    told: Vec<Tell>,
}

impl Bench {
    fn new() -> Bench {
        let config = Config { sources: Vec::new(), channels: Vec::new(), ..Config::default() };
        let (mut memory, now) = (Memory::new(1_000), Time::from_micros(1_000_000));
        let client = memory.connect("n");
        let backplane = Backplane::new(Arc::new(config), [1; 32], now).unwrap();
        let mut bench = Bench { backplane, memory, client, now, away: false, told: Vec::new() };
        bench.run();
        bench
    }

    fn ask(&mut self, ask: Ask) -> Vec<Tell> {
        self.backplane.ask(self.now, LOCAL, ask);
        self.run()
    }

    fn publish(&mut self, room: &str) -> Vec<Tell> {
        let publish = Publish { id: PublishId(1), room: room.into(), payload: r#"{"type":"note","data":1}"#.into(), once: None };
        self.backplane.ask(self.now, ShardId(0), Ask::Publish(publish));
        self.run()
    }

    fn say(&mut self, channel: &str, payload: &'static str) -> Vec<Tell> {
        self.memory.announce(self.now, channel, false, &Bytes::from(payload));
        self.run()
    }

    /// Everything that follows at once; what the caller was told.
    fn run(&mut self) -> Vec<Tell> {
        loop {
            while let Some((_, ticket, answer)) = self.memory.poll_answer() {
                self.backplane.answer(self.now, ticket, answer);
            }
            let Some(action) = self.backplane.poll_action(self.now) else { return core::mem::take(&mut self.told) };
            match action {
                BackplaneAction::Store { ticket, .. } if self.away => {
                    self.backplane.answer(self.now, ticket, Err(StoreError::Disconnected("gone".into())));
                }
                BackplaneAction::Store { ticket, lane, op } => self.memory.submit(self.now, self.client, lane, ticket, op),
                BackplaneAction::Interrupt(lane) => self.memory.interrupt(self.client, lane),
                BackplaneAction::Tell(LOCAL, tell) => self.told.push(tell),
                _ => {}
            }
        }
    }
}

fn listen(name: &str) -> Ask {
    Ask::Listen { subscription: Subscription::channel(name) }
}

fn unlisten(name: &str) -> Ask {
    Ask::Unlisten { subscription: Subscription::channel(name) }
}

fn listening(name: &str) -> Tell {
    Tell::Listening { subscription: Subscription::channel(name) }
}

fn said(by: Subscription, channel: &'static str, payload: &'static str) -> Tell {
    Tell::Said { by, channel: channel.into(), payload: payload.into() }
}

#[test]
fn a_caller_joins_and_leaves_a_room_like_a_hub() {
    let mut bench = Bench::new();
    for room in ["project:1", "task:1", "job:1"] {
        let told = bench.ask(Ask::Join { room: room.into(), join: 7 });
        assert!(matches!(&told[..], [Tell::Joined { join: 7, .. }]), "{room}: {told:?}");
        let told = bench.publish(room);
        let [Tell::Messages { room: told_of, payloads, positions }] = &told[..] else { panic!("{room}: {told:?}") };
        assert_eq!((&**told_of, payloads.len()), (room, 1));
        assert_eq!(positions.len(), usize::from(room != "task:1"), "{room}");
        assert_eq!(bench.ask(Ask::Leave { room: room.into() }), []);
        assert_eq!(bench.publish(room), []);
    }
}

#[test]
fn what_an_inbox_holds_stays_there_for_its_user() {
    let mut bench = Bench::new();
    bench.publish("user:7");
    let told = bench.ask(Ask::Join { room: "user:7".into(), join: 1 });
    assert!(matches!(&told[..], [Tell::Joined { position: Some(Position { offset: 1, .. }), .. }]), "{told:?}");
    assert_eq!(bench.publish("user:7").len(), 1);
    let (read, room) = (ReadId(1), "user:7".into());
    let told = bench.ask(Ask::Read { read, room, query: crate::store::Query::Oldest, count: 10 });
    let [Tell::Page { result: Ok(page), .. }] = &told[..] else { panic!("{told:?}") };
    assert_eq!(page.messages.len(), 2);
}

#[test]
fn a_caller_hears_what_is_said_on_channels_and_patterns_once_that_holds() {
    let mut bench = Bench::new();
    assert_eq!(bench.say("a", "nobody listens"), []);
    assert_eq!(bench.ask(listen("a")), [listening("a")]);
    let pattern = Subscription::pattern("n*");
    let told = bench.ask(Ask::Listen { subscription: pattern.clone() });
    assert_eq!(told, [Tell::Listening { subscription: pattern.clone() }]);
    assert_eq!(bench.say("a", "1"), [said(Subscription::channel("a"), "a", "1")]);
    assert_eq!(bench.say("news", "2"), [said(pattern, "news", "2")]);
    assert_eq!(bench.ask(listen("a")), [listening("a")], "it holds already");

    assert_eq!(bench.ask(unlisten("a")), []);
    assert_eq!((bench.say("a", "3"), bench.memory.announce(bench.now, "a", false, &Bytes::new())), (vec![], 0));
    assert_eq!(bench.ask(listen("a")), [listening("a")]);
    assert_eq!(bench.ask(unlisten("never")), []);
}

#[test]
fn what_changes_while_the_channels_are_asked_for_is_asked_for_next() {
    let mut bench = Bench::new();
    for ask in [listen("a"), listen("b"), unlisten("b"), listen("b"), listen("c"), unlisten("a")] {
        bench.backplane.ask(bench.now, LOCAL, ask);
    }
    assert_eq!(bench.run(), [listening("b"), listening("c")]);
    // Left and wanted again before the store was told.
    bench.backplane.ask(bench.now, LOCAL, unlisten("b"));
    assert_eq!(bench.ask(listen("b")), [listening("b")]);
    assert_eq!(bench.say("b", "1").len(), 1);
    assert_eq!(bench.say("a", "2"), []);
}

#[test]
fn after_a_gap_in_listening_it_is_said_once_more_that_it_holds() {
    let mut bench = Bench::new();
    bench.ask(listen("a"));
    bench.memory.deafen(bench.client, Lane::Channels);
    bench.memory.interrupt(bench.client, Lane::Channels);
    assert_eq!(bench.run(), [listening("a")]);
    assert_eq!(bench.say("a", "1").len(), 1);
}

#[test]
fn a_ping_tells_how_long_the_store_took_or_why_it_does_not_answer() {
    let mut bench = Bench::new();
    let read = ReadId(3);
    assert_eq!(bench.ask(Ask::Ping { read }), [Tell::Pong { read, result: Ok(Duration::ZERO) }]);
    bench.away = true;
    let told = bench.ask(Ask::Ping { read });
    assert_eq!(told, [Tell::Pong { read, result: Err(StoreError::Disconnected("gone".into())) }]);
    assert!(!bench.backplane.core.questions.has_lasting());
}
