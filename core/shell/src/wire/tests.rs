//! Both ways through the bytes, against each other and against plain tungstenite.

use proptest::collection::vec;
use proptest::option::weighted;
use proptest::prelude::*;
use proptest::sample::Index;
use roomcast_core::frame::Frame;
use tungstenite::Message as Theirs;

use super::*;

const MASK: [u8; 4] = [0x37, 0xfa, 0x21, 0x3d];
const LIMIT: Limit = Limit { bytes: 600, fragments: 64 };

/// The messages of some chunks, printed, and how they end.
fn run<'a>(chunks: impl IntoIterator<Item = &'a [u8]>, limit: Limit) -> (Vec<String>, Result<(), WireError>) {
    let (mut wire, mut heard, mut result) = (Wire::new(), Vec::new(), Ok(()));
    for chunk in chunks {
        result = wire.feed(&mut chunk.to_vec(), limit, &mut |message| {
            heard.push(format!("{message:?}"));
            ControlFlow::Continue(())
        });
    }
    (heard, result)
}

/// Both ways through the file: at once, and byte by byte.
fn both(bytes: &[u8]) -> (Vec<String>, Result<(), WireError>) {
    let whole = run([bytes], LIMIT);
    assert_eq!(run(bytes.chunks(1), LIMIT), whole);
    whole
}

/// What a client would send for a frame of the core: the same, masked.
fn masked(frame: &Frame, mask: [u8; 4]) -> Vec<u8> {
    let (header, payload) = frame.wire().split_at(frame.len() - frame.payload().len());
    let mut bytes = [header, &mask].concat();
    bytes[1] |= 0x80;
    bytes.extend(payload.iter().zip(mask.iter().cycle()).map(|(byte, mask)| byte ^ mask));
    bytes
}

/// Any frame of a client, by its first byte.
fn frame(first: u8, payload: &[u8]) -> Vec<u8> {
    let mut bytes = masked(&Frame::binary(payload), MASK);
    bytes[0] = first;
    bytes
}

#[test]
fn an_idle_wire_holds_nothing() {
    assert!(size_of::<Wire>() <= 24);
    let mut wire = Wire::new();
    let mut bytes = [frame(0x81, b"whole"), frame(0x01, b"in "), frame(0x80, b"two")].concat();
    let (first, last) = bytes.split_at_mut(12);
    wire.feed(first, LIMIT, &mut |_| ControlFlow::Continue(())).unwrap();
    assert!(matches!(wire.state, State::Within(_)));
    wire.feed(last, LIMIT, &mut |_| ControlFlow::Continue(())).unwrap();
    assert!(matches!(wire.state, State::Between));
}

#[test]
fn frames_may_be_unusual_and_legal() {
    let bytes = [frame(0x01, b"a"), frame(0x89, b"?"), frame(0x00, b""), frame(0x8a, b"!"), frame(0x80, b"b")];
    assert_eq!(both(&bytes.concat()).0, ["Ping([63])", "Pong", "Text(\"ab\")"]);
    let longest = [&[0x89, 0xff, 0, 0, 0, 0, 0, 0, 0, 125], &frame(0x89, &[7; 125])[2..]].concat();
    assert_eq!(both(&longest), (vec![format!("Ping({:?})", [7; 125])], Ok(())));
}

#[test]
fn a_fault_is_told_as_soon_as_the_header_is_there() {
    let announced = |first: u8, second: u8, length: &[u8]| [&[first, second], length, &MASK].concat();
    let faults = [
        (announced(0x82, 0xff, &u64::MAX.to_be_bytes()), WireError::TooLarge),
        (announced(0x81, 0xfe, &601u16.to_be_bytes()), WireError::TooLarge),
        ([frame(0x02, &[0; 300]), frame(0x00, &[0; 300]), announced(0x00, 0x81, b"")].concat(), WireError::TooLarge),
        (announced(0x89, 0xfe, &126u16.to_be_bytes()), WireError::Protocol),
        (vec![0x81, 0x05], WireError::Protocol),
        ([frame(0x01, b"a"), announced(0x81, 0x85, b"")].concat(), WireError::Protocol),
        ([frame(0x01, b"\xc3"), frame(0x00, b"\xa9"), frame(0x00, b"\xff")].concat(), WireError::Utf8),
        (frame(0x81, b"\xed\xa0\x80"), WireError::Utf8),
    ];
    for (bytes, error) in faults {
        assert_eq!(both(&bytes).1, Err(error), "{bytes:x?}");
    }
    for first in [0xc1, 0xa1, 0x91, 0x83, 0x80, 0x09, 0x8b] {
        assert_eq!(both(&announced(first, 0x85, b"")), (vec![], Err(WireError::Protocol)), "{first:x}");
    }
    assert_eq!(both(&frame(0x82, &[0; LIMIT.bytes])).1, Ok(()));
    assert_eq!(
        run([&announced(0x82, 0xff, &(1u64 << 62).to_be_bytes())[..]], Limit { bytes: usize::MAX, ..LIMIT }).1,
        Err(WireError::TooLarge)
    );
}

#[test]
fn closes_are_legal_or_errors() {
    for code in [1000, 1001, 1002, 1003, 1007, 1011, 1013, 3000, 4001, 4999] {
        let bytes = frame(0x88, &[&u16::to_be_bytes(code)[..], "später".as_bytes()].concat());
        assert_eq!(both(&bytes), (vec![format!("Close(Some({code}))")], Ok(())));
    }
    for code in [0, 999, 1004, 1005, 1006, 1014, 1015, 1016, 2999, 5000, 65535] {
        assert_eq!(both(&frame(0x88, &u16::to_be_bytes(code))), (vec![], Err(WireError::Protocol)));
    }
    assert_eq!(both(&frame(0x88, b"")), (vec!["Close(None)".to_owned()], Ok(())));
    assert_eq!(both(&frame(0x88, b"\x03")).1, Err(WireError::Protocol));
    assert_eq!(both(&frame(0x88, b"\x03\xe8\xff")).1, Err(WireError::Utf8));
}

#[test]
fn a_message_has_so_many_fragments_and_no_more() {
    let message = |fragments: usize| {
        let middle = [frame(0x00, b""), frame(0x89, b"")].concat().repeat(fragments - 2);
        [frame(0x01, b"a"), middle, frame(0x80, b"b")].concat()
    };
    let (heard, result) = both(&message(LIMIT.fragments).repeat(2));
    assert_eq!((heard.iter().filter(|message| *message == "Text(\"ab\")").count(), result), (2, Ok(())));
    assert_eq!(both(&message(LIMIT.fragments + 1)).1, Err(WireError::TooManyFragments));
}

#[test]
fn nothing_follows_an_end() {
    let after_close = [frame(0x01, b"a"), frame(0x88, b""), frame(0x80, b"b"), frame(0xff, b"")];
    assert_eq!(both(&after_close.concat()), (vec!["Close(None)".to_owned()], Ok(())));
    let (mut wire, mut count) = (Wire::new(), 0);
    for _ in 0..2 {
        let mut bytes = [frame(0x81, b"a"), frame(0x81, b"b")].concat();
        let result = wire.feed(&mut bytes, LIMIT, &mut |_| {
            count += 1;
            ControlFlow::Break(())
        });
        assert_eq!((result, count), (Ok(()), 1));
    }
    let mut wire = Wire::new();
    for mut bytes in [frame(0xff, b""), vec![], frame(0x81, b"a")] {
        assert_eq!(wire.feed(&mut bytes, LIMIT, &mut |_| unreachable!()), Err(WireError::Protocol));
    }
}

/// What plain tungstenite makes of the bytes: its messages, and its result unless it waits for more.
fn oracle(bytes: &[u8]) -> (Vec<String>, Option<Result<(), WireError>>) {
    let config = WebSocketConfig::default().max_message_size(Some(LIMIT.bytes)).max_frame_size(Some(LIMIT.bytes));
    let mut context = WebSocketContext::new(Role::Server, Some(config));
    let (mut pipe, mut heard) = (Pipe(bytes), Vec::new());
    loop {
        let theirs = match context.read(&mut pipe) {
            Ok(Theirs::Close(Some(close))) if close.reason.as_str() == "Protocol violation" => {
                return (heard, Some(Err(WireError::Protocol)));
            }
            Ok(message) => message,
            Err(tungstenite::Error::Io(_)) => return (heard, None),
            Err(error) => return (heard, Some(Err(fault(error)))),
        };
        let message = match &theirs {
            Theirs::Text(text) => Message::Text(text),
            Theirs::Binary(data) => Message::Binary(data),
            Theirs::Ping(data) => Message::Ping(data),
            Theirs::Pong(_) => Message::Pong,
            Theirs::Close(close) => Message::Close(close.as_ref().map(|close| close.code.into())),
            Theirs::Frame(_) => unreachable!(),
        };
        heard.push(format!("{message:?}"));
        if theirs.is_close() {
            return (heard, Some(Ok(())));
        }
    }
}

/// A few frames, most of them legal in their place.
fn frames() -> impl Strategy<Value = Vec<u8>> {
    let payload = prop_oneof![
        4 => "[a-zé€😀]{0,40}".prop_map(String::into_bytes),
        1 => vec(any::<u8>(), 0..130),
        1 => vec(Just(b'x'), 0..700),
    ];
    let code = prop_oneof![3 => 1000u16..1004, 1 => any::<u16>()].prop_map(u16::to_be_bytes);
    let piece = prop_oneof![
        6 => payload.clone().prop_map(|text| frame(0x81, &text)),
        3 => payload.clone().prop_map(|data| frame(0x82, &data)),
        // A text in fragments, cut anywhere, with a control frame inside.
        4 => (payload, any::<Index>(), 0x89..0x8bu8).prop_map(|(text, at, control)| {
            let (head, tail) = text.split_at(at.index(text.len() + 1));
            [frame(0x01, head), frame(control, b"beat"), frame(0x00, tail), frame(0x80, b"")].concat()
        }),
        2 => (0x89..0x8bu8, vec(any::<u8>(), 0..130)).prop_map(|(first, data)| frame(first, &data)),
        1 => (code, "[a-zé]{0,20}").prop_map(|(code, reason)| frame(0x88, &[&code, reason.as_bytes()].concat())),
        1 => any::<u8>().prop_map(|first| frame(first, b"odd")),
    ];
    vec(piece, 0..8).prop_map(|pieces| pieces.concat())
}

/// The same, with some bytes overwritten or cut off.
fn corrupted() -> impl Strategy<Value = Vec<u8>> {
    let damage = vec((any::<Index>(), any::<u8>()), 0..3);
    (frames(), damage, weighted(0.2, any::<Index>())).prop_map(|(mut bytes, damage, cut)| {
        for (at, byte) in damage {
            let at = at.index(bytes.len() + 1);
            bytes[at..].iter_mut().take(1).for_each(|old| *old = byte);
        }
        bytes.truncate(cut.map_or(bytes.len(), |cut| cut.index(bytes.len() + 1)));
        bytes
    })
}

proptest! {
    #[test]
    fn splits_change_nothing(
        bytes in corrupted(), cuts in vec(any::<Index>(), 0..12),
        limit in prop_oneof![0..LIMIT.bytes, any::<usize>()], fragments in prop_oneof![1..6usize, any::<usize>()],
    ) {
        let mut cuts: Vec<_> = cuts.iter().map(|cut| cut.index(bytes.len() + 1)).chain([0, bytes.len()]).collect();
        cuts.sort_unstable();
        let limit = Limit { bytes: limit, fragments };
        let whole = run([&bytes[..]], limit);
        prop_assert_eq!(&run(cuts.windows(2).map(|cut| &bytes[cut[0]..cut[1]]), limit), &whole);
        prop_assert_eq!(&run(bytes.chunks(1), limit), &whole);
    }

    #[test]
    fn tungstenite_agrees(bytes in corrupted()) {
        let (heard, result) = run([&bytes[..]], LIMIT);
        let (mut messages, mut end) = oracle(&bytes);
        if end.is_none() && result.is_err() {
            // tungstenite judges a frame when it is whole, the wire when its header is: complete it.
            (messages, end) = oracle(&[&bytes[..], &[0; LIMIT.bytes]].concat());
        }
        prop_assert_eq!(heard, messages);
        // But its length it judges before anything else about it.
        let excused = result == Err(WireError::Protocol) && end == Some(Err(WireError::TooLarge));
        prop_assert!(excused || result == end.unwrap_or(Ok(())), "{result:?}, {end:?}");
    }

    #[test]
    fn what_core_encodes_is_read_back(text in "\\PC{0,200}", data in vec(any::<u8>(), 0..70_000), mask: [u8; 4]) {
        let beat = &data[..data.len().min(125)];
        let exchange = [
            (Frame::text(text.as_bytes()), Message::Text(&text)),
            (Frame::binary(&data), Message::Binary(&data)),
            (Frame::ping(), Message::Ping(b"")),
            (Frame::pong(beat), Message::Pong),
            (Frame::close(Some(4001), &text), Message::Close(Some(4001))),
        ];
        let mut bytes: Vec<u8> = exchange.iter().flat_map(|(frame, _)| masked(frame, mask)).collect();
        let mut expected = exchange.iter().map(|(_, message)| message);
        let result = Wire::new().feed(&mut bytes, Limit { bytes: MAX_LIMIT, fragments: 1 }, &mut |message| {
            assert_eq!(Some(&message), expected.next());
            ControlFlow::Continue(())
        });
        prop_assert_eq!((result, expected.next()), (Ok(()), None));
    }
}
