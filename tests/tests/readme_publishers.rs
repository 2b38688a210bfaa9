//! The publishers of the README: what they write reaches its rooms, and each way keeps what it promises while no node runs.

use std::path::Path;

use roomcast_tests::gateway_tests;
use roomcast_tests::real::PATIENCE;
use roomcast_tests::real::client::JsonClient;
use roomcast_tests::real::e2e::run_readme_publisher;
use roomcast_tests::real::redis::RedisServer;
use roomcast_tests::real::setup::Setup;
use serde_json::{Value, json};

gateway_tests!(in_python, in_node);

/// What comes late can be asked for.
const CONFIG: &str = r#"
[[access]]
rooms = "*"
subscribe = "authenticated"
[[rooms]]
rooms = "user:*"
keep.inbox = {}
[[rooms]]
rooms = "job:*"
keep.stream = {}
[[rooms]]
rooms = "*"
keep.history = { newest = 100 }
"#;

fn in_python(binary: &Path) {
    publish_without_and_with_a_node(binary, "python");
}

fn in_node(binary: &Path) {
    publish_without_and_with_a_node(binary, "js");
}

fn publish_without_and_with_a_node(binary: &Path, language: &str) {
    let redis = RedisServer::start();
    let unheard = ["note", "note", "task_updated", "maintenance"].map(|kind| format!("nobody has heard {kind}"));
    assert_eq!(run_readme_publisher(language, &redis.url()), unheard);

    // What was added waits, and what was said is lost.
    let gateway = Setup::new(binary).option("--redis", &redis.url()).config(CONFIG).start();
    let mut files = gateway.member("1", "workspace:w-1");
    assert_is_the_event(&files.expect_type("file.changed"));
    let mut job = gateway.member("2", "job:42");
    assert_eq!(job.expect_type("file_completed")["data"], json!({"processed_files": 3}));
    assert!((86_000..=86_400).contains(&redis.query::<u64>(&["TTL", "job:updates:42"])));
    let mut chat = gateway.member("3", "chat:1");
    let mut project = gateway.member("4", "project:1");
    let mut user = gateway.client("7");

    assert_eq!(run_readme_publisher(language, &redis.url()), [""; 0]);
    let note = |text: &str| json!({"text": text});
    let expected: [(&mut JsonClient, &str, Option<Value>); 5] = [
        (&mut files, "file.changed", None),
        (&mut job, "file_completed", Some(json!({"processed_files": 3}))),
        (&mut chat, "note", Some(note("hello, room"))),
        (&mut project, "task_updated", Some(json!({"task_id": "t-1"}))),
        (&mut user, "note", Some(note("hello, user"))),
    ];
    for (client, kind, data) in expected {
        // Everybody is told the one thing, before or after the other.
        let frames = [client.next(PATIENCE), client.next(PATIENCE)];
        let frame = |kind: &str| frames.iter().find(|frame| frame["type"] == kind).unwrap_or_else(|| panic!("{frames:?}"));
        assert_eq!(frame("maintenance")["data"], json!({"at": "noon"}));
        match data {
            Some(data) => assert_eq!(frame(kind)["data"], data),
            None => assert_is_the_event(frame(kind)),
        }
    }
    assert_eq!(gateway.metric("roomcast_channel_broken_total"), 0);
}

fn assert_is_the_event(frame: &Value) {
    let data = &frame["data"];
    assert_eq!((&data["workspace"], &data["file"]["path"]), (&json!({"id": "w-1"}), &json!("main.py")), "{frame}");
}
