//! What has hurt others who read Redis streams in consumer groups, one test each.
//!
//! | # | what went wrong elsewhere | the tests that it goes right here |
//! |---|---|---|
//! | 1 | a restarted consumer never reads its own pending entries again | here: `what_a_node_had_read_before_it_died_…`; `redis_faults`: `a_redis_that_is_frozen_…`; `world_sources`: `an_answer_that_is_lost_…` |
//! | 2 | no limit to deliveries | here: `what_no_delivery_has_…`, `what_kills_the_same_node_…`; `dead_letters`: `an_entry_that_cannot_be_stored_…`; `world_sources`: `an_entry_that_no_node_survives_…` |
//! | 3 | the group is gone: errors for ever, or a new one that begins too late | `redis_down`: `the_group_is_made_again_…`; `redis_faults`: `a_group_that_is_destroyed_…`, `a_stream_that_is_deleted_…`; `file_events`: `an_entry_from_before_the_start_…` |
//! | 4 | a fail-over moves the group back | here: `a_fail_over_to_a_late_replica_…` |
//! | 5 | consumers that are gone pile up in the group | `sources`: `only_consumers_without_pending_entries_…`; `scripts`: `consumers_that_wait_in_vain_…` |
//! | 6 | a consumer that leaves takes its pending entries with it | here: `a_node_that_stops_leaves_…` |
//! | 7 | deleted entries stay pending | `two_nodes`: `what_a_dead_node_had_read_and_was_trimmed_…`; `redis_faults`: `entries_deleted_while_they_are_pending_…` |
//! | 8 | trimming and deleting hit entries that are unread, or read by other groups | here: `what_was_trimmed_unread_…`, `other_groups_…`; `sources`: `figures_are_right_…` |
//! | 9 | what takes long is claimed while it is worked on | here: `what_a_live_node_has_in_hand_…` |
//! | 10 | a blocking read holds up what shares its connection | the conformance of the runtimes: `a_blocking_read_holds_up_no_other_lane` |
//! | 11 | a blocking read never returns after a network cut | `redis_down`: `connections_that_die_silently_…` |
//! | 12 | retries without pauses use up the deliveries during an outage | `redis_faults`: `a_redis_without_memory_for_long_…`; `world_sources`: `failures_of_the_store_…` |
//! | 13 | the lag that Redis tells is wrong after deletions | `sources`: `figures_are_right_…` |
//! | 14 | a retry that appends the entry anew loses its place and its identifier | here: `a_retry_adds_nothing_…` |
//! | 15 | a job that stalled runs twice | here: `a_router_that_was_only_frozen_…`; `two_nodes`: `a_node_that_was_only_frozen_…`; `kills` |

use std::path::Path;
use std::time::Duration;

use nix::sys::signal::Signal;
use roomcast_tests::gateway_tests;
use roomcast_tests::real::gateway::Gateway;
use roomcast_tests::real::ordeal::lasts;
use roomcast_tests::real::proxy::Proxy;
use roomcast_tests::real::redis::RedisServer;
use roomcast_tests::real::replication::{follow, replicating, wait_for_role};
use roomcast_tests::real::setup::Setup;
use roomcast_tests::real::traffic::{COMMANDS, EVENTS, ROOM, ROUTED, Source, assert_each_once, receive, routed, sources};
use roomcast_tests::real::{PATIENCE, poll_until};

/// Held entries are tried again after this time, if a test wants that to happen.
const SOON: &str = "100ms";
const NEVER: &str = "1h";

gateway_tests!(
    what_a_node_had_read_before_it_died_is_taken_up_under_its_name,
    what_no_delivery_has_brought_to_its_end_is_given_up,
    what_kills_the_same_node_again_and_again_is_given_up,
    a_fail_over_to_a_late_replica_repeats_and_forgets_no_command_that_is_left,
    a_node_that_stops_leaves_what_it_could_not_finish_to_the_others,
    what_was_trimmed_unread_holds_nothing_up,
    other_groups_of_the_stream_miss_nothing,
    what_a_live_node_has_in_hand_is_not_taken_from_it,
    a_retry_adds_nothing_to_the_source,
    a_router_that_was_only_frozen_repeats_nothing,
);

fn what_a_node_had_read_before_it_died_is_taken_up_under_its_name(binary: &Path) {
    let redis = RedisServer::start();
    for source in [EVENTS, COMMANDS] {
        source.publish(&redis, 0..500);
        source.read_and_die(&redis, "a", 400);
    }
    // Nobody else takes it over.
    let (_other, _a) = (node(binary, &redis, "b", NEVER), node(binary, &redis, "a", NEVER));
    [EVENTS, COMMANDS].iter().for_each(|source| source.wait_for_nothing_pending(&redis));
    wait_for_routed(&redis, 500);
    assert_each_once(&routed(&redis, ROUTED), 500);
}

fn what_no_delivery_has_brought_to_its_end_is_given_up(binary: &Path) {
    give_up(binary, "dead");
}

/// It must not be begun with a fresh count because it is one's own.
fn what_kills_the_same_node_again_and_again_is_given_up(binary: &Path) {
    give_up(binary, "a");
}

/// One entry of three has been delivered to a consumer as often as is allowed.
fn give_up(binary: &Path, consumer: &str) {
    let redis = RedisServer::start();
    for source in [EVENTS, COMMANDS] {
        source.publish(&redis, 0..3);
        source.read_and_die(&redis, consumer, 2);
        let ids: Vec<(String, Vec<String>)> = redis.query(&["XRANGE", source.stream, "-", "+"]);
        let hour = ["IDLE", "3600000", "RETRYCOUNT", "5"];
        redis.command(&[&["XCLAIM", source.stream, source.group, consumer, "0", &ids[0].0], &hour[..]].concat());
    }
    let _node = node(binary, &redis, "a", SOON);
    for source in [EVENTS, COMMANDS] {
        source.wait_for_nothing_pending(&redis);
        let letters: Vec<(String, Vec<String>)> = redis.query(&["XRANGE", source.dead_letters, "-", "+"]);
        let [(_, fields)] = &letters[..] else { panic!("dead letters of {}: {letters:?}", source.stream) };
        let (name, value) = (source.entry)(0);
        assert!(fields.ends_with(&[name.to_owned(), value]), "the original is kept: {fields:?}");
        let expected = ["code", "max_deliveries"];
        assert!(fields.chunks(2).any(|field| field == expected), "{fields:?}");
    }
    wait_for_routed(&redis, 2);
    let mut others = routed(&redis, ROUTED);
    others.sort_unstable();
    assert_eq!(others, [1, 2]);
}

/// Effect and acknowledgement are one step, so a replica has both or neither.
fn a_fail_over_to_a_late_replica_repeats_and_forgets_no_command_that_is_left(binary: &Path) {
    let (mut primary, mut replica) = (replicating(), replicating());
    follow(&replica, &primary);
    let proxy = Proxy::to(([127, 0, 0, 1], primary.port()).into());
    let config = sources("50ms", SOON);
    let url = format!("redis://{}", proxy.addr());
    let mut node = Setup::new(binary).option("--redis", &url).option("--node", "a").config(&config).start();
    COMMANDS.publish(&primary, 0..100);
    wait_for_routed(&replica, 100);
    let mut promotion = replica.connect(0).expect("the server is there");
    // It gets some of these, and of some of them the effect.
    COMMANDS.publish(&primary, 100..500);
    replica.pause();
    COMMANDS.publish(&primary, 500..1_500);
    wait_for_routed(&primary, 1_500);
    COMMANDS.wait_for_nothing_pending(&primary);

    // What it is told while it is frozen it does as soon as it wakes, and not after all that waits in its other sockets.
    let packed = redis::cmd("REPLICAOF").arg(&["NO", "ONE"]).get_packed_command();
    promotion.send_packed_command(&packed).expect("the system takes it");
    primary.kill();
    replica.resume();
    wait_for_role(&replica, "master");
    let left = routed(&replica, COMMANDS.stream).len();
    assert!((100..1_500).contains(&left), "the replica is late: it has {left} commands");
    proxy.lead_to(([127, 0, 0, 1], replica.port()).into());
    COMMANDS.publish(&replica, 1_500..2_000);
    wait_for_routed(&replica, left + 500);
    COMMANDS.wait_for_nothing_pending(&replica);
    node.wait_ready(PATIENCE);

    let [mut expected, mut found] = [COMMANDS.stream, ROUTED].map(|stream| routed(&replica, stream));
    expected.sort_unstable();
    found.sort_unstable();
    assert_eq!(found, expected);
    assert_eq!(replica.query::<usize>(&["XLEN", COMMANDS.dead_letters]), 0);
}

fn a_node_that_stops_leaves_what_it_could_not_finish_to_the_others(binary: &Path) {
    let redis = RedisServer::start();
    redis.command(&["SET", ROUTED, "not a stream"]);
    let a = node(binary, &redis, "a", NEVER);
    COMMANDS.publish(&redis, 0..10);
    a.wait_for_log("WRONGTYPE", PATIENCE);
    assert!(a.terminate(PATIENCE).success());
    assert!(COMMANDS.pending_of(&redis, "a") > 0, "it has taken its entries with it");

    redis.command(&["DEL", ROUTED]);
    let _b = node(binary, &redis, "b", SOON);
    COMMANDS.wait_for_nothing_pending(&redis);
    wait_for_routed(&redis, 10);
    assert_each_once(&routed(&redis, ROUTED), 10);
}

fn what_was_trimmed_unread_holds_nothing_up(binary: &Path) {
    let redis = RedisServer::start();
    let a = node(binary, &redis, "a", SOON);
    let mut client = a.member("alice", ROOM);
    for source in [EVENTS, COMMANDS] {
        let mut pipeline = redis::pipe();
        // In one step, so that no node reads what is trimmed.
        pipeline.atomic();
        source.add_to(&mut pipeline, 1_000..1_100);
        source.add_to(&mut pipeline, 0..10);
        pipeline.cmd("XTRIM").arg(&[source.stream, "MAXLEN", "10"]).ignore();
        pipeline.exec(&mut redis.connect(0).expect("the server is there")).expect("the entries are added");
    }
    assert_eq!(receive(&mut client, 10), Vec::from_iter(0..10));
    wait_for_routed(&redis, 10);
    assert_each_once(&routed(&redis, ROUTED), 10);
    [EVENTS, COMMANDS].iter().for_each(|source| source.wait_for_nothing_pending(&redis));
}

fn other_groups_of_the_stream_miss_nothing(binary: &Path) {
    let redis = RedisServer::start();
    let _a = node(binary, &redis, "a", SOON);
    for source in [EVENTS, COMMANDS] {
        let (name, value) = ("nonsense", "nonsense");
        redis.command(&["XADD", source.stream, "*", name, value]);
        source.publish(&redis, 0..10);
    }
    wait_for_routed(&redis, 10);
    for source in [EVENTS, COMMANDS] {
        wait_until(|| redis.query::<usize>(&["XLEN", source.dead_letters]) == 1);
        source.wait_for_nothing_pending(&redis);
        Source { group: "others", ..source }.read_and_die(&redis, "somebody", 11);
    }
}

/// Redis refuses to store anything for much longer than held entries are left alone.
fn what_a_live_node_has_in_hand_is_not_taken_from_it(binary: &Path) {
    let redis = RedisServer::start();
    let (a, mut b) = (node(binary, &redis, "a", SOON), node(binary, &redis, "b", SOON));
    // The other one gets nothing: it begins no read, and the one that it had begun ends meanwhile.
    b.signal(Signal::SIGSTOP);
    lasts(Duration::from_millis(200));
    let mut pipeline = redis::pipe();
    // In one step, so that the first one reads them all at once.
    pipeline.atomic();
    COMMANDS.add_to(&mut pipeline, 0..10);
    pipeline.cmd("CONFIG").arg(&["SET", "maxmemory", "1"]).ignore();
    pipeline.exec(&mut redis.connect(0).expect("the server is there")).expect("the entries are added");
    a.wait_for_log("OOM", PATIENCE);
    b.signal(Signal::SIGCONT);

    assert_eq!(COMMANDS.pending_of(&redis, "a"), 10);
    lasts(Duration::from_millis(1_500));
    assert_eq!(COMMANDS.pending_of(&redis, "a"), 10, "entries were taken from a node that lives");

    redis.command(&["CONFIG", "SET", "maxmemory", "0"]);
    wait_for_routed(&redis, 10);
    COMMANDS.wait_for_nothing_pending(&redis);
    assert_each_once(&routed(&redis, ROUTED), 10);
}

fn a_retry_adds_nothing_to_the_source(binary: &Path) {
    let redis = RedisServer::start();
    let _a = node(binary, &redis, "a", SOON);
    redis.command(&["SET", ROUTED, "not a stream"]);
    COMMANDS.publish(&redis, 0..10);
    let all = || redis.query::<Vec<(String, Vec<String>)>>(&["XRANGE", COMMANDS.stream, "-", "+"]);
    let before = all();
    let deliveries = || {
        let pending: Vec<(String, String, u64, u64)> =
            redis.query(&["XPENDING", COMMANDS.stream, COMMANDS.group, "-", "+", "100"]);
        pending.iter().map(|(.., deliveries)| *deliveries).min().unwrap_or_default()
    };
    wait_until(|| deliveries() > 2);
    redis.command(&["DEL", ROUTED]);
    wait_for_routed(&redis, 10);
    COMMANDS.wait_for_nothing_pending(&redis);
    assert_each_once(&routed(&redis, ROUTED), 10);
    assert_eq!(all(), before);
}

fn a_router_that_was_only_frozen_repeats_nothing(binary: &Path) {
    const ENTRIES: usize = 200;
    let redis = RedisServer::start();
    let (mut a, _b) = (node(binary, &redis, "a", SOON), node(binary, &redis, "b", SOON));
    let (published, _) = COMMANDS.freeze_with_entries(&mut a, "a", &redis);
    COMMANDS.publish(&redis, published..ENTRIES);
    wait_for_routed(&redis, ENTRIES);
    // Its entries have been taken over. Awake again, it finds them in its socket.
    a.signal(Signal::SIGCONT);
    COMMANDS.publish(&redis, ENTRIES..2 * ENTRIES);
    wait_for_routed(&redis, 2 * ENTRIES);
    COMMANDS.wait_for_nothing_pending(&redis);
    wait_until(|| a.http("GET", "/readyz", &[], b"").status == 200);
    assert_each_once(&routed(&redis, ROUTED), 2 * ENTRIES);
}

fn node(binary: &Path, redis: &RedisServer, name: &str, claim_after: &str) -> Gateway {
    let config = sources("50ms", claim_after);
    Setup::new(binary).option("--redis", &redis.url()).option("--node", name).config(&config).start()
}

fn wait_for_routed(redis: &RedisServer, count: usize) {
    let length = || redis.try_query::<usize>(&["XLEN", ROUTED]).unwrap_or_default();
    assert!(poll_until(PATIENCE, || (length() >= count).then_some(())).is_some(), "{} of {count} are routed", length());
}

fn wait_until(mut holds: impl FnMut() -> bool) {
    assert!(poll_until(PATIENCE, || holds().then_some(())).is_some(), "it does not come true");
}
