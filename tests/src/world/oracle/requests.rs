//! Requests of clients that poll are all answered, but for the one with which each session waits; and so are the events of Socket.IO
//! that want an acknowledgement.

use super::World;

pub(super) fn converged(world: &World) {
    for (exchange, engine) in world.sessions.requests_waiting() {
        assert!(engine.is_there() && engine.polls_with(exchange), "{exchange:?} of {engine:?} was never answered");
    }
    for client in &world.clients {
        let socket = client.socket.as_ref().filter(|socket| socket.is_in() && client.close_code.is_none());
        let engine = socket.map(|socket| world.sessions.engine_of(socket));
        let is_content = socket.is_none_or(|socket| socket.is_content());
        assert!(is_content, "{:?} waits for acknowledgements: {socket:?} of {engine:?}", client.user);
    }
}
