//! What breaks the protocols of Engine.IO and Socket.IO, as a table: over each transport, the session ends, no other is disturbed, and
//! the server goes on.
//!
//! The first tables are what the documents forbid, or what the packages that define the protocols refuse too: they hold for any server
//! (`ROOMCAST_PROTOCOL_SERVER`, see `engineio_protocol.rs`; with `--ping-interval 60000 --connect-timeout 60000` no clock ends its
//! sessions). The last ones are where those packages guess what was meant; we do not.

use roomcast_tests::protocol_tests;
use roomcast_tests::real::packets::PacketSocket;
use roomcast_tests::real::poller::Poller;
use roomcast_tests::real::protocol::{ECHO, ProtocolServer, SOCKET_IO};
use roomcast_tests::real::raw::{FINAL, TEXT, masked_frame};
use roomcast_tests::real::session::{Packet, Session};

protocol_tests!(
    packets_of_no_type_end_a_session,
    packets_of_no_namespace_end_a_session,
    packets_of_a_namespace_that_are_malformed_end_a_session,
    attachments_that_nobody_announced_end_a_session,
    what_is_no_text_ends_a_session,
    what_others_guess_ends_a_session,
);

/// Engine.IO, "Protocol", "Packet encoding": a packet is one of seven types; and it is the server that pings.
const ENGINE: [&str; 14] = ["", "a", "abc", "7", "7abc", "9", "-1", "/", " 4a", "\u{0}", "é4", "{\"type\":4}", "2", "2hello"];

/// Socket.IO, "Connection to a namespace": the first packet connects. "Format": a type, perhaps a namespace, a payload.
const BEFORE_CONNECT: [&str; 13] = [
    "4",
    "4abc",
    "47",
    "49[\"message\"]",
    "4{\"type\":2,\"nsp\":\"/\"}",
    "42{}",
    "42[\"message\"]",
    "41",
    "43",
    "44",
    "40abc",
    "40[]",
    "40/custom,[\"a\"]",
];

/// Socket.IO, "Sending and receiving data": the payload of an event is an array that is not empty. "Acknowledgement": that of an
/// acknowledgement is an array. "Format": JSON, and attachments as a number.
const AFTER_CONNECT: [&str; 46] = [
    "4",
    "4abc",
    "47[\"message\"]",
    "42{}",
    "42[]",
    "42\"message\"",
    "42null",
    "42[null]",
    "42[{\"a\":1}]",
    "42[[\"message\"]]",
    "42[true]",
    "42[\"message\"",
    "42[\"message\",]",
    "42[\"message\"]]",
    "42[\"message\"][]",
    "42[\"message\",\"\u{1}\"]",
    "42['message']",
    "42[\"message\",01]",
    "42[\"message\",NaN]",
    "42abc[\"message-with-ack\",1]",
    "42-1[\"message-with-ack\",1]",
    "42[\"connect\"]",
    "42[\"disconnect\",\"x\"]",
    "42[\"connect_error\"]",
    "43{}",
    "431{}",
    "43/custom",
    "40",
    "42/custom,[\"message\"]",
    "44{\"message\":\"no\"}",
    "45[\"message\"]",
    "45x-[\"message\"]",
    "45-1-[\"message\"]",
    "4511-[\"message\"]",
    "42[\"message\"]\u{0}",
    "42[\"disconnecting\"]",
    "42[\"newListener\"]",
    "42[\"removeListener\"]",
    "42/other,[\"message\"]",
    "41/custom,",
    "41[]",
    "40{\"a\"",
    "40{}x",
    "45",
    "451",
    "46",
];

/// What the packages let pass or make something of.
const GUESSED: [&str; 6] = [
    "42",
    "43",
    "430",
    "451-",
    "4299999999999999999999[\"message-with-ack\"]",
    "451-[\"message\",{\"_placeholder\":true,\"num\":1}]",
];

/// The same of Engine.IO: text where a type has none, and base64 that is none.
const GUESSED_BELOW: [&str; 6] = ["1x", "5x", "6x", "bAQIDBA", "bAQID*", "b "];

fn packets_of_no_type_end_a_session(example: &str) {
    let mut table = Table::new(example, ECHO, None);
    for packet in ENGINE {
        table.check(&[packet.into()]);
        // What came before it is not taken back, what comes after it is not looked at.
        table.check(&[packet.into(), "4late".into()]);
    }
}

fn packets_of_no_namespace_end_a_session(example: &str) {
    let mut table = Table::new(example, SOCKET_IO, None);
    BEFORE_CONNECT.iter().for_each(|packet| table.check(&[(*packet).into()]));
    table.check(&[b"bytes"[..].into()]);
}

fn packets_of_a_namespace_that_are_malformed_end_a_session(example: &str) {
    let mut table = Table::new(example, SOCKET_IO, Some("40"));
    for packet in AFTER_CONNECT {
        table.check(&[packet.into()]);
    }
    // Deeper than any stack.
    let deep = format!("42[\"message\",{}{}", "[".repeat(100_000), "]".repeat(99_999));
    table.check(&[deep.as_str().into()]);
}

/// Socket.IO, "Format": a packet is followed by as many attachments as it says.
fn attachments_that_nobody_announced_end_a_session(example: &str) {
    let mut table = Table::new(example, SOCKET_IO, Some("40"));
    let bytes = || Packet::from(&b"bytes"[..]);
    let one = || Packet::from(r#"451-["message",{"_placeholder":true,"num":0}]"#);
    table.check(&[bytes()]);
    table.check(&[one(), r#"42["message"]"#.into()]);
    table.check(&[one(), one()]);
    table.check(&[one(), "41".into()]);
    table.check(&[r#"452-["message",{"_placeholder":true,"num":0}]"#.into(), bytes(), one()]);
    table.check(&[r#"461-1[{"_placeholder":true,"num":0}]"#.into(), "40/custom,".into()]);
    for wrong in ["-1", "2", "1000000", "\"0\"", "null"] {
        let packet = format!(r#"451-["message",{{"_placeholder":true,"num":{wrong}}}]"#);
        table.check(&[packet.as_str().into(), bytes()]);
    }
}

/// Engine.IO, "Packet encoding": text is UTF-8.
fn what_is_no_text_ends_a_session(example: &str) {
    let mut table = Table::new(example, ECHO, None);
    for bytes in [&b"4\xff"[..], b"4\xc0\xaf", b"4\xed\xa0\x80", b"\xff", b"4\xf4\x90\x80\x80"] {
        let mut socket = PacketSocket::open(table.server.addr(), ECHO);
        socket.send_raw(&masked_frame(FINAL | TEXT, bytes));
        assert_eq!(socket.expect_closed(), Some(1007));
        if table.server.is_ours() {
            let mut poller = Poller::open(table.server.addr(), ECHO);
            assert_eq!(poller.post(bytes).status, 400);
            poller.expect_closed();
        }
        table.check_bystanders();
    }
    // A separator separates packets, of which none is empty.
    for body in ["\u{1e}", "4a\u{1e}", "\u{1e}4a", "4a\u{1e}\u{1e}4b"] {
        let poller = Poller::open(table.server.addr(), ECHO);
        assert!(matches!(poller.post(body.as_bytes()).status, 200 | 400));
        poller.expect_forgotten();
        table.check_bystanders();
    }
}

fn what_others_guess_ends_a_session(example: &str) {
    let mut table = Table::new(example, SOCKET_IO, Some("40"));
    if table.server.is_ours() {
        GUESSED.iter().for_each(|packet| table.check(&[(*packet).into()]));
        let mut table = Table::new(example, ECHO, None);
        GUESSED_BELOW.iter().for_each(|packet| table.check(&[(*packet).into()]));
    }
}

/// A server with sessions that nothing may disturb.
struct Table {
    server: ProtocolServer,
    path: &'static str,
    /// What a session says first.
    greeting: Option<&'static str>,
    bystanders: [Box<dyn Session>; 2],
}

impl Table {
    fn new(example: &str, path: &'static str, greeting: Option<&'static str>) -> Table {
        let server = ProtocolServer::start(example);
        let bystanders = server.sessions(ECHO);
        Table { server, path, greeting, bystanders }
    }

    /// Sends packets that end the session.
    fn check(&mut self, packets: &[Packet]) {
        let codes = self.server.sessions(self.path).map(|mut session| {
            if let Some(greeting) = self.greeting {
                session.say(greeting);
                assert!(session.text().starts_with("40"), "{session:?}");
                assert!(session.text().starts_with("42[\"auth\""), "{session:?}");
            }
            println!("{packets:?} over {session:?}");
            session.send_wrong(packets);
            session.expect_closed()
        });
        if self.server.is_ours() {
            assert_eq!(codes, [None, Some(1002)], "{packets:?}");
        }
        self.check_bystanders();
    }

    fn check_bystanders(&mut self) {
        for session in &mut self.bystanders {
            session.say("4undisturbed");
            session.expect("4undisturbed");
        }
    }
}
