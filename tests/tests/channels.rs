//! Pub/Sub channels on real Redis: what the publishers of systems B, C and E say reaches their pages on every node, once.

use std::path::Path;
use std::time::{Duration, Instant};

use roomcast_tests::gateway_tests;
use roomcast_tests::real::client::{access_token, raw_field};
use roomcast_tests::real::e2e::{open_page, publish_on_channel};
use roomcast_tests::real::gateway::Gateway;
use roomcast_tests::real::process::Process;
use roomcast_tests::real::proxy::Proxy;
use roomcast_tests::real::redis::RedisServer;
use roomcast_tests::real::setup::{SECRET, Setup};
use roomcast_tests::real::{PATIENCE, poll_until};
use serde_json::{Value, json};

const PROJECT: &str = "0b5ac0f4-8d2c-4a53-9c0e-3f5bf0a8e7a1";
const BROADCAST: &str = "websocket:broadcast";

gateway_tests!(
    system_b_reaches_a_project_a_user_and_everybody,
    a_page_of_system_b_that_was_cut_off_has_missed_nothing,
    system_c_reaches_who_subscribes_and_who_says_nothing,
    system_e_reaches_a_room_and_everybody,
    a_pickle_is_refused_and_harms_nobody,
    what_is_broken_is_counted_and_reported_now_and_then,
);

fn system_b_reaches_a_project_a_user_and_everybody(binary: &Path) {
    let redis = RedisServer::start();
    let [a, b] = nodes(binary, &redis, "");
    let project = format!("project:{PROJECT}");
    let changes = r#"{"task_id":"6f1d3c1e-2f64-4b7c-9a55-1c2f0a6b7d11","project_id":"0b5ac0f4-8d2c-4a53-9c0e-3f5bf0a8e7a1","changes":{"status":{"old":"TODO","new":"PLANNING"}},"task":{"id":"6f1d3c1e-2f64-4b7c-9a55-1c2f0a6b7d11","title":"\u003cb\u003e \"é\"","estimate":1.50,"updated_at":"2025-08-07T12:32:56.1234567+07:00"}}"#;
    let of_project = format!(r#""project_id":"{PROJECT}","#);
    let away = Worker::say(&redis, "status_changed", r#"{"entity_id":"1"}"#, r#""user_id":"carol","#, 2);

    let [alice, bob] = [page_of_b(a.addr(), "alice", Some(PROJECT)), page_of_b(b.addr(), "bob", Some(PROJECT))];
    [&alice, &bob].iter().for_each(|page| drop(page.wait_for_log("PASSED OVER subscribed", PATIENCE)));
    // She comes late, to a node that heard nothing of it more than the other.
    let carol = page_of_b(b.addr(), "carol", None);
    let late = carol.wait_for_log(&away.message_id, PATIENCE);

    let updated = Worker::say(&redis, "task_updated", changes, &of_project, 2);
    let null = r#"{"task_id":"t","project_id":"p","changes":null,"task":null}"#;
    let nulls = Worker::say(&redis, "task_updated", null, &of_project, 2);
    let both = Worker::say(&redis, "project_updated", "{}", &format!(r#"{of_project}"user_id":"carol","#), 2);
    let direct = Worker::say(&redis, "status_changed", r#"{"entity_id":"2"}"#, r#""user_id":"alice","#, 2);
    let everybody = Worker::say(&redis, "status_changed", r#"{"entity_id":"3"}"#, "", 2);
    let for_alice = [&updated, &nulls, &both, &direct, &everybody];
    let for_bob = [&updated, &nulls, &both, &everybody];
    let for_carol = [&away, &everybody];
    for (page, expected) in [(&alice, &for_alice[..]), (&bob, &for_bob), (&carol, &for_carol)] {
        expected.iter().for_each(|message| drop(page.wait_for_log(&message.message_id, PATIENCE)));
    }
    // Whatever would come twice has come before the last messages of the same rooms.
    for (room, page) in [(&*project, &alice), (&project, &bob), ("user:alice", &alice), ("user:carol", &carol)] {
        let mark = page.log_mark();
        a.publish(room, "status_changed", &json!({"last": room}));
        page.wait_for_log_since(mark, r#"{"last":"#, PATIENCE);
    }
    for (page, expected) in [(&alice, &for_alice[..]), (&bob, &for_bob), (&carol, &for_carol)] {
        let frames: Vec<String> = page.log_lines().into_iter().filter(|line| line.contains(Worker::TIMESTAMP)).collect();
        assert_eq!(frames.len(), expected.len(), "{frames:#?}");
        for message in expected {
            let frame = frames.iter().find(|frame| frame.contains(&message.message_id)).expect("it has come");
            message.assert_is(frame);
        }
    }
    assert!(late.contains(r#""room":"user:carol""#), "{late}");
    // In the project, one order for all.
    let order = |page: &Process| {
        let lines = page.log_lines().into_iter().filter(|line| line.contains("position"));
        lines.filter(|line| line.contains(Worker::TIMESTAMP)).collect::<Vec<_>>()
    };
    assert_eq!((order(&alice), order(&alice).len()), (order(&bob), 3));
}

fn a_page_of_system_b_that_was_cut_off_has_missed_nothing(binary: &Path) {
    let redis = RedisServer::start();
    let [a, b] = nodes(binary, &redis, "[[routes]]\npath = \"/ws/connect\"\nrestore = \"60s\"\n");
    let proxy = Proxy::to(a.addr());
    let page = page_of_b(proxy.addr(), "alice", Some(PROJECT));
    page.wait_for_log("PASSED OVER subscribed", PATIENCE);
    let of_project = format!(r#""project_id":"{PROJECT}","#);
    let say = |number: u32, to: &str| Worker::say(&redis, "task_updated", &format!(r#"{{"n":{number}}}"#), to, 2);
    let before = say(0, &of_project);
    page.wait_for_log(&before.message_id, PATIENCE);

    // It waits almost a second before it connects again, which leads to the other node, and it says nothing there.
    let mark = page.log_mark();
    proxy.lead_to(b.addr());
    proxy.cut();
    let missed: Vec<Worker> =
        (1..=5).map(|number| say(number, if number == 3 { r#""user_id":"alice","# } else { &of_project })).collect();
    page.wait_for_log_since(mark, "OPEN", PATIENCE);
    missed.iter().for_each(|message| message.assert_is(&page.wait_for_log_since(mark, &message.message_id, PATIENCE)));
    let after = say(6, &of_project);
    after.assert_is(&page.wait_for_log_since(mark, &after.message_id, PATIENCE));
}

fn system_c_reaches_who_subscribes_and_who_says_nothing(binary: &Path) {
    let redis = RedisServer::start();
    let [a, b] = nodes(binary, &redis, "");
    let page = |node: &Gateway, arguments: &[&str]| {
        open_page("system_c.mjs", &[&[&*format!("ws://{}/ws/tasks", node.addr())], arguments].concat())
    };
    let grids = [page(&a, &["grid", "12"]), page(&b, &["grid", "\"12\""])];
    let dashboards = [page(&a, &["dashboard"]), page(&b, &["dashboard"])];
    grids[0].wait_for_log("SUBSCRIBED 12", PATIENCE);
    grids[1].wait_for_log("SUBSCRIBED \"12\"", PATIENCE);
    for node in [&a, &b] {
        // Two that are in the room of all, and one of them in that of its task.
        let members = || (node.metric("roomcast_memberships") == 3).then_some(());
        assert!(poll_until(PATIENCE, members).is_some(), "{}", node.metric("roomcast_memberships"));
    }
    let publish = |options: &[&str]| publish_on_channel(&[&["--url", &redis.url()], options].concat()).remove(0);
    let data = r#"{"status": "in_progress", "completed_at": null, "error": null, "reddit_username": "Anonymous", "tier": "gold", "subreddit": null, "amount_usd": 25.0, "is_anonymous": true, "progress": null, "stage": null, "message": "\u00e9\ud83d\ude00"}"#;
    let info = r#"{"type": "task_created", "task_info": {"task_id": "13", "status": "pending", "donation_id": 3, "stage": "pending", "progress": 0, "timestamp": 1732154491.899989}}"#;
    let mut updates = vec![
        publish(&["task", "12", data]),
        publish(&["task", "12", data, "--sync"]),
        publish(&["general", r#"{"type": "system_notification", "message": null}"#, "--sync"]),
        publish(&["general", info]),
    ];
    // What is created is subscribed to.
    grids.iter().for_each(|grid| drop(grid.wait_for_log("SUBSCRIBED \"13\"", PATIENCE)));
    updates.push(publish(&["task", "13", data]));
    updates.push(publish(&["general", r#"{"type": "last"}"#]));

    for (pages, expected) in [(&grids, &updates[..]), (&dashboards, &[2, 3, 5].map(|at| updates[at].clone()))] {
        for page in pages {
            // Rooms that remember nothing have one order where one server says it all.
            page.wait_for_log(r#""type": "last""#, PATIENCE);
            let frames: Vec<String> = page.log_lines().into_iter().filter(|line| line.starts_with('{')).collect();
            assert_eq!(frames.len(), expected.len(), "{frames:#?}");
            for (frame, published) in frames.iter().zip(expected) {
                for field in ["type", "data", "timestamp"] {
                    assert_eq!(raw_field(frame, field), raw_field(published, field));
                }
                let of = |text: &str| serde_json::from_str::<Value>(text).expect("it is JSON")["task_id"].clone();
                assert_eq!(of(frame), of(published));
            }
        }
    }
}

fn system_e_reaches_a_room_and_everybody(binary: &Path) {
    let redis = RedisServer::start();
    let [a, b] = nodes(binary, &redis, "");
    let mut members = [a.member("alice", "agent:1"), b.member("bob", "agent:1")];
    // A room that remembers has it once, though both nodes have heard it.
    members[0].subscribe("project:1");
    let emit = |options: &[&str]| drop(publish_on_channel(&[&["--url", &redis.url(), "emit"], options].concat()));
    let event = r#"{"type": "agent.connected", "timestamp": "2026-11-21T01:56:52.316882", "data": {"agent_id": "1", "x": null}, "source": "agent_service"}"#;
    emit(&["agent.connected", event, "--room", "\"agent:1\""]);
    emit(&["tick", "[1, 2.50]", "--room", "[\"agent:1\", \"agent:2\"]"]);
    emit(&["maintenance", "{\"at\": \"noon\"}"]);
    for member in &mut members {
        let text = member.next_text(PATIENCE);
        for field in ["type", "timestamp", "data", "source"] {
            assert_eq!(raw_field(&text, field), raw_field(event, field), "{text}");
        }
        let text = member.next_text(PATIENCE);
        assert_eq!((raw_field(&text, "data"), raw_field(&text, "room")), ("[1, 2.5]".into(), "\"agent:1\"".into()), "{text}");
        assert_eq!(member.expect_type("maintenance")["data"], json!({"at": "noon"}));
    }
    emit(&["project.updated", r#"{"project_id": "1"}"#, "--room", "\"project:1\""]);
    let frame = members[0].expect_type("project.updated");
    assert!(frame["position"].is_string(), "{frame}");
    a.publish("project:1", "last", &json!(null));
    members[0].expect_type("last");
    assert_eq!(a.metric("roomcast_channel_broken_total"), 0);
}

fn a_pickle_is_refused_and_harms_nobody(binary: &Path) {
    let redis = RedisServer::start();
    let [a, b] = nodes(binary, &redis, "");
    let mut members = [a.member("alice", "project:1"), b.member("bob", "project:1")];
    let emit = |event: &str, options: &[&str]| {
        let url = redis.url();
        publish_on_channel(&[&["--url", &url, "emit", event, "{\"n\": 1}", "--room", "\"project:1\""], options].concat());
    };
    emit("refused", &["--pickled"]);
    emit("tick", &[]);
    members.iter_mut().for_each(|member| assert_eq!(member.wait_for_type("tick", PATIENCE)["data"], json!({"n": 1})));
    for node in [&a, &b] {
        assert_eq!(node.metric("roomcast_channel_broken_total"), 1);
        let line = node.wait_for_log("cannot be passed on", PATIENCE);
        for word in ["socketio", "pickle", "5.14", "refused"] {
            assert!(line.contains(word), "no {word} in {line}");
        }
    }
}

fn what_is_broken_is_counted_and_reported_now_and_then(binary: &Path) {
    const BETWEEN: Duration = Duration::from_secs(10);
    let redis = RedisServer::start();
    let gateway = node(binary, &redis.url(), "a", "");
    let mut member = gateway.member("alice", "task:1");
    let begin = Instant::now();
    let mut published: u64 = 0;
    let mut publish = |channel: &str, payload: &str| {
        published += 1;
        assert_eq!(redis.query::<u64>(&["PUBLISH", channel, payload]), 1);
        published
    };
    let long = format!("first {}", "x".repeat(100_000));
    for payload in
        [&*long, "", "[]", "\u{80}", r#"{"data":1}"#, r#"{"type":"t","user_id":{"id":"alice"}}"#, r#"{"type":"t","room":"a\nb"}"#]
    {
        publish(BROADCAST, payload);
    }
    publish("task_updates", r#"{"type":"task_update","data":"second"}"#);
    redis.command(&["PUBLISH", "task_updates", r#"{"type":"task_update","task_id":1}"#]);
    member.expect_type("task_update");
    assert_eq!(gateway.metric("roomcast_channel_broken_total"), 8);
    // One line for each channel, with the first of what was wrong, and not all of that.
    let reports =
        || -> Vec<String> { gateway.log_lines().into_iter().filter(|line| line.contains("cannot be passed on")).collect() };
    let first = gateway.wait_for_log("second", PATIENCE);
    assert!(first.contains("task_updates"), "{first}");
    let lines = reports();
    assert!(lines.len() == 2 && lines[0].contains("first xxx") && lines[0].len() < 1_000, "{lines:#?}");
    // The next one is due when the time is over, and says how many there were.
    let again = poll_until(BETWEEN + PATIENCE, || {
        publish(BROADCAST, "third");
        reports().get(2).cloned()
    });
    let again = again.expect("it is reported again");
    assert!(begin.elapsed() >= BETWEEN, "after {:?}", begin.elapsed());
    assert!(again.contains(BROADCAST) && again.contains("third"), "{again}");
    let told: u64 = again.split("count=").nth(1).and_then(|rest| rest.split(' ').next()?.parse().ok()).expect("a count");
    // All but the first of this channel, the one of the other, and those that were published after the one of the line.
    let not_told = publish(BROADCAST, "fourth") - 2 - told;
    assert!(told > 6 && not_told < 1_000, "{told} of {not_told} more");
    let counted = poll_until(PATIENCE, || (gateway.metric("roomcast_channel_broken_total") == told + 2 + not_told).then_some(()));
    assert!(counted.is_some(), "{}", gateway.metric("roomcast_channel_broken_total"));
}

/// A message as system B's worker writes it, in Go.
struct Worker {
    message_id: String,
    payload: String,
}

impl Worker {
    /// With nanoseconds and an offset, as Go writes it.
    const TIMESTAMP: &str = "2025-08-07T12:32:56.123456789+07:00";

    /// Publishes it, and so many nodes hear it. `to` has the fields that say who it is for, each with its comma.
    fn say(redis: &RedisServer, kind: &str, data: &str, to: &str, heard: u64) -> Worker {
        static NEXT: std::sync::atomic::AtomicU32 = std::sync::atomic::AtomicU32::new(0);
        let number = NEXT.fetch_add(1, std::sync::atomic::Ordering::Relaxed);
        let message_id = format!("2c1f8c3e-6a3b-4d6e-8f1c-{number:012}");
        let payload = format!(
            r#"{{"type":"{kind}","data":{data},{to}"timestamp":"{}","message_id":"{message_id}","source":"worker"}}"#,
            Worker::TIMESTAMP
        );
        assert_eq!(redis.query::<u64>(&["PUBLISH", BROADCAST, &payload]), heard);
        Worker { message_id, payload }
    }

    /// A frame has what the worker wrote, byte for byte, and not where it came from.
    fn assert_is(&self, frame: &str) {
        for field in ["type", "data", "timestamp", "message_id"] {
            assert_eq!(raw_field(frame, field), raw_field(&self.payload, field), "{frame}");
        }
        let frame: Value = serde_json::from_str(frame).expect("it is JSON");
        assert!(frame.get("source").is_none(), "{frame}");
    }
}

fn page_of_b(addr: std::net::SocketAddr, user: &str, project: Option<&str>) -> Process {
    let url = format!("ws://{addr}/ws/connect?token={}", access_token(SECRET, user, &json!({})));
    open_page("system_b.mjs", &[&[&*url], project.as_slice()].concat())
}

fn nodes(binary: &Path, redis: &RedisServer, config: &str) -> [Gateway; 2] {
    ["a", "b"].map(|name| node(binary, &redis.url(), name, config))
}

fn node(binary: &Path, redis: &str, name: &str, config: &str) -> Gateway {
    Setup::new(binary).option("--redis", redis).option("--node", name).config(config).start()
}
