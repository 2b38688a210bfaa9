use std::sync::Arc;

use bytes::Bytes;
use http::Request;

use super::*;
use crate::config::{AuthMode, Config, Route};
use crate::frame::Message;
use crate::hub::CloseCause;
use crate::hub::HubAction;
use crate::id::ShardId;

const NOW: Time = Time::from_micros(5_000_000);

/// A hub, and a client that polls or has a WebSocket.
struct Bench {
    hub: Hub,
    exchanges: u64,
}

impl Bench {
    fn new() -> Bench {
        let plain = |path: &str, dialect| Route { dialect, ..Route::json(path, AuthMode::Ignored) };
        let routes = vec![plain("/engine.io/", DialectName::EngineEcho), plain("/socket.io/", DialectName::SocketIo)];
        let mut config = Config { routes, ..Config::default() };
        config.socketio.greeting = false;
        (config.limits.messages_per_second, config.limits.burst) = (1000, 1000);
        Bench { hub: Hub::new(Arc::new(config), ShardId(3), [9; 32]).unwrap(), exchanges: 0 }
    }

    /// A request, and its answer where it is there: status and body.
    fn send(&mut self, method: &str, uri: &str, body: &str) -> (ExchangeId, Option<(u16, String)>) {
        self.exchanges += 1;
        let exchange = ExchangeId(self.exchanges);
        let request = Request::builder().method(method).uri(uri).body(Bytes::copy_from_slice(body.as_bytes())).unwrap();
        self.hub.exchange(NOW, exchange, &request, |_| Ok(()));
        (exchange, self.answers().into_iter().find(|(id, ..)| *id == exchange).map(|(_, status, body)| (status, body)))
    }

    fn answers(&mut self) -> Vec<(ExchangeId, u16, String)> {
        assert_eq!(self.hub.poll_flush(), None, "nobody has a socket");
        let actions = std::iter::from_fn(|| self.hub.poll_action());
        let answers = actions.filter_map(|action| match action {
            HubAction::Respond(id, answer) => {
                let response = answer.into_response();
                Some((id, response.status().as_u16(), String::from_utf8(response.body().to_vec()).unwrap()))
            }
            _ => None,
        });
        answers.collect()
    }

    /// A session that polls; its sid.
    fn session(&mut self, path: &str) -> String {
        let (_, answer) = self.send("GET", &format!("{path}?EIO=4&transport=polling"), "");
        let (status, body) = answer.unwrap();
        assert_eq!(status, 200);
        body.split('"').nth(3).unwrap().to_owned()
    }

    fn open(&mut self, uri: &str) -> Result<ConnId, Refused> {
        self.hub.open(NOW, &Request::get(uri).body(()).unwrap()).map(|opened| opened.conn)
    }

    /// What a WebSocket has been sent since.
    fn frames(&mut self, id: ConnId) -> Vec<String> {
        let Some(outbox) = self.hub.outbox(id) else { return Vec::new() };
        let texts = outbox.frames().flat_map(|frame| frame.payloads()).map(|text| String::from_utf8_lossy(text).into_owned());
        let (texts, bytes) = (texts.collect(), outbox.bytes());
        self.hub.written(id, bytes);
        texts
    }
}

const ENGINE: &str = "/engine.io/";
const SOCKET: &str = "/socket.io/";

fn uri(path: &str, sid: &str) -> String {
    format!("{path}?EIO=4&transport=polling&sid={sid}")
}

#[test]
fn what_is_sent_answers_the_poll_that_waits() {
    let mut bench = Bench::new();
    let sid = bench.session(ENGINE);
    let uri = uri(ENGINE, &sid);
    let (held, _) = bench.send("GET", &uri, "");
    let post = Request::post(&uri).body(Bytes::from_static(b"4hello\x1ebAQID")).unwrap();
    bench.hub.exchange(NOW, ExchangeId(99), &post, |_| Ok(()));
    let answers = bench.answers();
    assert!(answers.contains(&(ExchangeId(99), 200, "ok".into())), "{answers:?}");
    assert!(answers.contains(&(held, 200, "4hello\x1ebAQID".into())), "{answers:?}");
}

#[test]
fn a_second_poll_ends_the_session() {
    let mut bench = Bench::new();
    let sid = bench.session(ENGINE);
    let uri = uri(ENGINE, &sid);
    let (first, _) = bench.send("GET", &uri, "");
    let second = ExchangeId(50);
    bench.hub.exchange(NOW, second, &Request::get(&uri).body(Bytes::new()).unwrap(), |_| Ok(()));
    let answers = bench.answers();
    assert_eq!(answers[0], (first, 200, "1".into()));
    assert_eq!((answers[1].0, answers[1].1), (second, 400));
    assert_eq!(bench.send("GET", &uri, "").1.unwrap(), (400, r#"{"code":1,"message":"Session ID unknown"}"#.into()));
}

#[test]
fn a_session_that_the_server_ends_is_told_all_that_waits_and_then_unknown() {
    let unknown = (400, r#"{"code":1,"message":"Session ID unknown"}"#.into());
    let mut bench = Bench::new();
    let uris = [(); 2].map(|()| uri(ENGINE, &bench.session(ENGINE)));
    bench.send("POST", &uris[0], "4last");
    let (held, _) = bench.send("GET", &uris[1], "");
    bench.hub.close_all(NOW, 4001, "token expired");
    let (status, body) = unknown.clone();
    assert_eq!(bench.answers(), [(held, status, body)]);
    assert_eq!(bench.send("GET", &uris[0], "").1.unwrap(), (200, "4last".into()));
    uris.iter().for_each(|uri| assert_eq!(bench.send("GET", uri, "").1.unwrap(), unknown));
    assert_eq!(bench.hub.stats().connections, 0);
}

#[test]
fn a_websocket_takes_over_with_what_waits() {
    let mut bench = Bench::new();
    let sid = bench.session(SOCKET);
    let uri = uri(SOCKET, &sid);
    let ws = format!("{SOCKET}?EIO=4&transport=websocket&sid={sid}");
    let (held, _) = bench.send("GET", &uri, "");
    let probe = bench.open(&ws).unwrap();
    assert!(bench.open(&ws).is_err(), "one at a time");
    bench.hub.receive(NOW, probe, Message::Text("2probe"));
    assert_eq!(bench.frames(probe), ["3probe"]);
    let answers: Vec<_> = std::iter::from_fn(|| bench.hub.poll_action()).collect();
    assert!(answers.contains(&HubAction::Respond(held, PollAnswer::text("6"))), "{answers:?}");
    let post = Request::post(&uri).body(Bytes::from_static(b"40")).unwrap();
    bench.hub.exchange(NOW, ExchangeId(99), &post, |_| Ok(()));
    bench.hub.receive(NOW, probe, Message::Text("5"));
    let frames = bench.frames(probe);
    assert!(frames.len() == 1 && frames[0].starts_with("40{\"sid\":\""), "{frames:?}");
    bench.hub.receive(NOW, probe, Message::Text(r#"421["ping"]"#));
    assert_eq!(bench.frames(probe), [r#"431[{"status":"pong"}]"#]);
    assert_eq!(bench.hub.stats().connections, 1);
    let _ = bench.hub.poll_flush();
    assert_eq!(bench.send("GET", &uri, "").1.unwrap().0, 400, "it polls no more");
    bench.hub.closed(NOW, probe, CloseCause::Gone);
    assert_eq!((bench.hub.stats().connections, bench.hub.conns.len()), (0, 0));
}

#[test]
fn a_session_of_another_node_is_told_apart_from_one_that_has_ended() {
    let mut bench = Bench::new();
    let sid = bench.session(SOCKET);
    let request = Request::get(uri(SOCKET, &sid)).body(()).unwrap();
    assert_eq!(session_shard(&request), Some(ShardId(3)));
    let mut other = Bench::new();
    let config = Config { node: "other".into(), ..(*other.hub.config).clone() };
    other.hub = Hub::new(Arc::new(config), ShardId(3), [9; 32]).unwrap();
    let (status, body) = other.send("GET", &uri(SOCKET, &sid), "").1.unwrap();
    assert!(status == 400 && body.contains("another node"), "{body}");
}

/// A WebSocket of its own, connected to the first namespace.
fn websocket(bench: &mut Bench) -> ConnId {
    let id = bench.open("/socket.io/?EIO=4&transport=websocket").unwrap();
    bench.hub.receive(NOW, id, Message::Text("40"));
    assert_eq!(bench.frames(id).len(), 2, "the handshake and the namespace");
    id
}

#[test]
fn the_host_hears_its_clients_and_is_acknowledged() {
    use crate::hub::{AckId, Arguments, ClientEvent, NoAck};
    use core::time::Duration;

    let mut bench = Bench::new();
    bench.hub.set_hosted(true);
    let id = websocket(&mut bench);
    let client = |event| match event {
        HubAction::Client(event) => Some(event),
        _ => None,
    };
    let events = |bench: &mut Bench| std::iter::from_fn(|| bench.hub.poll_action()).filter_map(client).collect::<Vec<_>>();
    let [ClientEvent::Connected { conn, .. }] = events(&mut bench)[..] else { panic!() };

    bench.hub.receive(NOW, id, Message::Text(r#"451-7["up", {"_placeholder":true,"num":0}]"#));
    bench.hub.receive(NOW, id, Message::Binary(&[1, 2]));
    let args = Arguments::new(&[serde_json::json!({"_placeholder": true, "num": 0})]).unwrap();
    let args = args.with_attachments(vec![Bytes::from_static(&[1, 2])]).unwrap();
    let said = ClientEvent::Said { conn, event: "up".into(), args: args.clone(), ack: Some(7) };
    assert_eq!(events(&mut bench), [said]);
    bench.hub.acknowledge(NOW, conn, 7, &args);
    assert_eq!(bench.frames(id), [r#"461-7[{"_placeholder":true,"num":0}]"#, "\u{1}\u{2}"]);

    let hello = Arguments::new(&("hello",)).unwrap();
    let results = |bench: &mut Bench| {
        let acked = |action| match action {
            HubAction::Acked(ack, result) => Some((ack, result.map(|args| args.as_str().to_owned()))),
            _ => None,
        };
        std::iter::from_fn(|| bench.hub.poll_action()).filter_map(acked).collect::<Vec<_>>()
    };
    for ack in 1..=3 {
        bench.hub.emit_with_ack(NOW, conn, "ask", &hello, Duration::from_secs(ack), AckId(ack));
    }
    assert_eq!(bench.frames(id)[1], r#"422["ask","hello"]"#);
    bench.hub.receive(NOW, id, Message::Text("432[5]"));
    assert_eq!(results(&mut bench), [(AckId(2), Ok("[5]".into()))]);
    bench.hub.tick(NOW + Duration::from_secs(1));
    assert_eq!(results(&mut bench), [(AckId(1), Err(NoAck::Late))]);
    bench.hub.receive(NOW, id, Message::Text("41"));
    assert_eq!(results(&mut bench), [(AckId(3), Err(NoAck::Gone))]);
    bench.hub.emit(NOW, conn, "late", &hello);
    assert_eq!(bench.frames(id), [""; 0]);
}

#[test]
fn the_clients_in_a_room_are_asked_together() {
    use crate::door::{Ask, Tell};
    use crate::hub::Arguments;
    use crate::survey::{Question, Survey};
    use core::time::Duration;

    let mut bench = Bench::new();
    let clients = [websocket(&mut bench), websocket(&mut bench)];
    for id in clients {
        bench.hub.receive(NOW, id, Message::Text(r#"42["subscribe",{"room":"task:1"}]"#));
    }
    let joins: Vec<(_, u64)> = std::iter::from_fn(|| bench.hub.poll_action())
        .filter_map(|action| if let HubAction::Ask(Ask::Join { room, join }) = action { Some((room, join)) } else { None })
        .collect();
    for (room, join) in joins {
        bench.hub.tell(NOW, Tell::Joined { room, join, position: None });
    }
    clients.iter().for_each(|id| drop(bench.frames(*id)));
    let question = Question::acks("task:1", "ask", &Arguments::new(&(1,)).unwrap(), Duration::from_secs(2));
    bench.hub.tell(NOW, Tell::Survey { number: 4, question });
    assert_eq!(clients.map(|id| bench.frames(id)), [[r#"421["ask",1]"#], [r#"422["ask",1]"#]]);
    bench.hub.receive(NOW, clients[0], Message::Text("431[\"yes\"]"));
    let surveyed =
        |bench: &mut Bench| std::iter::from_fn(|| bench.hub.poll_action()).find(|action| matches!(action, HubAction::Ask(_)));
    assert_eq!(surveyed(&mut bench), None);
    bench.hub.tick(NOW + Duration::from_secs(2));
    let survey = Survey::Acks { clients: 2, answers: vec![r#"["yes"]"#.into()] };
    assert_eq!(surveyed(&mut bench), Some(HubAction::Ask(Ask::Surveyed { number: 4, survey })));
}

#[test]
fn a_session_that_reads_too_slowly_is_closed_once_however_many_namespaces_it_has() {
    use crate::door::Tell;
    use crate::message::EVERYBODY;

    let mut bench = Bench::new();
    let mut config = (*bench.hub.config).clone();
    (config.limits.outbox_messages, config.limits.outbox_bytes) = (10, 10_000);
    bench.hub = Hub::new(Arc::new(config), ShardId(3), [9; 32]).unwrap();
    let id = websocket(&mut bench);
    bench.hub.receive(NOW, id, Message::Text("40/ws,"));
    for _ in 0..8 {
        let payloads = vec![Bytes::from_static(b"{\"type\":\"x\",\"data\":1}")];
        bench.hub.tell(NOW, Tell::Messages { room: EVERYBODY.into(), payloads, positions: Vec::new() });
    }
    let outbox = bench.hub.outbox(id).unwrap();
    assert_eq!(outbox.frames().map(|frame| frame.kind()).collect::<Vec<_>>(), [crate::frame::FrameKind::Close]);
    assert_eq!(bench.hub.stats().slow, 1);
}

#[test]
fn tokens_are_not_looked_at_where_they_are_ignored() {
    let mut bench = Bench::new();
    let id = websocket(&mut bench);
    bench.hub.receive(NOW, id, Message::Text(r#"421["auth",{"token":"x"}]"#));
    let told = bench.frames(id);
    assert!(told.len() == 1 && told[0].starts_with(r#"431[{"status":"error","code":"unsupported_message""#), "{told:?}");
}

#[test]
fn binary_data_belong_to_events_of_the_host_alone() {
    let mut bench = Bench::new();
    let id = websocket(&mut bench);
    bench.hub.receive(NOW, id, Message::Text(r#"451-1["ping",{"_placeholder":true,"num":0}]"#));
    bench.hub.receive(NOW, id, Message::Binary(b"x"));
    let told = bench.frames(id);
    assert!(told.len() == 1 && told[0].contains("Binary data cannot be sent with this"), "{told:?}");
}

#[test]
fn an_answer_that_nobody_took_ends_the_session() {
    let mut bench = Bench::new();
    let sid = bench.session(ENGINE);
    let uri = uri(ENGINE, &sid);
    let (held, _) = bench.send("GET", &uri, "");
    let post = Request::post(&uri).body(Bytes::from_static(b"4hello")).unwrap();
    bench.hub.exchange(NOW, ExchangeId(99), &post, |_| Ok(()));
    assert_eq!(bench.answers().len(), 2);
    bench.hub.abandon(NOW, held);
    assert_eq!((bench.hub.stats().connections, bench.send("GET", &uri, "").1.unwrap().0), (0, 400));
    assert!(bench.hub.held.is_empty() && bench.hub.sids.is_empty());
}

#[test]
fn what_a_client_shows_is_not_shown_to_logs() {
    let mut bench = Bench::new();
    bench.hub.set_hosted(true);
    let id = bench.open("/socket.io/?EIO=4&transport=websocket&token=hunter2").unwrap();
    bench.hub.receive(NOW, id, Message::Text(r#"40{"token":"hunter2"}"#));
    let shown = format!("{:?}", std::iter::from_fn(|| bench.hub.poll_action()).collect::<Vec<_>>());
    assert!(shown.contains("Connected") && !shown.contains("hunter2"), "{shown}");
    bench.hub.written(id, usize::MAX);
    let _ = bench.hub.poll_flush();
    let sid = bench.session(SOCKET);
    let shown = format!("{:?}", bench.hub);
    assert!(shown.contains("Engine") && !shown.contains("hunter2") && !shown.contains(&sid), "{shown}");
}
