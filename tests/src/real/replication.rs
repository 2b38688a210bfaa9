//! Servers that copy one another.

use super::redis::RedisServer;
use super::traffic::{COMMANDS, EVENTS};
use super::{PATIENCE, poll_until};

/// A server that copies another without waiting for more replicas first.
#[must_use]
pub fn replicating() -> RedisServer {
    RedisServer::start_with(&["--repl-diskless-sync-delay", "0"])
}

/// Makes a server a replica and waits until it is one.
///
/// # Panics
///
/// When it does not become one.
pub fn follow(replica: &RedisServer, primary: &RedisServer) {
    replica.command(&["REPLICAOF", "127.0.0.1", &primary.port().to_string()]);
    wait_for_the_same_data(replica, primary);
}

/// Waits until a replica has all entries of its primary.
///
/// # Panics
///
/// When it does not get them.
pub fn wait_for_the_same_data(replica: &RedisServer, primary: &RedisServer) {
    wait_for_role(replica, "slave");
    let length = |server: &RedisServer| [EVENTS, COMMANDS].map(|source| server.query::<usize>(&["XLEN", source.stream]));
    let same = poll_until(PATIENCE, || {
        let up = replication(replica).contains("master_link_status:up");
        (up && length(replica) == length(primary)).then_some(())
    });
    assert!(same.is_some(), "the replica does not follow: {}", replication(replica));
}

/// Waits until a server is `master` or `slave`.
///
/// # Panics
///
/// When it does not become it.
pub fn wait_for_role(server: &RedisServer, role: &str) {
    let role = format!("role:{role}");
    let has_it = poll_until(PATIENCE, || replication(server).contains(&role).then_some(()));
    assert!(has_it.is_some(), "not {role}: {}", replication(server));
}

fn replication(server: &RedisServer) -> String {
    // Sentinels close the connections of a server whose role they change.
    server.try_query(&["INFO", "replication"]).unwrap_or_else(|error| error.to_string())
}
