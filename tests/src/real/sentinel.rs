//! A Redis that fails over: a primary and its replica, and three sentinels that watch them.

use super::redis::RedisServer;
use super::replication::{replicating, wait_for_role};
use super::{PATIENCE, poll_until};

/// What the sentinels call the primary.
const NAME: &str = "roomcast";

/// Two servers, one of which is the primary, and three sentinels, two of which are enough to make the other one it.
#[derive(Debug)]
pub struct Watched {
    servers: [RedisServer; 2],
    /// The sentinels, in the order of the URL.
    pub sentinels: [RedisServer; 3],
    /// Which of the servers is the primary.
    primary: usize,
}

impl Watched {
    /// Starts all of them and waits until the sentinels know one another and the replica.
    ///
    /// # Panics
    ///
    /// When they do not come to that.
    #[must_use]
    pub fn start() -> Self {
        let servers = [replicating(), replicating()];
        servers[1].command(&["REPLICAOF", "127.0.0.1", &servers[0].port().to_string()]);
        let follows = || servers[1].query::<String>(&["INFO", "replication"]).contains("master_link_status:up");
        assert!(poll_until(PATIENCE, || follows().then_some(())).is_some(), "the replica does not follow");
        let config = format!(
            "sentinel monitor {NAME} 127.0.0.1 {} 2\n\
             sentinel down-after-milliseconds {NAME} 1000\n\
             sentinel failover-timeout {NAME} 5000\n",
            servers[0].port()
        );
        let sentinels = [(); 3].map(|()| RedisServer::start_sentinel(&config));
        let watched = Self { servers, sentinels, primary: 0 };
        watched.wait_until_all_are_known();
        watched
    }

    /// The URL by which a gateway finds the primary.
    #[must_use]
    pub fn url(&self) -> String {
        let hosts = self.sentinels.each_ref().map(|sentinel| format!("127.0.0.1:{}", sentinel.port()));
        format!("redis-sentinel://{}#{NAME}", hosts.join(","))
    }

    /// The ports of the two servers, beginning with the one that is the primary at first.
    #[must_use]
    pub fn ports(&self) -> [u16; 2] {
        self.servers.each_ref().map(RedisServer::port)
    }

    /// The server that is the primary, or was until it was killed.
    #[must_use]
    pub fn primary(&mut self) -> &mut RedisServer {
        &mut self.servers[self.primary]
    }

    /// The other one.
    #[must_use]
    pub fn replica(&mut self) -> &mut RedisServer {
        &mut self.servers[1 - self.primary]
    }

    /// Lets the sentinels make the replica the primary while both are up, and waits until they all have heard of it.
    ///
    /// # Panics
    ///
    /// When they do not.
    pub fn fail_over(&mut self) {
        self.sentinels[0].command(&["SENTINEL", "FAILOVER", NAME]);
        self.wait_for_fail_over();
    }

    /// Waits until the sentinels that run have made the replica the primary.
    ///
    /// # Panics
    ///
    /// When they do not.
    pub fn wait_for_fail_over(&mut self) {
        let port = self.replica().port().to_string();
        let named = || {
            let running = self.sentinels.iter().filter(|sentinel| sentinel.is_running());
            running.map(address).all(|address| address.is_some_and(|address| address[1] == port)).then_some(())
        };
        assert!(poll_until(PATIENCE, named).is_some(), "the sentinels do not name 127.0.0.1:{port}");
        self.primary = 1 - self.primary;
        wait_for_role(self.primary(), "master");
    }

    fn wait_until_all_are_known(&self) {
        let known = |sentinel: &RedisServer| {
            let state: Vec<String> = sentinel.query(&["SENTINEL", "MASTER", NAME]);
            let field = |name: &str| state.iter().skip_while(|word| *word != name).nth(1).cloned().unwrap_or_default();
            (field("flags"), field("num-slaves"), field("num-other-sentinels"))
        };
        let all = || self.sentinels.iter().map(known).all(|known| known == ("master".into(), "1".into(), "2".into()));
        if poll_until(PATIENCE, || all().then_some(())).is_none() {
            panic!("what the sentinels know: {:?}", self.sentinels.each_ref().map(known));
        }
    }
}

/// Host and port of the primary, as a sentinel knows them.
fn address(sentinel: &RedisServer) -> Option<[String; 2]> {
    sentinel.query::<Option<Vec<String>>>(&["SENTINEL", "GET-MASTER-ADDR-BY-NAME", NAME])?.try_into().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn it_fails_over_in_good_order() {
        let mut redis = Watched::start();
        let ports = redis.ports();
        redis.primary().command(&["SET", "key", "value"]);
        redis.fail_over();
        assert_eq!([redis.replica().port(), redis.primary().port()], ports);
        assert_eq!(redis.primary().query::<String>(&["GET", "key"]), "value");
    }

    #[test]
    fn it_fails_over_when_the_primary_is_killed() {
        let mut redis = Watched::start();
        let ports = redis.ports();
        redis.primary().kill();
        redis.wait_for_fail_over();
        assert_eq!([redis.replica().port(), redis.primary().port()], ports);
    }
}
