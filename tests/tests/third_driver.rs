//! The third driver: the `poll_loop` example of the shell, which has neither a runtime nor a future, serves real clients as
//! the runtimes do.

use std::net::SocketAddr;
use std::process::Command;

use roomcast_tests::real::PATIENCE;
use roomcast_tests::real::client::{Credential, JsonClient, raw_field};
use roomcast_tests::real::gateway::{binary, wait_for_address};
use roomcast_tests::real::http::http;
use roomcast_tests::real::process::Process;
use roomcast_tests::real::raw::{CLOSE, FINAL, PING, PONG, RawClient, RawFrame, TEXT, masked_frame, upgrade_request};

const ROOM: &str = "lobby:1";
const SUBSCRIBE: &[u8] = br#"{"type":"subscribe","room":"lobby:1"}"#;

#[test]
fn members_of_a_room_get_every_message_in_order_and_byte_for_byte() {
    let driver = Driver::start();
    let (mut alice, mut bob) = (driver.member(), driver.member());
    // A wave fits into an outbox but not into the buffers of a socket that nobody reads meanwhile: it leaves piece by piece.
    let lengths = [1, 200_000, 125, 126, 200_000, 65_536, 200_000, 0];
    for wave in 0..40 {
        let sent: Vec<String> =
            lengths.map(|length| format!(r#"{{ "wave":{wave},"text" : "{}"}}"#, "é".repeat(length / 2))).into();
        sent.iter().for_each(|data| publish(&mut alice, data));
        for data in &sent {
            let [to_alice, to_bob] = [&mut alice, &mut bob].map(next_message);
            assert!(raw_field(&to_bob, "data") == *data, "wave {wave}: {} bytes instead of {}", to_bob.len(), data.len());
            assert!(to_alice == to_bob, "wave {wave}: the members got different bytes");
        }
    }
}

#[test]
fn requests_and_frames_may_come_in_single_bytes() {
    let driver = Driver::start();
    let mut client = RawClient::connect(driver.address);
    let opening = [upgrade_request("/ws", &[]), masked_frame(FINAL | TEXT, SUBSCRIBE)].concat();
    opening.chunks(1).for_each(|byte| client.send(byte));
    assert_eq!(client.response().status, 101);
    assert!(client.text().contains("subscribed"));
    masked_frame(FINAL | PING, b"there").chunks(1).for_each(|byte| client.send(byte));
    assert_eq!(client.frame(), Some(RawFrame { first: FINAL | PONG, payload: b"there".into() }));
    client.send(&masked_frame(FINAL | CLOSE, b"\x03\xe8"));
    assert_eq!(client.frame(), Some(RawFrame { first: FINAL | CLOSE, payload: b"\x03\xe8".into() }));
    assert!(client.is_closed(PATIENCE));
}

#[test]
fn what_asks_for_no_websocket_gets_a_short_answer() {
    let driver = Driver::start();
    assert_eq!(http("GET", driver.address, "/", &[], b"").status, 404);
    let proper = String::from_utf8(upgrade_request("/ws", &[])).expect("a request is text");
    for (part, other, status) in [("GET /ws", "GET /x", 404), ("version: 13", "version: 8", 426), ("GET", "\x16\x03", 400)] {
        assert!(proper.contains(part), "{part:?} is in the request");
        let mut client = RawClient::connect(driver.address);
        client.send(proper.replacen(part, other, 1).as_bytes());
        assert_eq!(client.response().status, status, "{other:?}");
        assert!(client.is_closed(PATIENCE));
    }
}

#[test]
fn a_malformed_frame_ends_its_own_connection_alone() {
    let driver = Driver::start();
    let mut bystander = driver.member();
    // A reserved bit, a reserved opcode, and a ping in fragments; what follows them is not heard.
    for first in [FINAL | 0x40 | TEXT, FINAL | 0x0b, PING] {
        let mut client = RawClient::upgraded(driver.address, "/ws", &[]);
        client.send(&[masked_frame(first, b"x"), masked_frame(FINAL | TEXT, SUBSCRIBE)].concat());
        let close = client.frame().expect("a close frame comes");
        assert_eq!((close.first, &close.payload[..2]), (FINAL | CLOSE, &1002_u16.to_be_bytes()[..]), "{first:x}");
        assert!(client.is_closed(PATIENCE));
    }
    driver.process.wait_for_log(r#"cause: "protocol error""#, PATIENCE);
    publish(&mut bystander, "1");
    assert_eq!(raw_field(&next_message(&mut bystander), "data"), "1");
}

#[test]
fn a_reader_that_never_reads_is_closed_and_delays_nobody() {
    const TOO_SLOW: &str = r#"cause: "slow consumer""#;
    let driver = Driver::start();
    let (mut slow, mut quick) = (driver.member(), driver.member());
    let large = "x".repeat(200_000);
    let mut sent = Vec::new();
    while !driver.process.log_lines().iter().any(|line| line.contains(TOO_SLOW)) {
        assert!(sent.len() < 100, "the slow reader is still there");
        publish(&mut quick, &format!(r#"["{}","{large}"]"#, sent.len()));
        sent.push(next_message(&mut quick));
    }
    // What the slow one gets are the first messages, whole and in order, and then the reason.
    let mut got = 0;
    while let Some(text) = slow.try_next_text(PATIENCE) {
        assert!(sent.get(got) == Some(&text), "message {got} is another one");
        got += 1;
    }
    assert!(got < sent.len(), "it has missed something");
    assert_eq!(slow.close_code(PATIENCE), Some(4008));
    publish(&mut quick, "1");
    assert_eq!(raw_field(&next_message(&mut quick), "data"), "1");
}

#[test]
fn two_hundred_come_at_once() {
    let driver = Driver::start();
    let request = [upgrade_request("/ws", &[]), masked_frame(FINAL | TEXT, SUBSCRIBE)].concat();
    let mut clients: Vec<RawClient> = (0..200).map(|_| RawClient::connect(driver.address)).collect();
    clients.iter_mut().for_each(|client| client.send(&request));
    for client in &mut clients {
        assert_eq!(client.response().status, 101);
        assert!(client.text().contains("subscribed"));
    }
    let mut speaker = driver.member();
    publish(&mut speaker, "[1]");
    let message = next_message(&mut speaker);
    clients.iter_mut().for_each(|client| assert_eq!(client.text(), message));
    // Half of them go without a word; the others still hear.
    clients.truncate(100);
    publish(&mut speaker, "[2]");
    let message = next_message(&mut speaker);
    clients.iter_mut().for_each(|client| assert_eq!(client.text(), message));
}

/// A running `poll_loop`.
struct Driver {
    address: SocketAddr,
    process: Process,
}

impl Driver {
    fn start() -> Driver {
        let mut command = Command::new(binary("examples/poll_loop"));
        let process = Process::spawn("poll_loop", command.args(["--listen", "127.0.0.1:0"]));
        Driver { address: wait_for_address(&process, PATIENCE), process }
    }

    /// A client in the room.
    fn member(&self) -> JsonClient {
        let mut client = JsonClient::connect(self.address, "/ws", Credential::None);
        client.subscribe(ROOM);
        client
    }
}

/// Publishes data, as it is written, to the room.
fn publish(client: &mut JsonClient, data: &str) {
    client.send_text(&format!(r#"{{"type":"publish","data":{{"room":"{ROOM}","type":"news","data":{data}}}}}"#));
}

/// The next message of the room, over the confirmations of what the client published itself.
fn next_message(client: &mut JsonClient) -> String {
    loop {
        let text = client.next_text(PATIENCE);
        if text.starts_with(r#"{"type":"news""#) {
            return text;
        }
        assert!(text.starts_with(r#"{"type":"published""#), "a frame that nobody asked for: {text}");
    }
}
