use proptest::collection::vec;
use proptest::prelude::*;
use proptest::sample::Index;

use super::*;

/// Input that gets far: good requests, and parts that make them doubtful.
fn streams() -> impl Strategy<Value = Vec<u8>> {
    let whole = prop_oneof![
        Just(get("")),
        Just(get("Content-Length: 3\r\n") + "abc"),
        Just(get("Expect: 100-continue\r\nContent-Length: 3\r\n") + "abc"),
        Just(chunked("2;x=\"y\"\r\nab\r\n1\r\nc\r\n0\r\nX: y\r\n\r\n")),
        Just("HEAD /x HTTP/1.0\nConnection: keep-alive\n\n".to_owned()),
    ];
    let part = prop_oneof![
        Just(get("Connection: close\r\n")),
        Just(get("Upgrade: websocket\r\n")),
        Just("PUT /a HTTP/1.1\r\n".to_owned()),
        Just("Host: a\r\n".to_owned()),
        Just("Content-Length: 12\r\n".to_owned()),
        Just("Transfer-Encoding: chunked\r\n".to_owned()),
        Just("Expect: 100-continue\r\n".to_owned()),
        Just("\r\n".to_owned()),
        "[0-9a-f]{0,2}(;[a-z]{0,3})?\r?\n[a-z]{0,9}(\r\n)?",
        ".{0,20}",
    ];
    let damage = prop_oneof![3 => Just(None), 1 => any::<(Index, u8)>().prop_map(Some)];
    (vec(prop_oneof![2 => whole, 3 => part], 1..8), damage).prop_map(|(parts, damage)| {
        let mut bytes = parts.concat().into_bytes();
        if let Some((at, byte)) = damage
            && !bytes.is_empty()
        {
            let at = at.index(bytes.len());
            bytes[at] = byte;
        }
        bytes
    })
}

/// Everything that shows of a connection: what it writes, what it gives away, and whether it ends.
fn shown<'a>(pieces: impl Iterator<Item = &'a [u8]>) -> (String, Option<(String, Vec<u8>)>, bool) {
    let (mut http, mut wire, mut given) = (Http::new(Vec::new()), String::new(), None::<(String, Vec<u8>)>);
    // The line breaks make it judge garbage that it would have looked at later.
    for piece in pieces.chain([&b"\n\n"[..]]) {
        if let Some((_, rest)) = &mut given {
            rest.extend(piece);
        } else {
            http.feed(piece);
            given = serve(&mut http, &mut wire);
        }
    }
    // Only who has not sent anything of the body yet is told to continue.
    (wire.replace("HTTP/1.1 100 Continue\r\n\r\n", ""), given, http.is_over())
}

#[derive(Clone, Debug)]
enum Op {
    Feed(Vec<u8>),
    Next,
    Respond(u16),
    Written(usize),
    Ended,
    Expire,
}

fn ops() -> impl Strategy<Value = Op> {
    prop_oneof![
        4 => prop_oneof![streams(), vec(any::<u8>(), 0..50)].prop_map(Op::Feed),
        4 => Just(Op::Next),
        2 => (100..1000u16).prop_map(Op::Respond),
        3 => prop_oneof![0..300usize, Just(usize::MAX)].prop_map(Op::Written),
        1 => Just(Op::Ended),
        1 => Just(Op::Expire),
    ]
}

proptest! {
    #[test]
    fn pieces_change_nothing(bytes in streams(), piece in 1..60usize, cut: Index) {
        let whole = shown([&bytes[..]].into_iter());
        prop_assert_eq!(&shown(bytes.chunks(piece)), &whole);
        prop_assert_eq!(&shown(bytes.chunks(1)), &whole);
        let (left, right) = bytes.split_at(cut.index(bytes.len() + 1));
        prop_assert_eq!(&shown([left, right].into_iter()), &whole);
    }

    #[test]
    fn any_calls_in_any_order_are_survived(ops in vec(ops(), 0..30)) {
        let mut http = Http::new(Vec::new());
        let (mut unanswered, mut fed, mut over, mut done) = (false, 0, false, false);
        for op in ops {
            match op {
                Op::Feed(bytes) => {
                    fed += bytes.len();
                    http.feed(&bytes);
                }
                Op::Next => match http.next(UNIX) {
                    Event::Wait => {}
                    Event::Request(_) => {
                        prop_assert!(!unanswered && !over, "one at a time, and none after the last");
                        unanswered = true;
                    }
                    Event::Upgrade(..) => prop_assert!(http.output().is_empty()),
                },
                Op::Respond(status) => {
                    let response = Response::builder().status(status).header("connection", "x").body(Bytes::from_static(b"b"));
                    http.respond(UNIX, response.unwrap());
                    unanswered = false;
                }
                Op::Written(bytes) => http.written(bytes),
                Op::Ended => http.ended(),
                Op::Expire => http.expire(UNIX),
            }
            http.deadline(Time::ZERO);
            prop_assert!(held(&http) <= fed);
            prop_assert!(http.is_over() >= over && http.is_done() >= done, "there is no way back");
            (over, done) = (http.is_over(), http.is_done());
            prop_assert!(over || !done);
            prop_assert!(!http.wants_input() || http.output().is_empty() && !done);
        }
    }
}
