use super::*;
use crate::gateway::{Host, Parts};
use crate::lanes::MemoryLanes;
use roomcast_core::config::{Config, Route};
use std::collections::VecDeque;
use std::sync::Mutex;
use std::time::Instant;

#[derive(Debug)]
struct Never;
impl Timer for Never {
    fn poll_at(&mut self, _: &mut Context<'_>, _: Instant) -> Poll<()> {
        Poll::Pending
    }
}

#[derive(Clone, Debug, Default)]
struct Pipe(Arc<Mutex<(VecDeque<Vec<u8>>, Vec<u8>)>>, bool);
impl Transport for Pipe {
    fn poll_read(&mut self, _: &mut Context<'_>, buffer: &mut [u8]) -> Poll<io::Result<usize>> {
        match self.0.lock().unwrap().0.pop_front() {
            Some(bytes) => {
                buffer[..bytes.len()].copy_from_slice(&bytes);
                Poll::Ready(Ok(bytes.len()))
            }
            None if self.1 => Poll::Ready(Ok(0)),
            None => Poll::Pending,
        }
    }
    fn poll_write(&mut self, _: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        self.0.lock().unwrap().1.extend(bytes);
        Poll::Ready(Ok(bytes.len()))
    }
    fn poll_close(&mut self, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }
}
const OPEN: &[u8] = b"GET / HTTP/1.1\r\nHost: a\r\nConnection: Upgrade\r\nUpgrade: websocket\r\nSec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n";

fn parts() -> Parts<Pipe, Never> {
    let config = Arc::new(Config { routes: vec![Route::echo("/")], ..Config::default() });
    let known = config.clone();
    let host =
        Host { shards: 1, seed: [1; 32], timer: || Never, lanes: Box::new(move |post| Box::new(MemoryLanes::new(&known, post))) };
    Gateway::build(config, host).unwrap()
}
fn poll(shard: &mut Shard<Pipe, Never>) -> Poll<()> {
    Pin::new(shard).poll(&mut Context::from_waker(Waker::noop()))
}

#[test]
fn a_peer_that_has_closed_its_side_still_gets_the_answer() {
    let mut parts = parts();
    let pipe = Pipe(Arc::default(), true);
    pipe.0.lock().unwrap().0.extend([OPEN.to_vec(), b"\x81\x85\0\0\0\0Hello\x88\x82\0\0\0\0\x03\xe8".to_vec()]);
    parts.gateway.accept(pipe.clone(), Vec::new());
    let _ = poll(&mut parts.shards[0]);
    let sent = pipe.0.lock().unwrap().1.clone();
    assert!(sent.ends_with(b"\x81\x05Hello\x88\x02\x03\xe8"), "{}", String::from_utf8_lossy(&sent));
}

#[test]
fn nothing_is_opened_once_it_stops() {
    let mut parts = parts();
    let held = Pipe::default();
    held.0.lock().unwrap().0.push_back(OPEN.to_vec());
    parts.gateway.accept(held.clone(), Vec::new());
    let _ = poll(&mut parts.shards[0]);
    parts.gateway.stop_shards();
    let _ = poll(&mut parts.shards[0]);
    let late = Pipe::default();
    late.0.lock().unwrap().0.push_back(OPEN.to_vec());
    parts.gateway.accept(late.clone(), Vec::new());
    let _ = poll(&mut parts.shards[0]);
    let sent = String::from_utf8_lossy(&late.0.lock().unwrap().1).into_owned();
    assert!(!sent.starts_with("HTTP/1.1 101"), "{sent}");
}
