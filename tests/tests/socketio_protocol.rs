//! The protocol of Socket.IO, version 5, case by case: what its document demands of a server, on raw requests and frames.
//!
//! Each test begins with the sentence that it proves, in our words, and the section of the document that has it. Cases run over both
//! transports. `ROOMCAST_PROTOCOL_SERVER=host:port` tests a server that runs already in place of ours, such as
//! `node tests/e2e/protocol_server.mjs --ping-interval 25000`, on the packages that define the protocol; what is ours alone is left out
//! then.

use std::collections::BTreeSet;
use std::time::{Duration, Instant};

use roomcast_tests::protocol_tests;
use roomcast_tests::real::http::{Response, http};
use roomcast_tests::real::packets::PacketSocket;
use roomcast_tests::real::poller::Poller;
use roomcast_tests::real::protocol::{ProtocolServer, SOCKET_IO, Times};
use roomcast_tests::real::session::{Packet, Session};
use serde_json::{Value, json};

protocol_tests!(
    a_client_connects_to_the_main_namespace,
    a_client_connects_to_another_namespace,
    a_client_says_something_when_it_connects,
    an_unknown_namespace_is_refused,
    a_client_that_connects_to_nothing_is_closed,
    the_first_packet_connects,
    a_client_is_in_several_namespaces,
    a_client_leaves_a_namespace,
    what_comes_for_a_namespace_that_was_left_is_nothing,
    events_have_arguments_of_any_kind,
    the_name_of_an_event_may_be_a_number,
    events_have_bytes,
    events_are_acknowledged_with_their_number,
    acknowledgements_have_bytes,
    what_nobody_waits_for_is_nothing,
    packets_of_one_body_are_taken_in_order,
    a_session_goes_on_after_the_upgrade,
    namespaces_stay_through_the_upgrade,
    pages_of_other_origins_are_let_in,
    a_page_asks_first_what_it_may_ask,
    scripts_are_no_transport,
);

/// How long a server waits for the first namespace.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(1);
/// How much earlier a timer may go off than it is told.
const TOLERANCE: Duration = Duration::from_millis(20);

// Connection to a namespace.

/// "Connection to a namespace": a CONNECT packet is answered with one whose payload has the identifier of the session.
/// "Format": the main namespace is not written.
fn a_client_connects_to_the_main_namespace(example: &str) {
    let server = ProtocolServer::start(example);
    let mut sids = BTreeSet::new();
    for mut session in [server.sessions(SOCKET_IO), server.sessions(SOCKET_IO)].into_iter().flatten() {
        session.say("40");
        sids.insert(expect_connected(&mut *session, "40"));
        session.expect(r#"42["auth",{}]"#);
        check_events(&mut *session, "");
    }
    assert_eq!(sids.len(), 4);
    // Whoever knows the identifier in a namespace cannot use it to speak as the session, or in another namespace.
    let mut session = Poller::open(server.addr(), SOCKET_IO);
    session.send(&["40".into(), "40/custom,".into()]);
    let told: Vec<String> = (0..4).map(|_| session.text()).collect();
    let of = |head: &str| told.iter().find_map(|text| text.strip_prefix(head)).unwrap_or_else(|| panic!("{told:?}"));
    assert_ne!(of("40{"), of("40/custom,{"));
    assert!(!told.iter().any(|text| text.contains(session.handshake()["sid"].as_str().expect("a string"))), "{told:?}");
}

/// "Connection to a namespace": a custom namespace is named, and the answer names it too. A comma ends the name; where nothing
/// follows, it may be left out.
fn a_client_connects_to_another_namespace(example: &str) {
    let server = ProtocolServer::start(example);
    for connect in ["40/custom,", "40/custom"] {
        for mut session in server.sessions(SOCKET_IO) {
            session.say(connect);
            expect_connected(&mut *session, "40/custom,");
            session.expect(r#"42/custom,["auth",{}]"#);
            check_events(&mut *session, "/custom,");
        }
    }
}

/// "Connection to a namespace": the client may add a payload.
fn a_client_says_something_when_it_connects(example: &str) {
    let server = ProtocolServer::start(example);
    let payloads = [r#"{"token":"123"}"#, r#"{"a":{"b":[1,"é",null]},"c":"} , {"}"#, "{}"];
    for payload in payloads {
        for namespace in ["", "/custom,"] {
            for mut session in server.sessions(SOCKET_IO) {
                session.say(&format!("40{namespace}{payload}"));
                expect_connected(&mut *session, &format!("40{namespace}"));
                session.expect(&format!(r#"42{namespace}["auth",{payload}]"#));
            }
        }
    }
}

/// "Connection to a namespace": a connection that is not allowed is answered with a CONNECT_ERROR packet. It ends nothing else.
fn an_unknown_namespace_is_refused(example: &str) {
    let server = ProtocolServer::start(example);
    for namespace in ["/random", "/custom/", "/Custom", "//", "/custom?token=abc", "/__proto__", "/é"] {
        for mut session in server.sessions(SOCKET_IO) {
            let refusal = format!(r#"44{namespace},{{"message":"Invalid namespace"}}"#);
            session.say(&format!("40{namespace},{{\"token\":\"abc\"}}"));
            session.expect(&refusal);
            connect(&mut *session, "");
            session.say(&format!("40{namespace},"));
            session.expect(&refusal);
            check_events(&mut *session, "");
        }
    }
}

/// "Connection to a namespace": it is the client that must connect. How long it may take is said nowhere; the packages close
/// such sessions after a time that can be set.
fn a_client_that_connects_to_nothing_is_closed(example: &str) {
    let server = ProtocolServer::with_times(example, Times { connect_timeout: CONNECT_TIMEOUT, ..Times::default() });
    let begun = Instant::now();
    let mut connected = server.sessions(SOCKET_IO);
    connected.iter_mut().for_each(|session| connect(&mut **session, "/custom,"));
    let silent = server.sessions(SOCKET_IO);
    let mut refused = server.sessions(SOCKET_IO);
    for session in &mut refused {
        session.say("40/random,");
        session.expect(r#"44/random,{"message":"Invalid namespace"}"#);
    }
    for mut session in silent.into_iter().chain(refused) {
        session.expect_closed();
        assert!(begun.elapsed() + TOLERANCE >= CONNECT_TIMEOUT, "{session:?} is closed after {:?}", begun.elapsed());
    }
    connected.iter_mut().for_each(|session| check_events(&mut **session, "/custom,"));
}

/// "Connection to a namespace": where anything but a CONNECT packet comes first, the connection is closed at once.
fn the_first_packet_connects(example: &str) {
    let server = ProtocolServer::start(example);
    let mut bystanders = server.sessions(SOCKET_IO);
    bystanders.iter_mut().for_each(|session| connect(&mut **session, ""));
    for first in
        [r#"42["message","a"]"#, r#"42/custom,["message"]"#, r#"421["message-with-ack"]"#, "41", "430[]", r#"44{"message":"x"}"#]
    {
        for mut session in server.sessions(SOCKET_IO) {
            session.send_wrong(&[first.into()]);
            session.expect_closed();
        }
    }
    bystanders.iter_mut().for_each(|session| check_events(&mut **session, ""));
}

/// "Connection to a namespace": a client may be in several namespaces at the same time, over one connection.
fn a_client_is_in_several_namespaces(example: &str) {
    let server = ProtocolServer::start(example);
    for mut session in server.sessions(SOCKET_IO) {
        connect(&mut *session, "");
        connect(&mut *session, "/custom,");
        session.send(&[r#"42/custom,["message","a"]"#.into(), r#"42["message","b"]"#.into()]);
        session.expect(r#"42/custom,["message-back","a"]"#);
        session.expect(r#"42["message-back","b"]"#);
        session.send(&[r#"421["message-with-ack","a"]"#.into(), r#"42/custom,1["message-with-ack","b"]"#.into()]);
        session.expect(r#"431["a"]"#);
        session.expect(r#"43/custom,1["b"]"#);
    }
}

/// "Disconnection from a namespace": a DISCONNECT packet is not answered, and the connection may stay for other namespaces.
fn a_client_leaves_a_namespace(example: &str) {
    let server = ProtocolServer::start(example);
    for mut session in server.sessions(SOCKET_IO) {
        connect(&mut *session, "");
        connect(&mut *session, "/custom,");
        session.say("41");
        check_events(&mut *session, "/custom,");
        // It may come back, as somebody new.
        connect(&mut *session, "");
        session.say("41/custom,");
        check_events(&mut *session, "");
    }
}

/// "Disconnection from a namespace": the sides may end a connection at any time, so packets can cross. The document does not say what
/// becomes of them, and the packages close the connection.
fn what_comes_for_a_namespace_that_was_left_is_nothing(example: &str) {
    let server = ProtocolServer::start(example);
    if !server.is_ours() {
        return;
    }
    for mut session in server.sessions(SOCKET_IO) {
        connect(&mut *session, "");
        connect(&mut *session, "/custom,");
        let late = [r#"42["message","late"]"#.into(), r#"425["message-with-ack","late"]"#.into(), "430[]".into(), "41".into()];
        session.send(&[&["41".into()], &late[..]].concat());
        check_events(&mut *session, "/custom,");
        let bytes = [r#"451-["message",{"_placeholder":true,"num":0}]"#.into(), b"late"[..].into()];
        session.send(&bytes);
        check_events(&mut *session, "/custom,");
    }
}

// Sending and receiving data.

/// "Sending and receiving data": the payload of an event is an array that is not empty: the name, and values of any kind.
fn events_have_arguments_of_any_kind(example: &str) {
    let server = ProtocolServer::start(example);
    for mut session in server.sessions(SOCKET_IO) {
        connect(&mut *session, "");
        for arguments in [
            "",
            r#",1,"2",{"3":[true]}"#,
            ",null,false,[],{},-1,0.5",
            r#","é😀","a\"b\\c\n","]","\u001e""#,
            r#",{"z":1,"a":2,"nested":{"b":[[[]]],"a":null}}"#,
            r#",{"_placeholder":false,"num":0}"#,
        ] {
            session.say(&format!(r#"42["message"{arguments}]"#));
            session.expect(&format!(r#"42["message-back"{arguments}]"#));
        }
        let long = "x".repeat(100_000);
        session.say(&format!(r#"42["message","{long}"]"#));
        session.expect(&format!(r#"42["message-back","{long}"]"#));
    }
}

/// The packages take numbers for names of events, and what nobody listens to is nothing.
fn the_name_of_an_event_may_be_a_number(example: &str) {
    let server = ProtocolServer::start(example);
    for mut session in server.sessions(SOCKET_IO) {
        connect(&mut *session, "");
        session.send(&[r#"42[1,"a"]"#.into(), r#"42[0]"#.into(), r#"42["nobody listens",1]"#.into(), r#"42["",1]"#.into()]);
        check_events(&mut *session, "");
    }
}

/// "Sending and receiving data", "Format": a BINARY_EVENT packet says how many attachments follow it, and has placeholders in
/// their places.
fn events_have_bytes(example: &str) {
    let server = ProtocolServer::start(example);
    let most: String = (0..10).map(|number| format!(",{}", placeholder(number))).collect();
    for mut session in server.sessions(SOCKET_IO) {
        for namespace in ["", "/custom,"] {
            connect(&mut *session, namespace);
            for (arguments, attachments) in [
                (format!(",{}", placeholder(0)), 1),
                (format!(",{},{}", placeholder(0), placeholder(1)), 2),
                (format!(r#",{{"a":[1,{{"b":{}}}]}},"between",[{}]"#, placeholder(0), placeholder(1)), 2),
                (most.clone(), 10),
            ] {
                let mut packets = attached(attachments);
                packets.insert(0, format!(r#"45{attachments}-{namespace}["message"{arguments}]"#).as_str().into());
                session.send(&packets);
                session.expect(&format!(r#"45{attachments}-{namespace}["message-back"{arguments}]"#));
                attached(attachments).into_iter().for_each(|bytes| assert_eq!(session.next(), bytes));
            }
        }
        check_events(&mut *session, "");
    }
    // Over requests, each part may come in one of its own.
    let mut session = Poller::open(server.addr(), SOCKET_IO);
    connect(&mut session, "");
    session.say(&format!(r#"452-["message",{},{}]"#, placeholder(0), placeholder(1)));
    attached(2).into_iter().for_each(|bytes| session.send(&[bytes]));
    session.expect(&format!(r#"452-["message-back",{},{}]"#, placeholder(0), placeholder(1)));
    attached(2).into_iter().for_each(|bytes| assert_eq!(session.next(), bytes));
}

// Acknowledgement.

/// "Acknowledgement": an event with an identifier is answered with an ACK packet of the same identifier, whose payload is an array,
/// possibly empty.
fn events_are_acknowledged_with_their_number(example: &str) {
    let server = ProtocolServer::start(example);
    for mut session in server.sessions(SOCKET_IO) {
        for namespace in ["", "/custom,"] {
            connect(&mut *session, namespace);
            for number in ["0", "1", "12", "456", "4294967296", "9007199254740991"] {
                session.say(&format!(r#"42{namespace}{number}["message-with-ack",1,"2",{{"3":[false]}}]"#));
                session.expect(&format!(r#"43{namespace}{number}[1,"2",{{"3":[false]}}]"#));
            }
            session.say(&format!(r#"42{namespace}7["message-with-ack"]"#));
            session.expect(&format!("43{namespace}7[]"));
        }
    }
}

/// "Acknowledgement": the answer may be a BINARY_ACK packet.
fn acknowledgements_have_bytes(example: &str) {
    let server = ProtocolServer::start(example);
    for mut session in server.sessions(SOCKET_IO) {
        for namespace in ["", "/custom,"] {
            connect(&mut *session, namespace);
            let arguments = format!(r#"{},"2",{{"a":[{}]}}"#, placeholder(0), placeholder(1));
            let event = format!(r#"452-{namespace}789["message-with-ack",{arguments}]"#);
            session.send(&[&[event.as_str().into()], &attached(2)[..]].concat());
            session.expect(&format!("462-{namespace}789[{arguments}]"));
            attached(2).into_iter().for_each(|bytes| assert_eq!(session.next(), bytes));
        }
    }
}

/// "Acknowledgement": it answers an event. The document does not say what one is that answers none.
fn what_nobody_waits_for_is_nothing(example: &str) {
    let server = ProtocolServer::start(example);
    for mut session in server.sessions(SOCKET_IO) {
        connect(&mut *session, "");
        let binary = format!("461-15[\"bar\",{}]", placeholder(0));
        session.send(&["430[]".into(), r#"4399["x"]"#.into(), binary.as_str().into(), b"bytes"[..].into()]);
        check_events(&mut *session, "");
    }
}

// Sample session.

/// "Sample session": a body may have several packets, and they are taken in their order.
fn packets_of_one_body_are_taken_in_order(example: &str) {
    let server = ProtocolServer::start(example);
    for mut session in server.sessions(SOCKET_IO) {
        let bytes = format!(r#"451-["message",{}]"#, placeholder(0));
        connect(&mut *session, "");
        session.send(&[
            r#"42["message","hello"]"#.into(),
            bytes.as_str().into(),
            b"\x01\x02"[..].into(),
            r#"423["message-with-ack","world"]"#.into(),
        ]);
        session.expect(r#"42["message-back","hello"]"#);
        session.expect(&format!(r#"451-["message-back",{}]"#, placeholder(0)));
        assert_eq!(session.next(), b"\x01\x02"[..].into());
        session.expect(r#"433["world"]"#);
    }
}

/// "Sample session": a client polls, connects, moves to a WebSocket and goes on there, to another namespace too.
fn a_session_goes_on_after_the_upgrade(example: &str) {
    let server = ProtocolServer::start(example);
    let mut session = Poller::open(server.addr(), SOCKET_IO);
    connect(&mut session, "");
    let mut socket = PacketSocket::instead_of(server.addr(), &session);
    check_events(&mut socket, "");
    connect(&mut socket, "/custom,");
    let event = format!(r#"451-/custom,1["message-with-ack",{}]"#, placeholder(0));
    socket.send(&[event.as_str().into(), b"\x01\x02\x03"[..].into()]);
    socket.expect(&format!("461-/custom,1[{}]", placeholder(0)));
    assert_eq!(socket.next(), b"\x01\x02\x03"[..].into());
    socket.say("1");
    // The packages wait for the WebSocket's own end.
    if server.is_ours() {
        socket.expect_closed();
    }
}

/// "Sample session": what was said before the upgrade is answered after it, and an event that is half sent can be finished.
fn namespaces_stay_through_the_upgrade(example: &str) {
    let server = ProtocolServer::start(example);
    let mut session = Poller::open(server.addr(), SOCKET_IO);
    connect(&mut session, "");
    connect(&mut session, "/custom,");
    session.say(r#"421["message-with-ack","before"]"#);
    session.say(&format!(r#"452-["message",{},{}]"#, placeholder(0), placeholder(1)));
    session.send(&attached(1));
    let mut socket = PacketSocket::beside(server.addr(), &session);
    socket.say("2probe");
    socket.expect("3probe");
    socket.say("5");
    socket.send(&attached(2)[1..]);
    socket.expect(r#"431["before"]"#);
    socket.expect(&format!(r#"452-["message-back",{},{}]"#, placeholder(0), placeholder(1)));
    attached(2).into_iter().for_each(|bytes| assert_eq!(socket.next(), bytes));
    check_events(&mut socket, "");
    check_events(&mut socket, "/custom,");
}

// Pages of other origins. The documents leave them to the server; without this, no page of another origin could poll.

const ORIGIN: &str = "https://app.example";

/// Every answer to a page says that the page may read it, errors too.
fn pages_of_other_origins_are_let_in(example: &str) {
    let server = ProtocolServer::start(example);
    let session = Poller::open(server.addr(), SOCKET_IO);
    let target = format!("{SOCKET_IO}?EIO=4&transport=polling");
    for (method, target, body, status) in [
        ("GET", target.as_str(), &b""[..], 200),
        ("POST", session.target(), b"40", 200),
        ("GET", session.target(), b"", 200),
        ("GET", &format!("{target}&sid=abc"), b"", 400),
        ("GET", SOCKET_IO, b"", 400),
    ] {
        let answer = http(method, server.addr(), target, &[("origin", ORIGIN)], body);
        assert_eq!(answer.status, status, "{method} {target}: {}", answer.text());
        check_readable(&answer);
    }
}

/// A browser asks before it sends a POST that is no plain form, and is told what it may.
fn a_page_asks_first_what_it_may_ask(example: &str) {
    let server = ProtocolServer::start(example);
    let session = Poller::open(server.addr(), SOCKET_IO);
    for target in [format!("{SOCKET_IO}?EIO=4&transport=polling"), session.target().to_owned()] {
        let asks = [
            ("origin", ORIGIN),
            ("access-control-request-method", "POST"),
            ("access-control-request-headers", "content-type,authorization"),
        ];
        let answer = http("OPTIONS", server.addr(), &target, &asks, b"");
        assert!(matches!(answer.status, 200 | 204), "{answer:?}");
        check_readable(&answer);
        for (name, value) in [
            ("access-control-allow-methods", "post"),
            ("access-control-allow-headers", "content-type"),
            ("access-control-allow-headers", "authorization"),
        ] {
            let allowed = answer.header(name).unwrap_or_default().to_ascii_lowercase();
            assert!(allowed.contains(value), "{name}: {allowed}");
        }
    }
    // It was a question: the session has heard nothing.
    assert_eq!(session.post(b"40").text(), "ok");
}

fn check_readable(answer: &Response) {
    let allowed = answer.header("access-control-allow-origin");
    assert!(matches!(allowed, Some("*" | ORIGIN)), "{answer:?}");
}

/// Pages that take answers for scripts are of a time before protocol 4. The packages still serve them; here they are refused.
fn scripts_are_no_transport(example: &str) {
    let server = ProtocolServer::start(example);
    if server.is_ours() {
        let session = Poller::open(server.addr(), SOCKET_IO);
        for target in [format!("{SOCKET_IO}?EIO=4&transport=polling&j=0"), format!("{}&j=1", session.target())] {
            let answer = http("GET", server.addr(), &target, &[], b"");
            assert_eq!((answer.status, answer.json()["code"].as_u64()), (400, Some(3)));
        }
    }
}

/// Connects to a namespace, whose name has its comma; the main one has none.
fn connect(session: &mut dyn Session, namespace: &str) {
    session.say(&format!("40{namespace}"));
    expect_connected(session, &format!("40{namespace}"));
    session.expect(&format!(r#"42{namespace}["auth",{{}}]"#));
}

/// Expects the answer to a CONNECT packet and returns the identifier in it.
fn expect_connected(session: &mut dyn Session, head: &str) -> String {
    let text = session.text();
    let object = text.strip_prefix(head).unwrap_or_else(|| panic!("{text} instead of {head}"));
    let object: Value = serde_json::from_str(object).unwrap_or_else(|error| panic!("{error}: {text}"));
    let sid = object["sid"].as_str().unwrap_or_else(|| panic!("no identifier: {text}"));
    assert!(!sid.is_empty() && object == json!({"sid": sid}), "{text}");
    sid.to_owned()
}

/// The namespace is there, and nothing was said in it that was not expected.
fn check_events(session: &mut dyn Session, namespace: &str) {
    session.say(&format!(r#"42{namespace}["message","are you there?"]"#));
    session.expect(&format!(r#"42{namespace}["message-back","are you there?"]"#));
}

fn placeholder(number: usize) -> String {
    format!(r#"{{"_placeholder":true,"num":{number}}}"#)
}

/// Attachments, each other than the next.
fn attached(count: u8) -> Vec<Packet> {
    (0..count).map(|number| [number, 0, 255, number][..].into()).collect()
}
