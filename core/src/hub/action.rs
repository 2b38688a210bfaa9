//! What a hub wants done.

use core::net::IpAddr;

use super::{AckId, Arguments, ClientEvent, ExchangeId, NoAck, Petition, PollAnswer};
use crate::door::Ask;
use crate::id::ConnId;
use crate::report::Report;

/// Something the host must do for a hub.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum HubAction {
    /// Ask the backplane.
    Ask(Ask),
    /// Drop the connection's socket: there is nothing more to write to it. The identifier means nothing any more.
    Drop(ConnId),
    /// Answer a request of [`Hub::exchange`](super::Hub::exchange).
    Respond(ExchangeId, PollAnswer),
    /// Have the host's code decide, and give its answer with [`Hub::decide`](super::Hub::decide).
    Authorize(Petition),
    /// Read the keys of `auth.jwks` soon: a token names one that is not known.
    LacksKey,
    /// Let the host's code know what a client has done, see [`Hub::set_hosted`](super::Hub::set_hosted).
    Client(ClientEvent),
    /// Let the host's code know what came of [`Hub::emit_with_ack`](super::Hub::emit_with_ack).
    Acked(AckId, Result<Arguments, NoAck>),
    /// A connection has become one of a user. Where that is one too many, [`Hub::turn_away`](super::Hub::turn_away) is to be called,
    /// before anything else.
    Enter {
        /// The connection.
        conn: ConnId,
        /// The user.
        user: Box<str>,
    },
    /// A connection of a user is gone that was not turned away.
    Left {
        /// The user.
        user: Box<str>,
    },
    /// A session that polled, and was let in for this address, has ended or goes on over a WebSocket.
    SessionGone {
        /// The address.
        address: IpAddr,
    },
    /// Something for the log.
    Report(Report),
}
