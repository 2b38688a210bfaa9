//! How far a consumer has come, as Redis tells it.

use std::collections::HashMap;
use std::thread;
use std::time::{Duration, Instant};

use roomcast_tests::real::PATIENCE;
use roomcast_tests::real::redis::{RedisServer, Value};

use crate::consumer::Consumer;
use crate::load::Load;
use crate::machine::cpu_time;

/// Between two questions: long enough to leave Redis alone, and little beside a run.
const PAUSE: Duration = Duration::from_millis(5);

/// What one run measured.
#[derive(Debug)]
pub(crate) struct Sample {
    /// Entries that were acknowledged.
    pub(crate) entries: u64,
    /// The time that took.
    pub(crate) elapsed: Duration,
    /// Processor time of the consumer.
    pub(crate) consumer_cpu: Duration,
    /// Processor time of Redis, that of the questions about the progress included.
    pub(crate) redis_cpu: Duration,
}

/// Measures until all entries are acknowledged, or for `length`.
///
/// The clock starts with the first answer that says that entries are acknowledged, and what was acknowledged by then does not
/// count: so neither the start of the process nor that of its connection does.
///
/// # Panics
///
/// When the consumer has ended or does not go on, and when the group is not left as it should be.
pub(crate) fn measure(redis: &RedisServer, load: &Load, consumer: &mut Consumer, length: Duration) -> Sample {
    let pids = (consumer.pid(), redis.pid());
    let first = wait(redis, load, consumer, pids, Instant::now() + PATIENCE, |seen| seen.acked > 0);
    assert!(first.acked > 0, "{} acknowledges nothing; its output:\n{}", consumer.name(), consumer.output());
    assert!(first.acked < load.entries, "{} is done before it is seen to start: add entries", consumer.name());

    let last = wait(redis, load, consumer, pids, first.at + length, |seen| seen.acked == load.entries);
    assert!(last.acked > first.acked, "{} does not go on; its output:\n{}", consumer.name(), consumer.output());
    load.check_output(redis, consumer, last.acked);
    Sample {
        entries: last.acked - first.acked,
        elapsed: last.at - first.at,
        consumer_cpu: last.consumer_cpu - first.consumer_cpu,
        redis_cpu: last.redis_cpu - first.redis_cpu,
    }
}

/// What was seen at one moment.
struct Seen {
    at: Instant,
    acked: u64,
    consumer_cpu: Duration,
    redis_cpu: Duration,
}

/// Looks until something is the case, or until the deadline.
fn wait(
    redis: &RedisServer,
    load: &Load,
    consumer: &mut Consumer,
    (consumer_pid, redis_pid): (u32, u32),
    deadline: Instant,
    is_enough: impl Fn(&Seen) -> bool,
) -> Seen {
    loop {
        consumer.check_running();
        let acked = acked(redis, load);
        let (consumer_cpu, redis_cpu) = (cpu_time(consumer_pid), cpu_time(redis_pid));
        let seen = Seen { at: Instant::now(), acked, consumer_cpu, redis_cpu };
        if is_enough(&seen) || seen.at >= deadline {
            return seen;
        }
        thread::sleep(PAUSE);
    }
}

/// Entries that were delivered and are pending no longer.
fn acked(redis: &RedisServer, load: &Load) -> u64 {
    let groups: Vec<HashMap<String, Value>> = redis.query(&["XINFO", "GROUPS", &load.source.stream]);
    let [group] = &groups[..] else { panic!("one group reads {}, not {}", load.source.stream, groups.len()) };
    let number = |name: &str| match group.get(name) {
        Some(Value::Int(number)) => u64::try_from(*number).expect("not less than nothing"),
        other => panic!("{name} of the group is {other:?}: the server must be Redis 7 or later"),
    };
    number("entries-read") - number("pending")
}
