//! The binary's commands, options, environment and configuration file.

use std::net::TcpListener;
use std::path::Path;

use jsonwebtoken::{DecodingKey, Validation, decode};
use roomcast_tests::gateway_tests;
use roomcast_tests::real::PATIENCE;
use roomcast_tests::real::client::{Credential, JsonClient, access_token, raw_field, unix_time};
use roomcast_tests::real::gateway::Gateway;
use roomcast_tests::real::process::run;
use roomcast_tests::real::redis::RedisServer;
use roomcast_tests::real::setup::{ConfigFile, SECRET, Setup, clean_command};
use serde_json::{Value, json};

gateway_tests!(
    help_and_version_are_told,
    a_wrong_option_is_an_error_with_a_hint,
    a_mistake_in_the_configuration_file_is_named_and_nothing_starts,
    an_address_in_use_is_a_clear_error,
    the_environment_says_where_to_listen_where_redis_is_and_what_the_secret_is,
    a_redis_url_in_the_environment_is_used,
    options_win_over_the_environment_and_the_environment_over_the_file,
    a_redis_url_wins_over_a_host_and_an_option_over_both_of_the_environment,
    a_configuration_file_alone_is_enough,
    the_publish_command_reaches_subscribers,
    the_publish_command_tells_what_went_wrong,
    a_made_token_says_what_it_was_asked_to_say,
    a_token_made_for_some_rooms_opens_only_these,
    logs_can_be_json,
);

fn help_and_version_are_told(binary: &Path) {
    for (arguments, expected) in [
        (&["--help"][..], &["serve", "token", "publish", "dlq"][..]),
        (&["serve", "--help"], &["--config", "--listen", "--redis", "--jwt-secret", "--shards", "REDIS_HOST", "JWT_SECRET_KEY"]),
        (&["token", "--help"], &["--user", "--role", "--rooms", "--ttl"]),
        (&["publish", "--help"], &["--room", "--type", "--data"]),
        (&["dlq", "--help"], &["list", "show", "replay", "purge"]),
        (&["dlq", "replay", "--help"], &["--id", "--all", "--group", "--json", "--url", "--token"]),
        (&["--version"], &[env!("CARGO_PKG_VERSION")]),
    ] {
        let output = run(clean_command(binary).args(arguments));
        assert_eq!(output.status.code(), Some(0), "{arguments:?}");
        let text = text(&output.stdout);
        for word in expected {
            assert!(text.contains(word), "{arguments:?} does not tell of {word}:\n{text}");
        }
    }
    // A secret of the surroundings is not shown to whoever asks for help.
    let output =
        run(clean_command(binary).args(["serve", "--help"]).env("JWT_SECRET_KEY", "hunter2").env("REDIS_PASSWORD", "hunter2"));
    assert!(!text(&output.stdout).contains("hunter2"));
}

fn a_wrong_option_is_an_error_with_a_hint(binary: &Path) {
    for arguments in [
        &["serve", "--lisen", "127.0.0.1:0"][..],
        &["serve", "--shards", "0"],
        &["serve", "--listen", "nowhere"],
        &["dance"],
        &[],
    ] {
        let output = run(clean_command(binary).args(arguments));
        assert_eq!(output.status.code(), Some(2), "{arguments:?}");
        assert!(text(&output.stderr).contains("--help"), "{arguments:?}: {}", text(&output.stderr));
    }
}

fn a_mistake_in_the_configuration_file_is_named_and_nothing_starts(binary: &Path) {
    for (toml, expected) in [
        ("[limits]\nmesages_per_second = 5\n", "mesages_per_second"),
        ("[limits]\nmessage_bytes = \"many\"\n", "message_bytes"),
        ("[limits]\nmessage_bytes = 0\n", "limits.message_bytes: must be greater than 0"),
        ("[limits]\nauth_timeout = \"soon\"\n", "auth_timeout"),
        ("[sever]\nlisten = \"127.0.0.1:0\"\n", "sever"),
        ("[server]\nlisten = \"nowhere\"\n", "listen"),
        ("[server]\nredis = \"http://127.0.0.1\"\n", "server.redis"),
        ("[server]\nredis = \"redis-sentinel://127.0.0.1\"\n", "server.redis: the master's name is missing"),
        ("[server]\nshards = 0\n", "server.shards: must be from 1 to 63"),
        ("[[sources]]\nstream = \"s\"\n", "group"),
        ("[[sources]]\nstream = \"s\"\ngroup = \"g\"\ndead_letter = \"d\"\nto.events = {}\nto.commands = {}\n", "more than 1"),
        (
            "[[sources]]\nstream = \"s\"\ngroup = \"g\"\ndead_letter = \"d\"\nto.commands = { streams = { a = \"s\" } }\n",
            "sources[0].to.commands: would route a back to the source",
        ),
        ("[auth]\nsecret = \"\"\n", "auth.secret"),
        ("[heartbeat]\nping = \"60s\"\ntimeout = \"60s\"\n", "heartbeat.timeout: must be longer than heartbeat.ping"),
        ("this is not TOML", "expected"),
    ] {
        let file = ConfigFile::new(toml);
        let output = run(clean_command(binary).args(["serve", "--listen", "127.0.0.1:0", "--config", file.path()]));
        let error = text(&output.stderr);
        assert_eq!(output.status.code(), Some(1), "{toml}: {error}");
        assert!(error.contains(expected), "{toml}: {error}");
        assert!(error.contains(file.path()) || error.contains("the configuration"), "where is it? {error}");
        assert!(!error.contains("panicked"), "{error}");
        assert_eq!(text(&output.stdout), "", "{toml}");
    }
    let output = run(clean_command(binary).args(["serve", "--config", "/nowhere/roomcast.toml"]));
    assert_eq!(output.status.code(), Some(1));
    assert!(text(&output.stderr).contains("/nowhere/roomcast.toml"), "{}", text(&output.stderr));
}

fn an_address_in_use_is_a_clear_error(binary: &Path) {
    let taken = TcpListener::bind("127.0.0.1:0").expect("there is a free port");
    let address = taken.local_addr().expect("the socket is bound").to_string();
    let output = run(clean_command(binary).args(["serve", "--listen", &address]));
    assert_eq!(output.status.code(), Some(1));
    assert!(text(&output.stderr).contains(&format!("cannot listen on {address}")), "{}", text(&output.stderr));
}

fn the_environment_says_where_to_listen_where_redis_is_and_what_the_secret_is(binary: &Path) {
    let redis = RedisServer::start();
    let port = redis.port().to_string();
    let mut command = clean_command(binary);
    command.arg("serve").envs([
        ("ROOMCAST_LISTEN", "127.0.0.2:0"),
        ("REDIS_HOST", "127.0.0.1"),
        ("REDIS_PORT", &port),
        ("REDIS_DB", "3"),
        ("JWT_SECRET_KEY", SECRET),
    ]);
    let mut gateway = Gateway::spawn(&mut command);
    gateway.wait_ready(PATIENCE);
    assert_eq!(gateway.addr().ip().to_string(), "127.0.0.2");
    drop(gateway.client("alice"));

    let mut database = redis.connect(3).expect("the server is there");
    let created: bool = redis::cmd("EXISTS").arg("stream:file-events").query(&mut database).expect("Redis answers");
    assert!(created, "the source's group is created in database 3");
    assert_eq!(redis.query::<usize>(&["DBSIZE"]), 0, "nothing is written to database 0");
}

fn a_redis_url_in_the_environment_is_used(binary: &Path) {
    let redis = RedisServer::start();
    redis.command(&["CONFIG", "SET", "requirepass", "hunter2"]);
    let url = format!("redis://:hunter2@127.0.0.1:{}/1", redis.port());
    let mut command = clean_command(binary);
    command.args(["serve", "--listen", "127.0.0.1:0"]).env("REDIS_URL", url);
    let mut gateway = Gateway::spawn(&mut command);
    gateway.wait_ready(PATIENCE);
    assert!(!gateway.tail().contains("hunter2"), "the password is not shown: {}", gateway.tail());
}

fn options_win_over_the_environment_and_the_environment_over_the_file(binary: &Path) {
    let file = ConfigFile::new("[server]\nlisten = \"127.0.0.2:0\"\n[auth]\nsecret = \"of the file\"\n");
    let start = |arguments: &[&str], envs: &[(&str, &str)]| {
        let mut command = clean_command(binary);
        command.args(["serve", "--config", file.path()]).args(arguments).envs(envs.iter().copied());
        let gateway = Gateway::spawn(&mut command);
        let accepts = |secret: &str| {
            let token = access_token(secret, "u", &json!({}));
            let mut client = JsonClient::connect(gateway.addr(), "/ws", Credential::Header(&token));
            client.next(PATIENCE)["type"] == "auth_success"
        };
        let accepted: Vec<&str> =
            ["of the file", "of the surroundings", "of the option"].into_iter().filter(|secret| accepts(secret)).collect();
        (gateway.addr().ip().to_string(), accepted)
    };
    let surroundings = [("ROOMCAST_LISTEN", "127.0.0.3:0"), ("JWT_SECRET_KEY", "of the surroundings")];
    let options = ["--listen", "127.0.0.4:0", "--jwt-secret", "of the option"];
    assert_eq!(start(&[], &[]), ("127.0.0.2".into(), vec!["of the file"]));
    assert_eq!(start(&[], &surroundings), ("127.0.0.3".into(), vec!["of the surroundings"]));
    assert_eq!(start(&options, &surroundings), ("127.0.0.4".into(), vec!["of the option"]));
}

fn a_redis_url_wins_over_a_host_and_an_option_over_both_of_the_environment(binary: &Path) {
    // Nobody listens on these ports: where Redis is looked for is said all the same.
    let store = |arguments: &[&str], envs: &[(&str, &str)]| {
        let gateway = Gateway::launch(binary, &[&["serve"], arguments].concat(), envs);
        let line = gateway.wait_for_log("  store ", PATIENCE);
        line.trim().strip_prefix("store").expect("the line says what it is").trim().to_owned()
    };
    let (url, host) = (("REDIS_URL", "redis://127.0.0.1:1/1"), ("REDIS_HOST", "127.0.0.2"));
    let (url_option, host_option) = (["--redis", "redis://127.0.0.1:3/3"], ["--redis-host", "127.0.0.4"]);
    let (port, database) = (("REDIS_PORT", "2"), ("REDIS_DB", "2"));
    let embedded = "embedded, for this process alone";
    assert_eq!(store(&[], &[]), embedded);
    assert_eq!(store(&[], &[host, port, database]), "redis at 127.0.0.2:2, database 2");
    assert_eq!(store(&[], &[url, host]), "redis at 127.0.0.1:1, database 1");
    assert_eq!(store(&url_option, &[url, host]), "redis at 127.0.0.1:3, database 3");
    assert_eq!(store(&host_option, &[url, host, port]), "redis at 127.0.0.4:2, database 0");
    assert_eq!(store(&[url_option, host_option].concat(), &[url, host]), "redis at 127.0.0.1:3, database 3");
    // What is empty is not said at all.
    assert_eq!(store(&["--redis-host", ""], &[url, host]), "redis at 127.0.0.1:1, database 1");
    assert_eq!(store(&["--redis", ""], &[url, host, port]), "redis at 127.0.0.2:2, database 0");
    let sentinels = "redis-sentinel://:hunter2@127.0.0.1:5,127.0.0.1:6/7#main";
    let master = "redis master main of the sentinels at 127.0.0.1:5, 127.0.0.1:6, database 7";
    assert_eq!(store(&["--redis", sentinels], &[]), master);
    assert_eq!(store(&[], &[("REDIS_URL", ""), ("REDIS_HOST", "")]), embedded);
}

fn a_configuration_file_alone_is_enough(binary: &Path) {
    let redis = RedisServer::start();
    let file = ConfigFile::new(&format!(
        "[server]\nlisten = \"127.0.0.1:0\"\nredis = \"{}\"\nshards = 2\n[auth]\nsecret = \"{SECRET}\"\n[[routes]]\npath = \"/live\"\n",
        redis.url()
    ));
    let mut command = clean_command(binary);
    command.arg("serve").env("ROOMCAST_CONFIG", file.path());
    let mut gateway = Gateway::spawn(&mut command);
    gateway.wait_ready(PATIENCE);
    let token = access_token(SECRET, "u", &json!({}));
    JsonClient::connect(gateway.addr(), "/live", Credential::Header(&token)).expect_type("auth_success");
    assert_eq!(redis.query::<usize>(&["EXISTS", "stream:file-events"]), 1);
    // The routes of the file take the place of the usual ones.
    let refused = JsonClient::try_connect(gateway.addr(), "/ws", Credential::Header(&token), &[]);
    assert_eq!(refused.expect_err("the route is not there").status, Some(404));
}

fn the_publish_command_reaches_subscribers(binary: &Path) {
    let gateway = Setup::new(binary).start();
    let mut member = gateway.member("alice", "project:1");
    let url = format!("http://{}", gateway.addr());
    let token = access_token(SECRET, "operator", &json!({"role": "admin"}));
    let data = "{\"z\": 1.0e+05, \"a\":null}";
    for credential in [["--jwt-secret", SECRET], ["--token", &token]] {
        let mut command = clean_command(binary);
        command.args(["publish", "--url", &url, "--room", "project:1", "--type", "note", "--data", data]).args(credential);
        let output = run(&mut command);
        assert_eq!(output.status.code(), Some(0), "{}", text(&output.stderr));
        let frame = member.next_text(PATIENCE);
        assert_eq!(raw_field(&frame, "data"), data);
        assert_eq!(raw_field(&text(&output.stdout), "message_id"), raw_field(&frame, "message_id"));
    }
    let mut command = clean_command(binary);
    command.args(["publish", "--room", "project:1", "--type", "by environment", "--data", "1"]);
    assert_eq!(run(command.env("ROOMCAST_URL", &url).env("JWT_SECRET_KEY", SECRET)).status.code(), Some(0));
    member.expect_type("by environment");
}

fn the_publish_command_tells_what_went_wrong(binary: &Path) {
    let gateway = Setup::new(binary).start();
    let url = format!("http://{}", gateway.addr());
    let nobody = TcpListener::bind("127.0.0.1:0").and_then(|listener| listener.local_addr()).expect("there is a free port");
    let user = access_token(SECRET, "u", &json!({}));
    for (arguments, expected) in [
        (&["--url", &url, "--data", "{", "--jwt-secret", SECRET][..], "not JSON"),
        (&["--url", &url, "--data", "1"], "--jwt-secret"),
        (&["--url", &url, "--data", "1", "--jwt-secret", "wrong"], "token_invalid"),
        (&["--url", &url, "--data", "1", "--token", &user], "forbidden"),
        (&["--url", &format!("http://{nobody}"), "--data", "1", "--jwt-secret", SECRET], "refused"),
    ] {
        let output = run(clean_command(binary).args(["publish", "--room", "r", "--type", "t"]).args(arguments));
        assert_eq!(output.status.code(), Some(1), "{arguments:?}");
        assert!(text(&output.stderr).contains(expected), "{arguments:?}: {}", text(&output.stderr));
        assert_eq!(text(&output.stdout), "");
    }
}

fn a_made_token_says_what_it_was_asked_to_say(binary: &Path) {
    let claims = |arguments: &[&str]| {
        let token = make_token(binary, arguments);
        decode::<Value>(&token, &DecodingKey::from_secret(SECRET.as_bytes()), &Validation::default())
            .expect("the token is valid")
            .claims
    };
    let plain = claims(&["--user", "7"]);
    assert_eq!(
        (&plain["sub"], &plain["token_type"], plain.get("role"), plain.get("rooms")),
        (&json!("7"), &json!("access"), None, None)
    );
    let left = plain["exp"].as_u64().expect("a number") - unix_time();
    assert!((3590..=3600).contains(&left), "an hour is usual, not {left} s");

    let all = claims(&["--user", "7", "--role", "admin", "--rooms", "project:*,task:1", "--rooms", "job:*", "--ttl", "2days"]);
    assert_eq!((&all["role"], &all["rooms"]), (&json!("admin"), &json!(["project:*", "task:1", "job:*"])));
    let left = all["exp"].as_u64().expect("a number") - unix_time();
    assert!((2 * 86_400 - 10..=2 * 86_400).contains(&left), "two days, not {left} s");

    for arguments in
        [&["token"][..], &["token", "--user", "7", "--ttl", "soon", "--jwt-secret", SECRET], &["token", "--user", "7"]]
    {
        assert_eq!(run(clean_command(binary).args(arguments)).status.code(), Some(2), "{arguments:?}");
    }
}

fn a_token_made_for_some_rooms_opens_only_these(binary: &Path) {
    let gateway = Setup::new(binary).start();
    let token = make_token(binary, &["--user", "7", "--rooms", "project:*"]);
    let mut client = JsonClient::connect(gateway.addr(), "/ws", Credential::Header(&token));
    assert_eq!(client.expect_type("auth_success")["data"]["user_id"], "7");
    client.subscribe("project:1");
    for room in ["workspace:1", "user:8", "projects"] {
        client.send(&json!({"type": "subscribe", "room": room}));
        assert_eq!(client.expect_type("error")["data"]["code"], "forbidden", "{room}");
    }
    // Without a list, every room that users may enter.
    let token = make_token(binary, &["--user", "7"]);
    let mut client = JsonClient::connect(gateway.addr(), "/ws", Credential::Header(&token));
    client.expect_type("auth_success");
    client.subscribe("workspace:1");
}

fn logs_can_be_json(binary: &Path) {
    let gateway = Setup::new(binary).option("--log-format", "json").option("--log", "debug").start();
    let _client = gateway.client("alice");
    let line = gateway.wait_for_log("connection opened", PATIENCE);
    let line: Value = serde_json::from_str(&line).expect("the line is JSON");
    assert_eq!((&line["level"], &line["fields"]["path"]), (&json!("DEBUG"), &json!("/ws")));
}

fn make_token(binary: &Path, arguments: &[&str]) -> String {
    let output = run(clean_command(binary).arg("token").args(arguments).env("JWT_SECRET_KEY", SECRET));
    assert_eq!(output.status.code(), Some(0), "{}", text(&output.stderr));
    text(&output.stdout).trim().to_owned()
}

fn text(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).into_owned()
}
