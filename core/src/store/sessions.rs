//! What is asked about the rooms of clients that do not ask for them again.

use core::time::Duration;

use crate::message::RoomName;
use crate::position::Position;

/// The rooms of a connection, each with the position up to which its client certainly has the messages.
pub type Places = Vec<(RoomName, Option<Position>)>;

/// One operation on the sessions of a token.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum SessionOp {
    /// Remember the rooms of a connection, instead of what was remembered of it before. Answer: [`super::Answer::Done`].
    Save {
        /// The connection, by a number that this consumer gives to no other.
        conn: u64,
        /// Its rooms.
        places: Places,
        /// Whether the connection has ended.
        over: bool,
        /// How long they are remembered.
        ttl: Duration,
    },
    /// Take the rooms of the connection that ended last; where none has, those of the one that was saved last, for it may be dead
    /// and nobody has noticed. Answer: [`super::Answer::Places`].
    Take,
}
