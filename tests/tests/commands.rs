//! Commands: each entry of the command stream ends once, in the stream of its service as it was or among the dead letters.

use std::collections::BTreeSet;
use std::path::Path;

use roomcast_tests::gateway_tests;
use roomcast_tests::real::PATIENCE;
use roomcast_tests::real::gateway::Gateway;
use roomcast_tests::real::redis::RedisServer;
use roomcast_tests::real::setup::Setup;
use roomcast_tests::real::stream::{Field, add_to, all, owned, wait_until};
use roomcast_tests::real::traffic::{COMMANDS, assert_each_once, command, routed};

const STREAM: &str = "stream:ai-commands";
const DEAD_LETTERS: &str = "stream:ai-commands-dlq";
const GROUP: &str = "websocket-router";
const CLAUDE: &str = "stream:claude-commands";
const MCP: &str = "stream:mcp-commands";
const ROUTED: &str = "roomcast_source_commands_total";
/// Short times, so that what stays pending is soon tried again.
const IMPATIENT: &str = r#"
[[sources]]
stream = "stream:ai-commands"
group = "websocket-router"
dead_letter = "stream:ai-commands-dlq"
to.commands = {}
block = "100ms"
claim_after = "400ms"
"#;

gateway_tests!(
    both_forms_are_passed_on_byte_for_byte,
    what_is_no_command_is_kept_with_its_reason_and_the_next_good_one_routed,
    a_service_never_leads_to_a_key_that_was_not_configured,
    services_and_their_streams_are_configuration,
    long_commands_are_passed_on_whole_or_not_at_all,
    a_target_that_takes_nothing_holds_its_commands_up_and_no_others,
    a_redis_without_memory_loses_nothing,
    two_nodes_share_the_commands,
    a_node_killed_in_the_middle_loses_and_repeats_nothing,
);

fn both_forms_are_passed_on_byte_for_byte(binary: &Path) {
    let redis = RedisServer::start();
    // One is there before the gateway.
    let odd_json = "\n{ \"message\" :\"h\\u00e9\\/\u{1F980}\\ud800\", \"context\":{\"line\":4.20e1,\"a\":1,\"a\":2},\t\"service\":\"cl\\u0061ude\",\
                    \"workspace_path\":\"\",\"session_id\":\"s\",\"timestamp\":null } ";
    let mut entries = vec![add(&redis, &[("payload", odd_json.as_bytes())])];
    let gateway = gateway(binary, &redis);
    let plain = command("claude", "Help me debug this code");
    let every_byte: Vec<u8> = (0..=255).collect();
    let flat = [("service", &b"claude"[..]), ("session_id", b"s"), ("workspace_path", b"/w"), ("message", &every_byte)];
    for fields in [
        &[("payload", plain.as_bytes())][..],
        &[("trace", b"\xff\xfe"), ("payload", plain.as_bytes()), ("", b""), ("trace", b"\xff")],
        &flat,
        &[&[("note", &b"1"[..]), ("note", b"2")], &flat[..], &[("note", b"1"), ("context", b"{"), ("timestamp", b"")]].concat(),
    ] {
        entries.push(add(&redis, fields));
    }
    for entry in &entries {
        let line = gateway.wait_for_log(&format!("entry={entry}"), PATIENCE);
        assert!(line.contains("routed and acked") && line.contains(CLAUDE), "{line}");
    }
    assert_eq!(all(&redis, CLAUDE), all(&redis, STREAM));
    assert_eq!((all(&redis, CLAUDE).len(), redis.pending(0, STREAM, GROUP)), (entries.len(), 0));
    assert_eq!(gateway.metric(ROUTED), entries.len() as u64);
}

fn what_is_no_command_is_kept_with_its_reason_and_the_next_good_one_routed(binary: &Path) {
    let unknown = command("gpt", "m");
    let without_session = command("claude", "m").replace("session_id", "session");
    let broken: [(&[Field<'_>], &str); 12] = [
        (&[("payload", unknown.as_bytes())], "unknown_service"),
        (&[("service", b"gpt"), ("session_id", b"s"), ("workspace_path", b"/w"), ("message", b"m")], "unknown_service"),
        (&[("service", b"\xff\xff"), ("session_id", b"s"), ("workspace_path", b"/w"), ("message", b"m")], "unknown_service"),
        (&[("payload", b"{\"service\":\"claude\"")], "not_json"),
        (&[("payload", b"")], "not_json"),
        (&[("payload", b"[\"claude\",\"s\",\"/w\",\"m\",null]")], "shape"),
        (&[("payload", b"{\"service\":7}")], "shape"),
        (&[("payload", b"\xff\xfe\0")], "not_utf8"),
        (&[("payload", without_session.as_bytes())], "missing"),
        (&[("service", b"claude"), ("session_id", b"s"), ("workspace_path", b"/w")], "missing"),
        (&[("", b"")], "missing"),
        (&[("payload", b"{}"), ("payload", b"{}")], "shape"),
    ];
    let redis = RedisServer::start();
    let gateway = gateway(binary, &redis);
    for (number, (fields, code)) in (1..).zip(broken) {
        let entry = add(&redis, fields);
        add(&redis, &[("payload", command("claude", "m").as_bytes())]);
        wait_until(|| all(&redis, CLAUDE).len() == number);
        assert_eq!(redis.pending(0, STREAM, GROUP), 0, "after {fields:?}");

        let letters = all(&redis, DEAD_LETTERS);
        assert_eq!(letters.len(), number, "after {fields:?}");
        let letter = &letters[number - 1];
        let text = |name: &str| {
            let value = letter.iter().find(|(other, _)| other == name.as_bytes()).map(|(_, value)| value.as_slice());
            String::from_utf8_lossy(value.unwrap_or_else(|| panic!("no {name} in {letter:?}"))).into_owned()
        };
        assert_eq!((text("msg_id"), text("code").as_str(), text("source").as_str()), (entry.clone(), code, STREAM));
        assert_eq!(text("timestamp").len(), "2025-10-06T01:00:00.000Z".len());
        assert_eq!(text("fields"), fields.len().to_string());
        assert!(letter.ends_with(&owned(fields)), "the original fields are kept as they are: {letter:?}");
        let line = gateway.wait_for_log(&format!("entry={entry}"), PATIENCE);
        assert!(line.contains("dead-lettered and acked"), "{line}");
    }
    assert_eq!(gateway.metric("roomcast_source_dead_letters_total"), broken.len() as u64);
    assert_eq!(gateway.metric(ROUTED), broken.len() as u64);
}

fn a_service_never_leads_to_a_key_that_was_not_configured(binary: &Path) {
    let redis = RedisServer::start();
    let gateway = gateway(binary, &redis);
    let names = ["", "Claude", " claude", "claude\0", "*", "{service}", "../x", "claude-commands", STREAM, "relay:1\r\nDEL x"];
    for name in names {
        let payload = serde_json::json!({"service": name, "session_id": "s", "workspace_path": "/w", "message": "m"}).to_string();
        add(&redis, &[("payload", payload.as_bytes())]);
        add(&redis, &[("service", name.as_bytes()), ("session_id", b"s"), ("workspace_path", b"/w"), ("message", b"m")]);
    }
    wait_until(|| gateway.metric("roomcast_source_dead_letters_total") == 2 * names.len() as u64);
    let keys: BTreeSet<String> = redis.query(&["KEYS", "stream:ai*"]);
    assert_eq!(keys, BTreeSet::from([STREAM, DEAD_LETTERS].map(String::from)));
    let mut others: BTreeSet<String> = redis.query(&["KEYS", "*-commands*"]);
    others.retain(|key| !key.starts_with("rc:"));
    assert!(others.is_subset(&keys), "{others:?}");
    assert_eq!(gateway.metric(ROUTED), 0);
}

fn services_and_their_streams_are_configuration(binary: &Path) {
    const CONFIG: &str = r#"
[[sources]]
stream = "in"
group = "g"
dead_letter = "dead"
[sources.to.commands]
services = ["gemini", "mcp"]
target = "q:{service}:in"
streams = { mcp = "elsewhere", extra = "extra:in" }
length = 100
"#;
    let redis = RedisServer::start();
    let gateway = Setup::new(binary).option("--redis", &redis.url()).config(CONFIG).start();
    let add = |service: &str| add_to(&redis, "in", &[("payload", command(service, "m").as_bytes())]);
    let services = ["mcp", "extra", "claude"].into_iter().chain(std::iter::repeat_n("gemini", 500));
    services.for_each(|service| drop(add(service)));
    wait_until(|| gateway.metric(ROUTED) == 502);
    for (stream, expected) in [("elsewhere", 1), ("extra:in", 1), ("dead", 1)] {
        assert_eq!(all(&redis, stream).len(), expected, "{stream}");
    }
    // Redis trims whole nodes of its tree, of 100 entries each.
    let kept = all(&redis, "q:gemini:in").len();
    assert!((100..=200).contains(&kept), "{kept} commands are kept");
}

fn long_commands_are_passed_on_whole_or_not_at_all(binary: &Path) {
    let redis = RedisServer::start();
    let gateway = gateway(binary, &redis);
    let long = command("claude", &"x".repeat(32 << 20));
    add(&redis, &[("payload", long.as_bytes())]);
    wait_until(|| gateway.metric(ROUTED) == 1);
    assert!(all(&redis, CLAUDE) == [owned(&[("payload", long.as_bytes())])], "the long payload is another");

    // A script of Redis can pass on so many fields and no more.
    let payload = command("mcp", "m");
    for (count, routed) in [(2_000, 1), (2_001, 0)] {
        redis.command(&["DEL", MCP]);
        let mut fields = vec![("payload", payload.as_bytes())];
        fields.resize(count, ("more", b"and more"));
        let entry = add(&redis, &fields);
        gateway.wait_for_log(&format!("entry={entry}"), PATIENCE);
        let passed = all(&redis, MCP);
        assert!(passed == vec![owned(&fields); routed], "{count} fields");
    }
    let letter = &all(&redis, DEAD_LETTERS)[0];
    assert!(letter.contains(&(b"code".to_vec(), b"too_many_fields".to_vec())), "{:?}", &letter[..6]);
    assert!(letter.contains(&(b"fields".to_vec(), b"2001".to_vec())), "{:?}", &letter[..6]);
    assert_eq!(redis.pending(0, STREAM, GROUP), 0);
}

fn a_target_that_takes_nothing_holds_its_commands_up_and_no_others(binary: &Path) {
    let last = format!("{0}-{0}", u64::MAX);
    let obstacles = [(&["SET", MCP, "not a stream"][..], "WRONGTYPE"), (&["XADD", MCP, &last, "a", "b"], "exhausted")];
    for (obstacle, reason) in obstacles {
        let redis = RedisServer::start();
        let gateway = node(binary, &redis, "a");
        redis.command(obstacle);
        // They are read and committed together.
        let mut connection = redis.connect(0).expect("the server is there");
        let mut pipeline = redis::pipe();
        pipeline.atomic();
        for (number, service) in ["claude", "mcp", "claude", "mcp", "claude"].into_iter().enumerate() {
            pipeline.cmd("XADD").arg(&[STREAM, "*", "payload", &command(service, &number.to_string())]).ignore();
        }
        pipeline.exec(&mut connection).expect("the entries are added");
        wait_until(|| all(&redis, CLAUDE).len() == 3);
        gateway.wait_for_log(reason, PATIENCE);
        // Tried again, in vain.
        wait_until(|| gateway.metric("roomcast_source_claimed_total") >= 4);
        assert_eq!((routed(&redis, CLAUDE), redis.pending(0, STREAM, GROUP)), (vec![0, 2, 4], 2), "{reason}");
        assert_eq!(redis.query::<u64>(&["EXISTS", DEAD_LETTERS]), 0);

        redis.command(&["DEL", MCP]);
        wait_until(|| gateway.metric(ROUTED) == 5);
        assert_eq!((routed(&redis, MCP), redis.pending(0, STREAM, GROUP)), (vec![1, 3], 0), "{reason}");
    }
}

fn a_redis_without_memory_loses_nothing(binary: &Path) {
    let redis = RedisServer::start();
    let gateway = node(binary, &redis, "a");
    let mut connection = redis.connect(0).expect("the server is there");
    // In one go: nothing comes between, so that the commit finds no memory.
    let mut pipeline = redis::pipe();
    for number in 0..3 {
        pipeline.cmd("XADD").arg(&[STREAM, "*", "payload", &command("claude", &number.to_string())]).ignore();
    }
    pipeline.cmd("XADD").arg(&[STREAM, "*", "payload", "broken"]).ignore();
    pipeline.cmd("CONFIG").arg(&["SET", "maxmemory", "1"]).ignore();
    pipeline.exec(&mut connection).expect("the entries are added");
    gateway.wait_for_log("OOM", PATIENCE);
    assert_eq!(redis.query::<u64>(&["EXISTS", CLAUDE, DEAD_LETTERS]), 0);
    assert!(redis.pending(0, STREAM, GROUP) > 0);

    redis.command(&["CONFIG", "SET", "maxmemory", "0"]);
    wait_until(|| gateway.metric("roomcast_source_dead_letters_total") == 1);
    wait_until(|| gateway.metric(ROUTED) == 3);
    assert_eq!(routed(&redis, CLAUDE), [0, 1, 2]);
    assert_eq!((all(&redis, DEAD_LETTERS).len(), redis.pending(0, STREAM, GROUP)), (1, 0));
}

fn two_nodes_share_the_commands(binary: &Path) {
    const ROUND: usize = 200;
    let redis = RedisServer::start();
    let (a, b) = (node(binary, &redis, "a"), node(binary, &redis, "b"));
    // Redis shares the entries out as it likes. This goes on until both nodes have had some.
    let mut published = 0;
    wait_until(|| {
        COMMANDS.publish(&redis, published..published + ROUND);
        published += ROUND;
        a.metric(ROUTED) > 0 && b.metric(ROUTED) > 0
    });
    wait_until(|| a.metric(ROUTED) + b.metric(ROUTED) == published as u64);
    assert_each_once(&routed(&redis, CLAUDE), published);
    assert_eq!(redis.pending(0, STREAM, GROUP), 0);
}

fn a_node_killed_in_the_middle_loses_and_repeats_nothing(binary: &Path) {
    const COUNT: usize = 2_000;
    let redis = RedisServer::start();
    let (mut a, _b) = (node(binary, &redis, "a"), node(binary, &redis, "b"));
    COMMANDS.publish(&redis, 0..COUNT / 2);
    wait_until(|| all(&redis, CLAUDE).len() >= COUNT / 4);
    COMMANDS.publish(&redis, COUNT / 2..COUNT / 2 + 50);
    a.kill();
    COMMANDS.publish(&redis, COUNT / 2 + 50..COUNT);
    wait_until(|| all(&redis, CLAUDE).len() >= COUNT && redis.pending(0, STREAM, GROUP) == 0);
    assert_each_once(&routed(&redis, CLAUDE), COUNT);
}

/// A gateway with the default configuration.
fn gateway(binary: &Path, redis: &RedisServer) -> Gateway {
    Setup::new(binary).option("--redis", &redis.url()).start()
}

fn node(binary: &Path, redis: &RedisServer, name: &str) -> Gateway {
    Setup::new(binary).option("--redis", &redis.url()).option("--node", name).config(IMPATIENT).start()
}

fn add(redis: &RedisServer, fields: &[Field<'_>]) -> String {
    add_to(redis, STREAM, fields)
}
