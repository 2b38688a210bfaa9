//! What breaks between nodes and Redis is noticed, said and healed, and in rooms with a history nothing is lost without notice
//! (contract C9). Each test prints how long it took, with `--nocapture`.

use std::path::Path;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use roomcast_tests::gateway_tests;
use roomcast_tests::real::gateway::Gateway;
use roomcast_tests::real::http::try_http;
use roomcast_tests::real::ordeal::lasts;
use roomcast_tests::real::proxy::Proxy;
use roomcast_tests::real::redis::RedisServer;
use roomcast_tests::real::setup::Setup;
use roomcast_tests::real::{PATIENCE, poll_until};
use serde_json::{Value, json};

const ROOM: &str = "chat:1";

/// Short times, so that the tests are short too: what is noticed is noticed by them.
const CONFIG: &str = r#"
[relay]
timeout = "1s"
probe = "300ms"
block = "1s"
[[access]]
rooms = "*"
subscribe = "authenticated"
[[rooms]]
rooms = "chat:*"
keep.history = { size = 100000, ttl = "1h" }
[limits]
outbox_messages = 100000
"#;

gateway_tests!(
    a_redis_that_is_stopped_and_started,
    a_redis_that_kills_its_subscribers,
    a_redis_that_kills_all_its_clients,
    a_redis_that_is_busy_for_long,
    a_redis_that_is_frozen,
    connections_that_are_cut,
    connections_on_which_nothing_passes_any_more,
    connections_whose_answers_do_not_arrive,
    connections_whose_requests_do_not_arrive,
    a_redis_that_is_not_there_at_the_start,
);

/// What is broken is broken for so long: longer than it takes to notice.
const OUTAGE: Duration = Duration::from_secs(3);

fn a_redis_that_is_stopped_and_started(binary: &Path) {
    Trial::begin(binary).endure("stopped and started", true, |redis, _| {
        redis.stop();
        lasts(OUTAGE);
        redis.start_again();
    });
}

fn a_redis_that_kills_its_subscribers(binary: &Path) {
    let trial = Trial::begin(binary);
    let gaps = |trial: &Trial| trial.nodes[0].metric("roomcast_channel_gaps_total");
    let trial = trial.endure("CLIENT KILL TYPE pubsub", false, |redis, _| {
        assert_eq!(redis.query::<usize>(&["CLIENT", "KILL", "TYPE", "pubsub"]), 2, "each node has subscribed");
    });
    assert!(poll_until(PATIENCE, || (gaps(&trial) == 1).then_some(())).is_some(), "{}", gaps(&trial));
}

fn a_redis_that_kills_all_its_clients(binary: &Path) {
    Trial::begin(binary).endure("CLIENT KILL TYPE normal", false, |redis, _| {
        assert!(redis.query::<usize>(&["CLIENT", "KILL", "TYPE", "normal"]) >= 4);
    });
}

fn a_redis_that_is_busy_for_long(binary: &Path) {
    Trial::begin(binary).endure("DEBUG SLEEP", true, |redis, _| {
        redis.command(&["DEBUG", "SLEEP", &OUTAGE.as_secs().to_string()]);
    });
}

fn a_redis_that_is_frozen(binary: &Path) {
    Trial::begin(binary).endure("SIGSTOP", true, |redis, _| {
        redis.pause();
        lasts(OUTAGE);
        redis.resume();
    });
}

fn connections_that_are_cut(binary: &Path) {
    Trial::begin(binary).endure("connections cut", false, |_, proxy| proxy.cut());
}

fn connections_on_which_nothing_passes_any_more(binary: &Path) {
    Trial::begin(binary).endure("half-open", true, |_, proxy| proxy.silence());
}

fn connections_whose_answers_do_not_arrive(binary: &Path) {
    Trial::begin(binary).endure("answers lost", true, |_, proxy| proxy.silence_answers());
}

fn connections_whose_requests_do_not_arrive(binary: &Path) {
    Trial::begin(binary).endure("requests lost", true, |_, proxy| proxy.silence_requests());
}

fn a_redis_that_is_not_there_at_the_start(binary: &Path) {
    let mut redis = server();
    redis.stop();
    let proxy = Proxy::to(([127, 0, 0, 1], redis.port()).into());
    let mut nodes = ["a", "b"].map(|name| setup(binary, &proxy, name).launch());
    let reasons = nodes[0].wait_unready(PATIENCE).json()["reasons"].to_string();
    assert!(reasons.contains("the store"), "{reasons}");
    assert_eq!(nodes[0].http("GET", "/healthz", &[], b"").status, 200);
    // A client is let in, and told the truth.
    let mut early = nodes[0].client("early");
    early.send(&json!({"type": "subscribe", "room": ROOM}));
    assert_eq!(early.wait_for_type("error", PATIENCE)["data"]["code"], "unavailable");
    redis.start_again();
    nodes.iter_mut().for_each(|node| node.wait_ready(PATIENCE));
    Trial { redis, proxy, nodes }.endure("absent at the start", false, |_, _| {});
}

fn server() -> RedisServer {
    RedisServer::start_with(&["--appendonly", "yes", "--enable-debug-command", "yes"])
}

fn setup(binary: &Path, proxy: &Proxy, name: &str) -> Setup {
    let url = format!("redis://{}", proxy.addr());
    Setup::new(binary).option("--redis", &url).option("--node", name).config(CONFIG)
}

/// Two nodes on one Redis, which they reach through a proxy.
struct Trial {
    redis: RedisServer,
    proxy: Proxy,
    nodes: [Gateway; 2],
}

impl Trial {
    fn begin(binary: &Path) -> Trial {
        let redis = server();
        let proxy = Proxy::to(([127, 0, 0, 1], redis.port()).into());
        let nodes = ["a", "b"].map(|name| setup(binary, &proxy, name).start());
        Trial { redis, proxy, nodes }
    }

    /// Something breaks while messages are published on one node and read on both. What a publisher was told is stored reaches
    /// each client once and in one order, and no client is told that anything was lost.
    fn endure(mut self, what: &str, is_noticed: bool, breaks: impl FnOnce(&mut RedisServer, &Proxy)) -> Trial {
        const MORE: usize = 40;
        let (stop, confirmed) = (AtomicBool::new(false), AtomicUsize::new(0));
        let Trial { redis, proxy, nodes } = &mut self;
        let nodes = &*nodes;
        let (seen, [noticed, healed]) = thread::scope(|scope| {
            let members = nodes.iter().map(|node| node.member("reader", ROOM)).collect::<Vec<_>>();
            let publisher = scope.spawn(|| publish(&nodes[0], &stop, &confirmed));
            wait_for(&confirmed, MORE);
            let watch = Watch::begin();
            let watcher = scope.spawn(move || watch.over(nodes, is_noticed));
            breaks(redis, proxy);
            let repaired = watch.began.elapsed();
            let [noticed, healed] = watcher.join().expect("the nodes are watched");
            wait_for(&confirmed, confirmed.load(Ordering::SeqCst) + MORE);
            stop.store(true, Ordering::SeqCst);
            let last = publisher.join().expect("all is published");
            let readers: Vec<_> = members.into_iter().map(|mut member| scope.spawn(move || read(&mut member, last))).collect();
            let seen: Vec<Vec<Value>> = readers.into_iter().map(|reader| reader.join().expect("all is read")).collect();
            (seen, [noticed, healed.saturating_sub(repaired.max(noticed))])
        });
        let count = confirmed.load(Ordering::SeqCst);
        for seen in &seen {
            assert_eq!(*seen, (0..count).map(Value::from).collect::<Vec<_>>(), "{what}: each once, in order");
        }
        println!("{what}: noticed after {noticed:.1?}, healed {healed:.1?} after the end of it; {count} messages, none lost");
        self
    }
}

/// Publishes one message after the other, each until it is stored. How many there were.
fn publish(node: &Gateway, stop: &AtomicBool, confirmed: &AtomicUsize) -> usize {
    for number in 0.. {
        if stop.load(Ordering::SeqCst) {
            return number;
        }
        let body = json!({"room": ROOM, "type": "note", "data": number, "message_id": format!("m-{number}")});
        let stored = poll_until(PATIENCE * 2, || (node.post(&body).status == 200).then_some(()));
        assert!(stored.is_some(), "message {number} cannot be stored");
        confirmed.store(number + 1, Ordering::SeqCst);
    }
    unreachable!()
}

fn wait_for(confirmed: &AtomicUsize, count: usize) {
    let enough = || (confirmed.load(Ordering::SeqCst) >= count).then_some(());
    assert!(poll_until(PATIENCE * 3, enough).is_some(), "{} messages are stored", confirmed.load(Ordering::SeqCst));
}

/// What a client sees until it has seen all.
fn read(member: &mut roomcast_tests::real::client::JsonClient, count: usize) -> Vec<Value> {
    let mut seen = Vec::new();
    while seen.len() < count {
        let mut frame = member.next(PATIENCE);
        assert_ne!(frame["data"]["recovered"], false, "nothing was lost");
        if frame["type"] == "note" {
            seen.push(frame["data"].take());
        }
    }
    seen
}

/// Looks at the readiness of nodes.
#[derive(Clone, Copy)]
struct Watch {
    began: Instant,
}

impl Watch {
    fn begin() -> Watch {
        Watch { began: Instant::now() }
    }

    /// When the first node was not ready any more, where that must be, and when all were again.
    fn over(&self, nodes: &[Gateway], is_noticed: bool) -> [Duration; 2] {
        let is_ready =
            |node: &Gateway| try_http("GET", node.addr(), "/readyz", &[], b"").is_ok_and(|answer| answer.status == 200);
        let is_alive =
            |node: &Gateway| try_http("GET", node.addr(), "/healthz", &[], b"").is_ok_and(|answer| answer.status == 200);
        let mut noticed = Duration::ZERO;
        if is_noticed {
            let unready = poll_until(PATIENCE, || nodes.iter().any(|node| !is_ready(node)).then(|| self.began.elapsed()));
            noticed = unready.expect("it is noticed");
        }
        assert!(nodes.iter().all(is_alive), "liveness does not depend on Redis");
        let ready = poll_until(PATIENCE * 2, || nodes.iter().all(is_ready).then(|| self.began.elapsed()));
        [noticed, ready.expect("it is healed")]
    }
}
