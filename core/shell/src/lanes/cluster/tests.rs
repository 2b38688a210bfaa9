use std::task::Waker;
use std::time::Duration;

use roomcast_core::config::Config;
use roomcast_core::id::StreamId;
use roomcast_core::store::redis::{SLOTS, slot};
use roomcast_core::store::{Heard, Subscription, TailAnswer, TailOp};

use super::*;
use crate::mailbox::Mailbox;
use crate::pipe::{Pipe, connect, will_connect_to};

const BLOCK: Duration = Duration::from_secs(5);

/// A cluster of two primaries, `a:1` and `b:1`, as the node sees it.
struct Bench {
    lanes: ClusterLanes,
    post: Arc<Post>,
    now: Time,
}

type Answered = Vec<(u64, Result<Answer, StoreError>)>;

impl Bench {
    /// Begins with what the first node that is asked says of the slots below this one, which are `a:1`'s.
    fn new(border: u16) -> Bench {
        will_connect_to("a:1", &says(&[&map(border)]));
        Bench::at("redis-cluster://a:1")
    }

    fn at(url: &str) -> Bench {
        let post: Arc<Post> = Arc::new(Mailbox::new());
        let address: Address = url.parse().unwrap();
        let redis = Redis::new(&Config::default());
        Bench { lanes: ClusterLanes::new(address.into(), &Connector::new(connect), redis, post.clone()), post, now: Time::ZERO }
    }

    fn submit(&mut self, lane: Lane, ticket: u64, op: StoreOp) -> Answered {
        self.lanes.submit(self.now, lane, Ticket(ticket), op);
        self.run()
    }

    fn run(&mut self) -> Answered {
        let mut answers = Vec::new();
        loop {
            let mut inputs = Vec::new();
            self.post.take(Waker::noop(), &mut inputs);
            if inputs.is_empty() {
                return answers;
            }
            for input in inputs {
                match input {
                    Input::Ready(number) => self.lanes.ready(self.now, number),
                    Input::Answer(Ticket(ticket), answer) => answers.push((ticket, answer)),
                    _ => {}
                }
            }
        }
    }

    /// A lane's connections are looked at: nothing wakes anybody when a pipe is fed.
    fn wake(&mut self) -> Answered {
        let ways = self.lanes.ways.len() as u32;
        for number in (0..ways).flat_map(|way| (0..20).map(move |number| LANES + way * OF_EACH + number)) {
            self.lanes.ready(self.now, number);
        }
        (0..self.lanes.clusters.len() as u32).for_each(|number| self.lanes.ready(self.now, TOPOLOGIES + number));
        self.run()
    }

    /// Lets time pass until something is answered, or it is later than this.
    fn pass(&mut self, within: Duration) -> Answered {
        let until = self.now + within;
        let mut ticks = 0;
        while let Some(at) = self.lanes.next_deadline().filter(|at| *at <= until) {
            self.now = self.now.max(at);
            self.lanes.tick(self.now);
            ticks += 1;
            assert!(ticks < 1_000, "it never rests");
            let answers = self.run();
            if !answers.is_empty() {
                return answers;
            }
        }
        self.now = until;
        Vec::new()
    }
}

fn says(replies: &[&str]) -> Pipe {
    let pipe = Pipe::default();
    replies.iter().for_each(|reply| pipe.feed(reply.as_bytes()));
    pipe
}

/// A connection of a lane, which says its identifier first.
fn lane(address: &str, replies: &[&str]) -> Pipe {
    let pipe = says(&[":7\r\n"]);
    replies.iter().for_each(|reply| pipe.feed(reply.as_bytes()));
    will_connect_to(address, &pipe);
    pipe
}

/// The answer to `CLUSTER SLOTS`: the slots below this one are those of `a:1`, the others those of `b:1`.
fn map(border: u16) -> String {
    let range = |first: u16, behind: u16, host: &str| match first < behind {
        true => format!("*3\r\n:{first}\r\n:{}\r\n*2\r\n$1\r\n{host}\r\n:1\r\n", behind - 1),
        false => String::new(),
    };
    let ranges = [range(0, border, "a"), range(border, SLOTS, "b")].concat();
    format!("*{}\r\n{ranges}", ranges.matches("*3").count())
}

fn words(pipe: &Pipe) -> String {
    let written = pipe.written();
    let words: Vec<&str> = written.split("\r\n").filter(|word| !word.starts_with(['*', '$']) && !word.is_empty()).collect();
    words.join(" ")
}

fn log(partition: u16) -> u16 {
    slot(&format!("rc:relay:{{{partition}}}"))
}

fn tip(partition: u16) -> StoreOp {
    StoreOp::RelayTip { partition }
}

fn moved(partition: u16, to: &str) -> String {
    format!("-MOVED {} {to}\r\n", log(partition))
}

fn entry(partition: u16, id: &str) -> String {
    let key = format!("rc:relay:{{{partition}}}");
    format!("*1\r\n*2\r\n${}\r\n{key}\r\n*1\r\n*2\r\n${}\r\n{id}\r\n*0\r\n", key.len(), id.len())
}

const TIP: &str = "*1\r\n*2\r\n$3\r\n5-6\r\n*0\r\n";
const AT: StreamId = StreamId { millis: 5, sequence: 6 };

fn read(cursors: &[(u16, StreamId)], block: Duration) -> StoreOp {
    StoreOp::RelayRead { cursors: cursors.into(), count: 10, block }
}

fn relayed(answered: &Answered) -> Vec<(u16, StreamId)> {
    let [(_, Ok(Answer::Relayed(entries)))] = &answered[..] else { panic!("{answered:?}") };
    entries.iter().map(|entry| (entry.partition, entry.id)).collect()
}

/// Two partitions, the one of a lower slot first.
fn two() -> (u16, u16, u16) {
    let (low, high) = if log(0) < log(1) { (0, 1) } else { (1, 0) };
    (low, high, log(high))
}

#[test]
fn operations_go_to_the_primaries_of_their_slots() {
    let (low, high, border) = two();
    let mut bench = Bench::new(border);
    let (a, b) = (lane("a:1", &[TIP]), lane("b:1", &["*0\r\n"]));
    bench.submit(Lane::Command, 1, tip(low));
    bench.submit(Lane::Command, 2, tip(high));
    assert!(words(&a).ends_with(&format!("rc:relay:{{{low}}} + - COUNT 1")), "{}", words(&a));
    assert!(words(&b).ends_with(&format!("rc:relay:{{{high}}} + - COUNT 1")), "{}", words(&b));
}

#[test]
fn what_has_moved_is_asked_again_in_order_before_what_was_asked_later() {
    let mut bench = Bench::new(SLOTS);
    let (a, b) = (lane("a:1", &[]), lane("b:1", &[]));
    (1..=2).for_each(|ticket| assert_eq!(bench.submit(Lane::Command, ticket, tip(0)), []));
    a.feed(moved(0, "b:1").as_bytes());
    will_connect_to("b:1", &says(&[&map(0)]));
    assert_eq!(bench.wake(), []);
    assert_eq!(words(&b), "", "the other one is still under way to where the slot was");
    let mark = StoreOp::Mark { partition: 0, mark: "later".into() };
    assert_eq!(bench.submit(Lane::Command, 3, mark), []);
    a.feed(moved(0, "b:1").as_bytes());
    [TIP, TIP, "$3\r\n7-0\r\n"].iter().for_each(|reply| b.feed(reply.as_bytes()));
    let tickets: Vec<u64> = bench.wake().into_iter().map(|(ticket, answer)| answer.map(|_| ticket).unwrap()).collect();
    assert_eq!(tickets, [1, 2, 3]);
    assert!(words(&b).ends_with("later") && words(&b).matches("XREVRANGE").count() == 2, "{}", words(&b));
    // From then on it goes there at once.
    b.feed(TIP.as_bytes());
    bench.submit(Lane::Command, 4, tip(0));
    assert_eq!(words(&a).matches("XREVRANGE").count(), 2);
}

#[test]
fn what_is_on_its_way_is_asked_for_once() {
    let mut bench = Bench::new(SLOTS);
    let a = lane("a:1", &[&format!("-ASK {} b:1\r\n", log(0))]);
    let b = lane("b:1", &["+OK\r\n", TIP]);
    assert_eq!(bench.submit(Lane::Command, 1, tip(0)), [(1, Ok(Answer::Id(AT)))]);
    assert_eq!(words(&b), "CLIENT ID ASKING XREVRANGE rc:relay:{0} + - COUNT 1");
    a.feed(TIP.as_bytes());
    assert_eq!(bench.submit(Lane::Command, 2, tip(0)), [(2, Ok(Answer::Id(AT)))]);
    assert_eq!(words(&a).matches("XREVRANGE").count(), 2, "the slot has not moved yet");
}

#[test]
fn what_is_sent_from_node_to_node_ends() {
    let mut bench = Bench::new(SLOTS);
    let (a, b) = (lane("a:1", &[]), lane("b:1", &[]));
    let mut answered = bench.submit(Lane::Command, 1, tip(0));
    for (from, to) in [(&a, "b:1"), (&b, "a:1")].into_iter().cycle().take(6) {
        assert_eq!(answered, []);
        from.feed(moved(0, to).as_bytes());
        answered = bench.wake();
    }
    assert!(matches!(&answered[..], [(1, Err(StoreError::Busy(text)))] if text.contains("again and again")), "{answered:?}");
    assert_eq!(words(&a).matches("XREVRANGE").count() + words(&b).matches("XREVRANGE").count(), 6);
}

#[test]
fn a_slot_without_a_primary_is_waited_for_and_then_refused_for_the_moment() {
    let mut bench = Bench::at("redis-cluster://c:1");
    // Nobody serves anything yet, and then nobody answers.
    will_connect_to("c:1", &says(&["*0\r\n"]));
    assert_eq!(bench.submit(Lane::Command, 1, tip(0)), []);
    let answered = bench.pass(Duration::from_secs(3));
    assert!(matches!(&answered[..], [(1, Err(StoreError::Busy(text)))] if text.contains("CLUSTERDOWN") && text.contains("c:1")));
    assert_eq!(bench.now, Time::ZERO + Duration::from_secs(2));
    // It comes while somebody waits.
    assert_eq!(bench.submit(Lane::Command, 2, tip(0)), []);
    will_connect_to("c:1", &says(&[&map(SLOTS)]));
    lane("a:1", &[TIP]);
    assert_eq!(bench.pass(Duration::from_secs(1)), [(2, Ok(Answer::Id(AT)))]);
}

#[test]
fn streams_of_many_slots_are_asked_in_parts_and_told_in_one() {
    let (low, high) = if slot("x") < slot("y") { ("x", "y") } else { ("y", "x") };
    let mut bench = Bench::new(slot(high));
    let tips = |id: &str| format!("*1\r\n*1\r\n*2\r\n$3\r\n{id}\r\n*0\r\n");
    let (of_low, of_high) = (tips("1-0"), tips("2-0"));
    lane("a:1", &["+OK\r\n", "+QUEUED\r\n", &of_low]);
    lane("b:1", &["+OK\r\n", "+QUEUED\r\n", &of_high]);
    let op = StoreOp::Tail(TailOp::Tips { keys: vec![high.into(), low.into()], count: 1 });
    let answered = bench.submit(Lane::Command, 1, op);
    let [(1, Ok(Answer::Tail(TailAnswer::Tips(tips))))] = &answered[..] else { panic!("{answered:?}") };
    let ids: Vec<u64> = tips.iter().map(|tip| tip.as_ref().unwrap()[0].id.millis).collect();
    assert_eq!(ids, [2, 1], "in the order of the question");
}

#[test]
fn a_log_is_told_at_once_and_what_comes_of_the_others_is_kept() {
    let (low, high, border) = two();
    let mut bench = Bench::new(border);
    let (a, b) = (lane("a:1", &[]), lane("b:1", &[]));
    assert_eq!(bench.submit(Lane::Relay, 1, read(&[(low, StreamId::ZERO), (high, AT)], BLOCK)), []);
    a.feed(entry(low, "9-0").as_bytes());
    let nine = StreamId { millis: 9, sequence: 0 };
    assert_eq!(relayed(&bench.wake()), [(low, nine)]);
    // Nobody asks, and it is there.
    b.feed(entry(high, "8-0").as_bytes());
    assert_eq!(bench.wake(), []);
    let answered = bench.submit(Lane::Relay, 2, read(&[(low, nine), (high, AT)], BLOCK));
    assert_eq!(relayed(&answered), [(high, StreamId { millis: 8, sequence: 0 })]);
    assert_eq!((words(&a).matches("XREAD").count(), words(&b).matches("XREAD").count()), (2, 1));
    // The log of the lower slot is still being read.
    let eight = StreamId { millis: 8, sequence: 0 };
    assert_eq!(bench.submit(Lane::Relay, 3, read(&[(low, nine), (high, eight)], BLOCK)), []);
    assert_eq!((words(&a).matches("XREAD").count(), words(&b).matches("XREAD").count()), (2, 2));
    bench.lanes.interrupt(bench.now, Lane::Relay);
    assert_eq!(relayed(&bench.run()), []);
    // A cursor that was set back.
    let fresh = lane("a:1", &[]);
    assert_eq!(bench.submit(Lane::Relay, 4, read(&[(low, StreamId::ZERO), (high, eight)], BLOCK)), []);
    assert!(words(&fresh).ends_with("0-0"), "{}", words(&fresh));
    assert_eq!(relayed(&bench.pass(BLOCK * 2)), [], "the time is over");
    assert_eq!(bench.now, Time::ZERO + BLOCK);
}

#[test]
fn a_log_out_of_reach_is_told_when_it_lasts_and_holds_up_no_other() {
    let (low, high, border) = two();
    let mut bench = Bench::new(border);
    let a = lane("a:1", &[]);
    // Nobody is at b:1.
    assert_eq!(bench.submit(Lane::Relay, 1, read(&[(low, StreamId::ZERO), (high, AT)], BLOCK)), []);
    assert_eq!(bench.pass(Duration::from_secs(1)), []);
    a.feed(entry(low, "9-0").as_bytes());
    assert_eq!(relayed(&bench.wake()).len(), 1);
    let nine = StreamId { millis: 9, sequence: 0 };
    assert_eq!(bench.submit(Lane::Relay, 2, read(&[(low, nine), (high, AT)], BLOCK)), []);
    let answered = bench.pass(BLOCK);
    assert!(matches!(&answered[..], [(2, Err(StoreError::Disconnected(_)))]), "{answered:?}");
    assert_eq!(bench.now, Time::ZERO + Duration::from_secs(2));
    // It is asked whether they can be read: both are, before that is said.
    lane("a:1", &["*-1\r\n"]);
    let b = lane("b:1", &[]);
    assert_eq!(bench.submit(Lane::Relay, 3, read(&[(low, nine), (high, AT)], Duration::ZERO)), []);
    b.feed(b"*-1\r\n");
    assert_eq!(relayed(&bench.wake()), []);
    assert!(words(&b).contains("BLOCK 1 "), "{}", words(&b));
}

#[test]
fn a_read_that_is_never_answered_gets_another_connection() {
    let mut bench = Bench::new(SLOTS);
    let silent = lane("a:1", &[]);
    assert_eq!(bench.submit(Lane::Relay, 1, read(&[(0, AT)], BLOCK)), []);
    // After ten seconds it is asked as ever where the log is.
    will_connect_to("a:1", &says(&[&map(SLOTS)]));
    for ticket in 1..3 {
        assert_eq!(relayed(&bench.pass(BLOCK)), []);
        assert_eq!(bench.submit(Lane::Relay, ticket + 1, read(&[(0, AT)], BLOCK)), []);
    }
    assert_eq!(bench.pass(BLOCK), [(3, Err(StoreError::Timeout))]);
    assert_eq!((bench.now, words(&silent).matches("XREAD").count()), (Time::ZERO + BLOCK * 3, 1));
    let fresh = lane("a:1", &[]);
    assert_eq!(bench.submit(Lane::Relay, 4, read(&[(0, AT)], Duration::ZERO)), []);
    assert!(words(&fresh).contains("BLOCK 1 "), "{}", words(&fresh));
}

#[test]
fn streams_are_looked_at_again_and_again() {
    let mut bench = Bench::new(SLOTS);
    let a = lane("a:1", &["*-1\r\n", "*-1\r\n"]);
    let cursors = vec![("y".into(), AT), ("x".into(), AT)];
    let op = StoreOp::Tail(TailOp::Read { cursors, count: 3, block: BLOCK });
    assert_eq!(bench.submit(Lane::Tail, 1, op.clone()), []);
    assert_eq!(words(&a), "CLIENT ID XREAD COUNT 3 STREAMS y 5-6 XREAD COUNT 3 STREAMS x 5-6");
    a.feed(b"*-1\r\n");
    a.feed(b"*1\r\n*2\r\n$1\r\ny\r\n*1\r\n*2\r\n$3\r\n9-0\r\n*0\r\n");
    let answered = bench.pass(Duration::from_millis(50));
    let [(1, Ok(Answer::Tail(TailAnswer::Entries(streams))))] = &answered[..] else { panic!("{answered:?}") };
    assert_eq!((streams.len(), &*streams[0].0), (1, "y"));
    // The end of the time, and the end before it.
    assert_eq!(bench.submit(Lane::Tail, 2, op.clone()), []);
    bench.lanes.interrupt(bench.now, Lane::Tail);
    assert_eq!(bench.run(), [(2, Ok(op.nothing()))]);
    (0..2).for_each(|_| a.feed(b"*-1\r\n"));
    let short = StoreOp::Tail(TailOp::Read { cursors: vec![("x".into(), AT)], count: 3, block: Duration::from_millis(70) });
    let begin = bench.now;
    assert_eq!(bench.submit(Lane::Tail, 3, short), []);
    for after in [0, 50, 70] {
        assert_eq!(bench.pass(begin + Duration::from_millis(after) - bench.now), []);
        a.feed(b"*-1\r\n");
        let answered = bench.wake();
        assert_eq!(answered, if after == 70 { vec![(3, Ok(op.nothing()))] } else { vec![] });
    }
}

#[test]
fn every_channel_is_listened_to_where_it_is() {
    const HELLO: &str = "%1\r\n$5\r\nproto\r\n:3\r\n";
    const HOLDS: &str = "+PONG\r\n";
    let (low, high) = if slot("s") < slot("t") { ("s", "t") } else { ("t", "s") };
    let mut bench = Bench::new(slot(high));
    let listening = |address: &str| {
        let pipe = says(&[HELLO, ":7\r\n"]);
        will_connect_to(address, &pipe);
        pipe
    };
    let (a, b) = (listening("a:1"), listening("b:1"));
    let subscriptions: Arc<[Subscription]> =
        [Subscription::sharded(low), Subscription::channel("c"), Subscription::sharded(high)].into();
    let op = StoreOp::Listen { subscriptions, block: BLOCK };
    assert_eq!(bench.submit(Lane::Channels, 1, op.clone()), []);
    assert_eq!(words(&a), format!("HELLO 3 CLIENT ID SUBSCRIBE c SSUBSCRIBE {low} PING"));
    assert_eq!(words(&b), format!("HELLO 3 CLIENT ID SSUBSCRIBE {high} PING"));
    a.feed(HOLDS.as_bytes());
    assert_eq!(bench.wake(), [], "not all of them are listened to yet");
    b.feed(HOLDS.as_bytes());
    let begun = Answer::Heard(Heard { begins: true, messages: Vec::new() });
    assert_eq!(bench.wake(), [(1, Ok(begun.clone()))]);
    assert_eq!(bench.submit(Lane::Channels, 2, op.clone()), []);
    b.feed(format!(">3\r\n$8\r\nsmessage\r\n$1\r\n{high}\r\n$5\r\nhello\r\n").as_bytes());
    let answered = bench.wake();
    let [(2, Ok(Answer::Heard(Heard { begins: false, messages })))] = &answered[..] else { panic!("{answered:?}") };
    assert_eq!(messages[0].by, Subscription::sharded(high));
    // Another channel is listened to, and the connections stay.
    let StoreOp::Listen { subscriptions, .. } = &op else { panic!() };
    let more: Arc<[Subscription]> = subscriptions.iter().cloned().chain([Subscription::channel("d")]).collect();
    let op = StoreOp::Listen { subscriptions: more, block: BLOCK };
    assert_eq!(bench.submit(Lane::Channels, 2, op.clone()), []);
    assert!(words(&a).ends_with("SUBSCRIBE d PING"), "{}", words(&a));
    a.feed(HOLDS.as_bytes());
    assert_eq!(bench.wake(), [(2, Ok(op.nothing()))]);
    // A slot moves: first its primary ends the subscription, then it says where to.
    assert_eq!(bench.submit(Lane::Channels, 3, op.clone()), []);
    b.feed(format!(">3\r\n$12\r\nsunsubscribe\r\n$1\r\n{high}\r\n:0\r\n").as_bytes());
    let answered = bench.wake();
    assert!(matches!(&answered[..], [(3, Err(StoreError::Disconnected(_)))]), "{answered:?}");
    let (again, new) = (listening("b:1"), listening("a:1"));
    again.feed(format!("-MOVED {} a:1\r\n", slot(high)).as_bytes());
    new.feed(HOLDS.as_bytes());
    assert_eq!(bench.submit(Lane::Channels, 4, op), [(4, Ok(begun))]);
}

#[test]
fn a_primary_that_is_replaced_is_left_though_it_says_nothing() {
    let mut bench = Bench::new(SLOTS);
    let frozen = lane("a:1", &[]);
    let group = roomcast_core::store::GroupRef { stream: "x".into(), group: "g".into() };
    let op = StoreOp::GroupRead { group, count: 1, block: BLOCK };
    assert_eq!(bench.submit(Lane::Source(0), 1, op.clone()), []);
    assert!(words(&frozen).contains("XREADGROUP"));
    // When it is time to ask again, another node is the primary.
    will_connect_to("a:1", &says(&[&map(0)]));
    let answered = bench.pass(Duration::from_secs(10));
    assert!(matches!(&answered[..], [(1, Err(StoreError::Disconnected(_)))]), "{answered:?}");
    let b = lane("b:1", &["*-1\r\n"]);
    assert_eq!(bench.submit(Lane::Source(0), 2, op), [(2, Ok(Answer::Entries(Vec::new())))]);
    assert!(words(&b).contains("XREADGROUP"));
}
