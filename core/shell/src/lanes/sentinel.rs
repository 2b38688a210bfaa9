//! The master that sentinels name: found, and proven to be one, before anything is asked of it.

use std::io;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};

use redis::{ConnectionAddr, Value};

use super::address::Sentinels;
use super::line::{Line, text};
use super::server::Connector;
use crate::transport::Transport;

/// No more is read of what is asked here, in bytes.
const LONGEST_REPLY: usize = 64 * 1024;

/// A master, and what was learnt of it and of its sentinels.
#[derive(Debug)]
pub(super) struct Watched {
    sentinels: Sentinels,
    /// Which sentinel is asked first: the one that answered last.
    first: AtomicUsize,
    /// Which sentinel is looked at next.
    next: AtomicUsize,
    /// Counted by the sentinels, which raise it when they make another server the master; the highest that has been heard of.
    epoch: AtomicU64,
}

impl Watched {
    pub(super) fn new(sentinels: Sentinels) -> Watched {
        Watched { sentinels, first: AtomicUsize::new(0), next: AtomicUsize::new(0), epoch: AtomicU64::new(0) }
    }

    pub(super) fn epoch(&self) -> u64 {
        self.epoch.load(Ordering::Relaxed)
    }

    /// Opens a connection to the master, which has said by then that it is one.
    pub(super) async fn open(&self, connector: &Connector) -> io::Result<Box<dyn Transport>> {
        let Sentinels { hosts, master, .. } = &self.sentinels;
        let first = self.first.load(Ordering::Relaxed);
        let mut failures = Vec::new();
        let mut behind = None;
        for at in (first..first + hosts.len()).map(|at| at % hosts.len()) {
            // One that never answers has this attempt given up, and what comes after it begins with the next.
            self.first.store(at + 1, Ordering::Relaxed);
            let failure = match self.ask(&hosts[at], connector).await {
                Ok((line, epoch)) if epoch >= self.epoch() => {
                    self.first.store(at, Ordering::Relaxed);
                    self.epoch.store(epoch, Ordering::Relaxed);
                    return Ok(line.into_io());
                }
                Ok((_, epoch)) => {
                    behind = behind.max(Some(epoch));
                    "it has not heard of the newest master".to_owned()
                }
                Err(error) => error.to_string(),
            };
            failures.push(format!("{}: {failure}", hosts[at]));
        }
        if let Some(epoch) = behind {
            // Nobody has heard of it: they have been set up anew and count from the beginning. The next attempt believes them.
            self.epoch.store(epoch, Ordering::Relaxed);
        }
        Err(io::Error::other(format!("no sentinel leads to the master {master} ({})", failures.join("; "))))
    }

    /// Asks one sentinel, each time another, whether another server has become the master: then the epoch rises.
    pub(super) async fn look(&self, connector: &Connector) -> io::Result<()> {
        let Sentinels { hosts, credentials, .. } = &self.sentinels;
        let at = self.next.fetch_add(1, Ordering::Relaxed) % hosts.len();
        let mut sentinel = Line::open(&hosts[at], credentials, connector, LONGEST_REPLY).await?;
        let epoch = self.epoch_at(&mut sentinel).await?;
        self.epoch.fetch_max(epoch, Ordering::Relaxed);
        Ok(())
    }

    /// Asks a sentinel, and then the server that it names, which of them is the master, and at which epoch.
    async fn ask(&self, sentinel: &ConnectionAddr, connector: &Connector) -> io::Result<(Line, u64)> {
        let Sentinels { master, settings, credentials, .. } = &self.sentinels;
        let mut sentinel = Line::open(sentinel, credentials, connector, LONGEST_REPLY).await?;
        let address = words(sentinel.ask(&["SENTINEL", "GET-MASTER-ADDR-BY-NAME", master]).await?);
        let [host, port] = &address[..] else { return Err(io::Error::other("it knows no master of this name")) };
        let port = port.parse().map_err(|_| io::Error::other("it does not tell the master's port"))?;
        let epoch = self.epoch_at(&mut sentinel).await?;
        let mut line = Line::open(&ConnectionAddr::Tcp(host.clone(), port), settings, connector, LONGEST_REPLY).await?;
        match words(line.ask(&["ROLE"]).await?).first().map(String::as_str) {
            Some("master") => Ok((line, epoch)),
            _ => Err(io::Error::other(format!("{host}:{port}, which it names, is not the master"))),
        }
    }

    async fn epoch_at(&self, sentinel: &mut Line) -> io::Result<u64> {
        let state = words(sentinel.ask(&["SENTINEL", "MASTER", &self.sentinels.master]).await?);
        let epoch = state.iter().skip_while(|word| *word != "config-epoch").nth(1).and_then(|epoch| epoch.parse().ok());
        epoch.ok_or_else(|| io::Error::other("it does not count its masters"))
    }
}

/// The words of a list, without what in it is none. No list is an empty one.
fn words(value: Value) -> Vec<String> {
    if let Value::Array(values) = value { values.into_iter().filter_map(text).collect() } else { Vec::new() }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::lanes::Address;
    use crate::lanes::address::Place;
    use crate::pipe::{Pipe, connect, will_connect};
    use std::pin::pin;
    use std::task::{Context, Poll, Waker};

    const URL: &str = "redis-sentinel://:pw@a,b:2?sentinelPassword=spw#m";
    const OK: &str = "+OK\r\n";
    const MASTER: &str = "*3\r\n$6\r\nmaster\r\n:3129659\r\n*0\r\n";
    const REPLICA: &str = "*5\r\n$5\r\nslave\r\n$1\r\nh\r\n:1\r\n$9\r\nconnected\r\n:7\r\n";
    const ADDRESS: &str = "*2\r\n$1\r\nh\r\n$4\r\n6379\r\n";

    fn at_epoch(epoch: u64) -> String {
        format!("*4\r\n$4\r\nname\r\n$1\r\nm\r\n$12\r\nconfig-epoch\r\n$1\r\n{epoch}\r\n")
    }

    /// A sentinel that names a master, at an epoch.
    fn sentinel(epoch: u64) -> Pipe {
        says(&[OK, ADDRESS, &at_epoch(epoch)])
    }

    fn says(replies: &[&str]) -> Pipe {
        let pipe = Pipe::default();
        replies.iter().for_each(|reply| pipe.feed(reply.as_bytes()));
        pipe
    }

    fn watched(url: &str) -> Watched {
        let Place::Sentinels(sentinels) = url.parse::<Address>().unwrap().place else { panic!("{url}") };
        Watched::new(sentinels)
    }

    /// What comes of an attempt; `None` if it waits for somebody.
    fn open(watched: &Watched) -> Option<Result<Box<dyn Transport>, String>> {
        match pin!(watched.open(&Connector::new(connect))).poll(&mut Context::from_waker(Waker::noop())) {
            Poll::Ready(outcome) => Some(outcome.map_err(|error| error.to_string())),
            Poll::Pending => None,
        }
    }

    fn sent(pipe: &Pipe) -> Vec<String> {
        let written = pipe.written();
        written.split("\r\n").filter(|word| !word.starts_with(['*', '$']) && !word.is_empty()).map(str::to_owned).collect()
    }

    fn failure(watched: &Watched) -> String {
        match open(watched) {
            Some(Err(error)) => error,
            Some(Ok(_)) => panic!("it is open"),
            None => panic!("it waits"),
        }
    }

    #[test]
    fn the_master_that_a_sentinel_names_is_asked_for_its_role() {
        let (one, master) = (sentinel(3), says(&[OK, MASTER]));
        will_connect([&one, &master]);
        let watched = watched(URL);
        assert!(open(&watched).is_some_and(|outcome| outcome.is_ok()));
        assert_eq!(sent(&one), ["AUTH", "spw", "SENTINEL", "GET-MASTER-ADDR-BY-NAME", "m", "SENTINEL", "MASTER", "m"]);
        assert_eq!(sent(&master), ["AUTH", "pw", "ROLE"]);
        assert_eq!(watched.epoch(), 3);
    }

    #[test]
    fn a_replica_is_not_taken_and_the_sentinel_that_was_right_is_asked_first_from_then_on() {
        let (one, other) = (sentinel(1), sentinel(1));
        will_connect([&one, &says(&[OK, REPLICA]), &other, &says(&[OK, MASTER])]);
        let watched = watched(URL);
        assert!(open(&watched).is_some_and(|outcome| outcome.is_ok()));
        assert_eq!(watched.first.load(Ordering::Relaxed), 1);
        assert!(!sent(&one).is_empty() && !sent(&other).is_empty());
    }

    #[test]
    fn a_sentinel_that_never_answers_holds_the_next_attempt_up_no_more() {
        let silent = Pipe::default();
        will_connect([&silent, &sentinel(1), &says(&[OK, MASTER])]);
        let watched = watched(URL);
        assert!(open(&watched).is_none());
        assert!(open(&watched).is_some_and(|outcome| outcome.is_ok()));
        assert_eq!(sent(&silent), ["AUTH", "spw"]);
    }

    #[test]
    fn who_has_not_heard_of_the_newest_master_is_not_believed_unless_nobody_has() {
        let watched = watched(URL);
        will_connect([&sentinel(5), &says(&[OK, MASTER])]);
        assert!(open(&watched).is_some_and(|outcome| outcome.is_ok()));
        will_connect([&sentinel(4), &says(&[OK, MASTER]), &sentinel(5), &says(&[OK, MASTER])]);
        assert!(open(&watched).is_some_and(|outcome| outcome.is_ok()));
        // They have been set up anew.
        let anew = || [sentinel(1), says(&[OK, MASTER]), sentinel(0), says(&[OK, MASTER])];
        will_connect(anew().each_ref());
        assert!(failure(&watched).contains("not heard"));
        will_connect(anew().each_ref());
        assert!(open(&watched).is_some_and(|outcome| outcome.is_ok()));
    }

    #[test]
    fn every_failure_is_told_and_no_password() {
        let ended = |replies| {
            let pipe = says(replies);
            pipe.ends().ended = true;
            pipe
        };
        for (one, other, told) in [
            (says(&["-WRONGPASS no\r\n"]), says(&[OK, "*-1\r\n"]), ["WRONGPASS", "knows no master of this name"]),
            (ended(&[OK]), ended(&[OK, "*2\r\n$1\r\n"]), ["closed", "closed"]),
            (says(&["what?\r\n"]), says(&[OK, "*2\r\n$1\r\nh\r\n$1\r\nx\r\n"]), ["not a reply", "port"]),
            (says(&vec![&*format!("${}\r\n{}", 1 << 20, "x".repeat(4_000)); 20]), sentinel(1), ["without end", "refused"]),
        ] {
            will_connect([&one, &other]);
            let error = failure(&watched(URL));
            assert!(told.iter().all(|told| error.contains(told)), "{error}");
            assert!(error.contains("a:26379") && error.contains("b:2") && !error.contains("pw"), "{error}");
        }
    }
}
