//! Clients of the JSON dialect: what they may say, what they get, and what becomes of those who misbehave.

use std::path::Path;
use std::time::{Duration, Instant};

use roomcast_tests::gateway_tests;
use roomcast_tests::real::client::{Credential, JsonClient, raw_field};
use roomcast_tests::real::gateway::Gateway;
use roomcast_tests::real::setup::Setup;
use roomcast_tests::real::{PATIENCE, poll_until};
use serde_json::{Value, json};
use tungstenite::protocol::Message;

gateway_tests!(
    each_malformed_frame_gets_an_error_and_the_connection_lives,
    a_binary_message_gets_an_error_and_the_connection_lives,
    a_frame_over_the_limit_closes_with_1009,
    nonsense_before_authentication_is_answered_until_the_deadline,
    silence_before_authentication_ends_at_the_deadline,
    a_client_without_a_token_can_do_nothing_but_authenticate,
    too_many_messages_are_refused_with_the_time_to_wait,
    too_many_errors_close_with_4009,
    rooms_of_others_are_forbidden,
    a_route_with_optional_tokens_serves_anonymous_clients,
    each_form_of_a_subscription_names_the_same_room,
    system_c_gets_its_task_id_back_with_its_json_type,
    an_unsubscribed_client_gets_nothing,
    a_second_subscription_brings_no_second_copy,
    the_rooms_of_a_connection_are_told_and_bounded,
    a_slow_reader_is_closed_and_delays_nobody,
    an_abrupt_end_is_noticed,
);

fn each_malformed_frame_gets_an_error_and_the_connection_lives(binary: &Path) {
    let gateway = Setup::new(binary).config("[limits]\nerror_budget = 100\nburst = 100\nmessage_bytes = 4096\n").start();
    let mut client = gateway.client("alice");
    let deep = format!(r#"{{"type":"publish","data":{}{}}}"#, "[".repeat(1500), "]".repeat(1500));
    for (frame, code, reply_to) in [
        ("", "invalid_message", None),
        ("nonsense", "invalid_message", None),
        ("{\"type\":\"ping\"", "invalid_message", None),
        ("{\"type\":\"ping\"}{\"type\":\"ping\"}", "invalid_message", None),
        ("[]", "invalid_message", None),
        ("null", "invalid_message", None),
        (r#"{"data":{}}"#, "invalid_message", None),
        (r#"{"type":7}"#, "invalid_message", None),
        (r#"{"type":"dance","message_id":"m-1"}"#, "unsupported_message", Some("m-1")),
        (r#"{"type":"auth","message_id":"m-2"}"#, "invalid_auth", Some("m-2")),
        (r#"{"type":"auth","data":{"token":7}}"#, "invalid_auth", None),
        (r#"{"type":"subscription","message_id":"m-3"}"#, "invalid_message", Some("m-3")),
        (r#"{"type":"subscription","data":{"action":"jump","room":"r"}}"#, "invalid_message", None),
        (r#"{"type":"subscription","data":{"action":"subscribe"}}"#, "invalid_message", None),
        (r#"{"type":"subscribe"}"#, "invalid_message", None),
        (r#"{"type":"subscribe","room":""}"#, "invalid_message", None),
        (r#"{"type":"subscribe","room":"a\u0000b"}"#, "invalid_message", None),
        (r#"{"type":"subscribe","task_id":{"$gt":0}}"#, "invalid_message", None),
        (r#"{"type":"publish","data":{"room":"r"}}"#, "invalid_message", None),
        (&deep, "invalid_message", None),
    ] {
        client.send_text(frame);
        let error = client.expect_type("error");
        assert_eq!(error["data"]["code"], code, "{frame}");
        assert!(error["data"]["message"].as_str().is_some_and(|message| !message.is_empty()), "{error}");
        assert_eq!(error.get("reply_to").and_then(Value::as_str), reply_to, "{frame}");
    }
    // It is as good as new.
    client.subscribe("project:1");
    gateway.publish("project:1", "note", &json!(1));
    client.expect_type("note");
}

fn a_binary_message_gets_an_error_and_the_connection_lives(binary: &Path) {
    let gateway = Setup::new(binary).start();
    let mut client = gateway.client("alice");
    client.send_message(Message::binary(&br#"{"type":"ping"}"#[..]));
    assert_eq!(client.expect_type("error")["data"]["code"], "unsupported_message");
    ping(&mut client);
}

fn a_frame_over_the_limit_closes_with_1009(binary: &Path) {
    let gateway = Setup::new(binary).start();
    let padded = |length: usize| format!("{{\"type\":\"ping\"{}}}", " ".repeat(length - 15));
    let mut client = gateway.client("alice");
    client.send_text(&padded(512));
    client.expect_type("pong");
    client.send_text(&padded(513));
    assert_eq!(client.close_code(PATIENCE), Some(1009));

    // Before a token has come there is room for one, and no more.
    let mut unknown = JsonClient::connect(gateway.addr(), "/ws", Credential::None);
    unknown.expect_type("auth_required");
    unknown.send_text(&padded(8192));
    unknown.expect_type("pong");
    unknown.send_text(&padded(8193));
    assert_eq!(unknown.close_code(PATIENCE), Some(1009));
}

fn nonsense_before_authentication_is_answered_until_the_deadline(binary: &Path) {
    let gateway = impatient(binary);
    let begin = Instant::now();
    let mut client = JsonClient::connect(gateway.addr(), "/ws", Credential::None);
    client.expect_type("auth_required");
    for nonsense in ["nonsense", "{}", r#"{"type":"auth"}"#] {
        client.send_text(nonsense);
        client.expect_type("error");
    }
    assert_eq!(client.close_code(PATIENCE), Some(4001));
    let waited = begin.elapsed();
    assert!(waited >= Duration::from_millis(300), "closed after {waited:?}");
    assert!(waited < Duration::from_secs(3), "closed after {waited:?}");
}

fn silence_before_authentication_ends_at_the_deadline(binary: &Path) {
    let gateway = impatient(binary);
    let mut silent = JsonClient::connect(gateway.addr(), "/ws", Credential::None);
    let mut known = gateway.client("alice");
    let mut anonymous = JsonClient::connect(gateway.addr(), "/ws/tasks", Credential::None);
    silent.expect_type("auth_required");
    assert_eq!(silent.close_code(PATIENCE), Some(4001));
    // The deadline is over for those who were there by then, and means nothing to whoever has no need of it.
    ping(&mut known);
    ping(&mut anonymous);
}

fn a_client_without_a_token_can_do_nothing_but_authenticate(binary: &Path) {
    let gateway = Setup::new(binary).start();
    let mut client = JsonClient::connect(gateway.addr(), "/ws", Credential::None);
    client.expect_type("auth_required");
    for frame in [
        json!({"type": "subscribe", "task_id": 12}),
        json!({"type": "subscription", "data": {"action": "subscribe", "room": "global"}}),
        json!({"type": "publish", "data": {"room": "r", "type": "t", "data": 1}}),
        json!({"type": "rooms"}),
    ] {
        client.send(&frame);
        assert_eq!(client.expect_type("error")["data"]["code"], "unauthorized", "{frame}");
    }
    ping(&mut client);
}

fn too_many_messages_are_refused_with_the_time_to_wait(binary: &Path) {
    let gateway = Setup::new(binary).start();
    let mut client = gateway.client("alice");
    // The usual limit: 10 a second, and 20 at once. Far more are sent than the error budget allows errors.
    const SENT: usize = 60;
    (0..SENT).for_each(|_| client.send(&json!({"type": "ping"})));
    let (mut pongs, mut refusals) = (0, Vec::new());
    for _ in 0..SENT {
        let frame = client.next(PATIENCE);
        match frame["type"].as_str() {
            Some("pong") => pongs += 1,
            _ => refusals.push(frame),
        }
    }
    assert!((20..40).contains(&pongs), "{pongs} of {SENT} passed");
    for refusal in &refusals {
        let data = &refusal["data"];
        assert_eq!((&refusal["type"], &data["code"]), (&json!("error"), &json!("rate_limited")));
        let wait = data["retry_after_ms"].as_u64().unwrap_or_else(|| panic!("no time in {refusal}"));
        assert!((1..=100).contains(&wait), "a tenth of a second is the longest wait, not {wait} ms");
    }
    assert_eq!(gateway.metric("roomcast_rate_limited_total"), refusals.len() as u64);
    // Being too fast does not cost the connection; after the time it was told, the client is heard again.
    let heard = poll_until(PATIENCE, || {
        client.send(&json!({"type": "ping"}));
        (client.next(PATIENCE)["type"] == "pong").then_some(())
    });
    assert!(heard.is_some(), "the client is never heard again");
}

fn too_many_errors_close_with_4009(binary: &Path) {
    let gateway = Setup::new(binary).start();
    let mut client = gateway.member("alice", "project:1");
    for _ in 0..5 {
        client.send_text("nonsense");
        client.expect_type("error");
    }
    ping(&mut client);
    client.send_text("nonsense");
    client.expect_type("error");
    assert_eq!(client.close_code(PATIENCE), Some(4009));
}

fn rooms_of_others_are_forbidden(binary: &Path) {
    let rules = r#"
        [[access]]
        rooms = "secret:*"
        subscribe = "admin"
        [[access]]
        rooms = "listed:*"
        subscribe = "listed"
        publish = "listed"
        [[access]]
        rooms = "user:*"
        subscribe = "owner"
        "#;
    let gateway = Setup::new(binary).config(rules).start();
    let mut client = gateway.client("7");
    for room in ["user:8", "user:77", "secret:1", "listed:1", "covered by no rule"] {
        client.send(&json!({"type": "subscription", "message_id": room, "data": {"action": "subscribe", "room": room}}));
        let error = client.expect_type("error");
        assert_eq!((&error["data"]["code"], &error["reply_to"]), (&json!("forbidden"), &json!(room)));
    }
    client.subscribe("user:7");
    // What was forbidden has not been joined on the sly.
    gateway.publish("secret:1", "secret", &json!(1));
    gateway.publish("user:8", "private", &json!(1));
    gateway.publish("user:7", "own", &json!(1));
    client.expect_type("own");
}

fn a_route_with_optional_tokens_serves_anonymous_clients(binary: &Path) {
    let gateway = Setup::new(binary).start();
    let mut client = JsonClient::connect(gateway.addr(), "/ws/tasks", Credential::None);
    client.send(&json!({"type": "subscribe", "task_id": "t-1"}));
    assert_eq!(client.expect_type("subscribed")["task_id"], "t-1");
    gateway.publish("task:t-1", "task_update", &json!({"done": 1}));
    assert_eq!(client.expect_type("task_update")["data"], json!({"done": 1}));
    client.send(&json!({"type": "subscribe", "room": "project:1"}));
    assert_eq!(client.expect_type("error")["data"]["code"], "forbidden");
}

fn each_form_of_a_subscription_names_the_same_room(binary: &Path) {
    let gateway = Setup::new(binary).config("[limits]\nburst = 100\n").start();
    let mut client = gateway.client("7");
    for (frame, room) in [
        (json!({"type": "subscription", "data": {"action": "subscribe", "project_id": "p"}}), "project:p"),
        (json!({"type": "subscription", "data": {"action": "subscribe", "room": "project:any name"}}), "project:any name"),
        (json!({"type": "subscription", "data": {"action": "subscribe", "task_id": 12}}), "task:12"),
        (json!({"type": "subscription", "data": {"action": "subscribe", "job_id": "j"}}), "job:j"),
        (json!({"type": "subscribe", "workspace_id": "w"}), "workspace:w"),
        (json!({"type": "subscribe", "agent_id": "a"}), "agent:a"),
        (json!({"type": "subscribe", "user_id": 7}), "user:7"),
        (json!({"type": "subscribe", "room": "workspace:direct"}), "workspace:direct"),
    ] {
        client.send(&frame);
        assert_eq!(client.expect_type("subscribed")["data"]["room"], room, "{frame}");
        gateway.publish(room, "note", &json!(1));
        assert_eq!(client.expect_type("note")["room"], room);
    }
}

fn system_c_gets_its_task_id_back_with_its_json_type(binary: &Path) {
    let gateway = Setup::new(binary).start();
    let connect = || JsonClient::connect(gateway.addr(), "/ws/tasks", Credential::None);
    let (mut number, mut string) = (connect(), connect());
    for kind in ["subscribe", "unsubscribe"] {
        for (client, id) in [(&mut number, "12"), (&mut string, "\"12\"")] {
            client.send_text(&format!("{{\"type\":\"{kind}\",\"task_id\":{id}}}"));
            let text = client.next_text(PATIENCE);
            assert_eq!((raw_field(&text, "type"), raw_field(&text, "task_id")), (format!("\"{kind}d\""), id.to_owned()));
        }
        if kind == "subscribe" {
            // They are in one room.
            gateway.publish("task:12", "task_update", &json!(1));
            number.expect_type("task_update");
            string.expect_type("task_update");
        }
    }
}

fn an_unsubscribed_client_gets_nothing(binary: &Path) {
    let gateway = Setup::new(binary).start();
    let (mut leaving, mut staying) = (gateway.member("leaving", "workspace:1"), gateway.member("staying", "workspace:1"));
    leaving.send(&json!({"type": "subscription", "message_id": "m-1", "data": {"action": "unsubscribe", "workspace_id": 1}}));
    let reply = leaving.expect_type("unsubscribed");
    assert_eq!((&reply["data"]["room"], &reply["reply_to"]), (&json!("workspace:1"), &json!("m-1")));

    gateway.publish("workspace:1", "note", &json!(1));
    staying.expect_type("note");
    gateway.publish("user:leaving", "direct", &json!(1));
    leaving.expect_type("direct");
    // To leave once more is no error, and to come back is possible.
    leaving.send(&json!({"type": "unsubscribe", "room": "workspace:1"}));
    leaving.expect_type("unsubscribed");
    leaving.subscribe("workspace:1");
    gateway.publish("workspace:1", "note", &json!(2));
    assert_eq!(leaving.expect_type("note")["data"], 2);
}

fn a_second_subscription_brings_no_second_copy(binary: &Path) {
    let gateway = Setup::new(binary).start();
    let mut client = gateway.client("alice");
    // Three at once: the later ones come while the first is still being carried out.
    for _ in 0..3 {
        client.send(&json!({"type": "subscribe", "room": "project:1"}));
    }
    (0..3).for_each(|_| drop(client.expect_type("subscribed")));
    gateway.publish("project:1", "note", &json!(1));
    gateway.publish("project:1", "note", &json!(2));
    assert_eq!(client.expect_type("note")["data"], 1);
    assert_eq!(client.expect_type("note")["data"], 2);
}

fn the_rooms_of_a_connection_are_told_and_bounded(binary: &Path) {
    let gateway = Setup::new(binary).config("[limits]\nrooms_per_connection = 3\n").start();
    let mut client = gateway.client("alice");
    client.subscribe("project:1");
    client.subscribe("project:2");
    client.send(&json!({"type": "subscribe", "room": "project:3"}));
    assert_eq!(client.expect_type("error")["data"]["code"], "limit_exceeded");
    client.send(&json!({"type": "rooms", "message_id": "m"}));
    let frame = client.expect_type("rooms");
    let mut rooms: Vec<&str> = frame["data"]["rooms"].as_array().expect("a list").iter().filter_map(Value::as_str).collect();
    rooms.sort_unstable();
    assert_eq!((rooms, &frame["reply_to"]), (vec!["project:1", "project:2", "user:alice"], &json!("m")));
}

fn a_slow_reader_is_closed_and_delays_nobody(binary: &Path) {
    let gateway = Setup::new(binary).config("[limits]\noutbox_bytes = 262144\nclose_timeout = \"1s\"\n").start();
    let (mut slow, mut quick) = (gateway.member("slow", "workspace:1"), gateway.member("quick", "workspace:1"));
    // More than the system's buffers and the outbox can hold, to a client that reads nothing.
    let large = "x".repeat(200_000);
    let mut longest = Duration::ZERO;
    let mut sent = 0;
    while gateway.metric("roomcast_slow_consumers_total") == 0 {
        assert!(sent < 300, "the slow reader is still there after {sent} messages");
        let begin = Instant::now();
        gateway.publish("workspace:1", "large", &json!({"number": sent, "text": large}));
        assert_eq!(quick.expect_type("large")["data"]["number"], sent);
        longest = longest.max(begin.elapsed());
        sent += 1;
    }
    assert!(longest < Duration::from_secs(1), "the quick reader waited {longest:?} for a message");

    // What the slow one gets are the first messages, whole and in order, and then the end.
    let mut next = 0;
    while let Some(text) = slow.try_next_text(PATIENCE) {
        let frame: Value = serde_json::from_str(&text).expect("a frame is whole");
        assert_eq!(frame["data"]["number"], next);
        next += 1;
    }
    assert!(next < sent, "it has missed something");
    let code = slow.close_code(PATIENCE);
    assert!(code == Some(4008) || slow.is_cut(Duration::ZERO), "closed with {code:?}");
    // The other one goes on.
    gateway.publish("workspace:1", "after", &json!(1));
    quick.expect_type("after");
    let gone = poll_until(PATIENCE, || (gateway.metric("roomcast_connections") == 1).then_some(()));
    assert!(gone.is_some(), "the slow reader is still counted");
}

fn an_abrupt_end_is_noticed(binary: &Path) {
    let gateway = Setup::new(binary).start();
    let mut staying = gateway.member("staying", "workspace:1");
    drop(gateway.member("leaving", "workspace:1"));
    let gone = poll_until(PATIENCE, || (gateway.metric("roomcast_connections") == 1).then_some(()));
    assert!(gone.is_some(), "the connection is still counted");
    assert_eq!(gateway.metric("roomcast_rooms"), 2, "the workspace and the room of the one who stays");
    gateway.publish("workspace:1", "note", &json!(1));
    staying.expect_type("note");
}

/// A gateway that waits only a moment for a token.
fn impatient(binary: &Path) -> Gateway {
    Setup::new(binary).config("[limits]\nauth_timeout = \"300ms\"\n").start()
}

fn ping(client: &mut JsonClient) {
    client.send(&json!({"type": "ping", "message_id": "p"}));
    let pong = client.expect_type("pong");
    assert_eq!((&pong["data"], &pong["reply_to"]), (&json!({"status": "ok"}), &json!("p")));
}
