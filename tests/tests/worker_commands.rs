//! The commands that can do without a gateway: `publish`, `ping` and `listen`, directly on Redis.

use std::path::Path;
use std::process::Command;

use nix::sys::signal::Signal;
use roomcast_tests::gateway_tests;
use roomcast_tests::real::PATIENCE;
use roomcast_tests::real::client::raw_field;
use roomcast_tests::real::process::{Process, run};
use roomcast_tests::real::redis::RedisServer;
use roomcast_tests::real::setup::{ConfigFile, SECRET, Setup, clean_command};
use serde_json::{Value, json};

gateway_tests!(
    publish_reaches_rooms_users_projects_and_everybody,
    publish_wants_one_target_and_tells_what_is_wrong,
    publish_and_listen_take_prefix_and_partitions_from_the_configuration,
    ping_says_whether_redis_answers_or_a_gateway_is_ready,
    listen_prints_one_message_a_line,
    listen_ends_at_a_signal,
);

fn publish_reaches_rooms_users_projects_and_everybody(binary: &Path) {
    let redis = RedisServer::start();
    let gateway = Setup::new(binary).option("--redis", &redis.url()).start();
    let mut client = gateway.member("7", "task:1");
    client.subscribe("project:1");
    let (through_redis, through_it) = (["--redis", &redis.url()], ["--url", &format!("http://{}", gateway.addr())]);
    for (way, secret) in [(&through_redis, None), (&through_it, Some(SECRET))] {
        for (target, room) in [
            (&["--room", "task:1"][..], "task:1"),
            (&["--user", "7"], "user:7"),
            (&["--project", "1"], "project:1"),
            (&["--broadcast"], "*"),
        ] {
            let id = format!("{room}{}", way[0]);
            let mut command = clean_command(binary);
            command.args(["publish", "--type", "note", "--data", r#"{"z": 1.0,  "a":null}"#, "--message-id", &id]);
            command.args(way).args(target).envs(secret.map(|secret| ("JWT_SECRET_KEY", secret)));
            let told: Value = serde_json::from_str(&succeeds(&mut command)).expect("it tells JSON");
            let text = client.next_text(PATIENCE);
            assert_eq!(raw_field(&text, "data"), r#"{"z": 1.0,  "a":null}"#);
            let frame: Value = serde_json::from_str(&text).expect("a frame is JSON");
            assert_eq!((&frame["message_id"], &frame["room"]), (&json!(id), &json!(room)));
            assert_eq!(told["message_id"], frame["message_id"]);
            // Clients are not told where a message stands in an inbox.
            let remembers = ["project:1", "user:7"].contains(&room);
            assert_eq!(
                (told["position"].is_string(), frame["position"] == told["position"]),
                (remembers, room != "user:7"),
                "{told}"
            );
            // Once more under the same identifier it is not sent again.
            assert_eq!(serde_json::from_str::<Value>(&succeeds(&mut command)).expect("it tells JSON"), told);
        }
    }
}

fn publish_wants_one_target_and_tells_what_is_wrong(binary: &Path) {
    let redis = RedisServer::start();
    let publish = |arguments: &[&str]| {
        let output = run(clean_command(binary).args(["publish", "--type", "t", "--redis", &redis.url()]).args(arguments));
        (output.status.code(), text(&output.stderr))
    };
    for arguments in
        [&["--data", "1"][..], &["--data", "1", "--room", "r", "--user", "7"], &["--data", "1", "--room", "r", "--broadcast"]]
    {
        assert_eq!(publish(arguments).0, Some(2), "{arguments:?}");
    }
    for (arguments, expected) in [
        (&["--data", "{", "--room", "r"][..], "--data is not JSON"),
        (&["--data", "1", "--room", "a\nb"], "the name of the room is empty, too long or has control characters"),
        (&["--data", "1", "--user", ""], "the name of the room is empty"),
        (&["--data", "1", "--room", "r", "--redis", "http://127.0.0.1"], "--redis"),
        (&["--data", "1", "--room", "r", "--config", "/nowhere"], "/nowhere"),
    ] {
        let (code, stderr) = publish(arguments);
        assert!(code != Some(0) && stderr.contains(expected), "{arguments:?}: {stderr}");
    }
}

fn publish_and_listen_take_prefix_and_partitions_from_the_configuration(binary: &Path) {
    let redis = RedisServer::start();
    let config =
        ConfigFile::new(&format!("[server]\nredis = \"{}\"\n[relay]\nprefix = \"mine:\"\npartitions = 3\n", redis.url()));
    let listening = listen(clean_command(binary).args(["listen", "--config", config.path(), "--room", "task:1"]));
    let mut command = clean_command(binary);
    command.args([
        "publish",
        "--redis",
        &redis.url(),
        "--config",
        config.path(),
        "--room",
        "task:1",
        "--type",
        "t",
        "--data",
        "1",
    ]);
    succeeds(&mut command);
    listening.wait_for_log(r#""type":"t""#, PATIENCE);
    let keys: Vec<String> = redis.query(&["KEYS", "*"]);
    assert!(!keys.is_empty() && keys.iter().all(|key| key.starts_with("mine:")), "{keys:?}");
}

fn ping_says_whether_redis_answers_or_a_gateway_is_ready(binary: &Path) {
    let mut redis = RedisServer::start();
    let mut gateway = Setup::new(binary).option("--redis", &redis.url()).start();
    let ways = [["--redis".to_owned(), redis.url()], ["--url".to_owned(), format!("http://{}", gateway.addr())]];
    for way in &ways {
        let told = succeeds(clean_command(binary).arg("ping").args(way));
        assert!(told.lines().count() == 1 && told.contains(" answered in ") && told.ends_with(" ms\n"), "{told}");
    }
    redis.stop();
    gateway.wait_unready(PATIENCE);
    for (way, expected) in ways.iter().zip(["disconnected: ", "503"]) {
        let output = run(clean_command(binary).arg("ping").args(way));
        let stderr = text(&output.stderr);
        assert_eq!((output.status.code(), text(&output.stdout), stderr.lines().count()), (Some(1), String::new(), 1), "{stderr}");
        assert!(stderr.contains(expected), "{stderr}");
    }
}

fn listen_prints_one_message_a_line(binary: &Path) {
    let redis = RedisServer::start();
    let publish = |target: &[&str]| {
        let mut command = clean_command(binary);
        command.args(["publish", "--redis", &redis.url(), "--type", "t", "--data", "{\n\"a\": 1}"]).args(target);
        succeeds(&mut command);
    };
    let listener =
        |target: &[&str]| listen(clean_command(binary).args(["listen", "--redis", &redis.url(), "--count", "2"]).args(target));
    let mut all = [
        listener(&["--room", "task:1"]),
        listener(&["--user", "7"]),
        listener(&["--channel", "news:1"]),
        listener(&["--pattern", "news:*"]),
    ];
    for _ in 0..2 {
        publish(&["--room", "task:1"]);
        publish(&["--user", "7"]);
    }
    for payload in ["plain", "two\nlines"] {
        assert_eq!(redis.query::<u64>(&["PUBLISH", "news:1", payload]), 2);
    }
    for listener in &mut all {
        assert_eq!(listener.wait(PATIENCE).code(), Some(0), "{}", listener.tail());
        listener.wait_for_end_of_output(PATIENCE);
    }
    let lines = all.each_ref().map(|listener| {
        let lines = listener.log_lines().into_iter().filter(|line| !line.contains("listening"));
        lines.collect::<Vec<_>>()
    });
    for (lines, room) in lines.iter().zip(["task:1", "user:7"]) {
        assert_eq!(lines.len(), 2);
        for line in lines {
            assert!(line.contains(r#""data":{ "a": 1}"#) && line.contains(&format!(r#""room":"{room}""#)), "{line}");
        }
    }
    assert_eq!(lines[2], ["plain", r"two\nlines"]);
    assert_eq!(lines[3], ["news:1 plain", r"news:1 two\nlines"]);
}

fn listen_ends_at_a_signal(binary: &Path) {
    let redis = RedisServer::start();
    let mut listening = listen(clean_command(binary).args(["listen", "--channel", "c"]).env("REDIS_URL", redis.url()));
    listening.signal(Signal::SIGTERM);
    assert_eq!(listening.wait(PATIENCE).code(), Some(0), "{}", listening.tail());

    let output = run(clean_command(binary).args(["listen", "--channel", "c"]));
    assert!(text(&output.stderr).contains("name Redis by --redis"), "{}", text(&output.stderr));
}

/// A listener that hears.
fn listen(command: &mut Command) -> Process {
    let process = Process::spawn("the listener", command);
    process.wait_for_log("listening", PATIENCE);
    process
}

/// What a command prints that does what it should.
fn succeeds(command: &mut Command) -> String {
    let output = run(command);
    assert_eq!(output.status.code(), Some(0), "{}", text(&output.stderr));
    text(&output.stdout)
}

fn text(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).into_owned()
}
