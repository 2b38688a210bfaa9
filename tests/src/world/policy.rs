//! Who may do what, in the World: tokens that end or are revoked, rules that change, and a host that decides.

use std::time::Duration;

use roomcast_core::config::AccessRule;
use roomcast_core::hub::{Petition, PetitionId};
use roomcast_core::survey::Surveyed;
use roomcast_core::time::{Time, UnixMillis};
use roomcast_core::token::Subject;
use serde_json::{Value, json};

use super::{ClientNumber, WALL_START, World};

/// A question that a node has put to the host.
#[derive(Clone, Debug)]
pub struct Asked {
    /// The node.
    pub node: usize,
    /// The question.
    pub petition: Petition,
}

impl World {
    /// A client connects with a token that says this beside the user's name. From the moment in which it ends, leeway included, the
    /// client must not be sent anything that is published.
    pub fn connect_as(&mut self, node: usize, user: &str, claims: &Value) -> ClientNumber {
        let token = self.token_of(user, claims);
        let end = claims["exp"].as_u64().map(|exp| self.virtual_time(UnixMillis(exp * 1000) + self.config.auth.leeway));
        let client = self.open_with(node, "/ws", Some(user), Some(token));
        self.clients[client.0].good_until = end;
        client
    }

    /// A token of a user that says this beside.
    pub fn token_of(&self, user: &str, claims: &Value) -> String {
        let mut all = json!({ "sub": user, "email": "a@b", "role": "user", "token_type": "access" });
        let more = claims.as_object().expect("claims are an object").clone();
        all.as_object_mut().expect("it is one").extend(more);
        self.sign(&all)
    }

    /// A client renews its token in place, by one of its user that says this beside.
    pub fn renew(&mut self, client: ClientNumber, user: &str, claims: &Value) {
        let token = self.token_of(user, claims);
        self.send(client, &json!({"type": "auth", "data": {"token": token}}).to_string());
    }

    /// A client's token ends then, as far as the oracle knows.
    pub fn set_end(&mut self, ClientNumber(client): ClientNumber, end: Option<Time>) {
        self.clients[client].good_until = end;
    }

    /// When the wall clock of the nodes shows this.
    pub fn virtual_time(&self, unix: UnixMillis) -> Time {
        Time::ZERO + Duration::from_millis(unix.0.saturating_sub(WALL_START.0))
    }

    /// Lets time pass until this moment, which is still to come.
    pub fn run_until(&mut self, at: Time) {
        self.run(at - self.now);
    }

    /// It is this moment at once, without anything having been done meanwhile, as in a process that was stopped.
    pub fn jump(&mut self, at: Time) {
        self.now = at;
    }

    /// An operator revokes tokens by way of a node, and waits for the answer. Where all nodes have answered, the connections
    /// that are given are sent nothing any more that is published from then on.
    pub fn revoke(&mut self, node: usize, subject: Subject, whose: &[ClientNumber]) -> Surveyed {
        let now = self.now;
        if let Some(running) = self.hosts[node].node() {
            running.revoke(now, subject);
        }
        self.pump(node);
        while self.surveyed.is_none() {
            let next = self.next_moment().expect("a survey always ends");
            self.now = self.now.max(next);
            self.step();
        }
        let surveyed = self.surveyed.take().expect("it was waited for");
        if surveyed.asked == Some(surveyed.answered) {
            let now = self.now;
            whose.iter().for_each(|client| self.clients[client.0].good_until = Some(now));
        }
        surveyed
    }

    /// What nodes have asked the host and it has not decided.
    pub fn petitions(&mut self) -> Vec<Asked> {
        std::mem::take(&mut self.asked)
    }

    /// The host decides.
    pub fn decide_on(&mut self, asked: &Asked, allowed: bool) {
        let (now, Petition { id, .. }): (Time, &Petition) = (self.now, &asked.petition);
        self.answer_petition(asked.node, now, *id, allowed);
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
        }
        self.pump(node);
    }
}
