//! C8: memory and queues stay within the configured limits, and everything returns to nothing when everyone leaves.

use super::{Config, ConnId, Node, World};

/// Longest frame that may stand in an outbox beyond its bound: a first frame is always taken, and a close frame.
const ONE_FRAME: usize = 64 * 1024;

/// Checks the outbox of a connection.
pub(in super::super) fn bounds(node: &Node, conn: ConnId, config: &Config) {
    let Some(outbox) = node.outbox(conn) else { return };
    let (bytes, messages) = (outbox.bytes(), outbox.messages());
    assert!(bytes <= config.limits.outbox_bytes + ONE_FRAME, "C8: {bytes} bytes wait for {conn:?}");
    assert!(messages <= config.limits.outbox_messages + 2, "C8: {messages} messages wait for {conn:?}");
}

pub(super) fn converged(world: &World) {
    let alone = world.clients.iter().filter(|client| client.place().is_some()).count();
    let sessions = world.sessions.engines.iter().filter(|engine| engine.is_there()).count();
    let connected = (alone + sessions) as u64;
    let stats = world.stats();
    assert_eq!(stats.connections, connected, "C8: connections the nodes know of");
    let rooms: u64 = world
        .clients
        .iter()
        .filter(|client| client.is_there() && client.close_code.is_none())
        .map(|client| {
            // Everybody with a token is in the room of their own from the start, and may leave it.
            let own = client.user.as_ref().map(|user| format!("user:{user}"));
            let asked = client.rooms().filter(|(_, room)| room.member_since.is_some()).count() as u64;
            let unasked = own.is_some_and(|own| client.rooms().all(|(name, room)| name != own || room.is_untouched()));
            // Nor is the room of its path confirmed to a client, unless it is told that it has missed something there.
            let is_unconfirmed = |bound: &String| client.room(bound).is_none_or(|room| room.member_since.is_none());
            asked + u64::from(unasked) + u64::from(client.bound.as_ref().is_some_and(is_unconfirmed))
        })
        .sum();
    let views = || {
        let connected = world.clients.iter().filter(|client| client.is_there());
        connected
            .map(|client| format!("{:?} {:?} {:?}", client.user, client.socket, client.rooms().collect::<Vec<_>>()))
            .collect::<Vec<_>>()
    };
    assert_eq!(stats.memberships, rooms, "C8: memberships the nodes know of, beside what the clients know: {:#?}", views());
}
