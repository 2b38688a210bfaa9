//! Snapshots: the state of a room at the moment, given by the host's own code.

use crate::id::Ticket;
use crate::message::RoomName;
use crate::time::Time;

/// The host's code is asked for the state of a room. Its answer is [`crate::backplane::Backplane::snapshot`].
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Request {
    /// Names the question in the answer.
    pub ticket: Ticket,
    /// The room.
    pub room: RoomName,
    /// Without an answer by then, members are sent none.
    pub deadline: Time,
}
