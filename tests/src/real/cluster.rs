//! A Redis Cluster: three primaries, each with a replica.

use std::collections::BTreeSet;
use std::fmt::Debug;

use redis::{FromRedisValue, ToRedisArgs};

use super::redis::{FREE_PORT, RedisServer};
use super::{PATIENCE, poll_until};

/// Slots of a cluster.
const SLOTS: usize = 16_384;
const PRIMARIES: usize = 3;

/// Six nodes. The slots are shared out evenly among three of them, in order; each of the others is the replica of one.
#[derive(Debug)]
pub struct Cluster {
    nodes: Vec<RedisServer>,
}

impl Cluster {
    /// Starts the nodes and waits until all of them agree on all slots, and the replicas follow.
    ///
    /// # Panics
    ///
    /// When they do not come to that.
    #[must_use]
    pub fn start() -> Self {
        let nodes: Vec<RedisServer> = (0..2 * PRIMARIES).map(|_| start_node()).collect();
        for (epoch, node) in (1..).zip(&nodes) {
            // Different from the start, so that they need not find that out first.
            node.command(&["CLUSTER", "SET-CONFIG-EPOCH", &epoch.to_string()]);
        }
        let share = SLOTS.div_ceil(PRIMARIES);
        for (index, node) in nodes[..PRIMARIES].iter().enumerate() {
            let (first, last) = (index * share, ((index + 1) * share).min(SLOTS) - 1);
            node.command(&["CLUSTER", "ADDSLOTSRANGE", &first.to_string(), &last.to_string()]);
        }
        let cluster = Self { nodes };
        cluster.meet();
        for (primary, replica) in cluster.nodes[..PRIMARIES].iter().zip(&cluster.nodes[PRIMARIES..]) {
            replica.command(&["CLUSTER", "REPLICATE", &id(primary)]);
        }
        cluster.wait_until_ok();
        cluster
    }

    /// The URL with three of the nodes in it.
    #[must_use]
    pub fn url(&self) -> String {
        let hosts: Vec<String> = self.nodes[..PRIMARIES].iter().map(|node| format!("127.0.0.1:{}", node.port())).collect();
        format!("redis-cluster://{}", hosts.join(","))
    }

    /// A node by its number. Those from 0 to 2 begin as primaries, and those from 3 to 5 as their replicas.
    ///
    /// # Panics
    ///
    /// When there is no such node.
    #[must_use]
    pub fn node(&mut self, number: usize) -> &mut RedisServer {
        &mut self.nodes[number]
    }

    /// The slot of a key.
    ///
    /// # Panics
    ///
    /// When no node runs.
    #[must_use]
    pub fn slot(&self, key: &str) -> u16 {
        self.any().query(&["CLUSTER", "KEYSLOT", key])
    }

    /// The number of the node that serves a slot.
    ///
    /// # Panics
    ///
    /// When none that runs does for long.
    #[must_use]
    pub fn owner(&self, slot: u16) -> usize {
        let owner = poll_until(PATIENCE, || {
            let port = self.view(self.any()).into_iter().find(|node| node.serves(slot))?.port;
            self.nodes.iter().position(|node| node.port() == port && node.is_running())
        });
        owner.unwrap_or_else(|| panic!("nobody serves the slot {slot}"))
    }

    /// Runs one command, whose second word is its key, where that key is. It follows the cluster while that changes.
    ///
    /// # Panics
    ///
    /// When the cluster refuses, or answers with another type.
    pub fn query<T: FromRedisValue>(&self, command: &[impl ToRedisArgs + Debug]) -> T {
        let mut node = self.any();
        let mut asking = false;
        let mut last = String::new();
        let answer = poll_until(PATIENCE, || {
            if std::mem::take(&mut asking) {
                node.command(&["ASKING"]);
            }
            let error = match node.try_query(command) {
                Ok(answer) => return Some(answer),
                Err(error) => error,
            };
            last = error.to_string();
            match error.code() {
                Some(code @ ("MOVED" | "ASK")) => {
                    let port = error.detail().and_then(|detail| detail.rsplit_once(':')?.1.parse().ok());
                    node = self.nodes.iter().find(|node| Some(node.port()) == port).expect("it leads to one of the nodes");
                    asking = code == "ASK";
                }
                Some("TRYAGAIN" | "CLUSTERDOWN") => {}
                Some(_) => panic!("the cluster refuses {command:?}: {error}"),
                // It may have been killed.
                None => node = self.any(),
            }
            None
        });
        answer.unwrap_or_else(|| panic!("the cluster does not carry {command:?} out: {last}"))
    }

    /// Moves a slot with all its keys to another primary, in the way that is meant for it.
    ///
    /// # Panics
    ///
    /// When a node refuses.
    pub fn move_slot(&self, slot: u16, from: usize, to: usize) {
        const AT_ONCE: &str = "100";
        const TIMEOUT: &str = "5000";
        self.wait_for_one_epoch();
        let (source, target) = (&self.nodes[from], &self.nodes[to]);
        let number = slot.to_string();
        target.command(&["CLUSTER", "SETSLOT", &number, "IMPORTING", &id(source)]);
        source.command(&["CLUSTER", "SETSLOT", &number, "MIGRATING", &id(target)]);
        loop {
            let keys: Vec<Vec<u8>> = source.query(&["CLUSTER", "GETKEYSINSLOT", &number, AT_ONCE]);
            if keys.is_empty() {
                break;
            }
            let port = target.port().to_string();
            let mut command =
                ["MIGRATE", "127.0.0.1", &port, "", "0", TIMEOUT, "KEYS"].map(|word| word.as_bytes().to_vec()).to_vec();
            command.extend(keys);
            source.command(&command);
        }
        // The new owner first: nobody is told to go to one that does not know yet.
        let primaries = self.nodes.iter().filter(|node| node.is_running() && is_primary(node));
        let others = primaries.filter(|node| ![source.port(), target.port()].contains(&node.port()));
        for node in [target, source].into_iter().chain(others) {
            node.command(&["CLUSTER", "SETSLOT", &number, "NODE", &id(target)]);
        }
        self.wait_for_one_epoch();
    }

    /// Waits until all nodes know of the last change. Two that are made at once, each unknown to the other's node, may undo one
    /// another, so that in the end nobody claims the slot.
    fn wait_for_one_epoch(&self) {
        let epoch = |node: &RedisServer| {
            let info: String = node.query(&["CLUSTER", "INFO"]);
            info.lines().find(|line| line.starts_with("cluster_current_epoch")).map(str::to_owned)
        };
        let agree = || self.running().map(epoch).collect::<BTreeSet<_>>().len() == 1;
        assert!(poll_until(PATIENCE, || agree().then_some(())).is_some(), "the nodes do not come to one epoch");
    }

    /// Makes a replica the primary in place of its own, in good order, and waits until all nodes know.
    ///
    /// # Panics
    ///
    /// When it does not become it.
    pub fn fail_over_to(&self, replica: usize) {
        self.nodes[replica].command(&["CLUSTER", "FAILOVER"]);
        self.wait_for_primary(replica);
    }

    /// Waits until a node is a primary and the cluster is complete, after the primary that it followed was killed.
    ///
    /// # Panics
    ///
    /// When that does not come.
    pub fn wait_for_primary(&self, replica: usize) {
        let port = self.nodes[replica].port();
        let serves = |node: &&RedisServer| self.view(node).iter().any(|node| node.port == port && !node.slots.is_empty());
        let done = poll_until(PATIENCE, || self.running().all(|node| serves(&node)).then_some(()));
        assert!(done.is_some(), "node {replica} does not become a primary");
        self.wait_until_ok();
    }

    /// Lets all nodes know one another, and waits until they do.
    fn meet(&self) {
        for node in &self.nodes[1..] {
            let (port, bus) = (node.port().to_string(), bus_port(node));
            self.nodes[0].command(&["CLUSTER", "MEET", "127.0.0.1", &port, &bus]);
        }
        let all = || self.nodes.iter().all(|node| self.view(node).len() == self.nodes.len());
        assert!(poll_until(PATIENCE, || all().then_some(())).is_some(), "the nodes do not meet");
    }

    /// Waits until every node that runs sees all slots served, and every replica has its primary's data.
    fn wait_until_ok(&self) {
        let is_ok = |node: &RedisServer| {
            let replication: String = node.query(&["INFO", "replication"]);
            node.query::<String>(&["CLUSTER", "INFO"]).contains("cluster_state:ok")
                && (replication.contains("role:master") || replication.contains("master_link_status:up"))
        };
        let follow = || self.running().filter(|node| !is_primary(node)).count() + PRIMARIES == self.running().count();
        let ok = poll_until(PATIENCE, || (self.running().all(is_ok) && follow()).then_some(()));
        if ok.is_none() {
            panic!("the cluster is not complete:\n{}", self.any().query::<String>(&["CLUSTER", "NODES"]));
        }
    }

    /// The cluster as a node sees it.
    fn view(&self, node: &RedisServer) -> Vec<Seen> {
        node.query::<String>(&["CLUSTER", "NODES"]).lines().filter_map(Seen::read).collect()
    }

    fn running(&self) -> impl Iterator<Item = &RedisServer> {
        self.nodes.iter().filter(|node| node.is_running())
    }

    fn any(&self) -> &RedisServer {
        self.running().next().expect("a node runs")
    }
}

/// A node as another sees it, if it is known well enough to be used.
struct Seen {
    port: u16,
    /// First and last slot of what it serves.
    slots: Vec<(u16, u16)>,
}

impl Seen {
    /// Reads a line of `CLUSTER NODES`.
    fn read(line: &str) -> Option<Self> {
        let words: Vec<&str> = line.split(' ').collect();
        let port = words.get(1)?.split_once('@')?.0.rsplit_once(':')?.1.parse().ok()?;
        if words.get(2)?.contains("handshake") {
            return None;
        }
        let range = |word: &&str| {
            let (first, last) = word.split_once('-').unwrap_or((word, word));
            Some((first.parse().ok()?, last.parse().ok()?))
        };
        Some(Self { port, slots: words.get(8..).unwrap_or_default().iter().filter_map(range).collect() })
    }

    fn serves(&self, slot: u16) -> bool {
        self.slots.iter().any(|(first, last)| (*first..=*last).contains(&slot))
    }
}

fn start_node() -> RedisServer {
    // The nodes notice soon that one of them is gone, and a replica follows without waiting for more.
    RedisServer::start_with(&[
        "--cluster-enabled",
        "yes",
        "--cluster-port",
        FREE_PORT,
        "--cluster-node-timeout",
        "1000",
        "--repl-diskless-sync-delay",
        "0",
    ])
}

fn bus_port(node: &RedisServer) -> String {
    node.query::<[String; 2]>(&["CONFIG", "GET", "cluster-port"])[1].clone()
}

fn id(node: &RedisServer) -> String {
    node.query(&["CLUSTER", "MYID"])
}

fn is_primary(node: &RedisServer) -> bool {
    node.query::<String>(&["INFO", "replication"]).contains("role:master")
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::time::Instant;

    #[test]
    fn slots_move_and_replicas_take_over() {
        let begin = Instant::now();
        let mut cluster = Cluster::start();
        println!("started in {:?}", begin.elapsed());
        let keys: Vec<String> = (0..300).map(|number| format!("{{tag}}{number}")).collect();
        for key in &keys {
            cluster.query::<()>(&["SET", key, "value"]);
        }
        let slot = cluster.slot(&keys[0]);
        let from = cluster.owner(slot);
        let to = (from + 1) % PRIMARIES;
        cluster.move_slot(slot, from, to);
        assert_eq!(cluster.owner(slot), to);
        assert!(keys.iter().all(|key| cluster.query::<String>(&["GET", key]) == "value"));
        println!("moved a slot by {:?}", begin.elapsed());

        cluster.fail_over_to(to + PRIMARIES);
        assert_eq!(cluster.owner(slot), to + PRIMARIES);
        println!("failed over by {:?}", begin.elapsed());
        cluster.node(to + PRIMARIES).kill();
        cluster.wait_for_primary(to);
        assert_eq!(cluster.query::<String>(&["GET", &keys[7]]), "value");
        println!("failed over again by {:?}", begin.elapsed());
    }
}
