//! What is asked of the store about who is in which room.
//!
//! ```text
//!  node ──▶ how many connections each user has in each room, on this node
//!  room ──▶ how many connections each user has on all nodes: the sum of what the nodes have
//! ```
//!
//! Both are changed in one step, which also tells the room's members of a user's first and last connection. A node lives as
//! long as it says so in time. A name that was dead once never lives again, so that whoever takes the dead one's users out of
//! their rooms cannot do harm: a process that was only thought dead goes on under a new name.

use core::time::Duration;
use std::sync::Arc;

use bytes::Bytes;

use crate::message::RoomName;

/// One operation on presence.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum PresenceOp {
    /// A node says that it lives, and is told which nodes do not. A name that is not known is dead, unless it is new.
    /// Answer: [`PresenceAnswer::Beat`].
    Beat {
        /// The node's name.
        node: Arc<str>,
        /// Whether it has never been heard of: said once of each name.
        new: bool,
        /// How long it lives without another word, by the clock of the store.
        lasts: Duration,
    },
    /// A node says how many connections users have on it, in rooms of one partition. Answer: [`PresenceAnswer::Taken`].
    Set {
        /// The partition of the rooms.
        partition: u16,
        /// The node.
        node: Arc<str>,
        /// Grows with each of the node's operations in the partition: one that comes after its successor is not taken. Nothing
        /// where another node takes the users of a dead one out of their rooms.
        number: Option<u64>,
        /// What has changed, each room and user once.
        changes: Vec<Change>,
    },
    /// From now on nothing is taken from a dead node in a partition. Which of its users are still in rooms?
    /// Answer: [`PresenceAnswer::Left`].
    Condemn {
        /// The partition.
        partition: u16,
        /// The node.
        node: Arc<str>,
        /// About how many of them.
        count: usize,
    },
    /// No user of a dead node is in any room any more. Answer: [`PresenceAnswer::Done`].
    Forget {
        /// The node.
        node: Arc<str>,
    },
    /// Who is in a room? Answer: [`PresenceAnswer::Here`].
    Who {
        /// The partition of the room.
        partition: u16,
        /// The room.
        room: RoomName,
        /// How many users are named at the most.
        most: usize,
    },
}

/// How many connections a user has in a room, on one node.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Change {
    /// The room.
    pub room: RoomName,
    /// The user, never empty.
    pub user: Arc<str>,
    /// How many there are now.
    pub connections: u32,
    /// The encoded envelope that tells the others: that the user has joined where there are connections, that the user has left
    /// where there are none. It is appended to the relay log where these are the first on any node, or were the last.
    pub event: Bytes,
}

/// The answer to an operation on presence.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum PresenceAnswer {
    /// A node was heard.
    Beat {
        /// Whether it lived. If not, all that was known of it is as good as gone.
        alive: bool,
        /// Nodes that are dead and not forgotten, some of them where there are many.
        dead: Vec<Arc<str>>,
    },
    /// Whether changes were taken. They are not where the node has been condemned, or has said something newer since.
    Taken(bool),
    /// Rooms with users of a dead node; empty only where none is left.
    Left(Vec<(RoomName, Arc<str>)>),
    /// Who is in a room.
    Here(Here),
    /// It is done.
    Done,
}

/// Who is in a room, on all nodes.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Here {
    /// Users, in order: all of them, or any where there are too many.
    pub users: Vec<Box<str>>,
    /// Whether there are more.
    pub truncated: bool,
    /// Connections of all users.
    pub connections: u64,
}

/// How long a condemned name is remembered: longer than any command can be under way.
pub(super) const CONDEMNED: Duration = Duration::from_secs(3600);

/// Nodes that one beat names as dead at the most.
pub(super) const MOST_DEAD: usize = 16;

impl PresenceOp {
    pub(super) fn name(&self) -> &'static str {
        match self {
            PresenceOp::Beat { .. } => "beat",
            PresenceOp::Set { .. } => "tell who is there",
            PresenceOp::Condemn { .. } => "condemn a node",
            PresenceOp::Forget { .. } => "forget a node",
            PresenceOp::Who { .. } => "ask who is there",
        }
    }
}
