//! Floods: somebody does too much of something, beside people who do not. It ends by the limit that is named for it, and nobody else
//! misses a message.

use std::net::Ipv4Addr;
use std::path::Path;
use std::thread;

use roomcast_tests::gateway_tests;
use roomcast_tests::real::client::{Credential, JsonClient, access_token};
use roomcast_tests::real::gateway::Gateway;
use roomcast_tests::real::http::Response;
use roomcast_tests::real::raw::{CONTINUATION, FINAL, PING, PONG, RawClient, TEXT, get_request, masked_frame, upgrade_request};
use roomcast_tests::real::setup::{SECRET, Setup};
use roomcast_tests::real::{PATIENCE, poll_until};
use serde_json::json;

gateway_tests!(
    frames_of_every_kind_end_the_connection_that_they_flood,
    bytes_beyond_the_rate_are_refused,
    subscriptions_without_end_end_the_connection,
    compression_is_neither_offered_nor_suffered,
    connections_from_one_address_are_turned_away,
    connections_behind_a_proxy_count_for_their_clients,
    sessions_that_poll_on_one_socket_count_as_connections,
    requests_on_one_socket_are_limited,
    requests_behind_a_proxy_count_for_their_clients,
    connections_of_one_user_are_closed,
    handshakes_that_do_not_end_are_ended,
    heads_without_end_are_refused,
    a_slow_reader_of_a_room_that_drops_stays_and_has_the_newest,
);

/// Another address of this machine than the one that everybody else has.
const ELSEWHERE: Ipv4Addr = Ipv4Addr::new(127, 0, 0, 2);
const ROOM: &str = "workspace:w";

/// People in a room, who hear all that is said there while something goes on.
fn beside_honest_clients(gateway: &Gateway, abuse: impl FnOnce() + Send) {
    const MESSAGES: u64 = 30;
    let mut members: Vec<JsonClient> = (0..8).map(|number| gateway.member(&format!("honest-{number}"), ROOM)).collect();
    thread::scope(|scope| {
        let abuser = scope.spawn(abuse);
        (0..MESSAGES).for_each(|number| gateway.publish(ROOM, "news", &json!({ "n": number })));
        for member in &mut members {
            for number in 0..MESSAGES {
                assert_eq!(member.wait_for_type("news", PATIENCE)["data"]["n"], number);
            }
        }
        abuser.join().expect("the abuser says by itself what it expects");
    });
    for member in &mut members {
        member.send(&json!({"type": "ping"}));
        member.expect_type("pong");
    }
}

/// A client of `/ws` that is authenticated and speaks in bytes.
fn abuser(gateway: &Gateway) -> RawClient {
    let token = access_token(SECRET, "abuser", &json!({}));
    RawClient::upgraded(gateway.addr(), "/ws", &[("authorization", &format!("Bearer {token}"))])
}

fn frames_of_every_kind_end_the_connection_that_they_flood(binary: &Path) {
    let gateway = Setup::new(binary).start();
    beside_honest_clients(&gateway, || {
        let ping = masked_frame(FINAL | TEXT, br#"{"type":"ping"}"#);
        let text = masked_frame(TEXT, b"a");
        let with_first = |rest: Vec<u8>| [text.clone(), rest.repeat(1_000)].concat();
        for (what, flood, code, metric) in [
            ("messages", ping.repeat(3_000), 4009, "roomcast_limit_refusals_total"),
            ("messages of one byte", masked_frame(FINAL | TEXT, b"x").repeat(3_000), 4009, "roomcast_limit_errors_total"),
            ("pings", masked_frame(FINAL | PING, b"?").repeat(3_000), 4009, "roomcast_limit_refusals_total"),
            ("pongs", masked_frame(FINAL | PONG, b"").repeat(3_000), 4009, "roomcast_limit_refusals_total"),
            ("fragments of one byte", with_first(masked_frame(CONTINUATION, b"x")), 1008, "roomcast_limit_fragments_total"),
            ("empty fragments", with_first(masked_frame(CONTINUATION, b"")), 1008, "roomcast_limit_fragments_total"),
            ("a long message", masked_frame(FINAL | TEXT, &[b' '; 1_000]), 1009, "roomcast_limit_message_bytes_total"),
        ] {
            let (mut client, before) = (abuser(&gateway), gateway.metric(metric));
            // It may be over before all is sent.
            let _ = client.try_send(&flood);
            assert_eq!(client.close_code(), Some(code), "{what}");
            assert_eq!(gateway.metric(metric), before + 1, "{what}");
        }
    });
    assert!(gateway.metric("roomcast_limit_controls_total") > 0 && gateway.metric("roomcast_rate_limited_total") > 0);
}

fn bytes_beyond_the_rate_are_refused(binary: &Path) {
    let config = "[limits]\nmessage_bytes = 65536\nburst = 1000\nmessages_per_second = 1000\nbytes_per_second = 1000\nburst_bytes = 100000\n";
    let gateway = Setup::new(binary).config(config).start();
    beside_honest_clients(&gateway, || {
        let mut client = gateway.client("abuser");
        let long = format!(r#"{{"type":"ping","data":"{}"}}"#, "x".repeat(60_000));
        (0..20).for_each(|_| client.send_text(&long));
        let refused = client.wait_for_type("error", PATIENCE);
        assert_eq!(refused["data"]["code"], "rate_limited");
        assert!(refused["data"]["retry_after_ms"].as_u64() > Some(10_000), "{refused}");
        let refused = poll_until(PATIENCE, || (gateway.metric("roomcast_limit_bytes_total") >= 10).then_some(()));
        assert!(refused.is_some(), "most of 20 messages are refused");
    });
}

fn subscriptions_without_end_end_the_connection(binary: &Path) {
    let gateway = Setup::new(binary).config("[limits]\nburst = 1000\n").start();
    beside_honest_clients(&gateway, || {
        let mut client = gateway.client("abuser");
        for room in 0..300 {
            client.send(&json!({"type": "subscribe", "room": format!("workspace:{room}")}));
        }
        assert_eq!(client.wait_for_type("error", PATIENCE)["data"]["code"], "limit_exceeded");
        assert_eq!(client.close_code(PATIENCE), Some(4009));
    });
    assert_eq!((gateway.metric("roomcast_limit_rooms_total"), gateway.metric("roomcast_limit_errors_total")), (6, 1));
}

fn compression_is_neither_offered_nor_suffered(binary: &Path) {
    let gateway = Setup::new(binary).start();
    beside_honest_clients(&gateway, || {
        let mut client = RawClient::connect(gateway.addr());
        client.send(&upgrade_request("/ws/tasks", &[("sec-websocket-extensions", "permessage-deflate; client_max_window_bits")]));
        let answer = client.response();
        assert_eq!((answer.status, answer.header("sec-websocket-extensions")), (101, None));
        // Whatever it would be inflated to, it is not: the reserved bit alone ends it.
        client.send(&masked_frame(FINAL | 0x40 | TEXT, &[0; 400]));
        assert_eq!(client.close_code(), Some(1002));
    });
}

fn connections_from_one_address_are_turned_away(binary: &Path) {
    let config = "[limits.per_address]\nconnections = 40\nconnects_per_second = 50\nconnect_burst = 200\n";
    let gateway = Setup::new(binary).shards(2).config(config).start();
    beside_honest_clients(&gateway, || {
        let connect = |_| RawClient::connect_from(ELSEWHERE, gateway.addr());
        let mut held: Vec<RawClient> = (0..60).map(connect).collect();
        let turned_away =
            held.split_off(40).into_iter().filter_map(|mut client| client.status()).filter(|status| *status == 429).count();
        assert_eq!(turned_away, 20);
        assert_eq!(gateway.metric("roomcast_limit_address_connections_total"), 20);
        drop(held);
        // However often they go again, they may not come so often.
        let is_limited = poll_until(PATIENCE, || {
            (0..60).map(connect).for_each(drop);
            (gateway.metric("roomcast_limit_address_connects_total") > 0).then_some(())
        });
        assert!(is_limited.is_some(), "it may connect without end");
    });
}

fn connections_behind_a_proxy_count_for_their_clients(binary: &Path) {
    let config = "[limits]\nproxies = [\"127.0.0.2\"]\n[limits.per_address]\nconnections = 10\n";
    let gateway = Setup::new(binary).config(config).start();
    let open = |address: &str| {
        let mut client = RawClient::connect_from(ELSEWHERE, gateway.addr());
        client.send(&upgrade_request("/ws/tasks", &[("x-forwarded-for", &format!("6.6.6.6, {address}"))]));
        (client.status(), client)
    };
    let clients: Vec<_> = (0..15).map(|_| open("192.0.2.1")).collect();
    let statuses: Vec<_> = clients.iter().filter_map(|(status, _)| *status).collect();
    assert_eq!(statuses, [[101; 10].as_slice(), &[429; 5]].concat());
    assert_eq!(open("192.0.2.2").0, Some(101));
    drop(clients);
    let again = poll_until(PATIENCE, || (open("192.0.2.1").0 == Some(101)).then_some(()));
    assert!(again.is_some(), "those that are gone do not count");
}

const POLLING: &str = "/socket.io/?EIO=4&transport=polling";

/// Begins a session that polls: the path and query of its requests, or the answer that refuses it.
fn session(client: &mut RawClient) -> Result<String, Response> {
    client.send(&get_request(POLLING, &[]));
    let answer = client.response();
    if answer.status != 200 {
        return Err(answer);
    }
    let sid = answer.text().split('"').nth(3).expect("a session has an identifier").to_owned();
    Ok(format!("{POLLING}&sid={sid}"))
}

/// Ends a session that polls.
fn end(client: &mut RawClient, target: &str) {
    client.send(format!("POST {target} HTTP/1.1\r\nhost: gateway.example\r\ncontent-length: 1\r\n\r\n1").as_bytes());
    assert_eq!(client.response().status, 200);
}

fn sessions_that_poll_on_one_socket_count_as_connections(binary: &Path) {
    let config = "[limits.per_address]\nconnections = 40\nconnects_per_second = 50\nconnect_burst = 200\n";
    let gateway = Setup::new(binary).shards(2).config(config).start();
    beside_honest_clients(&gateway, || {
        // Each shard has one of the sockets.
        let mut sockets = [(); 2].map(|()| RawClient::connect_from(ELSEWHERE, gateway.addr()));
        let mut held = Vec::new();
        let mut refused = 0;
        for number in 0..60 {
            match session(&mut sockets[number % 2]) {
                Ok(target) => held.push(target),
                Err(answer) => {
                    assert_eq!((answer.status, answer.header("retry-after")), (429, Some("10")), "{}", answer.text());
                    refused += 1;
                }
            }
        }
        assert_eq!((held.len(), refused), (38, 22));
        assert_eq!(gateway.metric("roomcast_limit_address_connections_total"), 22);
        // There is room for as many as have gone, but they may not come and go so often.
        for target in &held {
            end(&mut sockets[0], target);
        }
        let is_limited = poll_until(PATIENCE, || match session(&mut sockets[1]) {
            Ok(target) => {
                end(&mut sockets[1], &target);
                None
            }
            Err(answer) => Some(answer),
        });
        assert_eq!(is_limited.map(|answer| answer.status), Some(429));
        assert_eq!(gateway.metric("roomcast_limit_address_connections_total"), 22);
        assert!(gateway.metric("roomcast_limit_address_connects_total") > 0);
    });
}

fn requests_on_one_socket_are_limited(binary: &Path) {
    let config = "[limits.per_address]\nrequests_per_second = 10\nrequest_burst = 200\n";
    let gateway = Setup::new(binary).config(config).start();
    beside_honest_clients(&gateway, || {
        // What is open to all, what takes a scope, what is not there, and a session that is none.
        let session = format!("{POLLING}&sid=AAAAAAAAAAAAAAAAAAAAAAAA");
        let targets = [("/healthz", 200), ("/api/rooms", 401), ("/nowhere", 404), (&session, 400)];
        let mut client = RawClient::connect_from(ELSEWHERE, gateway.addr());
        let mut answered = 0;
        let refused = loop {
            let (target, status) = targets[answered % targets.len()];
            client.send(&get_request(target, &[]));
            let answer = client.response();
            if answer.status == 429 {
                break answer;
            }
            assert_eq!(answer.status, status, "{}", answer.text());
            answered += 1;
            assert!(answered < 2_000, "it may ask without end");
        };
        assert!(answered >= 200, "{answered}");
        assert_eq!((refused.header("retry-after"), refused.header("connection")), (Some("1"), Some("close")));
        assert!(client.is_closed(PATIENCE), "who goes on has to come again");
        assert!(gateway.metric("roomcast_limit_address_requests_total") > 0);
    });
}

fn requests_behind_a_proxy_count_for_their_clients(binary: &Path) {
    let config = "[limits]\nproxies = [\"127.0.0.2\"]\n[limits.per_address]\nrequests_per_second = 1\nrequest_burst = 20\n";
    let gateway = Setup::new(binary).config(config).start();
    let mut proxy = RawClient::connect_from(ELSEWHERE, gateway.addr());
    let mut ask = |address: &str| {
        proxy.send(&get_request("/healthz", &[("x-forwarded-for", address)]));
        proxy.response().status
    };
    let flood = poll_until(PATIENCE, || (ask("192.0.2.1") == 429).then_some(()));
    assert!(flood.is_some(), "it may ask without end");
    assert_eq!(ask("192.0.2.2"), 200, "the socket is not only theirs");
}

fn connections_of_one_user_are_closed(binary: &Path) {
    let gateway = Setup::new(binary).shards(2).config("[limits.per_user]\nconnections = 3\n").start();
    beside_honest_clients(&gateway, || {
        let token = access_token(SECRET, "abuser", &json!({}));
        let connect = |_| JsonClient::connect(gateway.addr(), "/ws", Credential::Header(&token));
        let mut held: Vec<JsonClient> = (0..3).map(connect).collect();
        for number in 0..30 {
            assert_eq!(connect(number).close_code(PATIENCE), Some(4029));
        }
        for client in &mut held {
            client.send(&json!({"type": "ping"}));
            client.wait_for_type("pong", PATIENCE);
        }
    });
    assert_eq!(gateway.metric("roomcast_limit_user_connections_total"), 30);
}

fn handshakes_that_do_not_end_are_ended(binary: &Path) {
    let gateway = Setup::new(binary).config("[limits]\nhandshake_timeout = \"1s\"\n").start();
    beside_honest_clients(&gateway, || {
        let mut half_open: Vec<RawClient> = (0..50).map(|_| RawClient::connect(gateway.addr())).collect();
        let mut slow: Vec<RawClient> = (0..50).map(|_| RawClient::connect(gateway.addr())).collect();
        // A piece every now and then puts nothing off.
        for byte in get_request("/ws", &[("x", "y")]).iter().take(20) {
            slow.iter_mut().for_each(|client| client.send(&[*byte]));
        }
        assert!(half_open.iter_mut().all(|client| client.is_closed(PATIENCE)), "nothing was asked and nothing is answered");
        assert!(slow.iter_mut().all(|client| client.status() == Some(408)));
    });
    assert_eq!(gateway.metric("roomcast_limit_handshakes_total"), 100);
}

fn heads_without_end_are_refused(binary: &Path) {
    let gateway = Setup::new(binary).config("[limits]\nhead_bytes = 2048\nheaders = 20\n").start();
    beside_honest_clients(&gateway, || {
        let long = get_request("/healthz", &[("x", &"y".repeat(3_000))]);
        let many = get_request("/healthz", &[("x", "y"); 30]);
        for head in [long, many] {
            let mut client = RawClient::connect(gateway.addr());
            client.send(&head);
            assert_eq!(client.status(), Some(431));
        }
        let mut client = RawClient::connect(gateway.addr());
        client.send(&get_request("/healthz", &[("x", &"y".repeat(1_000))]));
        assert_eq!(client.status(), Some(200));
    });
    assert_eq!(gateway.metric("roomcast_limit_heads_total"), 2);
}

fn a_slow_reader_of_a_room_that_drops_stays_and_has_the_newest(binary: &Path) {
    let config = "[[rooms]]\nrooms = \"workspace:*\"\nslow = \"drop_oldest\"\n";
    let gateway = Setup::new(binary).config(config).start();
    let (mut slow, mut quick) = (gateway.member("slow", "workspace:1"), gateway.member("quick", "workspace:1"));
    let padding = "x".repeat(20_000);
    let mut last = 0;
    let dropped = poll_until(PATIENCE, || {
        last += 1;
        gateway.publish("workspace:1", "moved", &json!({ "n": last, "padding": padding }));
        assert_eq!(quick.wait_for_type("moved", PATIENCE)["data"]["n"], last);
        (gateway.metric("roomcast_slow_dropped_total") > 0).then_some(())
    });
    assert!(dropped.is_some(), "it reads nothing, and all is kept for it");
    let (mut seen, mut before) = (0, 0);
    while before < last {
        let number = slow.wait_for_type("moved", PATIENCE)["data"]["n"].as_u64().expect("it has a number");
        assert!(number > before);
        (seen, before) = (seen + 1, number);
    }
    assert_eq!(seen + gateway.metric("roomcast_slow_dropped_total"), last);
    assert_eq!(gateway.metric("roomcast_slow_consumers_total"), 0);
}
