//! Who is in the room of a fan-out, and who publishes in it.

use std::ops::Range;

use crate::connection::{Connection, TOGETHER, connect};
use crate::frame;
use crate::limit;
use crate::room::Room;
use crate::server::{ROOMS, SECRET, Server};
use crate::server_frame;

const ROOM: &str = "bench:fanout";

/// Connects all subscribers, then the publisher.
pub(crate) fn open_room(server: &Server, subscribers: usize) -> Room<Connection> {
    let subscribers = connect_subscribers(server, 0..subscribers);
    let write = if server.is_gateway() { publish_at_gateway } else { publish_raw };
    Room::new(server.pid(), subscribers, connect_publisher(server), write)
}

/// Connects subscribers and waits until each of them is in the room.
pub(crate) fn connect_subscribers(server: &Server, users: Range<usize>) -> Vec<Connection> {
    let mut subscribers = connect_to_rooms(server, ROOMS, users);
    if server.is_gateway() {
        let request = format!(r#"{{"type":"subscription","data":{{"action":"subscribe","room":"{ROOM}"}}}}"#);
        let mut frame = Vec::new();
        frame::push_masked(&mut frame, frame::TEXT, request.as_bytes());
        for group in subscribers.chunks_mut(TOGETHER) {
            group.iter_mut().for_each(|one| one.send(&frame));
            group.iter_mut().for_each(wait_until_subscribed);
        }
    }
    subscribers
}

fn wait_until_subscribed(subscriber: &mut Connection) {
    loop {
        let text = subscriber.next_text();
        if text.contains("\"subscribed\"") {
            return;
        }
        // Anything but the greeting is a refusal.
        assert!(text.contains("\"auth_success\""), "cannot subscribe: {text}");
    }
}

fn connect_publisher(server: &Server) -> Connection {
    const USER: usize = 1_000_000;
    let path = if server.is_gateway() { ROOMS } else { limit::PUBLISHER };
    connect_to_rooms(server, path, USER..USER + 1).remove(0)
}

fn connect_to_rooms(server: &Server, path: &str, users: Range<usize>) -> Vec<Connection> {
    connect(server.addr(), path, server.is_gateway().then_some(SECRET), users)
}

fn publish_at_gateway(frames: &mut Vec<u8>, data: &str) {
    let text = format!("{{\"type\":\"publish\",\"data\":{{\"room\":\"{ROOM}\",\"type\":\"b\",\"data\":{data}}}}}");
    frame::push_masked(frames, frame::TEXT, text.as_bytes());
}

/// A raw server passes frames as they are.
fn publish_raw(frames: &mut Vec<u8>, data: &str) {
    server_frame::push_unmasked(frames, frame::TEXT, data.as_bytes());
}
