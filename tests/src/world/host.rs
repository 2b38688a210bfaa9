//! A node of the World and its connection to the store.

use std::collections::BTreeMap;
use std::time::Duration;

use jsonwebtoken::{EncodingKey, Header, encode};
use roomcast_core::config::{AccessRule, Config};
use roomcast_core::id::{ConnId, Ticket};
use roomcast_core::node::Node;
use roomcast_core::store::Lane;
use roomcast_core::store::memory::ClientId;
use roomcast_core::time::{Time, UnixMillis};
use serde_json::Value;

use super::WALL_START;

/// What is on the other end of a WebSocket.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Peer {
    /// A client of its own.
    Client(usize),
    /// A session of Socket.IO, for all its clients.
    Engine(usize),
}

#[derive(Debug)]
pub(super) struct Host {
    node: Option<Node>,
    pub(super) store: ClientId,
    /// How often it has started: what was on its way to an earlier process is for nobody.
    pub(super) boot: u32,
    /// What its wall clock showed when it was last set.
    pub(super) wall_clock: (Time, UnixMillis),
    /// Whether the store cannot be reached.
    pub(super) cut: bool,
    /// The rules of access that it was given, and when.
    pub(super) rules: Vec<(Time, Vec<AccessRule>)>,
    /// Operations without an answer so far. An answer that arrives for another ticket comes from a connection that is gone.
    pub(super) in_flight: BTreeMap<Ticket, Lane>,
    last_arrival: BTreeMap<Lane, Time>,
    last_departure: BTreeMap<Lane, Time>,
    peers: BTreeMap<ConnId, Peer>,
    tokens: BTreeMap<String, String>,
}

impl Host {
    pub(super) fn new(node: Node, store: ClientId, boot: u32, rules: (Time, Vec<AccessRule>)) -> Host {
        Host {
            node: Some(node),
            store,
            boot,
            wall_clock: (Time::ZERO, WALL_START),
            cut: false,
            rules: vec![rules],
            in_flight: BTreeMap::new(),
            last_arrival: BTreeMap::new(),
            last_departure: BTreeMap::new(),
            peers: BTreeMap::new(),
            tokens: BTreeMap::new(),
        }
    }

    /// When its wall clock shows this: not before it was last set.
    pub(super) fn when(&self, unix: UnixMillis) -> Time {
        let (at, shown) = self.wall_clock;
        at + Duration::from_millis(unix.0.saturating_sub(shown.0))
    }

    pub(super) fn node(&mut self) -> Option<&mut Node> {
        self.node.as_mut()
    }

    pub(super) fn peek(&self) -> Option<&Node> {
        self.node.as_ref()
    }

    /// The node dies; whom it was connected to.
    pub(super) fn crash(&mut self) -> Vec<Peer> {
        self.node = None;
        self.in_flight.clear();
        std::mem::take(&mut self.peers).into_values().collect()
    }

    pub(super) fn attach(&mut self, conn: ConnId, peer: Peer) {
        let before = self.peers.insert(conn, peer);
        assert_eq!(before, None, "the identifier of a connection is given once");
    }

    pub(super) fn forget(&mut self, conn: ConnId) -> Option<Peer> {
        self.peers.remove(&conn)
    }

    pub(super) fn peer_of(&self, conn: ConnId) -> Option<Peer> {
        self.peers.get(&conn).copied()
    }

    /// When something sent on a lane at `at` arrives, after what was sent before.
    pub(super) fn arrival(&mut self, lane: Lane, at: Time) -> Time {
        in_order(&mut self.last_arrival, lane, at)
    }

    /// The same for the way back.
    pub(super) fn departure(&mut self, lane: Lane, at: Time) -> Time {
        in_order(&mut self.last_departure, lane, at)
    }

    /// Forgets what is in flight, on one lane or on all; the tickets.
    pub(super) fn drop_in_flight(&mut self, lane: Option<Lane>) -> Vec<Ticket> {
        let dropped: Vec<Ticket> =
            self.in_flight.iter().filter(|(_, on)| lane.is_none_or(|lane| **on == lane)).map(|(ticket, _)| *ticket).collect();
        self.in_flight.retain(|ticket, _| !dropped.contains(ticket));
        dropped
    }

    /// A token for a user, without an end.
    pub(super) fn token(&mut self, user: &str, config: &Config) -> String {
        let make = || sign(&serde_json::json!({ "sub": user }), config);
        self.tokens.entry(user.to_owned()).or_insert_with(make).clone()
    }
}

/// A token with these claims.
pub(super) fn sign(claims: &Value, config: &Config) -> String {
    let secret = config.auth.secret.as_ref().expect("the World gives its nodes a secret");
    let key = EncodingKey::from_secret(secret.expose());
    encode(&Header::default(), claims, &key).expect("the claims can be signed")
}

fn in_order(last: &mut BTreeMap<Lane, Time>, lane: Lane, at: Time) -> Time {
    let last = last.entry(lane).or_default();
    *last = at.max(*last);
    *last
}
