//! What a consumer does when answers come late, twice or never, when configurations are unusual, and when much fails at once.

use std::collections::VecDeque;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use roomcast_core::backplane::{Backplane, BackplaneAction};
use roomcast_core::config::{Config, Destination, Host, Source};
use roomcast_core::id::{StreamId, Ticket};
use roomcast_core::processor::{Delivery, Verdict};
use roomcast_core::store::{Answer, Committed, Effect, Entry, Stale, StoreError, StoreOp, Whose};
use roomcast_core::time::Time;
use roomcast_tests::world::World;

#[test]
fn a_verdict_on_an_earlier_delivery_says_nothing_about_a_later_one() {
    let mut desk = Desk::new(host());
    desk.open();
    desk.read([1]);
    let early = desk.delivered();
    desk.lose_group();
    desk.open();
    desk.read([1]);
    let late = desk.delivered();
    assert_ne!(early.ticket, late.ticket);
    desk.decide(&early, Verdict::Retry("too late".into()));
    assert!(desk.take(is_commit).is_none());
    desk.decide(&late, Verdict::Done);
    assert_eq!(desk.committed(), [id(1)]);
}

#[test]
fn a_deadline_of_an_earlier_delivery_does_not_end_a_later_one() {
    let mut desk = Desk::new(host());
    desk.open();
    desk.read([1]);
    let early = desk.delivered();
    desk.pass(Duration::from_secs(20));
    desk.lose_group();
    desk.open();
    desk.read([1]);
    let late = desk.delivered();
    desk.pass(Duration::from_secs(15));
    assert!(early.deadline < desk.now && desk.now < late.deadline);
    desk.decide(&late, Verdict::Done);
    assert_eq!(desk.committed(), [id(1)]);
}

#[test]
fn an_entry_that_is_read_again_while_it_is_in_hand_is_in_hand_once() {
    let mut desk = Desk::new(Config { sources: vec![Source::ai_commands()], ..Config::default() });
    desk.open();
    desk.read([1]);
    let commit = desk.take(is_commit).expect("a commit begins at once");
    // Another node has made the group again after it was lost, and this one has not noticed.
    desk.read([2, 3]);
    desk.read([1, 2, 3, 4]);
    desk.answer(commit.0, Ok(Answer::Committed(vec![Committed::Stored])));
    let mut committed = desk.committed();
    committed.extend(desk.try_committed().unwrap_or_default());
    committed.sort_unstable();
    let mut once = committed.clone();
    once.dedup();
    assert_eq!(committed, once, "the store cannot tell the second from the first");
}

#[test]
fn what_was_in_hand_when_the_group_was_lost_is_looked_for_although_a_read_is_under_way() {
    let mut desk = Desk::new(Config { sources: vec![Source::ai_commands()], ..Config::default() });
    desk.open();
    desk.read([1]);
    let commit = desk.take(is_commit).expect("a commit begins at once");
    let read = desk.take(is_read).expect("the next read begins");
    // Another node has made the group again; entry 2 is of the new one.
    desk.answer(read.0, Ok(Answer::Entries(vec![entry(2)])));
    let read = desk.take(is_read).expect("the next read begins");
    desk.answer(commit.0, Err(StoreError::NoGroup));
    desk.pass(Duration::from_millis(100));
    let open = desk.take(is_open).expect("the group is opened");
    desk.answer(open.0, Ok(Answer::Opened(None)));
    desk.answer(read.0, Ok(Answer::Entries(Vec::new())));
    let look = desk.take(is_look).expect("it is looked for what is pending");
    assert!(matches!(look.1, StoreOp::GroupStale { whose: Whose::Own, .. }), "{look:?}");
}

#[test]
fn a_group_that_is_lost_as_soon_as_it_is_open_is_not_opened_at_full_speed() {
    let mut desk = Desk::new(Config { sources: vec![Source::ai_commands()], ..Config::default() });
    let (end, mut opened) = (desk.now + Duration::from_secs(10), 0);
    while desk.now < end {
        let Some(open) = desk.take(is_open) else {
            desk.pass(Duration::from_millis(10));
            continue;
        };
        opened += 1;
        assert!(opened < 250, "opened {opened} times in {:?}", desk.now);
        desk.answer(open.0, Ok(Answer::Opened(Some(StreamId::ZERO))));
        let look = desk.take(is_look).expect("it is looked for what is pending");
        desk.answer(look.0, Err(StoreError::NoGroup));
    }
    assert!(opened > 1);
}

#[test]
fn large_entries_are_claimed_a_few_at_a_time() {
    let mut desk = Desk::new(Config { sources: vec![Source::ai_commands()], ..Config::default() });
    let open = desk.take(is_open).expect("the group is opened");
    desk.answer(open.0, Ok(Answer::Opened(None)));
    let mut left: Vec<u64> = (1..=200).collect();
    let mut in_flight = 0;
    while let Some((ticket, op)) = desk.take(|op| is_look(op) || is_claim(op) || is_commit(op) || is_read(op)) {
        match op {
            StoreOp::GroupStale { whose: Whose::Own, after, count, .. } => {
                let found = left.iter().map(|millis| id(*millis)).filter(|id| *id > after).take(count);
                let stale = |id| Stale { id, idle: Duration::from_secs(100), deliveries: 1 };
                desk.answer(ticket, Ok(Answer::Stale(found.map(stale).collect())));
            }
            StoreOp::GroupClaim { ids, .. } => {
                let entries: Vec<Entry> = ids.iter().map(|(id, _)| large(id.millis)).collect();
                let bytes: usize = entries.iter().map(Entry::bytes).sum();
                in_flight = in_flight.max(bytes);
                desk.answer(ticket, Ok(Answer::Claimed { entries, gone: Vec::new() }));
            }
            StoreOp::Commit { effects, .. } => {
                left.retain(|millis| effects.iter().all(|(id, _)| id.millis != *millis));
                desk.answer(ticket, Ok(Answer::Committed(vec![Committed::Stored; effects.len()])));
            }
            StoreOp::GroupStale { .. } => desk.answer(ticket, Ok(Answer::Stale(Vec::new()))),
            StoreOp::GroupRead { .. } => break,
            other => panic!("{other:?}"),
        }
    }
    assert!(left.is_empty(), "{left:?}");
    assert!(in_flight <= 64 << 20, "{in_flight} bytes in one answer");
}

#[test]
fn what_cannot_be_claimed_in_time_is_claimed_in_smaller_parts() {
    let mut desk = Desk::new(Config { sources: vec![Source::ai_commands()], ..Config::default() });
    let open = desk.take(is_open).expect("the group is opened");
    desk.answer(open.0, Ok(Answer::Opened(None)));
    let (mut sizes, mut deliveries) = (Vec::new(), [1; 101]);
    for _ in 0..5 {
        while desk.peek(is_look).is_none() {
            desk.pass(Duration::from_millis(100));
        }
        let look = desk.take(is_look).expect("it is there");
        let stale = |millis| Stale { id: id(millis), idle: Duration::from_secs(100), deliveries: deliveries[millis as usize] };
        desk.answer(look.0, Ok(Answer::Stale((1..=100).map(stale).collect())));
        let (_, StoreOp::GroupClaim { ids, .. }) = desk.take(is_claim).expect("they are claimed") else { unreachable!() };
        sizes.push(ids.len());
        // It is carried out, and its answer lost.
        ids.iter().for_each(|(id, count)| deliveries[id.millis as usize] = *count);
        assert!(ids.iter().all(|(_, deliveries)| *deliveries == 2), "a lost answer is no delivery: {ids:?}");
        desk.pass(Duration::from_secs(6));
    }
    assert_eq!(sizes.last(), Some(&1), "{sizes:?}");
}

#[test]
fn no_more_is_taken_over_than_can_be_remembered_as_failed() {
    let source = Source { retry_after: Duration::from_secs(3_600), ..Source::ai_commands() };
    let mut desk = Desk::new(Config { sources: vec![source], ..Config::default() });
    let open = desk.take(is_open).expect("the group is opened");
    desk.answer(open.0, Ok(Answer::Opened(None)));
    let mut claimed = 0;
    while let Some((ticket, op)) = desk.take(|op| is_look(op) || is_claim(op) || is_commit(op)) {
        assert!(claimed < 12_000, "{claimed} entries were taken over, and not one could be stored");
        match op {
            StoreOp::GroupStale { whose: Whose::Any, after, count, .. } => {
                let stale = |millis| Stale { id: id(millis), idle: Duration::from_secs(100), deliveries: 1 };
                desk.answer(ticket, Ok(Answer::Stale((after.millis + 1..).take(count).map(stale).collect())));
            }
            StoreOp::GroupStale { .. } => desk.answer(ticket, Ok(Answer::Stale(Vec::new()))),
            StoreOp::GroupClaim { ids, .. } => {
                claimed += ids.len();
                let entries = ids.iter().map(|(id, _)| command(id.millis)).collect();
                desk.answer(ticket, Ok(Answer::Claimed { entries, gone: Vec::new() }));
            }
            StoreOp::Commit { effects, .. } => {
                let refused = Committed::Failed(StoreError::Refused("WRONGTYPE".into()));
                desk.answer(ticket, Ok(Answer::Committed(vec![refused; effects.len()])));
            }
            other => panic!("{other:?}"),
        }
    }
    assert!(claimed >= 10_000);
}

#[test]
fn commands_that_are_refused_delay_no_others() {
    let mut world = World::new(11, 1);
    world.set_refused("claude", true);
    for _ in 0..5_000 {
        let entry = world.command("claude");
        world.doom_command(entry);
    }
    world.run(Duration::from_secs(3));
    let mut longest = Duration::ZERO;
    for number in 1..=60 {
        world.command("mcp");
        let began = world.now();
        while world.commands_for("mcp").len() < number {
            world.run(Duration::from_millis(10));
        }
        longest = longest.max(world.now() - began);
        world.run(Duration::from_millis(200));
    }
    assert!(longest < Duration::from_secs(1), "{longest:?}");
    world.run(Duration::from_secs(60));
    assert_eq!((world.dead_letters(), world.pending()), (5_000, 0));
}

#[test]
fn times_without_end_are_times_like_others() {
    let mut source = Source::ai_commands();
    source.retry_after = Duration::MAX;
    source.claim_after = Duration::MAX;
    source.forget_after = Duration::MAX;
    let mut world = World::with(12, 2, Config { sources: vec![Source::file_events(), source], ..Config::default() });
    world.set_refused("claude", true);
    let entry = world.command("claude");
    world.command("mcp");
    world.run(Duration::from_secs(7_200));
    assert_eq!((world.commands_for("mcp").len(), world.pending()), (1, 1));
    world.doom_command(entry);
}

#[test]
fn times_too_short_for_any_clock_are_refused() {
    let short = Duration::from_nanos(2);
    let times: [fn(&mut Source) -> &mut Duration; 4] = [
        |source| &mut source.block,
        |source| &mut source.retry_after,
        |source| &mut source.claim_after,
        |source| &mut source.forget_after,
    ];
    for time in times {
        let mut source = Source { block: Duration::from_nanos(1), ..Source::ai_commands() };
        *time(&mut source) = short;
        let config = Config { sources: vec![source], ..Config::default() };
        let backplane = Backplane::new(Arc::new(config), [0; 32], Time::ZERO);
        assert!(backplane.is_err(), "its timers would never be done");
    }
}

// ---- a backplane whose store is the test -------------------------------------------------------------------------------------

struct Desk {
    backplane: Backplane,
    now: Time,
    asked: VecDeque<(Ticket, StoreOp)>,
    deliveries: VecDeque<Delivery>,
}

impl Desk {
    fn new(config: Config) -> Desk {
        let now = Time::from_micros(1_000_000);
        let backplane = Backplane::new(Arc::new(config), [5; 32], now).expect("the configuration is valid");
        let mut desk = Desk { backplane, now, asked: VecDeque::new(), deliveries: VecDeque::new() };
        desk.collect();
        desk
    }

    /// The group is open, nothing is pending, and a read is under way.
    fn open(&mut self) {
        let open = self.take(is_open).expect("the group is opened");
        self.answer(open.0, Ok(Answer::Opened(None)));
        while let Some(look) = self.take(is_look) {
            self.answer(look.0, Ok(Answer::Stale(Vec::new())));
        }
    }

    /// The read under way brings entries.
    fn read<const N: usize>(&mut self, entries: [u64; N]) {
        while let Some(look) = self.take(is_look) {
            self.answer(look.0, Ok(Answer::Stale(Vec::new())));
        }
        let read = self.take(is_read).expect("a read is under way");
        self.answer(read.0, Ok(Answer::Entries(entries.map(entry).into())));
    }

    fn lose_group(&mut self) {
        while let Some(asked) = self.take(|op| is_read(op) || is_look(op)) {
            self.answer(asked.0, Err(StoreError::NoGroup));
        }
        self.pass(Duration::from_millis(100));
    }

    fn delivered(&mut self) -> Delivery {
        self.deliveries.pop_front().expect("an entry is handed over")
    }

    fn decide(&mut self, delivery: &Delivery, verdict: Verdict) {
        self.backplane.processed(self.now, delivery.ticket, verdict);
        self.collect();
    }

    /// Carries the commit under way out; its entries.
    fn committed(&mut self) -> Vec<StreamId> {
        self.try_committed().expect("a commit is under way")
    }

    fn try_committed(&mut self) -> Option<Vec<StreamId>> {
        let (ticket, StoreOp::Commit { effects, .. }) = self.take(is_commit)? else { unreachable!() };
        self.answer(ticket, Ok(Answer::Committed(vec![Committed::Stored; effects.len()])));
        Some(effects.iter().map(|(id, _): &(StreamId, Effect)| *id).collect())
    }

    fn answer(&mut self, ticket: Ticket, answer: Result<Answer, StoreError>) {
        self.backplane.answer(self.now, ticket, answer);
        self.collect();
    }

    /// Time passes, in which nothing is answered.
    fn pass(&mut self, duration: Duration) {
        let end = self.now + duration;
        while let Some(at) = self.backplane.next_deadline().filter(|at| *at <= end) {
            self.now = self.now.max(at);
            self.backplane.tick(self.now);
            self.collect();
        }
        self.now = end;
    }

    fn peek(&self, is: impl Fn(&StoreOp) -> bool) -> Option<usize> {
        self.asked.iter().position(|(_, op)| is(op))
    }

    fn take(&mut self, is: impl Fn(&StoreOp) -> bool) -> Option<(Ticket, StoreOp)> {
        let at = self.peek(is)?;
        self.asked.remove(at)
    }

    fn collect(&mut self) {
        while let Some(action) = self.backplane.poll_action(self.now) {
            match action {
                BackplaneAction::Store { ticket, op, .. } => self.asked.push_back((ticket, op)),
                BackplaneAction::Process(delivery) => self.deliveries.push_back(delivery),
                _ => {}
            }
        }
    }
}

fn host() -> Config {
    let source = Source::new("invoices", "billing", "invoices-dlq", Destination::Host(Host::new("p")));
    Config { sources: vec![source], ..Config::default() }
}

fn id(millis: u64) -> StreamId {
    StreamId { millis, sequence: 0 }
}

fn entry(millis: u64) -> Entry {
    Entry { id: id(millis), fields: vec![(Bytes::from("payload"), Bytes::from("x"))] }
}

fn command(millis: u64) -> Entry {
    let text = r#"{"service":"claude","session_id":"s","workspace_path":"/w","message":"m"}"#;
    Entry { id: id(millis), fields: vec![(Bytes::from("payload"), Bytes::from(text))] }
}

fn large(millis: u64) -> Entry {
    Entry { id: id(millis), fields: vec![(Bytes::from("payload"), Bytes::from(vec![b'x'; 4 << 20]))] }
}

fn is_open(op: &StoreOp) -> bool {
    matches!(op, StoreOp::GroupOpen(_))
}

fn is_look(op: &StoreOp) -> bool {
    matches!(op, StoreOp::GroupStale { .. })
}

fn is_claim(op: &StoreOp) -> bool {
    matches!(op, StoreOp::GroupClaim { .. })
}

fn is_read(op: &StoreOp) -> bool {
    matches!(op, StoreOp::GroupRead { .. })
}

fn is_commit(op: &StoreOp) -> bool {
    matches!(op, StoreOp::Commit { .. })
}
