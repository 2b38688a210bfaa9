//! What every library must come through, in all ways it can be carried. Two nodes of two shards each, on one Redis.

use std::net::SocketAddr;
use std::path::Path;

use base64::Engine as _;
use base64::prelude::BASE64_STANDARD;
use nix::sys::signal::Signal;
use serde_json::{Value, json};

use super::{Clients, Library, Mode, SocketClient};
use crate::real::PATIENCE;
use crate::real::client::{Credential, JsonClient, access_token, unix_time};
use crate::real::e2e::{publish_file_event, publish_on_channel};
use crate::real::gateway::Gateway;
use crate::real::protocol::ProtocolServer;
use crate::real::proxy::Proxy;
use crate::real::redis::RedisServer;
use crate::real::setup::{SECRET, Setup};

/// Makes a test of each scenario, with these libraries.
///
/// ```
/// use roomcast_tests::real::socketio::Library;
///
/// roomcast_tests::socketio_tests!(&[Library::JavaScript] => tokens_are_taken_from_anywhere_and_refusals_told);
/// ```
#[macro_export]
macro_rules! socketio_tests {
    ($libraries:expr => $($scenario:ident),+ $(,)?) => {
        $(
            fn $scenario(binary: &std::path::Path) {
                $crate::real::socketio::scenarios::$scenario(binary, $libraries);
            }
        )+
        $crate::gateway_tests!($($scenario),+);
    };
}

const ROOM: &str = "project:1";

/// Starts two nodes with a configuration.
///
/// # Panics
///
/// When they do not become ready.
#[must_use]
pub fn nodes(binary: &Path, redis: &RedisServer, config: &str) -> [Gateway; 2] {
    ["a", "b"]
        .map(|name| Setup::new(binary).shards(2).option("--redis", &redis.url()).option("--node", name).config(config).start())
}

/// A client of each library in each mode, with a token of its own user, whose greeting has come.
///
/// # Panics
///
/// When it does not come.
pub fn crowd<'a>(clients: &'a [Clients], server: impl Fn(usize) -> SocketAddr, more: &Value) -> Vec<SocketClient<'a>> {
    let each = clients.iter().flat_map(|clients| Mode::ALL.map(|mode| (clients, mode)));
    let open = |(index, (clients, mode)): (usize, (&'a Clients, Mode))| {
        let mut options = more.clone();
        if options["tokens"].is_null() {
            options["tokens"] = json!([access_token(SECRET, &format!("user-{index}"), &json!({}))]);
        }
        clients.open(server(index), mode, &options)
    };
    let mut crowd: Vec<SocketClient<'a>> = each.enumerate().map(open).collect();
    for client in &mut crowd {
        client.wait_event("connection_established");
        client.wait_until_said("connect", 1);
    }
    crowd
}

/// Starts the process of each library.
#[must_use]
pub fn start(libraries: &[Library]) -> Vec<Clients> {
    libraries.iter().map(|library| Clients::start(*library)).collect()
}

/// `auth.token`, `?token=` and `Authorization` are as good as each other; a refusal has its reason.
///
/// # Panics
///
/// When a client is told something else.
pub fn tokens_are_taken_from_anywhere_and_refusals_told(binary: &Path, libraries: &[Library]) {
    let gateway = Setup::new(binary).shards(2).start();
    let token = |more: &Value| access_token(SECRET, "alice", more);
    let good = token(&json!({}));
    let expired = token(&json!({"exp": unix_time() - 3600}));
    let accepted = [
        json!({"tokens": [good]}),
        json!({"url": format!("http://{}/?token={good}", gateway.addr())}),
        json!({"headers": {"Authorization": format!("Bearer {good}")}}),
        // The one for this namespace counts.
        json!({"tokens": [good], "headers": {"Authorization": format!("Bearer {expired}")}}),
    ];
    let refused = [
        (json!({}), "AUTH_MISSING"),
        (json!({"tokens": [""]}), "AUTH_MISSING"),
        (json!({"tokens": [expired]}), "AUTH_FAILED"),
        (json!({"url": format!("http://{}/?token={expired}", gateway.addr())}), "AUTH_FAILED"),
        (json!({"tokens": [access_token("another secret", "alice", &json!({}))]}), "AUTH_FAILED"),
        (json!({"tokens": [token(&json!({"email": null}))]}), "AUTH_FAILED"),
        (json!({"tokens": [token(&json!({"token_type": "refresh"}))]}), "AUTH_FAILED"),
        (json!({"tokens": ["nonsense"]}), "AUTH_FAILED"),
    ];
    for clients in start(libraries) {
        let open = |options| Mode::ALL.map(|mode| clients.open(gateway.addr(), mode, options));
        let mut connected: Vec<_> = accepted.iter().flat_map(open).collect();
        let mut failed: Vec<_> = refused.iter().flat_map(|(options, code)| open(options).map(|client| (client, *code))).collect();
        let mut nowhere = open(&json!({"tokens": [good], "namespaces": ["/nowhere"]}));
        for client in &mut connected {
            let greeting = client.wait_event("connection_established");
            client.wait_until_said("connect", 1);
            assert_eq!((&greeting["type"], &greeting["source"]), (&json!("connection.established"), &json!(null)));
            assert_eq!(greeting["data"]["user_id"], "alice");
            assert!(greeting["data"]["connection_id"].is_string(), "{greeting}");
        }
        for (client, code) in &mut failed {
            let error = client.wait("connect_error");
            assert_eq!(error["data"]["code"], *code, "{error}");
            assert!(error["message"].as_str().is_some_and(|message| !message.is_empty()), "{error}");
        }
        for client in &mut nowhere {
            let error = client.wait("connect_error");
            assert_eq!((&error["message"], &error["ns"]), (&json!("Invalid namespace"), &json!("/nowhere")));
        }
    }
}

/// `subscribe`, `unsubscribe`, `ping` and `debug:rooms` are acknowledged, and so is what nobody knows.
///
/// # Panics
///
/// When a client is told something else.
pub fn commands_are_acknowledged(binary: &Path, libraries: &[Library]) {
    let gateway = Setup::new(binary).shards(2).config("[limits]\nerror_budget = 100\n").start();
    let clients = start(libraries);
    for (index, client) in crowd(&clients, |_| gateway.addr(), &json!({})).iter_mut().enumerate() {
        let own = format!("user:user-{index}");
        assert_eq!(client.call("ping", &json!([])), json!([{"status": "pong"}]));
        let answer = client.call("subscribe", &json!([{"room": "agent:1"}]));
        assert_eq!(answer, json!([{"status": "success", "room": "agent:1"}]));
        let answer = client.call("subscribe", &json!([{"room": ROOM}]));
        assert_eq!((&answer[0]["status"], &answer[0]["room"]), (&json!("success"), &json!(ROOM)));
        let rooms = |client: &mut SocketClient<'_>| {
            let mut answer = client.call("debug:rooms", &json!([]));
            assert_eq!(answer[0]["status"], "success", "{answer}");
            let mut rooms: Vec<String> = serde_json::from_value(answer[0]["rooms"].take()).expect("names of rooms");
            rooms.sort();
            rooms
        };
        assert_eq!(rooms(client), ["agent:1", "global", ROOM, &own]);
        assert_eq!(client.call("unsubscribe", &json!([{"room": "agent:1"}]))[0]["status"], "success");
        assert_eq!(rooms(client), ["global", ROOM, &own]);

        let mut fail = |event: &str, args: Value, message: &str| {
            let answer = client.call(event, &args);
            assert_eq!((&answer[0]["status"], &answer[0]["message"]), (&json!("error"), &json!(message)), "{event}: {answer}");
            assert!(answer[0]["code"].is_string(), "{answer}");
        };
        fail("subscribe", json!([{}]), "Room not specified");
        fail("unsubscribe", json!([{}]), "Room not specified");
        fail("subscribe", json!([{"room": "user:somebody"}]), "Access denied");
        fail("nothing:known", json!([1, "two"]), "Message type not supported");
        fail("nothing:known", json!([{"$binary": "AAEC"}]), "Message type not supported");
    }
}

/// Whoever publishes, and whichever way a client is carried: the same event, under the name of its type, on both nodes.
///
/// # Panics
///
/// When something else comes, or nothing.
pub fn events_of_every_source_reach_all_members(binary: &Path, libraries: &[Library]) {
    const WORKSPACE: &str = "workspace:test-workspace";
    let redis = RedisServer::start();
    let nodes = nodes(binary, &redis, "");
    let clients = start(libraries);
    let mut crowd = crowd(&clients, |index| nodes[index % 2].addr(), &json!({}));
    let mut members = nodes.each_ref().map(|node| node.member("member", ROOM));
    members.iter_mut().for_each(|member| drop(member.subscribe(WORKSPACE)));
    for client in &mut crowd {
        client.subscribe(ROOM);
        client.subscribe(WORKSPACE);
    }

    let event = r#"{"type": "project.updated", "timestamp": "2026-11-21T01:56:52.316882", "data": {"project_id": "1", "x": null, "é": [1.5, "\u0000"]}, "source": "project_service"}"#;
    publish_on_channel(&["--url", &redis.url(), "emit", "project.updated", event, "--room", "\"project:1\""]);
    let mut publisher =
        JsonClient::connect(nodes[1].addr(), "/ws", Credential::Header(&access_token(SECRET, "boss", &json!({"role": "admin"}))));
    members.iter_mut().for_each(|member| drop(member.wait_for_type("project.updated", PATIENCE)));
    nodes[0].publish(ROOM, "workflow.started", &json!({"by": "http"}));
    members.iter_mut().for_each(|member| drop(member.wait_for_type("workflow.started", PATIENCE)));
    publisher.send(&json!({"type": "publish", "data": {"room": ROOM, "type": "pr.created", "data": {"by": "a client"}}}));
    members.iter_mut().for_each(|member| drop(member.wait_for_type("pr.created", PATIENCE)));
    publish_file_event(&["--url", &redis.url_of_database(2)]);
    publish_file_event(&["--url", &redis.url()]);
    let changed = members.each_mut().map(|member| member.wait_for_type("file.changed", PATIENCE));
    nodes[1].publish("global", "maintenance", &json!("now"));

    let event: Value = serde_json::from_str(event).expect("it is JSON");
    for client in &mut crowd {
        let updated = client.wait_event("project.updated");
        for field in ["type", "timestamp", "data", "source"] {
            assert_eq!(updated[field], event[field], "{updated}");
        }
        let started = client.wait_event("workflow.started");
        assert_eq!((&started["data"], &started["source"]), (&json!({"by": "http"}), &json!(null)), "{started}");
        assert_eq!(client.wait_event("pr.created")["data"], json!({"by": "a client"}));
        assert_eq!(client.wait_event("file.changed")["data"], changed[0]["data"]);
        assert_eq!(client.wait_event("maintenance")["data"], "now");
        // Everything came once: besides these there was only the greeting, and who came and went.
        let mut names: Vec<String> = client.all("event").iter().map(|said| said["event"].to_string()).collect();
        names.retain(|name| !name.contains("user_joined"));
        assert_eq!(names.len(), 6, "{names:?}");
    }
}

/// Thousands of messages while clients connect, subscribe and change their transport: from its first one on, each client has them
/// all, once and in order.
///
/// # Panics
///
/// When that is not so.
pub fn nothing_is_lost_under_load_and_while_transports_change(binary: &Path, libraries: &[Library]) {
    // As many as a test has time for.
    let most = 2_000 / libraries.len() as u64;
    let redis = RedisServer::start();
    let nodes = nodes(binary, &redis, "[limits]\noutbox_messages = 4000\n");
    let clients = start(libraries);
    let mut steady = crowd(&clients, |index| nodes[index % 2].addr(), &json!({}));
    steady.iter_mut().for_each(|client| drop(client.subscribe(ROOM)));
    let mut member = nodes[1].member("member", ROOM);
    let count = most.to_string();
    let url = redis.url();
    let publish = || publish_on_channel(&["--url", &url, "emit", "tick", "{}", "--room", "\"project:1\"", "--count", &count]);
    let mut late = std::thread::scope(|scope| {
        let publisher = scope.spawn(publish);
        // It has begun.
        member.wait_for_type("tick", PATIENCE);
        let late = crowd(&clients, |index| nodes[index % 2].addr(), &json!({"follow": [ROOM]}));
        publisher.join().expect("it publishes");
        late
    });
    // Some may have come too late for any of these.
    nodes[0].publish(ROOM, "tick", &json!({"n": most}));
    steady.iter_mut().for_each(|client| client.expect_numbers(0..most + 1));
    for client in &mut late {
        client.wait_for("last message", |said| said["event"] == "tick" && said["args"][0]["data"]["n"] == most);
        let first = client.numbers()[0];
        client.expect_numbers(first..most + 1);
    }
    for number in 1..=most {
        assert_eq!(member.expect_type("tick")["data"]["n"], number);
    }
}

/// Two namespaces on one connection: each is told on its own, and one may be left.
///
/// # Panics
///
/// When one disturbs the other.
pub fn two_namespaces_share_a_connection(binary: &Path, libraries: &[Library]) {
    let gateway = Setup::new(binary).shards(2).start();
    let clients = start(libraries);
    let mut crowd = crowd(&clients, |_| gateway.addr(), &json!({"namespaces": ["/", "/ws"]}));
    for client in &mut crowd {
        client.wait_event("connection_established");
        for namespace in ["/", "/ws"] {
            assert_eq!(client.call_in(namespace, "ping", &json!([])), json!([{"status": "pong"}]));
            assert_eq!(client.call_in(namespace, "subscribe", &json!([{"room": "agent:1"}]))[0]["status"], "success");
        }
    }
    gateway.publish("agent:1", "agent.connected", &json!({}));
    for client in &mut crowd {
        let mut heard = [(); 2].map(|()| client.wait_for("event", |said| said["event"] == "agent.connected")["ns"].take());
        heard.sort_by_key(Value::to_string);
        assert_eq!(heard, ["/", "/ws"]);
    }
}

/// A node is killed, or emptied: its clients come back to another by themselves, subscribe again from where they were, and have
/// missed nothing.
///
/// # Panics
///
/// When a client does not come back, or misses a message, or has one twice.
pub fn clients_come_back_after_a_restart_and_miss_nothing(binary: &Path, libraries: &[Library]) {
    let redis = RedisServer::start();
    let [mut a, mut b] = nodes(binary, &redis, "[drain]\nspread = \"0s\"\ndeadline = \"5s\"\n");
    let proxy = Proxy::to(a.addr());
    let clients = start(libraries);
    let mut crowd = crowd(&clients, |_| proxy.addr(), &json!({"follow": [ROOM]}));
    crowd.iter_mut().for_each(|client| drop(client.wait("followed")));
    let publish = |node: &Gateway, numbers: std::ops::Range<u64>| {
        numbers.for_each(|number| node.publish(ROOM, "tick", &json!({"n": number})));
    };
    let wait = |crowd: &mut [SocketClient<'_>], number: u64| {
        for client in crowd {
            client.wait_for("tick", |said| said["event"] == "tick" && said["args"][0]["data"]["n"] == number);
        }
    };
    publish(&a, 0..5);
    wait(&mut crowd, 4);

    proxy.lead_to(b.addr());
    a.kill();
    publish(&b, 5..10);
    wait(&mut crowd, 9);
    for client in &mut crowd {
        // Where each event has a thread, the answer may be told after what was missed.
        client.wait_until_said("followed", 2);
        assert_eq!(client.all("followed")[1]["answer"]["recovered"], true, "{:?}", client.mode());
    }

    let c = Setup::new(binary).shards(2).option("--redis", &redis.url()).option("--node", "c").start();
    proxy.lead_to(c.addr());
    b.signal(Signal::SIGTERM);
    publish(&c, 10..15);
    wait(&mut crowd, 14);
    assert!(b.wait(PATIENCE).success());
    publish(&c, 15..16);
    wait(&mut crowd, 15);
    for client in &mut crowd {
        client.expect_numbers(0..16);
        assert!(client.all("connect").len() >= 3);
        assert!(client.all("followed").iter().skip(1).all(|said| said["answer"]["recovered"] == true), "{:?}", client.mode());
    }
}

/// A token expires: its client is told, loses the transport, and comes back by itself with another one.
///
/// # Panics
///
/// When it is not told, or does not come back.
pub fn an_expired_token_is_told_and_replaced(binary: &Path, libraries: &[Library]) {
    let redis = RedisServer::start();
    let [a, _] = nodes(binary, &redis, "[auth]\nleeway = \"0s\"\n");
    let clients = start(libraries);
    // Python needs a moment to start.
    clients.iter().for_each(Clients::wait_until_ready);
    let tokens = [unix_time() + 3, unix_time() + 3600].map(|exp| access_token(SECRET, "alice", &json!({"exp": exp})));
    let mut crowd = crowd(&clients, |_| a.addr(), &json!({"tokens": tokens, "follow": [ROOM]}));
    crowd.iter_mut().for_each(|client| drop(client.wait("followed")));
    a.publish(ROOM, "tick", &json!({"n": 0}));
    for client in &mut crowd {
        let error = client.wait_event("connection_error");
        assert_eq!((&error["type"], &error["data"]["error_code"]), (&json!("connection.error"), &json!("AUTH_EXPIRED")));
        client.wait("disconnect");
    }
    a.publish(ROOM, "tick", &json!({"n": 1}));
    for client in &mut crowd {
        assert_eq!(client.wait("followed")["answer"]["recovered"], true);
    }
    a.publish(ROOM, "tick", &json!({"n": 2}));
    for client in &mut crowd {
        client.expect_numbers(0..3);
        assert_eq!(client.all("connect").len(), 2);
    }
}

/// A client whose connections break while it polls, or while it waits at a WebSocket, comes back and has missed nothing.
///
/// # Panics
///
/// When it does not come back, or misses a message, or has one twice.
pub fn clients_that_are_cut_off_come_back(binary: &Path, libraries: &[Library]) {
    let redis = RedisServer::start();
    let [a, b] = nodes(binary, &redis, "");
    let proxy = Proxy::to(a.addr());
    let clients = start(libraries);
    let mut crowd = crowd(&clients, |_| proxy.addr(), &json!({"follow": [ROOM]}));
    crowd.iter_mut().for_each(|client| drop(client.wait("followed")));
    for round in 0..3 {
        a.publish(ROOM, "tick", &json!({"n": 2 * round}));
        proxy.lead_to(if round % 2 == 0 { b.addr() } else { a.addr() });
        proxy.cut();
        b.publish(ROOM, "tick", &json!({"n": 2 * round + 1}));
        for client in &mut crowd {
            let last = json!(2 * round + 1);
            client.wait_for("tick", |said| said["event"] == "tick" && said["args"][0]["data"]["n"] == last);
            // Before it is cut off again, it knows that it is back.
            client.wait_until_said("followed", round as usize + 2);
        }
    }
    for client in &mut crowd {
        client.expect_numbers(0..6);
    }
}

/// Binary data go both ways, as arguments of events and of acknowledgements: those of the code of a host.
///
/// # Panics
///
/// When something else comes back.
pub fn binary_data_go_both_ways(libraries: &[Library]) {
    let server = ProtocolServer::start("protocol_server");
    let bytes = |bytes: &[u8]| json!({"$binary": BASE64_STANDARD.encode(bytes)});
    let long: Vec<u8> = (0..100_000_u32).map(|number| number.to_le_bytes()[0]).collect();
    let messages = [
        json!([bytes(&[0, 1, 0xff])]),
        json!([1, "2", {"a": [bytes(b""), {"b": bytes(b"one")}], "c": null}, bytes(b"two"), [false]]),
        json!([bytes(&long), "é", bytes(&long[1..])]),
        json!(["none"]),
    ];
    for clients in start(libraries) {
        let mut crowd = Mode::ALL.map(|mode| clients.open(server.addr(), mode, &json!({"namespaces": ["/"]})));
        crowd.iter_mut().for_each(|client| drop(client.wait("connect")));
        for message in &messages {
            for client in &mut crowd {
                client.command(&json!({"do": "emit", "ns": "/", "event": "message", "args": message}));
                let back = client.wait_for("message-back", |said| said["event"] == "message-back");
                assert_eq!(back["args"], *message, "{:?}", client.mode());
                assert_eq!(client.call_in("/", "message-with-ack", message), *message, "{:?}", client.mode());
            }
        }
    }
}
