//! Dead letters at work: listed, shown, replayed and purged over HTTP and by the command line, on a real Redis.

use std::path::Path;
use std::process::Output;

use roomcast_tests::gateway_tests;
use roomcast_tests::real::PATIENCE;
use roomcast_tests::real::client::access_token;
use roomcast_tests::real::e2e::publish_file_event;
use roomcast_tests::real::gateway::Gateway;
use roomcast_tests::real::http::Response;
use roomcast_tests::real::process::run;
use roomcast_tests::real::redis::RedisServer;
use roomcast_tests::real::setup::{SECRET, Setup, clean_command};
use roomcast_tests::real::stream::{Field, Fields, add_to, all, owned, wait_until};
use serde_json::{Value, json};

const STREAM: &str = "stream:ai-commands";
const LETTERS: &str = "stream:ai-commands-dlq";
const GEMINI: &str = "stream:gemini-commands";
const DEAD_LETTERS: &str = "roomcast_source_dead_letters_total";
const ROUTED: &str = "roomcast_source_commands_total";

/// The source of commands, with a service that is not there by default.
const WITH_GEMINI: &str = r#"
[[sources]]
stream = "stream:ai-commands"
group = "websocket-router"
dead_letter = "stream:ai-commands-dlq"
block = "100ms"
to.commands = { services = ["claude", "gemini"] }
"#;

/// Two sources that read one stream.
const TWO_GROUPS: &str = r#"
[[sources]]
stream = "in"
group = "a"
dead_letter = "dead:a"
to.commands = {}

[[sources]]
stream = "in"
group = "b/%"
dead_letter = "dead:b"
to.commands = {}
"#;

gateway_tests!(
    letters_are_listed_page_by_page_and_shown_whole,
    a_letter_is_replayed_once_and_routed_byte_for_byte,
    what_fails_again_comes_back_with_its_trail,
    a_batch_is_delivered_once_its_cause_is_gone,
    a_source_that_takes_nothing_leaves_the_letter,
    sources_that_share_their_dead_letters_replay_only_their_own,
    letters_of_an_older_consumer_are_replayed_and_those_that_were_cut_are_not,
    letters_are_purged_by_identifier_and_all,
    sources_are_told_apart_and_wrong_requests_refused,
    only_administrators_get_in,
    without_a_store_it_is_said_and_nothing_is_lost,
    the_command_line_does_the_same,
    the_command_line_tells_what_went_wrong,
);

fn letters_are_listed_page_by_page_and_shown_whole(binary: &Path) {
    let redis = RedisServer::start();
    let gateway = gateway(binary, &redis);
    assert_eq!(list(&gateway, ""), json!({"letters": [], "next": null, "depth": 0}));
    let entries: Vec<String> = (0..45).map(|_| add(&redis, &[("payload", b"nonsense")])).collect();
    wait_until(|| gateway.metric(DEAD_LETTERS) == 45);

    // Nobody was faster: the letters have the order of their entries, so the list has the opposite one.
    let mut seen = Vec::new();
    let mut page = list(&gateway, "");
    assert_eq!((page["letters"].as_array().map(Vec::len), &page["depth"]), (Some(20), &json!(45)));
    loop {
        seen.extend(page["letters"].as_array().expect("a list").clone());
        let Some(next) = page["next"].as_str() else { break };
        assert_eq!(seen.last().map(|letter| &letter["id"]), Some(&json!(next)));
        page = list(&gateway, &format!("?count=20&before={next}"));
    }
    let listed: Vec<&str> = seen.iter().rev().map(|letter| letter["msg_id"].as_str().expect("an identifier")).collect();
    assert_eq!(listed, entries);
    assert_eq!(list(&gateway, "?count=45")["next"], Value::Null, "there is no more than that");
    assert_eq!(list(&gateway, "?count=44")["next"], seen[43]["id"]);
    let first = seen[44].as_object().expect("an object");
    assert_eq!((&first["code"], &first["deliveries"], &first["trail"]), (&json!("not_json"), &json!(1), &json!([])));
    assert_eq!((&first["field_count"], &first["bytes"], first.get("fields")), (&json!(1), &json!(15), None));

    // Whatever the fields hold.
    let odd: &[Field<'_>] = &[("payload", b"\xff\0"), ("", b""), ("msg_id", b"\"mine\"\n"), ("\u{1F980}", b"{}"), ("", b"2")];
    add(&redis, odd);
    wait_until(|| gateway.metric(DEAD_LETTERS) == 46);
    let id = text(&list(&gateway, "?count=1")["letters"][0]["id"]);
    let shown = get(&gateway, &format!("/{id}"));
    let fields = json!([["payload", {"base64": "/wA="}], ["", ""], ["msg_id", "\"mine\"\n"], ["\u{1F980}", "{}"], ["", "2"]]);
    assert_eq!((shown.status, &shown.json()["fields"], &shown.json()["complete"]), (200, &fields, &json!(true)));
    assert_eq!(shown.json()["source"], STREAM);
    assert_eq!(get(&gateway, "/1-0").status, 404);
}

fn a_letter_is_replayed_once_and_routed_byte_for_byte(binary: &Path) {
    let redis = RedisServer::start();
    let plain = gateway(binary, &redis);
    let every_byte: Vec<u8> = (0..=255).collect();
    let json = command("gemini");
    let commands: [&[Field<'_>]; 3] = [
        &[("payload", json.as_bytes())],
        &[("service", b"gemini"), ("session_id", b"s"), ("workspace_path", b"/w"), ("message", &every_byte), ("x", b"")],
        // It has a field of ours, and it is the publisher's.
        &[("roomcast-trail", b"1-0:x"), ("payload", json.as_bytes()), ("roomcast-trail", b"not one of ours")],
    ];
    commands.iter().for_each(|fields| drop(add(&redis, fields)));
    wait_until(|| plain.metric(DEAD_LETTERS) == 3);
    let letters = ids(&plain);
    plain.terminate(PATIENCE);

    let fixed = with_gemini(binary, &redis);
    let report = replay(&fixed, &json!({"ids": [letters[1], letters[0], "1-0"]}));
    assert_eq!((&report["replayed"], &report["failures"], &report["gone"]), (&json!(2), &json!(0), &json!(["1-0"])));
    let entries = report["entries"].as_array().expect("a list");
    assert_eq!([&entries[0]["id"], &entries[1]["id"]], [&letters[0], &letters[1]], "the oldest first");
    for replayed in entries {
        let entry: Vec<(String, Fields)> = redis.query(&["XRANGE", STREAM, &text(&replayed["entry"]), "+", "COUNT", "1"]);
        assert_eq!(
            (json!(entry[0].0), entry[0].1.last().expect("it has fields").0.as_slice()),
            (replayed["entry"].clone(), &b"roomcast-trail"[..])
        );
    }
    wait_until(|| fixed.metric(ROUTED) == 2);
    assert_eq!(all(&redis, GEMINI), [owned(commands[0]), owned(commands[1])]);

    // Again, they are gone.
    let report = replay(&fixed, &json!({"ids": [letters[0], letters[1]]}));
    assert_eq!((&report["replayed"], &report["gone"]), (&json!(0), &json!([letters[0], letters[1]])));
    let report = replay(&fixed, &json!({"all": true}));
    assert_eq!((&report["replayed"], &report["entries"][0]["id"]), (&json!(1), &letters[2]));
    wait_until(|| fixed.metric(ROUTED) == 3);
    assert_eq!(all(&redis, GEMINI), commands.map(owned));
    assert_eq!(replay(&fixed, &json!({"all": true}))["replayed"], 0);
    assert_eq!((depth(&fixed), redis.query::<u64>(&["XLEN", STREAM])), (0, 6));
    assert_eq!(redis.pending(0, STREAM, "websocket-router"), 0);
    fixed.wait_for_log("dead letters were replayed", PATIENCE);
}

fn what_fails_again_comes_back_with_its_trail(binary: &Path) {
    const COUNT: u64 = 40;
    let redis = RedisServer::start();
    let gateway = gateway(binary, &redis);
    let fields: [Field<'_>; 2] = [("payload", b"{\"service\":"), ("note", b"\xfe")];
    let mut entries: Vec<Vec<String>> = vec![(0..COUNT).map(|_| add(&redis, &fields)).collect()];
    for round in 1..=3 {
        wait_until(|| gateway.metric(DEAD_LETTERS) == COUNT * round);
        let letters = list(&gateway, "?count=1000");
        assert_eq!(letters["depth"], COUNT, "each is there once");
        let newest = &letters["letters"][0];
        let trail: Vec<Value> =
            entries.iter().rev().skip(1).rev().map(|life| json!({"msg_id": life.last(), "code": "not_json"})).collect();
        assert_eq!(
            (&newest["trail"], newest["msg_id"].as_str()),
            (&Value::from(trail), entries.last().and_then(|life| Some(life.last()?.as_str())))
        );
        let shown = get(&gateway, &format!("/{}", text(&newest["id"]))).json();
        assert_eq!(shown["fields"], json!([["payload", "{\"service\":"], ["note", {"base64": "/g=="}]]), "as they were");

        // What becomes a letter again meanwhile is not replayed again.
        let report = replay(&gateway, &json!({"all": true}));
        assert_eq!((&report["replayed"], &report["failed"]), (&json!(COUNT), &json!([])));
        let again = report["entries"].as_array().expect("a list").iter().map(|entry| text(&entry["entry"]));
        entries.push(again.collect());
    }
    // The layout that others know stays as it is: ours before the original fields, their number last.
    wait_until(|| gateway.metric(DEAD_LETTERS) == COUNT * 4);
    let letter = all(&redis, LETTERS).pop().expect("there are letters");
    let names: Vec<_> = letter.iter().map(|(name, _)| String::from_utf8_lossy(name).into_owned()).collect();
    let expected =
        ["msg_id", "error", "timestamp", "code", "source", "added", "deliveries", "trail", "fields", "payload", "note"];
    assert_eq!(names, expected);
    assert_eq!(letter[8].1, b"2");
}

fn a_batch_is_delivered_once_its_cause_is_gone(binary: &Path) {
    const SOURCE: &str = "stream%3Afile-events";
    const IMPATIENT: &str = r#"
[[sources]]
stream = "stream:file-events"
group = "websocket-consumers"
dead_letter = "stream:file-events-dlq"
to.events = { room = "workspace:{id}", type = "file.changed" }
block = "50ms"
claim_after = "100ms"
max_deliveries = 2
"#;
    let redis = RedisServer::start();
    let gateway = Setup::new(binary).option("--redis", &redis.url()).config(IMPATIENT).start();
    // Nothing can be appended to any relay log.
    (0..16).for_each(|partition| drop(redis.command(&["SET", &format!("rc:relay:{{{partition}}}"), "not a stream"])));
    let entry = publish_file_event(&["--url", &redis.url(), "--gzip", "--workspace", "w"]).remove(0);
    wait_until(|| gateway.metric(DEAD_LETTERS) == 1);
    (0..16).for_each(|partition| drop(redis.command(&["DEL", &format!("rc:relay:{{{partition}}}")])));
    let mut client = gateway.member("alice", "workspace:w");
    let letters = api(&gateway, "GET", &format!("{SOURCE}?count=5"), "").json();
    assert_eq!((&letters["letters"][0]["msg_id"], &letters["letters"][0]["code"]), (&json!(entry), &json!("max_deliveries")));

    let body = json!({"ids": [letters["letters"][0]["id"]]}).to_string();
    let report = || api(&gateway, "POST", &format!("{SOURCE}/replay"), &body).json();
    assert_eq!(report()["replayed"], 1);
    assert_eq!(client.expect_type("file.changed")["data"]["event_id"], "test-event");
    assert_eq!(report()["gone"], json!([letters["letters"][0]["id"]]));
    // The next message is another one: the event came once.
    gateway.publish("workspace:w", "note", &json!(1));
    client.expect_type("note");
}

fn a_source_that_takes_nothing_leaves_the_letter(binary: &Path) {
    let redis = RedisServer::start();
    let gateway = gateway(binary, &redis);
    add(&redis, &[("payload", b"nonsense")]);
    wait_until(|| gateway.metric(DEAD_LETTERS) == 1);
    let letter = ids(&gateway).remove(0);
    let last = format!("{0}-{0}", u64::MAX);
    for (obstacle, reason) in
        [(&["SET", STREAM, "not a stream"][..], "WRONGTYPE"), (&["XADD", STREAM, &last, "a", "b"], "exhausted")]
    {
        redis.command(&["DEL", STREAM]);
        redis.command(obstacle);
        for body in [json!({"ids": [letter]}), json!({"all": true})] {
            let report = replay(&gateway, &body);
            assert_eq!((&report["replayed"], &report["failures"], &report["failed"][0]["id"]), (&json!(0), &json!(1), &letter));
            assert!(text(&report["failed"][0]["error"]).contains(reason), "{report}");
        }
        assert_eq!(ids(&gateway), std::slice::from_ref(&letter), "it is a letter still");
    }
    redis.command(&["DEL", STREAM]);
    // Whoever may not delete the letter must not add its entry either.
    redis.command(&["ACL", "SETUSER", "default", "-xdel"]);
    let answer = api(&gateway, "POST", &format!("{}/replay", encoded(STREAM)), r#"{"all":true}"#);
    assert_eq!((answer.status, answer.json()["error"]["code"].as_str()), (502, Some("store_refused")), "{}", answer.text());
    assert_eq!((depth(&gateway), redis.query::<u64>(&["XLEN", STREAM])), (1, 0));
    redis.command(&["ACL", "SETUSER", "default", "+xdel"]);

    assert_eq!(replay(&gateway, &json!({"all": true}))["replayed"], 1);
    // What could not be used before cannot be used now.
    wait_until(|| list(&gateway, "")["letters"][0]["trail"][0]["code"] == "not_json");
}

fn sources_that_share_their_dead_letters_replay_only_their_own(binary: &Path) {
    const SHARED: &str = r#"
[[sources]]
stream = "one"
group = "g"
dead_letter = "dead"
to.commands = {}

[[sources]]
stream = "two"
group = "g"
dead_letter = "dead"
to.commands = {}
"#;
    let redis = RedisServer::start();
    let gateway = Setup::new(binary).option("--redis", &redis.url()).config(SHARED).start();
    add_to(&redis, "one", &[("payload", b"nonsense")]);
    wait_until(|| gateway.metric(DEAD_LETTERS) == 1);
    let report = api(&gateway, "POST", "two/replay", r#"{"all":true}"#).json();
    assert_eq!((&report["replayed"], &report["failures"]), (&json!(0), &json!(1)));
    assert!(text(&report["failed"][0]["error"]).contains("of another source"), "{report}");
    assert_eq!(api(&gateway, "POST", "one/replay", r#"{"all":true}"#).json()["replayed"], 1);
}

fn letters_of_an_older_consumer_are_replayed_and_those_that_were_cut_are_not(binary: &Path) {
    let redis = RedisServer::start();
    let gateway = with_gemini(binary, &redis);
    let json = command("gemini");
    let fields = [("error", &b"Unknown service"[..]), ("msg_id", b"5-1"), ("payload", json.as_bytes()), ("timestamp", b"2025")];
    add_to(&redis, LETTERS, &fields);
    // More fields than a letter can keep.
    add(&redis, &vec![("x", &b"y"[..]); 2_001]);
    wait_until(|| gateway.metric(DEAD_LETTERS) == 1);
    // Somebody's own, with nothing of an entry.
    add_to(&redis, LETTERS, &[("error", b"only that")]);

    let letters = list(&gateway, "");
    let expected = json!({"id": letters["letters"][2]["id"], "msg_id": "5-1", "error": "Unknown service", "code": null, "timestamp": "2025",
        "source": null, "added": null, "deliveries": null, "trail": [], "complete": true, "field_count": 1, "bytes": 7 + json.len()});
    assert_eq!(letters["letters"][2], expected);
    assert_eq!([&letters["letters"][0]["complete"], &letters["letters"][1]["complete"]], [false, false]);
    let report = replay(&gateway, &json!({"all": true}));
    assert_eq!((&report["replayed"], &report["failures"]), (&json!(1), &json!(2)));
    assert!(text(&report["failed"][0]["error"]).contains("all the fields"), "{report}");
    wait_until(|| gateway.metric(ROUTED) == 1);
    assert_eq!(all(&redis, GEMINI), [owned(&[("payload", json.as_bytes())])]);
    assert_eq!(depth(&gateway), 2);
}

fn letters_are_purged_by_identifier_and_all(binary: &Path) {
    let redis = RedisServer::start();
    let gateway = gateway(binary, &redis);
    (0..25).for_each(|_| drop(add(&redis, &[("payload", b"nonsense")])));
    wait_until(|| gateway.metric(DEAD_LETTERS) == 25);
    let letters = ids(&gateway);
    let purge = |body: Value| api(&gateway, "DELETE", &encoded(STREAM), &body.to_string());
    assert_eq!(purge(json!({"ids": [letters[3], letters[4], "1-0", letters[3]]})).json(), json!({"purged": 2}));
    assert_eq!(purge(json!({"ids": [letters[3]]})).json(), json!({"purged": 0}));
    let left = ids(&gateway);
    assert!(left.len() == 23 && left.iter().all(|id| *id != letters[3] && *id != letters[4]));
    assert_eq!(purge(json!({"all": true})).json(), json!({"purged": 23}));
    assert_eq!(purge(json!({"all": true})).json(), json!({"purged": 0}));
    assert_eq!((depth(&gateway), redis.query::<u64>(&["XLEN", STREAM])), (0, 25), "the source keeps its entries");
    gateway.wait_for_log("dead letters were purged", PATIENCE);

    redis.command(&["SET", LETTERS, "not a stream"]);
    for answer in [
        purge(json!({"all": true})),
        get(&gateway, ""),
        api(&gateway, "POST", &format!("{}/replay", encoded(STREAM)), r#"{"all":true}"#),
    ] {
        assert_eq!((answer.status, &answer.json()["error"]["code"]), (502, &json!("store_refused")));
        assert!(answer.text().contains("WRONGTYPE"), "{}", answer.text());
    }
}

fn sources_are_told_apart_and_wrong_requests_refused(binary: &Path) {
    let redis = RedisServer::start();
    let gateway = Setup::new(binary).option("--redis", &redis.url()).config(TWO_GROUPS).start();
    add_to(&redis, "in", &[("payload", b"nonsense")]);
    wait_until(|| gateway.metric(DEAD_LETTERS) == 2);
    redis.command(&["DEL", "dead:a"]);
    for (path, depth) in [("in?group=a", 0), ("in?group=b%2F%25", 1)] {
        assert_eq!(api(&gateway, "GET", path, "").json()["depth"], depth, "{path}");
    }
    let many: Vec<String> = (0..1_001).map(|number| format!("1-{number}")).collect();
    let many = json!({"ids": many}).to_string();
    for (method, path, body, status, code) in [
        ("GET", "in", "", 400, "ambiguous_source"),
        ("POST", "in/replay", r#"{"all":true}"#, 400, "ambiguous_source"),
        ("DELETE", "in", r#"{"all":true}"#, 400, "ambiguous_source"),
        ("GET", "in?group=c", "", 404, "unknown_source"),
        ("GET", "out", "", 404, "unknown_source"),
        ("GET", "dead%3Ab", "", 404, "unknown_source"),
        ("GET", "in%2", "", 400, "invalid_request"),
        ("GET", "%ff", "", 400, "invalid_request"),
        ("GET", "in?group=a&count=1001", "", 400, "invalid_request"),
        ("GET", "in?group=a&before=yesterday", "", 400, "invalid_request"),
        ("GET", "in/yesterday?group=a", "", 400, "invalid_request"),
        ("GET", "in/1-0?group=a", "", 404, "unknown_letter"),
        ("POST", "in/replay?group=a", "", 400, "invalid_request"),
        ("POST", "in/replay?group=a", r#"{"ids":["x"]}"#, 400, "invalid_request"),
        ("POST", "in/replay?group=a", &many, 400, "invalid_request"),
        ("DELETE", "in?group=a", r#"{"all":false}"#, 400, "invalid_request"),
        ("PUT", "in?group=a", r#"{"all":true}"#, 405, "method_not_allowed"),
    ] {
        let answer = api(&gateway, method, path, body);
        assert_eq!((answer.status, &answer.json()["error"]["code"]), (status, &json!(code)), "{method} {path}");
        assert!(answer.json()["error"]["message"].as_str().is_some_and(|message| message.len() > 10), "{}", answer.text());
    }
    assert_eq!(redis.query::<u64>(&["XLEN", "dead:b"]), 1, "nothing was done");
}

fn only_administrators_get_in(binary: &Path) {
    let redis = RedisServer::start();
    let gateway = gateway(binary, &redis);
    add(&redis, &[("payload", b"nonsense")]);
    wait_until(|| gateway.metric(DEAD_LETTERS) == 1);
    let user = format!("Bearer {}", access_token(SECRET, "u", &json!({"rooms": ["*"]})));
    let foreign = format!("Bearer {}", access_token("another secret", "u", &json!({"role": "admin"})));
    for (authorization, status, code) in
        [("", 401, "unauthorized"), (foreign.as_str(), 401, "token_invalid"), (user.as_str(), 403, "forbidden")]
    {
        let headers = [("authorization", authorization)];
        let headers = if authorization.is_empty() { &[][..] } else { &headers };
        let source = encoded(STREAM);
        for (method, path, body) in [
            ("GET", source.clone(), ""),
            ("GET", "nowhere".into(), ""),
            ("GET", format!("{source}/1-0"), ""),
            ("POST", format!("{source}/replay"), r#"{"all":true}"#),
            ("DELETE", source, r#"{"all":true}"#),
        ] {
            let answer = gateway.http(method, &format!("/api/dlq/{path}"), headers, body.as_bytes());
            assert_eq!((answer.status, &answer.json()["error"]["code"]), (status, &json!(code)), "{method} {path}");
        }
    }
    assert_eq!(depth(&gateway), 1);
}

fn without_a_store_it_is_said_and_nothing_is_lost(binary: &Path) {
    let mut redis = RedisServer::start();
    let gateway = gateway(binary, &redis);
    add(&redis, &[("payload", b"nonsense")]);
    wait_until(|| gateway.metric(DEAD_LETTERS) == 1);
    let source = encoded(STREAM);
    let requests = [
        ("GET", source.clone(), ""),
        ("GET", format!("{source}/1-0"), ""),
        ("POST", format!("{source}/replay"), r#"{"all":true}"#),
        ("DELETE", source, r#"{"all":true}"#),
    ];
    redis.stop();
    for (method, path, body) in &requests {
        let answer = api(&gateway, method, path, body);
        assert_eq!((answer.status, &answer.json()["error"]["code"]), (503, &json!("unavailable")), "{}", answer.text());
    }
    redis.start_again();
    wait_until(|| get(&gateway, "").status == 200);
}

fn the_command_line_does_the_same(binary: &Path) {
    let redis = RedisServer::start();
    let plain = gateway(binary, &redis);
    let json = command("gemini");
    for _ in 0..3 {
        add(&redis, &[("payload", json.as_bytes()), ("\x1b[2J", b"\x07\xc3\xa9\n"), ("bytes", b"\xff")]);
    }
    wait_until(|| plain.metric(DEAD_LETTERS) == 3);
    let letters: Vec<String> = ids(&plain).iter().map(text).collect();

    let output = dlq(binary, &plain, &["list", STREAM, "--count", "2"]);
    let lines = printed(&output);
    assert!(lines[0].starts_with("ID ") && lines[0].contains("REASON"), "{lines:?}");
    assert!(lines[1].starts_with(&letters[2]) && lines[1].contains("unknown_service"), "{lines:?}");
    assert_eq!(lines[3..], ["2 of 3 letters".to_owned(), format!("for more, --before {}", letters[1])]);
    let output = dlq(binary, &plain, &["list", STREAM, "--before", &letters[1]]);
    assert!(printed(&output)[1].starts_with(&letters[0]) && printed(&output).len() == 3);
    let output = dlq(binary, &plain, &["list", STREAM, "--json"]);
    assert_eq!(serde_json::from_slice::<Value>(&output.stdout).expect("it is JSON"), list(&plain, ""));

    let output = dlq(binary, &plain, &["show", STREAM, "--id", &letters[0]]);
    let lines = printed(&output);
    assert!(lines.iter().any(|line| *line == format!("  payload = {json}")), "{lines:?}");
    // Nothing of it speaks to the terminal.
    assert!(lines.iter().any(|line| line == "  \\u{1b}[2J = \\u{7}\u{e9}\\n"), "{lines:?}");
    assert!(lines.iter().any(|line| line == "  bytes = (base64) /w=="), "{lines:?}");
    let output = dlq(binary, &plain, &["show", STREAM, "--id", &letters[0], "--json"]);
    assert_eq!(
        serde_json::from_slice::<Value>(&output.stdout).expect("it is JSON"),
        get(&plain, &format!("/{}", letters[0])).json()
    );
    plain.terminate(PATIENCE);

    let fixed = with_gemini(binary, &redis);
    let both = format!("{},{}", letters[0], letters[1]);
    let output = dlq(binary, &fixed, &["replay", STREAM, "--id", &both, "--id", "1-0"]);
    let lines = printed(&output);
    assert!(lines[0].starts_with(&format!("{} is entry ", letters[0])), "{lines:?}");
    assert_eq!(lines[3], "2 replayed, 1 not there, 0 failed");
    wait_until(|| fixed.metric(ROUTED) == 2);
    let output = dlq(binary, &fixed, &["replay", STREAM, "--id", &both]);
    assert_eq!(printed(&output).last().map(String::as_str), Some("0 replayed, 2 not there, 0 failed"));
    let output = dlq(binary, &fixed, &["purge", STREAM, "--id", &letters[2]]);
    assert_eq!(printed(&output), ["1 purged"]);
    let output = dlq(binary, &fixed, &["purge", STREAM, "--all", "--json"]);
    assert_eq!(printed(&output), [r#"{"purged":0}"#]);
    assert_eq!(all(&redis, GEMINI).len(), 2);
}

fn the_command_line_tells_what_went_wrong(binary: &Path) {
    let redis = RedisServer::start();
    let gateway = Setup::new(binary).option("--redis", &redis.url()).config(TWO_GROUPS).start();
    add_to(&redis, "in", &[("payload", b"nonsense")]);
    wait_until(|| gateway.metric(DEAD_LETTERS) == 2);
    let user = access_token(SECRET, "u", &json!({}));
    for (arguments, code, expected) in [
        (&["list", "in"][..], 1, "ambiguous_source"),
        (&["list", "out"], 1, "unknown_source"),
        (&["list", "in", "--group", "a", "--count", "5000"], 1, "count must be"),
        (&["show", "in", "--group", "a", "--id", "1-0"], 1, "unknown_letter"),
        (&["show", "in", "--group", "a", "--id", "../publish"], 1, "invalid_request"),
        (&["list", "in", "--group", "a", "--token", &user], 1, "forbidden"),
        // Neither is done by accident.
        (&["replay", "in", "--group", "a"], 2, "--all"),
        (&["purge", "in", "--group", "a"], 2, "--all"),
        (&["purge", "in", "--group", "a", "--all", "--id", "1-0"], 2, "--all"),
        (&["show", "in", "--group", "a"], 2, "--id"),
    ] {
        let output = dlq(binary, &gateway, arguments);
        assert_eq!(output.status.code(), Some(code), "{arguments:?}");
        let error = String::from_utf8_lossy(&output.stderr);
        assert!(error.contains(expected), "{arguments:?}: {error}");
        assert!(output.stdout.is_empty());
    }
    redis.command(&["SET", "in", "not a stream"]);
    let output = dlq(binary, &gateway, &["replay", "in", "--group", "b/%", "--all"]);
    assert_eq!(output.status.code(), Some(1));
    assert!(String::from_utf8_lossy(&output.stdout).contains("WRONGTYPE"), "it says which and why");
    assert!(String::from_utf8_lossy(&output.stderr).contains("1 letters could not be replayed"));
}

/// A gateway with the default configuration.
fn gateway(binary: &Path, redis: &RedisServer) -> Gateway {
    Setup::new(binary).option("--redis", &redis.url()).start()
}

fn with_gemini(binary: &Path, redis: &RedisServer) -> Gateway {
    Setup::new(binary).option("--redis", &redis.url()).config(WITH_GEMINI).start()
}

/// A request to the API as an administrator; the path follows `/api/dlq/`.
fn api(gateway: &Gateway, method: &str, path: &str, body: &str) -> Response {
    let bearer = format!("Bearer {}", access_token(SECRET, "operator", &json!({"role": "admin"})));
    gateway.http(method, &format!("/api/dlq/{path}"), &[("authorization", &bearer)], body.as_bytes())
}

/// What is at a path of the source of commands.
fn get(gateway: &Gateway, rest: &str) -> Response {
    api(gateway, "GET", &format!("{}{rest}", encoded(STREAM)), "")
}

fn list(gateway: &Gateway, query: &str) -> Value {
    let answer = get(gateway, query);
    assert_eq!(answer.status, 200, "{}", answer.text());
    answer.json()
}

fn replay(gateway: &Gateway, body: &Value) -> Value {
    let answer = api(gateway, "POST", &format!("{}/replay", encoded(STREAM)), &body.to_string());
    assert_eq!(answer.status, 200, "{}", answer.text());
    answer.json()
}

/// The letters of the source of commands, the oldest first.
fn ids(gateway: &Gateway) -> Vec<Value> {
    list(gateway, "?count=1000")["letters"].as_array().expect("a list").iter().rev().map(|letter| letter["id"].clone()).collect()
}

fn depth(gateway: &Gateway) -> u64 {
    list(gateway, "?count=1")["depth"].as_u64().expect("a number")
}

fn encoded(stream: &str) -> String {
    stream.replace(':', "%3A")
}

/// Runs the command `dlq` against a gateway. A token among the arguments wins.
fn dlq(binary: &Path, gateway: &Gateway, arguments: &[&str]) -> Output {
    let mut command = clean_command(binary);
    command.arg("dlq").args(arguments);
    run(command.env("ROOMCAST_URL", format!("http://{}/", gateway.addr())).env("JWT_SECRET_KEY", SECRET))
}

/// The lines of a command that did what it was asked.
fn printed(output: &Output) -> Vec<String> {
    assert_eq!(output.status.code(), Some(0), "{}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8_lossy(&output.stdout).lines().map(String::from).collect()
}

fn command(service: &str) -> String {
    format!(r#"{{"message" : "h\u00e9", "service":"{service}", "session_id":"s","workspace_path":"/w", "context":{{"n":1.50}}}}"#)
}

fn add(redis: &RedisServer, fields: &[Field<'_>]) -> String {
    add_to(redis, STREAM, fields)
}

fn text(value: &Value) -> String {
    value.as_str().unwrap_or_else(|| panic!("{value} is no string")).to_owned()
}
