//! Who may do what, in the World: tokens that end or are revoked, rules that change, and a host that decides.

use std::collections::BTreeSet;
use std::time::Duration;

use roomcast_core::config::AccessRule;
use roomcast_core::hub::{Intent, Petition, PetitionId};
use roomcast_core::survey::Surveyed;
use roomcast_core::time::{Time, UnixMillis};
use roomcast_core::token::{Identity, Subject};
use serde_json::{Value, json};

use super::host::Peer;
use super::tokens::{self, Session};
use super::{ClientNumber, WALL_START, World};

/// A question that a node has put to the host.
#[derive(Clone, Debug)]
pub struct Asked {
    /// The node.
    pub node: usize,
    /// The question.
    pub petition: Petition,
    /// How often the node had started.
    boot: u32,
}

/// What was decided of who may do what.
#[derive(Debug, Default)]
pub(super) struct Policy {
    /// What nodes have asked the host to decide.
    asked: Vec<Asked>,
    /// Whom the host has let into a room, on which node.
    granted: BTreeSet<(usize, Option<Box<str>>, String)>,
    revocations: Vec<Revocation>,
    /// Tokens that were issued.
    issued: u64,
}

/// What an operator has revoked, and what is known to hold of it.
#[derive(Debug)]
struct Revocation {
    subject: Subject,
    at: UnixMillis,
    /// From when on, and in which processes: nodes, and how often they had started.
    since: Time,
    holders: Vec<(usize, u32)>,
}

impl Policy {
    pub(super) fn ask(&mut self, (node, boot): (usize, u32), petition: Petition) {
        self.asked.push(Asked { node, petition, boot });
    }

    /// Whether the host has ever let a user into a room, on a node.
    pub(super) fn has_granted(&self, node: usize, user: Option<&str>, room: &str) -> bool {
        self.granted.contains(&(node, user.map(Box::from), room.to_owned()))
    }
}

impl Revocation {
    fn covers(&self, Identity { user, issued, jti, .. }: &Identity) -> bool {
        match &self.subject {
            Subject::Token(name) => jti.as_ref() == Some(name),
            Subject::User(name) => name == user && issued.is_none_or(|issued| issued <= self.at),
        }
    }
}

impl World {
    /// A client connects with a token that says this beside the user's name.
    pub fn connect_as(&mut self, node: usize, user: &str, claims: &Value) -> ClientNumber {
        let token = self.token_of(user, claims);
        self.connect_with(node, user, token)
    }

    /// A client connects with a token of this user.
    pub fn connect_with(&mut self, node: usize, user: &str, token: String) -> ClientNumber {
        self.open_with(node, "/ws", Some(user), Some(token))
    }

    /// A token of a user that says this beside.
    pub fn token_of(&self, user: &str, claims: &Value) -> String {
        let mut all = json!({ "sub": user, "email": "a@b", "role": "user", "token_type": "access" });
        let more = claims.as_object().expect("claims are an object").clone();
        all.as_object_mut().expect("it is one").extend(more);
        self.sign(&all)
    }

    /// A token of a user with a name of its own that is issued now, and is good for so many seconds, beside what clocks may differ.
    pub fn issue(&mut self, user: &str, seconds: u64, roles: &[&str]) -> String {
        self.policy.issued += 1;
        let (name, now) = (format!("token-{}", self.policy.issued), self.unix().0 / 1000);
        self.token_of(user, &json!({ "jti": name, "iat": now, "exp": now + seconds, "roles": roles }))
    }

    /// A client has another token from now on, which it shows when it connects the next time.
    pub fn give_token(&mut self, client: ClientNumber, token: String) {
        if self.clients[client.0].socket.is_some() {
            return self.set_token(client, &token);
        }
        self.clients[client.0].token = Some(token);
    }

    /// The user of a client, where it has one.
    pub fn user_of(&self, ClientNumber(client): ClientNumber) -> Option<&str> {
        self.clients[client].user.as_deref()
    }

    /// The name of the token that a client was let in with, where it has one.
    pub fn token_name(&self, ClientNumber(client): ClientNumber) -> Option<Box<str>> {
        self.clients[client].shown.as_ref()?.identity.as_ref()?.jti.clone()
    }

    /// A client renews its token in place, by one of its user that says this beside.
    pub fn renew(&mut self, client: ClientNumber, user: &str, claims: &Value) {
        let token = self.token_of(user, claims);
        self.renew_with(client, &token);
    }

    /// A client renews its token in place, by this one.
    pub fn renew_with(&mut self, client: ClientNumber, token: &str) {
        let frame = json!({ "type": "auth", "message_id": tokens::RENEWAL, "data": { "token": token } });
        self.send(client, &frame.to_string());
    }

    /// When the wall clock of the nodes shows this, where nobody sets it.
    pub fn virtual_time(&self, unix: UnixMillis) -> Time {
        Time::ZERO + Duration::from_millis(unix.0.saturating_sub(WALL_START.0))
    }

    /// What the wall clock of the nodes shows, where nobody has set it.
    fn unix(&self) -> UnixMillis {
        WALL_START + (self.now - Time::ZERO)
    }

    /// Lets time pass until this moment, which is still to come.
    pub fn run_until(&mut self, at: Time) {
        self.run(at - self.now);
    }

    /// It is this moment at once, without anything having been done meanwhile, as in a process that was stopped.
    pub fn jump(&mut self, at: Time) {
        self.now = at;
    }

    /// An operator revokes tokens by way of a node that runs, and waits for the answer. From then on whoever has shown one of them
    /// to that node is sent nothing any more that is published; or to any node, where all that run have answered.
    pub fn revoke(&mut self, node: usize, subject: Subject) -> Surveyed {
        let (now, at) = (self.now, self.unix());
        if let Some(running) = self.hosts[node].node() {
            running.revoke(now, subject.clone());
        }
        self.pump(node);
        while self.surveyed.is_none() {
            let next = self.next_moment().expect("a survey always ends");
            self.now = self.now.max(next);
            self.step();
        }
        let surveyed = self.surveyed.take().expect("it was waited for");
        let running = self.hosts.iter().enumerate().filter(|(_, host)| host.peek().is_some());
        let running: Vec<(usize, u32)> = running.map(|(node, host)| (node, host.boot)).collect();
        let all_know = surveyed.asked == Some(surveyed.answered) && surveyed.answered as usize == running.len();
        let holders = running.into_iter().filter(|(other, _)| all_know || *other == node).collect();
        self.policy.revocations.push(Revocation { subject, at, since: self.now, holders });
        surveyed
    }

    /// When the token ends with which a client was let in, where it does: by itself, or since it is revoked.
    pub(super) fn end_of(&self, Session { identity, place, .. }: &Session) -> Option<Time> {
        let identity = identity.as_ref()?;
        let holds = |revocation: &&Revocation| revocation.holders.contains(place) && revocation.covers(identity);
        let revoked = self.policy.revocations.iter().filter(holds).map(|revocation| revocation.since);
        revoked.chain(identity.expires.map(|at| self.hosts[place.0].when(at))).min()
    }

    /// Whether a client may hope to be let in with the token that it has.
    pub fn is_good(&self, ClientNumber(client): ClientNumber) -> bool {
        let Some(identity) = self.token_shown_by(client).and_then(|token| tokens::read(&token, &self.config)) else {
            return true;
        };
        let is_over = identity.expires.is_some_and(|at| at <= self.unix());
        !is_over && !self.policy.revocations.iter().any(|revocation| revocation.covers(&identity))
    }

    /// What nodes have asked the host and it has not decided.
    pub fn petitions(&mut self) -> Vec<Asked> {
        std::mem::take(&mut self.policy.asked)
    }

    /// The host decides. The answer to a process that is gone is for nobody.
    pub fn decide_on(&mut self, Asked { node, petition, boot }: &Asked, allowed: bool) {
        if self.hosts[*node].boot != *boot {
            return;
        }
        if allowed && petition.intent == Intent::Subscribe {
            self.policy.granted.insert((*node, petition.user.clone(), petition.room.to_string()));
        }
        self.answer_petition(*node, self.now, petition.id, allowed);
    }

    fn answer_petition(&mut self, node: usize, now: Time, id: PetitionId, allowed: bool) {
        if let Some(running) = self.hosts[node].node() {
            running.decide(now, id, allowed);
        }
        self.pump(node);
    }

    /// A node is given other rules.
    pub fn set_access(&mut self, node: usize, rules: &[AccessRule]) {
        let now = self.now;
        if let Some(running) = self.hosts[node].node() {
            running.hub().set_access(now, rules.to_vec());
            self.hosts[node].rules.push((now, rules.to_vec()));
        }
        self.pump(node);
    }

    /// The process that a client is connected with: the node, and how often it has started.
    pub(super) fn process_of(&self, client: usize) -> Option<(usize, u32)> {
        let node = match self.peer(client) {
            Peer::Client(client) => self.clients[client].place()?.0,
            Peer::Engine(engine) => self.sessions.engines[engine].node(),
        };
        Some((node, self.hosts[node].boot))
    }
}
