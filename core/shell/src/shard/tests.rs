use super::*;
use crate::gateway::{Host, Parts};
use crate::lanes::MemoryLanes;
use crate::pipe::Pipe;
use crate::processor::Processors;
use crate::snapshot::Snapshots;
use roomcast_core::config::{Config, Route};
use std::time::Instant;

#[derive(Debug)]
struct Never;
impl Timer for Never {
    fn poll_at(&mut self, _: &mut Context<'_>, _: Instant) -> Poll<()> {
        Poll::Pending
    }
}

const OPEN: &[u8] = b"GET / HTTP/1.1\r\nHost: a\r\nConnection: Upgrade\r\nUpgrade: websocket\r\nSec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n";

fn parts() -> Parts<Pipe, Never> {
    let config = Arc::new(Config { routes: vec![Route::echo("/")], ..Config::default() });
    let known = config.clone();
    let host = Host {
        shards: 1,
        seed: [1; 32],
        timer: || Never,
        lanes: Box::new(move |post| Box::new(MemoryLanes::new(&known, post))),
        processors: Processors::default(),
        snapshots: Snapshots::default(),
    };
    Gateway::build(config, host).unwrap()
}
fn poll(shard: &mut Shard<Pipe, Never>) -> Poll<()> {
    Pin::new(shard).poll(&mut Context::from_waker(Waker::noop()))
}

#[test]
fn a_peer_that_has_closed_its_side_still_gets_the_answer() {
    let mut parts = parts();
    let pipe = Pipe::default();
    pipe.ends().ended = true;
    pipe.feed(OPEN);
    pipe.feed(b"\x81\x85\0\0\0\0Hello\x88\x82\0\0\0\0\x03\xe8");
    parts.gateway.accept(pipe.clone(), Vec::new());
    let _ = poll(&mut parts.shards[0]);
    let sent = pipe.ends().written.clone();
    assert!(sent.ends_with(b"\x81\x05Hello\x88\x02\x03\xe8"), "{}", String::from_utf8_lossy(&sent));
}

#[test]
fn nothing_is_opened_once_it_stops() {
    let mut parts = parts();
    let held = Pipe::default();
    held.feed(OPEN);
    parts.gateway.accept(held.clone(), Vec::new());
    let _ = poll(&mut parts.shards[0]);
    parts.gateway.stop_shards();
    let _ = poll(&mut parts.shards[0]);
    let late = Pipe::default();
    late.feed(OPEN);
    parts.gateway.accept(late.clone(), Vec::new());
    let _ = poll(&mut parts.shards[0]);
    let sent = late.written();
    assert!(!sent.starts_with("HTTP/1.1 101"), "{sent}");
}
