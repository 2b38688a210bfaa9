//! Surveys: what is asked of all nodes at once, and how the answers of many become one.
//!
//! Each node answers for itself with the first entries of the page that is asked for, so that the first ones of all answers
//! together are the page: whatever comes before the end of a page on some node is in that node's answer.

use core::time::Duration;

use serde::{Deserialize, Serialize};

use crate::hub::Arguments;
use crate::token::Revocation;

/// Most entries of a page.
pub const MOST: usize = 1_000;

/// What is asked.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Question {
    /// Which connections are there?
    Connections {
        /// Of this user only.
        user: Option<Box<str>>,
        /// Those behind this one: the name of its node, and its number.
        after: Option<(Box<str>, u64)>,
        /// How many at the most.
        limit: usize,
    },
    /// Which rooms have members?
    Rooms {
        /// Those whose names begin with this.
        prefix: Box<str>,
        /// Only the one of this very name.
        exact: bool,
        /// Those behind this one, in the order of their names.
        after: Option<Box<str>>,
        /// How many at the most.
        limit: usize,
    },
    /// Which connections had tokens that are revoked by this? All of them are closed.
    Revoke(Revocation),
    /// What do the Socket.IO clients in a room answer to this event? Only the host asks it, with
    /// [`Question::acks`].
    Acks {
        /// The room.
        room: Box<str>,
        /// The event's name.
        event: Box<str>,
        /// Its arguments, a JSON array.
        args: Box<str>,
        /// How long each client has to answer, in milliseconds.
        within_ms: u64,
    },
}

/// An answer.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Survey {
    /// Connections, in the order of their nodes and numbers.
    Connections {
        /// All that fit, on this page or not.
        total: u64,
        /// Those of the page.
        connections: Vec<ConnectionEntry>,
    },
    /// Rooms, in the order of their names.
    Rooms {
        /// Those of the page.
        rooms: Vec<RoomEntry>,
    },
    /// Connections that were closed because their tokens are revoked.
    Revoked {
        /// How many.
        connections: u64,
    },
    /// What Socket.IO clients have answered.
    Acks {
        /// How many were asked. Those that did not answer in time are counted here alone.
        clients: u64,
        /// The arguments of each answer, a JSON array; no more than [`MOST`], and 256 KiB of each hub, in no order.
        answers: Vec<Box<str>>,
    },
}

/// A connection.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub struct ConnectionEntry {
    /// The name of its node.
    pub node: Box<str>,
    /// Its number there.
    pub id: u64,
    /// Whose it is, where that is known.
    pub user_id: Option<Box<str>>,
    /// The path of its route.
    pub path: Box<str>,
    /// How many rooms it is in.
    pub rooms: usize,
}

/// A room.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub struct RoomEntry {
    /// Its name.
    pub room: Box<str>,
    /// How many connections are in it.
    pub members: u64,
}

/// What all nodes together have answered.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Surveyed {
    /// The answer.
    pub survey: Survey,
    /// How many nodes have answered, the one that was asked included.
    pub answered: u64,
    /// How many were asked; nothing where that is not known, because the store is away.
    pub asked: Option<u64>,
}

impl Question {
    /// Sends an event to the Socket.IO clients in a room, on all nodes, and asks for their answers. The room `user:<id>` is that of all
    /// connections of a user. Binary data in answers is left out.
    pub fn acks(room: &str, event: &str, args: &Arguments, within: Duration) -> Question {
        let within_ms = u64::try_from(within.as_millis()).unwrap_or(u64::MAX);
        Question::Acks { room: room.into(), event: event.into(), args: args.as_str().into(), within_ms }
    }

    /// How long the answering itself may take, beside the way of question and answers.
    pub(crate) fn takes(&self) -> Duration {
        match self {
            Question::Connections { .. } | Question::Rooms { .. } | Question::Revoke(_) => Duration::ZERO,
            Question::Acks { within_ms, .. } => Duration::from_millis(*within_ms),
        }
    }

    /// The answer of somebody who has nothing.
    pub fn nothing(&self) -> Survey {
        match self {
            Question::Connections { .. } => Survey::Connections { total: 0, connections: Vec::new() },
            Question::Rooms { .. } => Survey::Rooms { rooms: Vec::new() },
            Question::Revoke(_) => Survey::Revoked { connections: 0 },
            Question::Acks { .. } => Survey::Acks { clients: 0, answers: Vec::new() },
        }
    }

    /// The most entries of a page.
    pub(crate) fn limit(&self) -> usize {
        match self {
            Question::Connections { limit, .. } | Question::Rooms { limit, .. } => (*limit).min(MOST),
            Question::Acks { .. } | Question::Revoke(_) => MOST,
        }
    }
}

impl Survey {
    /// Joins the answer of somebody else. One to another question is left out.
    ///
    /// ```
    /// use roomcast_core::survey::{Question, RoomEntry, Survey};
    ///
    /// let question = Question::Rooms { prefix: "".into(), exact: false, after: None, limit: 2 };
    /// let rooms = |names: &[(&str, u64)]| {
    ///     let entry = |(room, members): &(&str, u64)| RoomEntry { room: (*room).into(), members: *members };
    ///     Survey::Rooms { rooms: names.iter().map(entry).collect() }
    /// };
    /// let mut survey = rooms(&[("a", 1), ("c", 2)]);
    /// survey.join(rooms(&[("b", 5), ("c", 3)]), &question);
    /// assert_eq!(survey, rooms(&[("a", 1), ("b", 5)]));
    /// ```
    pub fn join(&mut self, other: Survey, question: &Question) {
        match (self, other) {
            (Survey::Connections { total, connections }, Survey::Connections { total: more, connections: others }) => {
                *total = total.saturating_add(more);
                connections.extend(others);
                connections.sort_unstable();
                connections.truncate(question.limit());
            }
            (Survey::Rooms { rooms }, Survey::Rooms { rooms: others }) => {
                rooms.extend(others);
                rooms.sort_unstable();
                rooms.dedup_by(|next, room| {
                    let is_same = next.room == room.room;
                    if is_same {
                        room.members = room.members.saturating_add(next.members);
                    }
                    is_same
                });
                rooms.truncate(question.limit());
            }
            (Survey::Revoked { connections }, Survey::Revoked { connections: more }) => {
                *connections = connections.saturating_add(more);
            }
            (Survey::Acks { clients, answers }, Survey::Acks { clients: more, answers: others }) => {
                *clients = clients.saturating_add(more);
                answers.extend(others);
                answers.truncate(question.limit());
            }
            _ => {}
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn entry(node: &str, id: u64) -> ConnectionEntry {
        ConnectionEntry { node: node.into(), id, user_id: None, path: "/ws".into(), rooms: 0 }
    }

    #[test]
    fn the_first_connections_of_all_nodes_make_a_page() {
        let question = Question::Connections { user: None, after: None, limit: 3 };
        let mut survey = question.nothing();
        for (node, ids) in [("b", [1, 2]), ("a", [7, 9])] {
            let connections = ids.map(|id| entry(node, id)).into();
            survey.join(Survey::Connections { total: 10, connections }, &question);
        }
        let Survey::Connections { total: 20, connections } = survey else { panic!("{survey:?}") };
        assert_eq!(connections, [entry("a", 7), entry("a", 9), entry("b", 1)]);
    }

    #[test]
    fn a_room_on_several_nodes_is_one() {
        let question = Question::Rooms { prefix: "".into(), exact: false, after: None, limit: 10 };
        let mut survey = question.nothing();
        for members in [1, 2, 4] {
            survey.join(Survey::Rooms { rooms: vec![RoomEntry { room: "r".into(), members }] }, &question);
        }
        assert_eq!(survey, Survey::Rooms { rooms: vec![RoomEntry { room: "r".into(), members: 7 }] });
        survey.join(Survey::Connections { total: 1, connections: Vec::new() }, &question);
        assert_eq!(survey, Survey::Rooms { rooms: vec![RoomEntry { room: "r".into(), members: 7 }] });
    }
}
