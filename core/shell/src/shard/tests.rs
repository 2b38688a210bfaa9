use super::*;
use crate::authorizer::Authorizer;
use crate::clients::Clients;
use crate::gateway::{Host, Parts};
use crate::lanes::MemoryLanes;
use crate::pipe::Pipe;
use crate::processor::Processors;
use crate::snapshot::Snapshots;
use roomcast_core::config::{AuthMode, Config, DialectName, Route, SocketIo};
use roomcast_core::hub::ClientEvent;
use std::sync::Mutex;
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
    parts_with(1, Clients::default())
}

fn parts_with(shards: u8, clients: Clients) -> Parts<Pipe, Never> {
    let route = |path: &str, dialect| Route { dialect, ..Route::json(path, AuthMode::Ignored) };
    let routes =
        vec![Route::echo("/"), route("/engine.io/", DialectName::EngineEcho), route("/socket.io/", DialectName::SocketIo)];
    let socketio = SocketIo { greeting: false, ..SocketIo::default() };
    let config = Arc::new(Config { routes, socketio, ..Config::default() });
    let known = config.clone();
    let host = Host {
        shards,
        seed: [1; 32],
        timer: || Never,
        lanes: Box::new(move |post| Box::new(MemoryLanes::new(&known, post))),
        processors: Processors::default(),
        snapshots: Snapshots::default(),
        authorizer: Authorizer::default(),
        clients,
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
    parts.gateway.accept(pipe.clone(), Vec::new(), None);
    let _ = poll(&mut parts.shards[0]);
    let sent = pipe.ends().written.clone();
    assert!(sent.ends_with(b"\x81\x05Hello\x88\x02\x03\xe8"), "{}", String::from_utf8_lossy(&sent));
}

#[test]
fn nothing_is_opened_once_it_stops() {
    let mut parts = parts();
    let held = Pipe::default();
    held.feed(OPEN);
    parts.gateway.accept(held.clone(), Vec::new(), None);
    let _ = poll(&mut parts.shards[0]);
    parts.gateway.stop_shards();
    let _ = poll(&mut parts.shards[0]);
    let late = Pipe::default();
    late.feed(OPEN);
    parts.gateway.accept(late.clone(), Vec::new(), None);
    let _ = poll(&mut parts.shards[0]);
    let sent = late.written();
    assert!(!sent.starts_with("HTTP/1.1 101"), "{sent}");
}

const POLL: &str = "/engine.io/?EIO=4&transport=polling";

/// Lets all shards go on until none has anything left to do.
fn poll_all(parts: &mut Parts<Pipe, Never>) {
    for _ in 0..4 {
        for shard in &mut parts.shards {
            let _ = poll(shard);
        }
    }
}

/// A client on a shard, who sends a request.
fn client(parts: &mut Parts<Pipe, Never>, shard: u8, request: impl AsRef<[u8]>) -> Pipe {
    let pipe = Pipe::default();
    pipe.feed(request.as_ref());
    parts.gateway.mailbox(ShardId(shard)).post(Input::Arrived(pipe.clone(), Vec::new(), Guest::default()));
    poll_all(parts);
    pipe
}

fn get(target: &str) -> String {
    format!("GET {target} HTTP/1.1\r\nHost: a\r\n\r\n")
}

fn post(target: &str, body: &str) -> String {
    format!("POST {target} HTTP/1.1\r\nHost: a\r\nContent-Length: {}\r\n\r\n{body}", body.len())
}

/// A session of a shard, as its requests name it.
fn session(parts: &mut Parts<Pipe, Never>, shard: u8) -> String {
    session_of(parts, shard, POLL)
}

fn session_of(parts: &mut Parts<Pipe, Never>, shard: u8, target: &str) -> String {
    let opened = client(parts, shard, get(target)).written();
    let (_, open) = opened.split_once("\r\n\r\n0{\"sid\":\"").unwrap_or_else(|| panic!("{opened}"));
    format!("{target}&sid={}", open.split('"').next().unwrap())
}

/// The client closes its side, and its socket says so.
fn close(parts: &mut Parts<Pipe, Never>, pipe: &Pipe) {
    pipe.ends().ended = true;
    for shard in &mut parts.shards {
        (0..shard.sockets.len() as u32).for_each(|index| shard.mailbox.post(Input::Ready(index)));
    }
    poll_all(parts);
}

#[test]
fn a_request_is_answered_by_the_shard_that_owns_its_session() {
    let mut parts = parts_with(2, Clients::default());
    for owner in [0, 1] {
        let session = session(&mut parts, owner);
        for at in [0, 1] {
            let waiting = client(&mut parts, at, get(&session));
            assert_eq!(waiting.written(), "", "there is nothing to say");
            assert!(client(&mut parts, 1 - at, post(&session, "4hello")).written().ends_with("\r\n\r\nok"));
            assert!(waiting.written().ends_with("\r\n\r\n4hello"), "{}", waiting.written());
        }
        assert!(parts.shards.iter().all(|shard| shard.exchanges.is_empty()));
    }
}

#[test]
fn a_session_ends_with_the_client_who_waits_for_it() {
    let mut parts = parts_with(2, Clients::default());
    for at in [0, 1] {
        let session = session(&mut parts, 0);
        let waiting = client(&mut parts, at, get(&session));
        assert_eq!(waiting.written(), "");
        assert_eq!(parts.shards[0].exchanges.len(), 1);
        close(&mut parts, &waiting);
        assert!(parts.shards.iter().all(|shard| shard.exchanges.is_empty()));
        let unknown = client(&mut parts, 0, post(&session, "4hello")).written();
        assert!(unknown.starts_with("HTTP/1.1 400 ") && unknown.contains("Session ID unknown"), "{unknown}");
    }
}

#[test]
fn a_client_that_has_closed_its_side_still_gets_what_is_there() {
    let mut parts = parts_with(2, Clients::default());
    let session = session(&mut parts, 0);
    for (request, body) in [(post(&session, "4hello"), "ok"), (get(&session), "4hello")] {
        let pipe = Pipe::default();
        pipe.ends().ended = true;
        pipe.feed(request.as_bytes());
        parts.gateway.mailbox(ShardId(1)).post(Input::Arrived(pipe.clone(), Vec::new(), Guest::default()));
        poll_all(&mut parts);
        assert!(pipe.written().ends_with(&format!("\r\n\r\n{body}")), "{}", pipe.written());
    }
}

#[test]
fn a_websocket_goes_on_at_the_shard_of_its_session() {
    let mut parts = parts_with(2, Clients::default());
    let session = session(&mut parts, 0).replace("polling", "websocket");
    let request = String::from_utf8_lossy(OPEN).replace("GET /", &format!("GET {session}"));
    // What comes together with the request moves with it.
    let probing = client(&mut parts, 1, [request.as_bytes(), b"\x81\x86\0\0\0\x002probe"].concat());
    let sent = probing.ends().written.clone();
    assert!(sent.starts_with(b"HTTP/1.1 101 ") && sent.ends_with(b"\x81\x063probe"), "{}", probing.written());
    probing.feed(b"\x81\x81\0\0\0\x005\x81\x86\0\0\0\x004hello");
    let index = parts.shards[0].sockets.iter().find(|(_, socket)| matches!(socket.stage, Stage::Open(_))).unwrap().0;
    parts.gateway.mailbox(ShardId(0)).post(Input::Ready(index as u32));
    poll_all(&mut parts);
    assert!(probing.ends().written.ends_with(b"\x81\x064hello"), "it is the session's own by now");
    assert!(parts.shards[1].sockets.is_empty());
}

#[test]
fn who_waits_is_answered_when_the_shard_of_the_session_ends() {
    let mut parts = parts_with(2, Clients::default());
    let session = session(&mut parts, 0);
    let waiting = client(&mut parts, 1, get(&session));
    let stopping = parts.gateway.mailbox(ShardId(0));
    stopping.post(Input::Stop(Duration::ZERO));
    poll_all(&mut parts);
    assert!(waiting.written().contains("Session ID unknown"), "{}", waiting.written());
    parts.shards.remove(0);
    let late = client(&mut parts, 1, get(&session));
    assert!(late.written().starts_with("HTTP/1.1 503 "), "{}", late.written());
}

#[test]
fn code_of_the_host_hears_clients_and_speaks_to_them_on_any_shard() {
    let known: Arc<Mutex<Vec<ConnId>>> = Arc::default();
    let heard = known.clone();
    let clients = Clients::new(move |event, replies| match event {
        ClientEvent::Connected { conn, auth, .. } => {
            assert_eq!(auth.as_deref(), Some(r#"{"a":1}"#));
            heard.lock().unwrap().push(*conn);
        }
        ClientEvent::Said { conn, event, args, ack } => {
            replies.acknowledge(*conn, ack.unwrap(), args);
            heard.lock().unwrap().iter().for_each(|conn| replies.emit(*conn, event, args));
        }
        ClientEvent::Gone { .. } => {}
    });
    let mut parts = parts_with(2, clients);
    let mut join = |shard| {
        let session = session_of(&mut parts, shard, "/socket.io/?EIO=4&transport=polling");
        assert!(client(&mut parts, shard, post(&session, "40{\"a\":1}")).written().ends_with("ok"));
        assert!(client(&mut parts, shard, get(&session)).written().contains("40{\"sid\":"));
        session
    };
    let (one, two) = (join(0), join(1));
    assert_eq!(known.lock().unwrap().iter().map(|conn| conn.shard()).collect::<Vec<_>>(), [ShardId(0), ShardId(1)]);
    client(&mut parts, 0, post(&one, "427[\"hi\",[2]]"));
    let (own, others) = (client(&mut parts, 0, get(&one)).written(), client(&mut parts, 0, get(&two)).written());
    assert!(own.ends_with("\r\n\r\n437[[2]]\u{1e}42[\"hi\",[2]]"), "{own}");
    assert!(others.ends_with("\r\n\r\n42[\"hi\",[2]]"), "{others}");

    // From anywhere.
    let (gateway, conn) = (parts.gateway.clone(), known.lock().unwrap()[1]);
    let args = |value: u8| Arguments::new(&[value]).unwrap();
    gateway.emit_to(conn, "first", args(1));
    let mut asked = Box::pin(gateway.emit_with_ack(conn, "second", args(2), Duration::from_secs(9)));
    let mut cx = Context::from_waker(Waker::noop());
    assert!(asked.as_mut().poll(&mut cx).is_pending());
    gateway.acknowledge(conn, 5, args(3));
    poll_all(&mut parts);
    let said = client(&mut parts, 1, get(&two)).written();
    assert!(said.ends_with("\r\n\r\n42[\"first\",1]\u{1e}421[\"second\",2]\u{1e}435[3]"), "{said}");
    client(&mut parts, 0, post(&two, "431[\"yes\"]"));
    assert_eq!(asked.as_mut().poll(&mut cx), Poll::Ready(Ok(Arguments::new(&["yes"]).unwrap())));

    // To nobody.
    client(&mut parts, 0, post(&two, "41"));
    let mut asked = Box::pin(gateway.emit_with_ack(conn, "second", args(2), Duration::from_secs(9)));
    assert!(asked.as_mut().poll(&mut cx).is_pending());
    poll_all(&mut parts);
    assert_eq!(asked.as_mut().poll(&mut cx), Poll::Ready(Err(NoAck::Gone)));
    assert!(parts.shards.iter().all(|shard| shard.acks.is_empty()));
}
