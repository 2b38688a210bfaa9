//! Where fuzzing starts: inputs that go deep at once. `cargo run -p roomcast-fuzz --example seeds` writes them into the corpora,
//! and `cargo fuzz cmin` keeps what is worth keeping.

use std::io::Write as _;

use base64::Engine as _;
use base64::prelude::BASE64_STANDARD;
use flate2::Compression;
use flate2::write::GzEncoder;

use crate::batch::SEPARATOR;

/// All seeds, each with the name of its target.
pub fn all() -> impl Iterator<Item = (&'static str, Vec<u8>)> {
    let of = |target, seeds: Vec<Vec<u8>>| seeds.into_iter().map(move |seed| (target, seed));
    of("batch", batches())
        .chain(of("channel", HEARD.iter().map(|heard| heard.as_bytes().to_vec()).chain([PICKLE.to_vec()]).collect()))
        .chain(of("json_frame", FRAMES.iter().map(|frame| frame.as_bytes().to_vec()).collect()))
        .chain(of("ws_wire", streams()))
        .chain(of("handshake", heads()))
        .chain(of("http_wire", requests()))
        .chain(of("hub_ops", scripts()))
        .chain(of("engine_io", BODIES.iter().map(|body| body.as_bytes().to_vec()).collect()))
        .chain(of("socket_io", PACKETS.iter().map(|packet| packet.as_bytes().to_vec()).chain([deep()]).collect()))
}

const EVENT: &str = r#"{"event_id":"e-1","timestamp":"2025-10-06T01:00:00Z","workspace":{"id":"w-1","name":"x"},"file":{"path":"a/b.py","event_type":"modify"},"change":{"type":"diff","lines":[1,2.5e3,null,true]}}"#;

/// A channel, and what is published on it.
const HEARD: [&str; 15] = [
    "\n",
    r#"c
{"type":"t","data":1}"#,
    r#"websocket:broadcast
{"type":"task_updated","data":{"task_id":"t-1","changes":null},"project_id":"p-1","timestamp":"2025-08-07T12:32:56.123456789+07:00","message_id":"m-1","source":"worker"}"#,
    r#"websocket:broadcast
{"type":"direct","data":[1.50,null],"user_id":7,"timestamp":null,"message_id":"","position":"1.2.3"}"#,
    r#"task_updates
{"type": "task_update", "task_id": "12", "data": {"status": "failed", "error": null}, "timestamp": 1732154491.899989}"#,
    r#"general_updates
{"type": "general_update", "data": {"type": "task_created", "task_info": {}}, "timestamp": "2026-11-21T02:01:31.899989"}"#,
    r#"news:b-c:*x
{"type":"t","data":{"task":{"id":"a"}},"message_id":7}"#,
    r#"news:
{"ty\u0070e":"\ud800","id":-1.5e3,"message_id":"a\u002fb","room":"r"}"#,
    r#"c
{"type":"t","room":"a","room":"b"}"#,
    r#"c
{"type":"t","room":"\ud800","task_id":""}"#,
    r#"socketio
{"method": "emit", "event": "project.updated", "data": [{"type": "project.updated", "timestamp": "t", "data": {"x": null}, "source": "s"}], "binary": false, "namespace": "/ws", "room": "project:7", "skip_sid": null, "callback": null, "host_id": "h"}"#,
    r#"socketio
{"method": "emit", "event": "tick", "data": {"n": 1}, "namespace": "/", "room": null, "skip_sid": null, "callback": null, "host_id": "h"}"#,
    r#"socketio
{"method": "emit", "event": "tick", "data": ["a", {"b": 1}], "room": ["a", 7, "a", "7"]}"#,
    r#"socketio
{"method": "emit", "event": "tick", "data": [[{"_placeholder": true, "num": 0}], "AQI="], "binary": true}"#,
    r#"socketio
{"method": "close_room", "room": "a", "namespace": "/ws", "host_id": "h"}"#,
];

const PICKLE: &[u8] = b"socketio\n\x80\x04}\x94(\x8c\x06method\x94\x8c\x04emit\x94u.";

fn batches() -> Vec<Vec<u8>> {
    let batch = |events: &str| format!(r#"{{"batch_id":"b-1","batch_count":1,"timestamp":"t","events":[{events}]}}"#);
    let one = batch(EVENT);
    let mut plain = vec![
        String::new(),
        "  ".to_owned(),
        "nonsense".to_owned(),
        "[1]".to_owned(),
        batch(""),
        one.clone(),
        batch(&format!("{EVENT}, {EVENT} ,\n{EVENT}")),
        batch(&EVENT.replace(r#""w-1""#, "12")),
        batch(&EVENT.replace(r#""w-1""#, "-0.5")),
        batch(&EVENT.replace("w-1", r"w\u00e9\ud83d\ude00\n")),
        batch(&EVENT.replace("a/b.py", r"\ud800")),
        batch(&EVENT.replace("\"x\"", r#""\ud800""#)),
        batch(&EVENT.replace(r#""event_type""#, r#""path":"c","event_type""#)),
        batch(&EVENT.replace(r#""diff""#, &format!("{}{}", "[".repeat(70), "]".repeat(70)))),
        one.replace("batch_count", r"batch_\u0069d"),
        one.replace("\"t\"", r#"[[[[{"a":[]}]]]]"#),
        one.replace(',', " ,\r\n\t"),
        format!("{one}x"),
        one[..one.len() - 2].to_owned(),
    ];
    plain.extend(
        ["event_id", "timestamp", "workspace", "id", "file", "path", "event_type", "change", "type"]
            .map(|field| batch(&EVENT.replacen(&format!("\"{field}\""), "\"other\"", 1))),
    );
    let mut seeds: Vec<Vec<u8>> = plain.into_iter().map(String::into_bytes).collect();
    let zip = gzip(one.as_bytes());
    let wrapped: String =
        BASE64_STANDARD.encode(&zip).as_bytes().chunks(60).map(|line| format!("{}\n", String::from_utf8_lossy(line))).collect();
    seeds.extend([
        BASE64_STANDARD.encode(&zip).into_bytes(),
        wrapped.into_bytes(),
        [gzip(&one.as_bytes()[..40]), vec![0; 3], gzip(&one.as_bytes()[40..])].concat(),
        [&zip[..], b"more"].concat(),
        zip[..zip.len() - 4].to_vec(),
        [&zip[..3], b"\x1e", &zip[4..10], b"\x02\x00xxname\0comment\0cc", &zip[10..]].concat(),
        gzip(&vec![b' '; 300_000]),
        [one.as_bytes(), SEPARATOR, &zip, SEPARATOR, b"{}", SEPARATOR, b"\xff\xfe{"].concat(),
    ]);
    seeds
}

fn gzip(text: &[u8]) -> Vec<u8> {
    let mut encoder = GzEncoder::new(Vec::new(), Compression::best());
    encoder.write_all(text).and_then(|()| encoder.finish()).expect("writing to memory cannot fail")
}

const FRAMES: [&str; 24] = [
    "",
    "nonsense",
    r#"{"type":7}"#,
    r#"{"type":"ping"}"#,
    r#"{"type":"ping","message_id":"m-1","timestamp":"t"}"#,
    r#"{"type":"rooms","message_id":null}"#,
    r#"{"type":"dance","message_id":"m\u002d1"}"#,
    r#"{"type":"auth","data":{"token":"a.b.c"}}"#,
    r#"{"data":{"token":"\u0061"},"type":"auth_required"}"#,
    r#"{"type":"subscribe","room":"chat:1","message_id":"s"}"#,
    r#"{"type":"subscribe","room":7}"#,
    r#"{"type":"subscribe","task_id":12}"#,
    r#"{"type":"subscribe","task_id":"12","room":null}"#,
    r#"{"type":"unsubscribe","job_id":"é\n"}"#,
    r#"{"type":"unsubscribe","project_id":-1.5}"#,
    r#"{"type":"subscribe","workspace_id":"\ud83d\ude00","agent_id":""}"#,
    r#"{"type":"subscription","data":{"action":"subscribe","project_id":"p-1"}}"#,
    r#"{"type":"subscription","data":{"action":"unsubscribe","user_id":1}}"#,
    r#"{"type":"subscription","data":{"action":"jump","room":"r"}}"#,
    r#"{"type":"publish","data":{"room":"r","type":"t","data":{"b": 1.0,  "a":null}}}"#,
    r#"{"type":"publish","data":{"room":"r","type":"t","data":"\ud800"}}"#,
    r#"{"type":"publish","data":{"room":"r","type":"t","data":null},"data":{}}"#,
    r#"{"type":"publish","data":{"room":"r"}}"#,
    r#"{"type":"publish","data":[[[[[[[[[[[[]]]]]]]]]]]]}"#,
];

/// Bodies of polling clients.
const BODIES: [&str; 12] = [
    "",
    "4hello",
    "2probe\x1e3probe\x1e5",
    "1\x1e6\x1e0{}",
    "b\x1ebAQIDBA==\x1e4",
    "bAQIDBA",
    "bAQIDBB==",
    "b====",
    "4\u{e9}\x1e",
    "40/ws,{\"token\":\"t\"}\x1e42/ws,1[\"ping\",{}]\x1e3",
    "1x",
    "4\x1e4\x1e4\x1e4\x1e4\x1e4\x1e4\x1e4\x1e4\x1e4\x1e4\x1e4\x1e4\x1e4\x1e4\x1e4\x1e4\x1e4\x1e4\x1e4\x1e4",
];

/// Packets of Socket.IO, with the attachments that follow.
const PACKETS: [&str; 22] = [
    "0",
    "0/custom",
    r#"0/ws,{"token":"a,b"}"#,
    "0[]",
    "1/ws,",
    r#"4/ws,{"message":"no"}"#,
    r#"2["a"]"#,
    r#"2/ws,18446744073709551615["subscribe",{"room":"project:7"}]"#,
    r#"2[7, 1.50 , "x,]\"",{"b":[null,true]}]"#,
    r#"2["\u0061\ud800"]"#,
    r#"2["a","\ud800",1e999]"#,
    r#"2["conn\u0065ct"]"#,
    "2abc[\"a\"]",
    "2{}",
    r#"31[{"status":"success","rooms":[]}]"#,
    "3[]",
    r#"50-["a"]"#,
    "52-/ws,3[\"a\",{\"x\":[{\"_placeholder\":true,\"num\":1}]},{\"num\":0,\"_placeholder\":true}]\x1eone\x1etwo\x1elate",
    "61-7[{\"_placeholder\":true,\"num\":0}]\x1e",
    r#"51-["a",{"_\u0070laceholder":true,"num":1}]"#,
    r#"51-["a",{"_placeholder":true,"num":0,"num":1}]"#,
    r#"54-["a"]"#,
];

/// A packet that is nested as deep as it may be.
fn deep() -> Vec<u8> {
    format!("51-[0,{}{}]", "[".repeat(126), "]".repeat(126)).into_bytes()
}

fn streams() -> Vec<Vec<u8>> {
    let long = vec![b'x'; 200];
    let frames = [
        vec![frame(0x81, b"Hello")],
        vec![frame(0x81, "é€😀".as_bytes()), frame(0x82, b"\xff\0"), frame(0x89, b"?"), frame(0x8a, b"!")],
        vec![frame(0x01, b"\xe2\x82"), frame(0x89, b"beat"), frame(0x00, b"\xac"), frame(0x80, b"")],
        vec![frame(0x02, &long), frame(0x80, &long), frame(0x88, b"\x03\xe8bye"), frame(0x81, b"late")],
        vec![frame(0x82, &[&long[..]; 20].concat())],
        vec![frame(0x88, b"")],
        vec![frame(0x88, b"\x03\xed")],
        vec![frame(0x88, b"\x10\x01\xff")],
        vec![frame(0x81, b"\xed\xa0\x80")],
        vec![frame(0x01, b"\xc3"), frame(0x80, b"\x28")],
        vec![frame(0x80, b"of nothing")],
        vec![frame(0x01, b"a"), frame(0x81, b"b")],
        vec![frame(0x09, b"")],
        vec![frame(0x89, &long)],
        vec![frame(0xc1, b"reserved")],
        vec![frame(0x83, b"reserved")],
        vec![b"\x81\x05plain".to_vec()],
        vec![b"\x82\xff\x7f\xff\xff\xff\xff\xff\xff\xff\0\0\0\0".to_vec()],
        vec![b"\x89\xff\0\0\0\0\0\0\0\x03mask???".to_vec()],
    ];
    let mut seeds = Vec::new();
    for frames in frames {
        // A limit of 1,000 bytes and no end of interest; uncut, and cut at three places.
        seeds.push([&[0x03, 0xe8, 0, 0][..], &frames.concat()].concat());
        seeds.push([&[0x03, 0xe8, 2, 3, 0, 1, 0, 7, 0, 11][..], &frames.concat()].concat());
    }
    seeds
}

/// A client's frame, by its first byte.
fn frame(first: u8, payload: &[u8]) -> Vec<u8> {
    const MASK: [u8; 4] = [1, 2, 3, 4];
    let length = match payload.len() {
        short @ 0..126 => vec![0x80 | short as u8],
        medium => [&[0xfe][..], &(medium as u16).to_be_bytes()].concat(),
    };
    let masked = payload.iter().zip(MASK.iter().cycle()).map(|(byte, mask)| byte ^ mask);
    [&[first][..], &length, &MASK].concat().into_iter().chain(masked).collect()
}

fn heads() -> Vec<Vec<u8>> {
    let request = "GET /ws?token=x HTTP/1.1\r\nHost: a\r\nUpgrade: WebSocket\r\nConnection: keep-alive, Upgrade\r\n\
        Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\nSec-WebSocket-Protocol: chat, auth-x.y\r\n\r\n";
    let texts = [
        request.to_owned(),
        format!("\r\n{request}\u{1}frames"),
        request.replace("\r\n", "\n"),
        request.replace("13", "8"),
        request.replace("GET", "POST"),
        request.replace("Host", "X"),
        request.replace("WebSocket\r", "h2c\r"),
        request.replace("keep-alive, Upgrade", "close"),
        request.replace("==", "="),
        request.replace("1.1", "1.0"),
        request.replace("/ws", "http://a.example/ws"),
        request.replace("chat, auth-x.y", "/ws, ,\t\"odd\" , {x}"),
        request.replace("Host: a\r\n", "Host: a\r\n folded\r\n"),
        request.replace("Host: a", "Host: é\u{7f}"),
        request[..60].to_owned(),
        "GET / HTTP/1.1\r\n\r\n".to_owned(),
        "PRI * HTTP/2.0\r\n\r\n".to_owned(),
        "OPTIONS * HTTP/1.1\r\n\r\n".to_owned(),
        "\r\n\r\n\r".to_owned(),
        "\u{16}\u{3}\u{1}".to_owned(),
        format!("GET / HTTP/1.1\r\n{}\r\n", "A:b\r\n".repeat(65)),
        format!("GET /{} HTTP/1.1\r\n\r\n", "x".repeat(2000)),
    ];
    let cut = |text: &String| [&[3, 0, 1, 0, 40, 0, 200][..], text.as_bytes()].concat();
    texts.iter().flat_map(|text| [[&[0][..], text.as_bytes()].concat(), cut(text)]).collect()
}

/// Requests for plain HTTP, one or several on a connection.
fn requests() -> Vec<Vec<u8>> {
    let get = |fields: &str| format!("GET /a?b HTTP/1.1\r\nHost: a\r\n{fields}\r\n");
    let chunked = |chunks: &str| format!("{}{chunks}", get("Transfer-Encoding: chunked\r\n"));
    let old = |fields: &str| format!("HEAD / HTTP/1.0\r\n{fields}\r\n");
    let texts = [
        get(""),
        get("").repeat(3),
        get("Connection: close\r\n").repeat(2),
        get("Content-Length: 5\r\n") + "hello\r\n" + &get(""),
        get("Content-Length: 1048577\r\n"),
        get("Content-Length: 5\r\nContent-Length: 5\r\n"),
        get("Content-Length: +5\r\n") + "hello",
        get("Content-Length: 2\r\nExpect: 100-continue\r\n") + "hi",
        get("Expect: x\r\n"),
        chunked("5\r\nhello\r\n0\r\n\r\n") + &get(""),
        chunked("5;a=\"b\" ; c\r\nhello\r\n00A\r\n0123456789\r\n0\r\nX: y\r\nZ:\r\n\r\n"),
        chunked("5;\n\r\nhello\r\n0\r\n\r\n"),
        chunked("ffffffffffffffff\r\n"),
        chunked("0\r\nnot a field\r\n\r\n"),
        get("Transfer-Encoding: chunked\r\nContent-Length: 3\r\n") + "0\r\n\r\n",
        get("Transfer-Encoding: gzip, chunked\r\n"),
        get("Upgrade: websocket\r\n") + "frames",
        get("") + &get("Upgrade: h2c, WebSocket\r\n"),
        old("Connection: keep-alive\r\n").repeat(2),
        old("Host: a\r\nHost: b\r\n"),
        old("").replace("\r\n", "\n"),
        get("").replace("Host: a", "Host: a@[b]:c"),
        "PUT http://a/b HTTP/1.1\r\n\r\n".to_owned(),
    ];
    let cut = |text: &String| [&[7, 3, 0, 1, 0, 40, 0, 80][..], text.as_bytes()].concat();
    texts.iter().flat_map(|text| [[&[0, 0][..], text.as_bytes()].concat(), cut(text)]).collect()
}

/// Sequences of operations, as `hub_ops` reads them.
fn scripts() -> Vec<Vec<u8>> {
    let open = |path: u8, token: u8, how: u8| vec![0, path, token, how, 1];
    let (anyone, user, admin, echo) = (open(2, 0, 0), open(0, 0, 1), open(0, 4, 2), open(4, 0, 0));
    // Of the clients by age, the first to the third.
    let say = |who: u8, frame: &[u8]| [&[3, who * 8][..], frame].concat();
    let (settle, flush, deadline) = (vec![19], vec![16], vec![30]);
    let join = |who, room: u8| say(who, &[4, room]);
    let publish = |who, room: u8, size: u8| say(who, &[11, room, size]);
    let pass = |span: u8| vec![27, span];
    let takes = |choice: u8| vec![17, choice];
    let good_entry = vec![26, 3, 0, 2, 0, 1];
    // Of clients that poll: Socket.IO, or an echo. What is said is one packet.
    let (sockets, echoes) = (0, 2);
    let handshake = |path: u8| vec![32, 0, path, 5, 0, 3, 19];
    let poll = |path: u8| vec![32, 0, path, 6, 0, 3, 19];
    let post = |path: u8, packet: &[u8]| [&[32, 0, path, 6, 3, 0][..], packet, &[3, 19]].concat();
    let script = |steps: &[&[u8]]| [&[7][..], &steps.concat()].concat();
    vec![
        script(&[&anyone, &user, &admin, &settle, &join(0, 0), &join(1, 0), &settle, &publish(1, 0, 3), &settle, &flush]),
        script(&[&user, &settle, &say(0, &[1, 1]), &say(0, &[1, 2]), &settle, &pass(8), &flush]),
        script(&[&open(0, 0, 0), &say(0, &[13]), &say(0, &[1, 0]), &settle, &open(0, 5, 3), &open(0, 9, 1), &flush, &deadline]),
        script(&[&open(0, 1, 1), &settle, &pass(5), &flush, &say(0, &[1, 0]), &pass(6), &pass(7), &flush]),
        script(&[&open(0, 3, 1), &join(0, 2), &settle, &pass(5), &pass(5), &flush, &[11, 0, 1], &settle]),
        script(&[
            &echo,
            &say(0, &[15, 4, b'e', b'c', b'h', b'o']),
            &[9, 0, 0, 3, 1, 2, 3],
            &[14, 0, 20],
            &[9, 0, 1, 2, 7, 7],
            &flush,
        ]),
        script(&[
            &takes(0),
            &admin,
            &anyone,
            &join(1, 0),
            &settle,
            &[31, 2, 0, 255].repeat(6),
            &settle,
            &[14, 8, 40],
            &settle,
            &flush,
        ]),
        script(&[&anyone, &say(0, &[14, 1]).repeat(7), &flush, &deadline, &settle]),
        script(&[&anyone, &say(0, &[0]).repeat(70), &flush]),
        script(&[&anyone, &join(0, 0), &[18, 24, 0, 24, 0, 24, 0], &deadline.repeat(4), &settle, &flush]),
        script(&[&anyone, &join(0, 0), &[18], &[22, 0, 23, 0].repeat(4), &[23, 1], &join(0, 1), &[25, 0, 9], &settle, &flush]),
        script(&[
            &admin,
            &settle,
            &join(0, 7),
            &settle,
            &good_entry,
            &settle,
            &flush,
            &[26, 3, 2, 4, b'o', b'd', b'd', b'!'],
            &settle,
        ]),
        script(&[&admin, &settle, &join(0, 8), &settle, &good_entry, &[18], &[24, 0], &[26, 0], &deadline.repeat(3), &settle]),
        script(&[&anyone, &user, &[31, 0], &settle, &flush, &[11, 0, 1], &deadline, &settle, &anyone]),
        script(&[&anyone, &[13, 0, 0], &anyone, &join(0, 0), &[13, 7, 0], &[15, 7], &[12, 7, 1, 0], &settle]),
        script(&[&anyone, &[12, 0, 1, 1], &[14, 0, 3], &[12, 0, 1, 1], &settle]),
        script(&[&user, &[29, 0, 5], &say(0, &[0]), &pass(6), &[29, 1, 0, 9], &[29, 2], &deadline, &flush]),
        script(&[
            &[31, 1, 1],
            &open(4, 0, 4),
            &open(2, 0, 4),
            &anyone.repeat(6),
            &join(0, 0),
            &join(0, 1),
            &join(0, 6),
            &join(0, 7),
        ]),
        script(&[&user, &settle, &join(0, 8), &settle, &say(0, &[1, 1]), &settle, &[31, 2, 8, 1], &settle]),
        script(&[
            &user,
            &join(0, 6),
            &join(0, 8),
            &settle,
            &takes(1),
            &[31, 2, 6, 200].repeat(9),
            &settle,
            &[14, 0, 90],
            &settle,
        ]),
        script(&[&open(0, 0, 0), &anyone, &[31, 2, 9, 1], &settle]),
        script(&[&anyone, &join(0, 0), &say(0, &[9, 0]), &join(0, 0), &settle, &say(0, &[9, 0]), &settle, &flush]),
        script(&[&handshake(echoes), &post(echoes, &[9, 1]), &poll(echoes), &poll(echoes), &post(echoes, &[9, 2]), &deadline]),
        script(&[
            &handshake(echoes),
            &poll(echoes),
            &poll(echoes),
            &poll(echoes),
            &handshake(echoes),
            &poll(echoes),
            &[35, 0],
            &settle,
        ]),
        script(&[
            &handshake(sockets),
            &post(sockets, &[3, 0]),
            &post(sockets, &[7, 0]),
            &poll(sockets),
            &poll(sockets),
            &[31, 2, 0, 9],
            &settle,
            &flush,
            &settle,
            &post(sockets, &[11, 1]),
            &post(sockets, &[12]),
            &poll(sockets),
            &pass(5),
            &deadline,
        ]),
        script(&[
            &handshake(sockets),
            &post(sockets, &[3, 5]),
            &poll(sockets),
            &post(sockets, &[10, 7]),
            &deadline.repeat(3),
            &settle,
        ]),
    ]
}
