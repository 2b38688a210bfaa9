//! The rooms of connections, in memory.

use std::collections::BTreeMap;
use std::sync::Arc;

use super::{ClientId, Memory};
use crate::store::{Answer, Places, SessionOp};
use crate::time::Time;

/// The sessions of each token: those of a consumer's connection, by its number.
pub(super) type Sessions = BTreeMap<Box<str>, BTreeMap<(Arc<str>, u64), Session>>;

#[derive(Clone, Debug)]
pub(super) struct Session {
    until: Time,
    over: bool,
    places: Places,
}

impl Memory {
    pub(super) fn work_on_sessions(&mut self, now: Time, client: ClientId, token: &str, op: &SessionOp) -> Answer {
        let consumer = self.consumer(client);
        let sessions = self.sessions.entry(token.into()).or_default();
        sessions.retain(|_, session| session.until > now);
        let answer = match op {
            SessionOp::Save { conn, places, over, ttl } => {
                let session = Session { until: now + *ttl, over: *over, places: places.clone() };
                sessions.insert((consumer, *conn), session);
                Answer::Done
            }
            SessionOp::Take => {
                let newest = |over| {
                    let sessions = sessions.iter().filter(|(_, session)| session.over == over);
                    sessions.max_by_key(|(key, session)| (session.until, (*key).clone())).map(|(key, _)| key.clone())
                };
                let key = newest(true).or_else(|| newest(false));
                let places = key.and_then(|key| {
                    let session = sessions.get(&key)?;
                    if session.over { sessions.remove(&key).map(|session| session.places) } else { Some(session.places.clone()) }
                });
                Answer::Places(places.unwrap_or_default())
            }
        };
        if sessions.is_empty() {
            self.sessions.remove(token);
        }
        answer
    }
}
