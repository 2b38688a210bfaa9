//! Drain (contract C11), as clients, load balancers and Redis see it: a gateway that is told to end lets everybody go.

use std::path::Path;
use std::thread;
use std::time::{Duration, Instant};

use nix::sys::signal::Signal;
use roomcast_tests::gateway_tests;
use roomcast_tests::real::client::{JsonClient, access_token};
use roomcast_tests::real::gateway::Gateway;
use roomcast_tests::real::poller::Poller;
use roomcast_tests::real::raw::{FINAL, RawClient, get_request, upgrade_request};
use roomcast_tests::real::redis::RedisServer;
use roomcast_tests::real::setup::{SECRET, Setup};
use roomcast_tests::real::traffic::{EVENTS, sources};
use roomcast_tests::real::{PATIENCE, poll_until};
use serde_json::json;

gateway_tests!(
    clients_go_at_the_rate_that_is_set_each_with_a_hint,
    http_is_answered_until_the_last_client_has_gone,
    who_polls_is_told_all_and_finds_no_old_connection_when_it_comes_back,
    what_was_read_is_acknowledged_and_the_rest_is_left_to_others,
    the_others_see_at_once_that_nobody_is_left,
    a_client_that_never_answers_does_not_hold_the_gateway_up,
    a_route_may_break_its_connections_off,
    the_second_signal_ends_the_process_at_once,
    the_deadline_is_kept_where_the_rate_would_not,
    without_clients_it_is_over_at_once,
);

fn gateway(binary: &Path, drain: &str) -> Gateway {
    Setup::new(binary).shards(2).config(&format!("[drain]\n{drain}\n")).start()
}

fn clients(gateway: &Gateway, count: usize) -> Vec<JsonClient> {
    (0..count).map(|number| gateway.client(&format!("u{number}"))).collect()
}

/// When each client was closed with 1001, after it was told to come back; and after how long it is to do so.
fn depart(clients: Vec<JsonClient>) -> Vec<(Instant, Duration)> {
    let watch = |mut client: JsonClient| {
        thread::spawn(move || {
            let hint = client.wait_for_type("reconnect", PATIENCE)["data"]["after_ms"].as_u64().expect("a number");
            assert_eq!(client.close_code(PATIENCE), Some(1001));
            (Instant::now(), Duration::from_millis(hint))
        })
    };
    let watches: Vec<_> = clients.into_iter().map(watch).collect();
    watches.into_iter().map(|watch| watch.join().expect("the client is let go")).collect()
}

fn clients_go_at_the_rate_that_is_set_each_with_a_hint(binary: &Path) {
    const COUNT: usize = 60;
    let mut gateway = gateway(binary, "rate = 50\nspread = \"800ms\"\ndeadline = \"20s\"");
    let clients = clients(&gateway, COUNT);
    let began = Instant::now();
    gateway.signal(Signal::SIGTERM);
    let gone = depart(clients);
    assert!(gateway.wait(PATIENCE).success());
    assert!(began.elapsed() < Duration::from_secs(8), "{:?}", began.elapsed());

    let mut times: Vec<Duration> = gone.iter().map(|(at, _)| *at - began).collect();
    assert!(!times.is_sorted(), "not in the order in which they came");
    times.sort_unstable();
    assert!(times[COUNT - 1] >= Duration::from_millis(1_100), "sixty at fifty a second: {:?}", times[COUNT - 1]);
    for window in times.windows(30) {
        // A machine that is busy tells late, which draws some together.
        assert!(window[29] - window[0] > Duration::from_millis(300), "{times:?}");
    }
    assert!(gone.iter().all(|(_, hint)| *hint < Duration::from_millis(800)));
    assert!(gone.iter().any(|(_, hint)| *hint < Duration::from_millis(400)));
    assert!(gone.iter().any(|(_, hint)| *hint > Duration::from_millis(400)));
}

fn http_is_answered_until_the_last_client_has_gone(binary: &Path) {
    let mut gateway = gateway(binary, "rate = 1");
    let clients = clients(&gateway, 4);
    let addr = gateway.addr();
    let mut kept = RawClient::connect(addr);
    let ask = |client: &mut RawClient| {
        client.send(&get_request("/healthz", &[]));
        client.response()
    };
    assert_eq!(ask(&mut kept).header("connection"), None);
    gateway.signal(Signal::SIGTERM);
    let answer = gateway.wait_unready(PATIENCE);
    assert_eq!(answer.json(), json!({"status": "unavailable", "reasons": ["draining"]}));

    let answer = ask(&mut kept);
    assert_eq!((answer.status, answer.header("connection")), (200, Some("close")));
    assert!(kept.is_closed(PATIENCE));
    let mut late = RawClient::connect(addr);
    late.send(&upgrade_request("/ws", &[]));
    let answer = late.response();
    assert_eq!((answer.status, answer.header("retry-after")), (503, Some("2")));
    gateway.publish("user:u0", "note", &json!(1));
    assert_eq!(depart(clients).len(), 4);
    assert!(gateway.wait(PATIENCE).success());
}

fn who_polls_is_told_all_and_finds_no_old_connection_when_it_comes_back(binary: &Path) {
    const PATH: &str = "/socket.io/";
    // With others who take their time to go, the gateway is still there at the end.
    let mut gateway = gateway(binary, "rate = 1");
    let clients = clients(&gateway, 6);
    let addr = gateway.addr();
    let poller = Poller::open(addr, PATH);
    let token = access_token(SECRET, "alice", &json!({}));
    assert_eq!(poller.post(format!("40{}", json!({"token": token})).as_bytes()).text(), "ok");
    assert!(poller.get().text().starts_with("40{"));
    // A client sends on one connection what it says, while it polls on another. It keeps both, and each is some shard's.
    let kept = [(); 4].map(|()| {
        let mut kept = RawClient::connect(addr);
        kept.send(&get_request(&format!("{PATH}?EIO=4&transport=polling"), &[]));
        let answer = kept.response();
        assert_eq!((answer.status, answer.header("connection")), (200, None));
        kept
    });
    gateway.signal(Signal::SIGTERM);
    assert!(kept.into_iter().all(|mut kept| kept.is_closed(PATIENCE)));
    let mut told = String::new();
    let last = poll_until(PATIENCE, || {
        let answer = poller.get();
        assert_eq!(answer.header("connection"), Some("close"));
        told.push_str(&answer.text());
        (answer.status != 200).then_some(answer)
    });
    let last = last.expect("its turn comes");
    assert_eq!((last.status, &last.json()["message"]), (400, &json!("Session ID unknown")));
    assert!(told.contains(r#"["reconnect",{"type":"reconnect""#) && told.contains("after_ms"), "{told}");
    assert_eq!(gateway.wait_unready(PATIENCE).status, 503, "it is still there");
    drop(clients);
    assert!(gateway.wait(PATIENCE).success());
}

fn what_was_read_is_acknowledged_and_the_rest_is_left_to_others(binary: &Path) {
    const ENTRIES: usize = 20_000;
    let redis = RedisServer::start();
    let config = sources("1s", "60s");
    let node = |name| Setup::new(binary).option("--redis", &redis.url()).option("--node", name).config(&config).start();
    let first = node("a");
    EVENTS.publish(&redis, 0..ENTRIES);
    let consumed = poll_until(PATIENCE, || (first.metric("roomcast_source_acked_total") > 0).then_some(()));
    assert!(consumed.is_some(), "nothing is acknowledged");
    assert!(first.terminate(PATIENCE).success());
    assert_eq!(redis.pending(0, EVENTS.stream, EVENTS.group), 0, "all that was read is acknowledged");

    let second = node("b");
    let over = poll_until(PATIENCE, || {
        let source = &second.sources()[0];
        (source["lag"] == 0 && source["pending"] == 0).then_some(())
    });
    assert!(over.is_some(), "{}", second.sources());
    let rest = second.metric("roomcast_source_acked_total");
    assert!((1..ENTRIES as u64).contains(&rest), "the first was ended in the middle: {rest}");
}

fn the_others_see_at_once_that_nobody_is_left(binary: &Path) {
    let redis = RedisServer::start();
    let node = |name| Setup::new(binary).option("--redis", &redis.url()).option("--node", name).start();
    let (a, b) = (node("a"), node("b"));
    let mut alice = b.member("alice", "project:1");
    let mut bob = a.member("bob", "project:1");
    assert_eq!(alice.expect_type("user_joined")["data"]["user_id"], "bob");
    let waiting = thread::spawn(move || bob.close_code(PATIENCE));
    assert!(a.terminate(PATIENCE).success());
    assert_eq!(waiting.join().unwrap(), Some(1001));
    assert_eq!(alice.expect_type("user_left")["data"]["user_id"], "bob");
    let nodes: Vec<String> = redis.query(&["ZRANGE", "rc:nodes", "0", "-1"]);
    assert!(nodes.len() == 1 && nodes[0].starts_with("b~"), "{nodes:?}");
}

fn a_client_that_never_answers_does_not_hold_the_gateway_up(binary: &Path) {
    let gateway = gateway(binary, "deadline = \"2s\"");
    let mut silent = RawClient::upgraded(gateway.addr(), "/ws/tasks", &[]);
    let began = Instant::now();
    assert!(gateway.terminate(PATIENCE).success());
    assert!(began.elapsed() < Duration::from_secs(2), "{:?}", began.elapsed());
    assert!(silent.text().contains(r#""type":"reconnect""#));
    assert_eq!(silent.frame().expect("a close frame").payload[..2], 1001_u16.to_be_bytes());
}

fn a_route_may_break_its_connections_off(binary: &Path) {
    let routes = "[[routes]]\npath = \"/ws\"\ndrain = \"abort\"\n[[routes]]\npath = \"/ws/tasks\"\nauth = \"optional\"\n";
    let mut gateway = Setup::new(binary).config(routes).start();
    let mut broken = gateway.client("u");
    let mut closed = RawClient::upgraded(gateway.addr(), "/ws/tasks", &[]);
    gateway.signal(Signal::SIGTERM);
    broken.wait_for_type("reconnect", PATIENCE);
    assert!(broken.is_cut(PATIENCE));
    closed.text();
    assert_eq!(closed.frame().expect("a close frame").first, FINAL | roomcast_tests::real::raw::CLOSE);
    drop(closed);
    assert!(gateway.wait(PATIENCE).success());
}

fn the_second_signal_ends_the_process_at_once(binary: &Path) {
    for (signal, code) in [(Signal::SIGTERM, 143), (Signal::SIGINT, 130)] {
        let mut gateway = gateway(binary, "rate = 1\ndeadline = \"60s\"");
        let held = clients(&gateway, 30);
        gateway.signal(Signal::SIGTERM);
        gateway.wait_unready(PATIENCE);
        gateway.signal(signal);
        assert_eq!(gateway.wait(Duration::from_secs(5)).code(), Some(code));
        drop(held);
    }
}

fn the_deadline_is_kept_where_the_rate_would_not(binary: &Path) {
    let mut gateway = gateway(binary, "rate = 1\ndeadline = \"3s\"");
    let clients = clients(&gateway, 50);
    let began = Instant::now();
    gateway.signal(Signal::SIGTERM);
    let gone = depart(clients);
    assert!(gateway.wait(PATIENCE).success());
    assert!(began.elapsed() < Duration::from_secs(3), "{:?}", began.elapsed());
    let last = gone.iter().map(|(at, _)| *at - began).max().expect("there are some");
    assert!(last > Duration::from_secs(1), "no faster than it demands: {last:?}");
}

fn without_clients_it_is_over_at_once(binary: &Path) {
    let redis = RedisServer::start();
    let gateway = Setup::new(binary).option("--redis", &redis.url()).start();
    let began = Instant::now();
    assert!(gateway.terminate(PATIENCE).success());
    assert!(began.elapsed() < Duration::from_secs(2), "{:?}", began.elapsed());
}
