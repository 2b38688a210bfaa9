//! Entries that the host's own code deals with, on real Redis and on both runtimes: embedded, as a host would do it.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex};
use std::thread;
use std::time::Duration;

use roomcast_core::config::{Config, Destination, Host, Source};
use roomcast_shell::options::{Options, StartError, Store};
use roomcast_shell::processor::{Entry, Processors};
use roomcast_tests::real::embedded;
use roomcast_tests::real::redis::RedisServer;
use roomcast_tests::real::{PATIENCE, poll_until};

const STREAM: &str = "invoices";
const GROUP: &str = "billing";
const DEAD_LETTERS: &str = "invoices-dlq";
const ENTRIES: usize = 300;

/// How often each invoice was seen.
type Seen = Arc<Mutex<BTreeMap<String, u32>>>;

#[test]
fn on_tokio_each_entry_ends_as_its_processor_says() {
    let (redis, seen) = (invoices(), Seen::default());
    // Its code is called by a task of tokio's, and may spawn others.
    let processors = processors(&seen, |work| drop(tokio::spawn(async { work() })));
    let embedded = embedded::on_tokio(options(&redis, processors));
    wait_and_judge(&redis, &seen);
    embedded.stop();
}

#[test]
fn on_smol_each_entry_ends_as_its_processor_says() {
    let (redis, seen) = (invoices(), Seen::default());
    let processors = processors(&seen, |work| drop(thread::spawn(work)));
    let embedded = embedded::on_smol(options(&redis, processors));
    wait_and_judge(&redis, &seen);
    embedded.stop();
}

#[test]
fn a_processor_that_nobody_registered_is_found_at_the_start() {
    let redis = RedisServer::start();
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().expect("tokio starts");
    let error = runtime.block_on(roomcast_tokio::start(options(&redis, Processors::default()))).expect_err("nothing can start");
    assert!(matches!(error, StartError::Config(_)));
    let text = error.to_string();
    assert!(text.contains("sources[0].to.host.processor: names \"billing\", which is not registered"), "{text}");
}

/// One kind of invoice each: done, done at the second time, never possible, forgotten once, and one on which the code panics once.
fn processors(seen: &Seen, spawn: impl Fn(Box<dyn FnOnce() + Send>) + Send + Sync + 'static) -> Processors {
    let seen = seen.clone();
    let mut processors = Processors::default();
    processors.register("billing", move |entry: Entry| {
        let number = String::from_utf8_lossy(entry.field("number").expect("an invoice has a number")).into_owned();
        let kind = number.parse::<usize>().expect("it is a number") % 50;
        let times = *seen.lock().expect("nobody panics here").entry(number).and_modify(|times| *times += 1).or_insert(1);
        assert_eq!(entry.deliveries(), times);
        assert!(kind != 4 || times > 1, "the code of the host panics");
        spawn(Box::new(move || match kind {
            1 if times == 1 => entry.retry("the bank is closed"),
            2 => entry.reject("no total"),
            3 if times == 1 => drop(entry),
            _ => entry.done(),
        }));
    });
    processors
}

fn wait_and_judge(redis: &RedisServer, seen: &Seen) {
    let ended = poll_until(PATIENCE, || {
        let all = seen.lock().expect("nobody panics here").len() == ENTRIES;
        (all && redis.pending(0, STREAM, GROUP) == 0).then_some(())
    });
    assert!(ended.is_some(), "{} are pending", redis.pending(0, STREAM, GROUP));
    for (number, times) in seen.lock().expect("nobody panics here").iter() {
        let expected = if [1, 3, 4].contains(&(number.parse::<usize>().expect("it is a number") % 50)) { 2 } else { 1 };
        assert_eq!(*times, expected, "invoice {number}");
    }
    let letters: Vec<(String, Vec<(String, String)>)> = redis.query(&["XRANGE", DEAD_LETTERS, "-", "+"]);
    assert_eq!(letters.len(), ENTRIES / 50);
    for (_, fields) in &letters {
        let text = |name: &str| fields.iter().find(|(other, _)| other == name).map(|(_, value)| value.as_str());
        assert_eq!((text("code"), text("error"), text("deliveries")), (Some("rejected"), Some("no total"), Some("1")));
    }
    assert_eq!(redis.query::<usize>(&["XLEN", STREAM]), ENTRIES, "the entries stay in their stream");
}

/// A Redis with all entries.
fn invoices() -> RedisServer {
    let redis = RedisServer::start();
    (0..ENTRIES).for_each(|number| drop(redis.command(&["XADD", STREAM, "*", "number", &number.to_string()])));
    redis
}

fn options(redis: &RedisServer, processors: Processors) -> Options {
    let source = Source {
        retry_after: Duration::from_millis(100),
        ..Source::new(STREAM, GROUP, DEAD_LETTERS, Destination::Host(Host::new("billing")))
    };
    let config = Config { sources: vec![source], ..Config::default() };
    let store = Store::Redis(Box::new(redis.url().parse().expect("it is a URL")));
    Options { config, listen: SocketAddr::from(([127, 0, 0, 1], 0)), store, processors, ..Options::default() }
}
