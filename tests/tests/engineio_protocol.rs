//! The protocol of Engine.IO, version 4, case by case: what its document demands of a server, on raw requests and frames.
//!
//! Each test begins with the sentence that it proves, in our words, and the section of the document that has it. The server sends every
//! message back. `ROOMCAST_PROTOCOL_SERVER=host:port` tests a server that runs already in place of ours, such as
//! `node tests/e2e/protocol_server.mjs`, on the packages that define the protocol; what is ours alone is left out then.

use std::collections::BTreeSet;
use std::thread;
use std::time::{Duration, Instant};

use roomcast_tests::protocol_tests;
use roomcast_tests::real::http::{Response, http};
use roomcast_tests::real::packets::PacketSocket;
use roomcast_tests::real::poller::{Poller, handshake};
use roomcast_tests::real::protocol::{ECHO, ProtocolServer, SOCKET_IO, Times};
use roomcast_tests::real::raw::{FINAL, RawClient, TEXT, get_request, masked_frame, upgrade_request};
use roomcast_tests::real::session::{Packet, Session};
use roomcast_tests::real::{PATIENCE, poll_until};
use serde_json::{Value, json};

protocol_tests!(
    a_session_that_polls_begins_with_its_handshake,
    a_session_over_a_websocket_begins_with_its_handshake,
    sessions_have_identifiers_of_their_own,
    what_else_the_query_says_is_nothing_to_the_server,
    a_request_without_the_transport_or_the_version_is_refused,
    a_session_begins_with_a_get,
    a_session_that_is_not_known_is_refused,
    a_session_is_spoken_to_with_get_and_post,
    a_post_is_answered_with_ok_and_brings_its_packets,
    a_poll_waits_until_there_is_something_to_say,
    requests_may_share_a_connection,
    packets_of_one_body_are_separated,
    bytes_are_base64_where_there_is_only_text,
    every_packet_is_a_frame_of_its_own,
    messages_are_as_long_as_the_handshake_says,
    two_polls_at_once_end_the_session,
    two_posts_at_once_are_not_mixed,
    a_poll_that_is_broken_off_ends_the_session,
    a_client_that_polls_ends_its_session,
    a_client_with_a_websocket_ends_its_session,
    a_client_that_answers_pings_stays,
    a_client_that_answers_no_ping_is_closed,
    a_pong_that_nobody_asked_for_puts_nothing_off,
    a_session_moves_to_a_websocket,
    a_poll_that_waits_is_answered_before_the_upgrade,
    no_message_is_lost_or_repeated_by_the_upgrade,
    a_session_that_has_moved_is_polled_no_more,
    a_session_has_one_websocket,
    a_probe_that_fails_leaves_the_session_as_it_was,
    the_heartbeat_goes_on_after_the_upgrade,
    an_upgrade_is_probed_first,
);

/// How much earlier a timer may go off than it is told.
const TOLERANCE: Duration = Duration::from_millis(20);
const MAX_PAYLOAD: usize = 1_000_000;

/// An interval and a time-out that are told from others.
const HEARTBEAT: (Duration, Duration) = (Duration::from_millis(300), Duration::from_millis(200));

// Handshake.

/// "Handshake": a server that accepts a connection answers with an open packet, whose JSON object has the session's identifier, the
/// upgrades it offers, the two times of the heartbeat in milliseconds, and the size of a payload.
fn a_session_that_polls_begins_with_its_handshake(example: &str) {
    let server = with_heartbeat(example, HEARTBEAT);
    let answer = polled(&server, "?EIO=4&transport=polling");
    assert_eq!((answer.status, answer.header("content-type")), (200, Some("text/plain; charset=UTF-8")));
    check_handshake(&server, &handshake(&answer.text()), &json!(["websocket"]));
}

/// "Handshake": the same packet is the first frame of a session that begins with a WebSocket, which has nothing to upgrade to.
fn a_session_over_a_websocket_begins_with_its_handshake(example: &str) {
    let server = with_heartbeat(example, HEARTBEAT);
    check_handshake(&server, PacketSocket::open(server.addr(), ECHO).handshake(), &json!([]));
}

fn check_handshake(server: &ProtocolServer, handshake: &Value, upgrades: &Value) {
    let keys: BTreeSet<&str> = handshake.as_object().expect("an object").keys().map(String::as_str).collect();
    assert_eq!(keys, BTreeSet::from(["sid", "upgrades", "pingInterval", "pingTimeout", "maxPayload"]));
    assert!(handshake["sid"].as_str().is_some_and(|sid| !sid.is_empty()), "{handshake}");
    assert_eq!(handshake["upgrades"], *upgrades);
    let heartbeat = heartbeat(handshake);
    assert!(heartbeat == HEARTBEAT || !server.is_ours(), "{handshake}");
    assert_eq!(handshake["maxPayload"], json!(MAX_PAYLOAD));
}

/// "Handshake": the identifier names the session in all later requests, so no two sessions have the same.
fn sessions_have_identifiers_of_their_own(example: &str) {
    let server = ProtocolServer::start(example);
    let sessions: Vec<Poller> = (0..20).map(|_| Poller::open(server.addr(), ECHO)).collect();
    let sids: BTreeSet<&str> = sessions.iter().filter_map(|session| session.handshake()["sid"].as_str()).collect();
    assert_eq!(sids.len(), sessions.len());
    assert!(sids.iter().all(|sid| sid.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"-_".contains(&byte))), "{sids:?}");
}

/// "Query parameters": three are listed, in no order. The sample session of Socket.IO adds one against caches.
fn what_else_the_query_says_is_nothing_to_the_server(example: &str) {
    let server = ProtocolServer::start(example);
    for query in ["?transport=polling&EIO=4", "?t=N8hyd6w&EIO=4&transport=polling", "?EIO=4&a=&transport=polling&b&c=%26"] {
        assert_eq!(polled(&server, query).status, 200, "{query}");
    }
}

/// "Query parameters": where one that is mandatory is missing, the answer is an error with status 400; a WebSocket is closed.
fn a_request_without_the_transport_or_the_version_is_refused(example: &str) {
    let server = ProtocolServer::start(example);
    // The numbers are those that the packages tell their clients.
    for (query, code) in [
        ("", 0),
        ("?EIO=4", 0),
        ("?EIO=4&transport=", 0),
        ("?EIO=4&transport=abc", 0),
        ("?EIO=4&transport=Polling", 0),
        ("?EIO=4&transport=websocket", 3),
        ("?transport=polling", 5),
        ("?EIO=&transport=polling", 5),
        ("?EIO=abc&transport=polling", 5),
        ("?EIO=3&transport=polling", 5),
        ("?EIO=5&transport=polling", 5),
        ("?EIO=44&transport=polling", 5),
    ] {
        let answer = polled(&server, query);
        assert_eq!((answer.status, answer.json()["code"].as_u64()), (400, Some(code)), "{query}");
        assert!(answer.json()["message"].is_string(), "{query}");
    }
    for query in [
        "",
        "?EIO=4",
        "?EIO=4&transport=",
        "?EIO=4&transport=abc",
        "?transport=websocket",
        "?EIO=&transport=websocket",
        "?EIO=abc&transport=websocket",
        "?EIO=3&transport=websocket",
        "?EIO=5&transport=websocket",
    ] {
        PacketSocket::expect_refused(server.addr(), &format!("{ECHO}{query}"));
    }
}

/// "Handshake": the client begins with a GET.
fn a_session_begins_with_a_get(example: &str) {
    let server = ProtocolServer::start(example);
    for method in ["POST", "PUT", "DELETE", "PATCH"] {
        let answer = http(method, server.addr(), &format!("{ECHO}?EIO=4&transport=polling"), &[], b"4hello");
        assert_eq!((answer.status, answer.json()["code"].as_u64()), (400, Some(2)), "{method}");
    }
}

/// "Sending data", "Receiving data": a session whose identifier is not known is answered with status 400.
fn a_session_that_is_not_known_is_refused(example: &str) {
    let server = ProtocolServer::start(example);
    let mut bystander = Poller::open(server.addr(), ECHO);
    let sid = bystander.handshake()["sid"].as_str().expect("a string").to_owned();
    let (shorter, longer) = (&sid[1..], format!("{sid}A"));
    let long = "A".repeat(2_000);
    for sid in ["abc", "AAAAAAAAAAAAAAAAAAAAAAAA", "%00", "..", "__proto__", "{}", shorter, &longer, &long] {
        let target = format!("{ECHO}?EIO=4&transport=polling&sid={sid}");
        for (method, body) in [("GET", &b""[..]), ("POST", b"4hello")] {
            let answer = http(method, server.addr(), &target, &[], body);
            assert_eq!((answer.status, answer.json()["code"].as_u64()), (400, Some(1)), "{method} {sid}");
        }
        PacketSocket::expect_refused(server.addr(), &format!("{ECHO}?EIO=4&transport=websocket&sid={sid}"));
    }
    // One of another path is not known either.
    let elsewhere = bystander.target().replace(ECHO, SOCKET_IO);
    assert_eq!(http("GET", server.addr(), &elsewhere, &[], b"").status, 400);
    PacketSocket::expect_refused(server.addr(), &bystander.upgrade_target().replace(ECHO, SOCKET_IO));
    check_echo(&mut bystander);
}

/// "Sending and receiving data": a client polls with GET and sends with POST. What else it asks is refused, and the session stays.
fn a_session_is_spoken_to_with_get_and_post(example: &str) {
    let server = ProtocolServer::start(example);
    let mut session = Poller::open(server.addr(), ECHO);
    for (method, target) in [
        ("PUT", session.target()),
        ("DELETE", session.target()),
        ("PATCH", session.target()),
        // This one asks for a WebSocket without asking for an upgrade.
        ("GET", &session.upgrade_target()),
        ("GET", &session.target().replace("polling", "abc")),
        ("POST", &session.target().replace("EIO=4", "EIO=3")),
    ] {
        let status = http(method, server.addr(), target, &[], b"").status;
        assert!((400..=500).contains(&status), "{status} for {method} {target}");
    }
    check_echo(&mut session);
}

// Messages.

/// "Sending data": packets are the body of a POST, whose success is status 200 and the text `ok`.
/// "Receiving data": a GET is answered with what there is for its session.
fn a_post_is_answered_with_ok_and_brings_its_packets(example: &str) {
    let server = ProtocolServer::start(example);
    let session = Poller::open(server.addr(), ECHO);
    let told = session.post(b"4hello");
    assert_eq!((told.status, told.text().as_str()), (200, "ok"));
    let heard = session.get();
    assert_eq!((heard.status, heard.text().as_str()), (200, "4hello"));
    assert_eq!(heard.header("content-type"), Some("text/plain; charset=UTF-8"));
    // "Packet encoding": text is UTF-8.
    let session = Poller::open(server.addr(), ECHO);
    for text in ["4€", "4 😀 \t\n", "4", "40", "4{\"a\":[1]}", "4\u{0}\u{7f}\u{fffd}"] {
        assert_eq!(session.post(text.as_bytes()).status, 200, "{text:?}");
        assert_eq!(session.get().text(), text);
    }
}

/// "Receiving data": the server need not answer before there is something to say.
fn a_poll_waits_until_there_is_something_to_say(example: &str) {
    let server = ProtocolServer::start(example);
    let session = Poller::open(server.addr(), ECHO);
    for text in ["4first", "4second", "4third"] {
        let mut held = session.hold();
        assert_eq!(session.post(text.as_bytes()).status, 200);
        assert_eq!(held.response().text(), text);
    }
}

/// "HTTP long-polling": requests follow one another, as any HTTP client sends them.
fn requests_may_share_a_connection(example: &str) {
    let server = ProtocolServer::start(example);
    let mut client = RawClient::connect(server.addr());
    client.send(&get_request(&format!("{ECHO}?EIO=4&transport=polling"), &[]));
    let sid = handshake(&client.response().text())["sid"].as_str().expect("a string").to_owned();
    let target = format!("{ECHO}?EIO=4&transport=polling&sid={sid}");
    for text in ["4first", "4second", "4third"] {
        // In chunks, whose number and bounds mean nothing.
        client.send(format!("POST {target} HTTP/1.1\r\nhost: here\r\ntransfer-encoding: chunked\r\n\r\n").as_bytes());
        text.as_bytes().chunks(2).for_each(|chunk| {
            client.send(&[format!("{:x}\r\n", chunk.len()).as_bytes(), chunk, b"\r\n"].concat());
        });
        client.send(b"0\r\n\r\n");
        assert_eq!(client.response().text(), "ok");
        client.send(&get_request(&target, &[]));
        assert_eq!(client.response().text(), text);
    }
}

/// "Packet encoding", "HTTP long-polling": several packets may be one payload, with the record separator between them.
fn packets_of_one_body_are_separated(example: &str) {
    let server = ProtocolServer::start(example);
    let session = Poller::open(server.addr(), ECHO);
    let payload = "4a\u{1e}4b\u{1e}4\u{1e}bAQIDBA==\u{1e}4c";
    assert_eq!(session.post(payload.as_bytes()).text(), "ok");
    assert_eq!(session.get().text(), payload);
    // More than some clients take at once may come in several answers, in order.
    let mut session = Poller::open(server.addr(), ECHO);
    let many: Vec<Packet> = (0..100).map(|number| format!("4{number}").as_str().into()).collect();
    session.send(&many);
    many.iter().for_each(|packet| assert_eq!(session.next(), *packet));
}

/// "Packet encoding", "HTTP long-polling": bytes are base64 behind a `b`.
fn bytes_are_base64_where_there_is_only_text(example: &str) {
    let server = ProtocolServer::start(example);
    let session = Poller::open(server.addr(), ECHO);
    for text in ["bAQIDBA==", "b//8=", "bAAAA", "bYQ=="] {
        assert_eq!(session.post(text.as_bytes()).text(), "ok");
        assert_eq!(session.get().text(), text);
    }
    let mut session = Poller::open(server.addr(), ECHO);
    let all: Vec<u8> = (0..=255).collect();
    session.send(&[all.as_slice().into()]);
    assert_eq!(session.next(), all.as_slice().into());
}

/// "WebSocket": every packet is a frame of its own, text with its type, bytes without any change.
fn every_packet_is_a_frame_of_its_own(example: &str) {
    let server = ProtocolServer::start(example);
    let mut session = PacketSocket::open(server.addr(), ECHO);
    let all: Vec<u8> = (0..=255).collect();
    let packets = ["4hello".into(), "4€ 😀".into(), all.as_slice().into(), "4".into(), b"4"[..].into(), "4a\u{1e}4b".into()];
    // One by one, and at once.
    for packet in &packets {
        session.send(std::slice::from_ref(packet));
        assert_eq!(session.next(), *packet);
    }
    session.send(&packets);
    packets.iter().for_each(|packet| assert_eq!(session.next(), *packet));
}

/// "Handshake": `maxPayload` is the most that a payload may have.
fn messages_are_as_long_as_the_handshake_says(example: &str) {
    let server = ProtocolServer::start(example);
    let mut bystander = Poller::open(server.addr(), ECHO);
    let longest = format!("4{}", "x".repeat(MAX_PAYLOAD - 1));
    for mut session in server.sessions(ECHO) {
        session.say(&longest);
        session.expect(&longest);
    }
    let longer = format!("{longest}x");
    let session = Poller::open(server.addr(), ECHO);
    assert!(matches!(session.post(longer.as_bytes()).status, 400 | 413));
    let mut session = PacketSocket::open(server.addr(), ECHO);
    session.say(&longer);
    assert_eq!(session.expect_closed(), Some(1009));
    check_echo(&mut bystander);
}

/// "Receiving data": more than one GET at a time is answered with status 400, and the session is closed.
fn two_polls_at_once_end_the_session(example: &str) {
    let server = ProtocolServer::start(example);
    let session = Poller::open(server.addr(), ECHO);
    // Which of the two comes first is nobody's to say.
    let mut polls = thread::scope(|scope| {
        let polls = [(); 2].map(|()| scope.spawn(|| session.get()));
        polls.map(|poll| poll.join().expect("each poll is answered"))
    });
    polls.sort_by_key(|answer| answer.status);
    assert_eq!(polls.each_ref().map(|answer| answer.status), [200, 400]);
    assert_eq!(polls[0].text(), "1");
    assert_eq!(session.get().status, 400);
    assert_eq!(session.post(b"4hello").status, 400);
}

/// "Sending data": so that packets stay in order, more than one POST at a time is answered with status 400, and the session is closed.
///
/// Here we differ: a body is taken when it is whole, and its packets are never among those of another, so both are taken.
fn two_posts_at_once_are_not_mixed(example: &str) {
    let server = ProtocolServer::start(example);
    let mut session = Poller::open(server.addr(), ECHO);
    let mut half = RawClient::connect(server.addr());
    let body = "4first\u{1e}4second";
    let head = format!("POST {} HTTP/1.1\r\nhost: here\r\ncontent-length: {}\r\n\r\n", session.target(), body.len());
    half.send(&[head.as_bytes(), &body.as_bytes()[..9]].concat());
    if server.is_ours() {
        session.say("4between");
        session.expect("4between");
        half.send(&body.as_bytes()[9..]);
        assert_eq!(half.response().text(), "ok");
        session.expect("4first");
        session.expect("4second");
    } else {
        // The first is there before the second is refused, or comes after it.
        let refused = poll_until(PATIENCE, || (session.post(b"6").status == 400).then_some(()));
        assert!(refused.is_some(), "a second POST is taken");
        assert_eq!(session.get().status, 400);
    }
}

/// "Receiving data", and the document's own list of cases: a poll that the client breaks off ends its session.
fn a_poll_that_is_broken_off_ends_the_session(example: &str) {
    let server = ProtocolServer::start(example);
    let session = Poller::open(server.addr(), ECHO);
    drop(session.hold());
    session.expect_forgotten();
}

/// "Protocol": a close packet says that the transport can be closed. What waits is answered with a noop packet.
fn a_client_that_polls_ends_its_session(example: &str) {
    let server = ProtocolServer::start(example);
    // Where the poll came too late, there is nothing to be seen.
    let answered = poll_until(PATIENCE, || {
        let session = Poller::open(server.addr(), ECHO);
        let mut held = session.hold();
        assert_eq!(session.post(b"1").text(), "ok");
        let answer = held.response();
        assert_eq!((session.get().status, session.post(b"4hello").status), (400, 400));
        match answer.status {
            400 => None,
            _ => Some((answer.status, answer.text())),
        }
    });
    assert_eq!(answered, Some((200, "6".to_owned())));
}

/// The same over a WebSocket, which is closed. The packages wait for the WebSocket's own end.
fn a_client_with_a_websocket_ends_its_session(example: &str) {
    let server = ProtocolServer::start(example);
    if server.is_ours() {
        let mut session = PacketSocket::open(server.addr(), ECHO);
        session.say("1");
        assert_eq!(session.expect_closed(), Some(1000));
    }
}

// Heartbeat.

/// Pings come often, and the time to answer them is so long that no busy machine misses it.
fn with_pings(example: &str) -> ProtocolServer {
    with_heartbeat(example, (Duration::from_millis(100), Duration::from_millis(900)))
}

/// "Heartbeat": at the interval of the handshake the server sends a ping, which the client answers with a pong; with that the
/// connection lives.
fn a_client_that_answers_pings_stays(example: &str) {
    let server = with_pings(example);
    let begun = Instant::now();
    let mut poller = Poller::open(server.addr(), ECHO);
    let mut socket = PacketSocket::open(server.addr(), ECHO);
    let (interval, timeout) = heartbeat(socket.handshake());
    for beat in 1.. {
        assert_eq!(poller.get().text(), "2");
        poller.say("3");
        assert_eq!(socket.next_of_all(), "2".into());
        socket.say("3");
        assert!(begun.elapsed() + TOLERANCE >= interval * beat, "ping {beat} comes after {:?}", begun.elapsed());
        if begun.elapsed() > interval * 2 + timeout {
            break;
        }
    }
    check_echo(&mut poller);
    check_echo(&mut socket);
}

/// "Heartbeat": a connection from which no pong comes in time is closed.
fn a_client_that_answers_no_ping_is_closed(example: &str) {
    let server = with_pings(example);
    let begun = Instant::now();
    let mut poller = Poller::open(server.addr(), ECHO);
    let mut socket = PacketSocket::open(server.addr(), ECHO);
    // One that is never polled is closed too.
    let silent = Poller::open(server.addr(), ECHO);
    let (interval, timeout) = heartbeat(socket.handshake());
    assert_eq!((poller.get().text().as_str(), socket.next_of_all()), ("2", "2".into()));
    poller.expect_closed();
    socket.expect_closed();
    assert!(begun.elapsed() + TOLERANCE >= interval + timeout, "closed after {:?}", begun.elapsed());
    silent.expect_forgotten();
}

/// "Heartbeat": it is the answer to a ping that counts.
fn a_pong_that_nobody_asked_for_puts_nothing_off(example: &str) {
    let server = with_pings(example);
    let begun = Instant::now();
    let mut socket = PacketSocket::open(server.addr(), ECHO);
    let (interval, timeout) = heartbeat(socket.handshake());
    (0..5).for_each(|_| socket.say("3"));
    assert_eq!(socket.next_of_all(), "2".into());
    socket.expect_closed();
    assert!(begun.elapsed() + TOLERANCE >= interval + timeout, "closed after {:?}", begun.elapsed());
}

// Upgrade.

/// "Upgrade": a WebSocket with the session's identifier is probed with `2probe` and `3probe`, and takes over with `5`.
fn a_session_moves_to_a_websocket(example: &str) {
    let server = ProtocolServer::start(example);
    let session = Poller::open(server.addr(), ECHO);
    let mut socket = PacketSocket::instead_of(server.addr(), &session);
    check_echo(&mut socket);
    let bytes = Packet::from(&[1, 2, 3][..]);
    socket.send(std::slice::from_ref(&bytes));
    assert_eq!(socket.next(), bytes);
}

/// "Upgrade": the server answers a GET that waits with a noop packet.
fn a_poll_that_waits_is_answered_before_the_upgrade(example: &str) {
    let server = ProtocolServer::start(example);
    let session = Poller::open(server.addr(), ECHO);
    let mut held = session.hold();
    let mut socket = PacketSocket::beside(server.addr(), &session);
    socket.say("2probe");
    socket.expect("3probe");
    let answer = held.response();
    assert_eq!((answer.status, answer.text().as_str()), (200, "6"));
    socket.say("5");
    check_echo(&mut socket);
}

/// "Upgrade": it is so that no packet gets lost.
fn no_message_is_lost_or_repeated_by_the_upgrade(example: &str) {
    let server = ProtocolServer::start(example);
    let mut session = Poller::open(server.addr(), ECHO);
    let first = (0..20).map(|number| format!("4{number}"));
    first.for_each(|text| session.say(&text));
    let mut socket = PacketSocket::beside(server.addr(), &session);
    // Until the client says that it moves, it may poll as before.
    session.say("420");
    socket.say("2probe");
    socket.expect("3probe");
    session.say("421");
    socket.say("5");
    socket.say("422");
    (0..=22).for_each(|number| socket.expect(&format!("4{number}")));
    check_echo(&mut socket);
}

/// The document's own list of cases: requests of a session that has moved are refused, and leave it as it is.
fn a_session_that_has_moved_is_polled_no_more(example: &str) {
    let server = ProtocolServer::start(example);
    let session = Poller::open(server.addr(), ECHO);
    let mut socket = PacketSocket::instead_of(server.addr(), &session);
    check_echo(&mut socket);
    assert_eq!((session.get().status, session.post(b"4hello").status), (400, 400));
    check_echo(&mut socket);
}

/// "WebSocket": of several WebSockets of one session, the server closes those after the first.
fn a_session_has_one_websocket(example: &str) {
    let server = ProtocolServer::start(example);
    let session = Poller::open(server.addr(), ECHO);
    let mut socket = PacketSocket::beside(server.addr(), &session);
    PacketSocket::expect_refused(server.addr(), &session.upgrade_target());
    socket.say("2probe");
    socket.expect("3probe");
    PacketSocket::expect_refused(server.addr(), &session.upgrade_target());
    socket.say("5");
    check_echo(&mut socket);
    PacketSocket::expect_refused(server.addr(), &session.upgrade_target());
    check_echo(&mut socket);
}

/// "Upgrade": it is complete with the upgrade packet, not before.
fn a_probe_that_fails_leaves_the_session_as_it_was(example: &str) {
    let server = ProtocolServer::start(example);
    let mut session = Poller::open(server.addr(), ECHO);
    for wrong in ["2", "2other", "4hello", "3probe", "1", "abc"] {
        let mut socket = PacketSocket::beside(server.addr(), &session);
        socket.say(wrong);
        socket.expect_closed();
        check_echo(&mut session);
    }
    let mut socket = PacketSocket::beside(server.addr(), &session);
    socket.say("2probe");
    socket.expect("3probe");
    drop(socket);
    check_echo(&mut session);
    // The next one has the same chance, as soon as the end of the last one is known.
    let taken = poll_until(PATIENCE, || {
        let mut client = RawClient::connect(server.addr());
        client.send(&upgrade_request(&session.upgrade_target(), &[]));
        if client.response().status != 101 {
            return None;
        }
        client.send(&masked_frame(FINAL | TEXT, b"2probe"));
        client.frame().filter(|frame| frame.first == FINAL | TEXT)
    });
    assert_eq!(taken.map(|frame| frame.payload), Some(b"3probe".to_vec()));
}

/// "Heartbeat": it is the session's, whichever its transport.
fn the_heartbeat_goes_on_after_the_upgrade(example: &str) {
    let server = with_pings(example);
    let session = Poller::open(server.addr(), ECHO);
    let mut socket = PacketSocket::instead_of(server.addr(), &session);
    for _ in 0..2 {
        assert_eq!(socket.next_of_all(), "2".into());
        socket.say("3");
    }
    assert_eq!(socket.next_of_all(), "2".into());
    socket.expect_closed();
}

/// "Upgrade": the probe is mandatory. What becomes of a client that leaves it out is ours to say.
fn an_upgrade_is_probed_first(example: &str) {
    let server = ProtocolServer::start(example);
    if server.is_ours() {
        let mut session = Poller::open(server.addr(), ECHO);
        let mut socket = PacketSocket::beside(server.addr(), &session);
        socket.say("5");
        socket.expect_closed();
        check_echo(&mut session);
    }
}

fn with_heartbeat(example: &str, (ping_interval, ping_timeout): (Duration, Duration)) -> ProtocolServer {
    ProtocolServer::with_times(example, Times { ping_interval, ping_timeout, ..Times::default() })
}

/// The interval and the time-out that a handshake has.
fn heartbeat(handshake: &Value) -> (Duration, Duration) {
    let time = |name: &str| Duration::from_millis(handshake[name].as_u64().unwrap_or_else(|| panic!("no {name}: {handshake}")));
    (time("pingInterval"), time("pingTimeout"))
}

fn polled(server: &ProtocolServer, query: &str) -> Response {
    http("GET", server.addr(), &format!("{ECHO}{query}"), &[], b"")
}

/// The session is there, and gets its messages back.
fn check_echo(session: &mut dyn Session) {
    session.say("4are you there?");
    session.expect("4are you there?");
}
