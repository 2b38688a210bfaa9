//! The WebSocket wire against RFC 6455, from outside: raw sockets, and a gateway with a route that echoes.
//!
//! The cases are those of the public Autobahn suite, whose numbers they carry, in a form that runs with every other test.
//! Each is a row: what is sent, and every frame that comes back. A row that does not end with a close also shows that the
//! connection still works afterwards.

use std::path::Path;

use roomcast_tests::gateway_tests;
use roomcast_tests::real::PATIENCE;
use roomcast_tests::real::gateway::Gateway;
use roomcast_tests::real::raw::{CLOSE, CONTINUATION, FINAL, PING, PONG, RawClient, RawFrame, TEXT, masked_frame};
use roomcast_tests::real::setup::Setup;

const BINARY: u8 = 2;

gateway_tests!(
    messages_of_every_framing_come_back,
    pings_are_answered_and_pongs_are_not,
    reserved_bits_opcodes_and_missing_masks_are_refused,
    fragments_are_put_together,
    text_is_utf_8,
    closes_are_answered_with_their_code,
    large_messages_come_back_and_larger_ones_are_refused,
);

/// What a message may have here.
const LIMIT: usize = 32 << 20;
/// What a suite may send and an application must not: large messages, and thousands of pings at once.
const CONFIG: &str = r#"
[[routes]]
path = "/"
dialect = "echo"
auth = "optional"

[limits]
message_bytes = 33554432
outbox_bytes = 134217728
outbox_messages = 1000000
messages_per_second = 1000000
burst = 1000000
fragments = 100000
bytes_per_second = 1000000000
burst_bytes = 1000000000
"#;

fn messages_of_every_framing_come_back(binary: &Path) {
    let mut cases = Vec::new();
    for length in [0, 1, 125, 126, 127, 128, 65_535, 65_536] {
        for opcode in [TEXT, BINARY] {
            let payload = vec![b'*'; length];
            let case = case("1", &[(FINAL | opcode, &payload)]);
            cases.push(case.answered(FINAL | opcode, &payload));
        }
    }
    let echo = Echo::start(binary);
    for case in &cases {
        echo.check(case);
        echo.check_in_pieces(case, 997);
    }
}

fn pings_are_answered_and_pongs_are_not(binary: &Path) {
    let longest = [0xfe; 125];
    let ten: Vec<String> = (0..10).map(|number| format!("payload-{number}")).collect();
    let ten_pings: Vec<(u8, &[u8])> = ten.iter().map(|payload| (FINAL | PING, payload.as_bytes())).collect();
    let ten_pongs = |case: Case| ten.iter().fold(case, |case, payload| case.answered(FINAL | PONG, payload.as_bytes()));
    Echo::start(binary).check_all(&[
        case("2.1", &[(FINAL | PING, b"")]).answered(FINAL | PONG, b""),
        case("2.2", &[(FINAL | PING, b"Hello, world!")]).answered(FINAL | PONG, b"Hello, world!"),
        case("2.3", &[(FINAL | PING, b"\x00\xff\xfe\xfd")]).answered(FINAL | PONG, b"\x00\xff\xfe\xfd"),
        case("2.4", &[(FINAL | PING, &longest)]).answered(FINAL | PONG, &longest),
        case("2.5", &[(FINAL | PING, &[0xfe; 126])]).closed(1002),
        case("2.7", &[(FINAL | PONG, b"")]),
        case("2.9", &[(FINAL | PONG, b"unsolicited"), (FINAL | PING, b"ping")]).answered(FINAL | PONG, b"ping"),
        ten_pongs(case("2.10", &ten_pings)),
    ]);
}

fn reserved_bits_opcodes_and_missing_masks_are_refused(binary: &Path) {
    let mut cases = Vec::new();
    for reserved in [0x40, 0x20, 0x10, 0x70] {
        let hello: &[u8] = b"Hello";
        for opcode in [TEXT, BINARY, PING, PONG, CLOSE] {
            cases.push(case("3.1", &[(FINAL | reserved | opcode, hello)]).closed(1002));
        }
        let frames = [(FINAL | TEXT, hello), (FINAL | reserved | TEXT, hello), (FINAL | PING, b"")];
        cases.push(case("3.2", &frames).answered(FINAL | TEXT, hello).closed(1002));
    }
    for opcode in (3..8).chain(11..16) {
        cases.push(case("4.1", &[(FINAL | opcode, b"")]).closed(1002));
        let frames: [(u8, &[u8]); 3] = [(FINAL | TEXT, b"Hello"), (FINAL | opcode, b"reserved"), (FINAL | PING, b"")];
        cases.push(case("4.2", &frames).answered(FINAL | TEXT, b"Hello").closed(1002));
    }
    cases.push(Case { name: "not masked", sent: b"\x81\x05Hello".to_vec(), answers: Vec::new() }.closed(1002));
    Echo::start(binary).check_all(&cases);
}

fn fragments_are_put_together(binary: &Path) {
    let two = [(TEXT, &b"fragment1"[..]), (FINAL | CONTINUATION, b"fragment2")];
    let with_ping = [(TEXT, &b"fragment1"[..]), (FINAL | PING, b"ping"), (FINAL | CONTINUATION, b"fragment2")];
    let (first, stray) = ((FINAL | TEXT, &b"whole"[..]), (FINAL | CONTINUATION, &b"stray"[..]));
    let five = [
        (TEXT, &b"fragment1"[..]),
        (CONTINUATION, b"fragment2"),
        (FINAL | PING, b"ping 1"),
        (CONTINUATION, b""),
        (FINAL | PONG, b"pong"),
        (CONTINUATION, b"fragment4"),
        (FINAL | PING, b"ping 2"),
        (FINAL | CONTINUATION, b"fragment5"),
    ];
    Echo::start(binary).check_all(&[
        case("5.1", &[(PING, b"fragment1"), (FINAL | CONTINUATION, b"fragment2")]).closed(1002),
        case("5.2", &[(PONG, b"fragment1"), (FINAL | CONTINUATION, b"fragment2")]).closed(1002),
        case("5.3", &two).answered(FINAL | TEXT, b"fragment1fragment2"),
        case("5.6", &with_ping).answered(FINAL | PONG, b"ping").answered(FINAL | TEXT, b"fragment1fragment2"),
        case("5.9", &[stray, first]).closed(1002),
        case("5.12", &[(CONTINUATION, b"stray"), first]).closed(1002),
        case("5.15", &[two[0], two[1], stray, first]).answered(FINAL | TEXT, b"fragment1fragment2").closed(1002),
        case("5.18", &[(TEXT, b"fragment1"), (FINAL | TEXT, b"fragment2")]).closed(1002),
        case("5.18 binary", &[(BINARY, b"fragment1"), (BINARY, b"fragment2")]).closed(1002),
        case("5.19", &five)
            .answered(FINAL | PONG, b"ping 1")
            .answered(FINAL | PONG, b"ping 2")
            .answered(FINAL | TEXT, b"fragment1fragment2fragment4fragment5"),
        case("6.1.2", &[(TEXT, b""), (CONTINUATION, b""), (FINAL | CONTINUATION, b"")]).answered(FINAL | TEXT, b""),
        case("6.1.3", &[(TEXT, b""), (CONTINUATION, b"middle"), (FINAL | CONTINUATION, b"")]).answered(FINAL | TEXT, b"middle"),
    ]);
}

fn text_is_utf_8(binary: &Path) {
    // The bounds of the sequences of each length, and what lies around the surrogates and the private planes.
    let legal = [
        "Hello-µ@ßöäüàá-UTF-8!!",
        "κόσμε",
        "\0",
        "\u{7f}",
        "\u{80}",
        "\u{7ff}",
        "\u{800}",
        "\u{d7ff}",
        "\u{e000}",
        "\u{fffd}",
        "\u{fffe}",
        "\u{ffff}",
        "\u{10000}",
        "\u{1fffe}",
        "\u{10ffff}",
    ];
    // Cut short, continued without a beginning, overlong, surrogates, beyond U+10FFFF, and bytes that never occur.
    let illegal: [&[u8]; 22] = [
        b"\xce\xba\xe1\xbd\xb9\xcf\x83\xce\xbc\xce\xb5\xed\xa0\x80edited",
        b"\xce\xba\xe1\xbd\xb9\xcf\x83\xce\xbc\xce",
        b"\x80",
        b"\xbf",
        b"\x80\xbf\x80\xbf",
        b"\xc0 \xdf ",
        b"\xe0 \xef ",
        b"\xe1\xbd",
        b"\xf0\x9f\x98",
        b"\xfe",
        b"\xff",
        b"\xc0\xaf",
        b"\xe0\x80\xaf",
        b"\xf0\x80\x80\xaf",
        b"\xc1\xbf",
        b"\xe0\x9f\xbf",
        b"\xed\xa0\x80",
        b"\xed\xad\xbf\xed\xbf\xbf",
        b"\xf4\x90\x80\x80",
        b"\xf7\xbf\xbf\xbf",
        b"\xf8\x88\x80\x80\x80",
        b"\xfc\x84\x80\x80\x80\x80",
    ];
    let mut cases = Vec::new();
    for text in legal.map(str::as_bytes) {
        cases.push(case("6.2", &[(FINAL | TEXT, text)]).answered(FINAL | TEXT, text));
        cases.push(case("6.2.4", &in_fragments(text, 1)).answered(FINAL | TEXT, text));
    }
    for bytes in illegal {
        cases.push(case("6.3", &[(FINAL | TEXT, bytes)]).closed(1007));
        cases.push(case("6.3.2", &in_fragments(bytes, 1)).closed(1007));
        cases.push(case("any bytes are binary", &[(FINAL | BINARY, bytes)]).answered(FINAL | BINARY, bytes));
    }
    // Refused as soon as no continuation can save it: the message is never finished.
    cases.push(case("6.4.1", &[(TEXT, b"\xce\xba\xe1\xbd\xb9\xf4"), (CONTINUATION, b"\x90")]).closed(1007));
    Echo::start(binary).check_all(&cases);
}

fn closes_are_answered_with_their_code(binary: &Path) {
    let close = |code: u16, reason: &[u8]| [&code.to_be_bytes()[..], reason].concat();
    let normal = close(1000, b"");
    let mut cases = vec![
        case("7.1.1", &[(FINAL | TEXT, b"Hello"), (FINAL | CLOSE, &normal)]).answered(FINAL | TEXT, b"Hello").closed(1000),
        case("7.1.2", &[(FINAL | CLOSE, &normal), (FINAL | CLOSE, &normal)]).closed(1000),
        case("7.1.3", &[(FINAL | CLOSE, &normal), (FINAL | PING, b"late")]).closed(1000),
        case("7.1.4", &[(FINAL | CLOSE, &normal), (FINAL | TEXT, b"late")]).closed(1000),
        case("7.1.5", &[(TEXT, b"part"), (FINAL | CLOSE, &normal), (FINAL | CONTINUATION, b"late")]).closed(1000),
        case("7.3.1", &[(FINAL | CLOSE, b"")]).answered(FINAL | CLOSE, b""),
        case("7.3.2", &[(FINAL | CLOSE, b"\x03")]).closed(1002),
        case("7.3.4", &[(FINAL | CLOSE, &close(1000, b"Hello World!"))]).closed(1000),
        case("7.3.5", &[(FINAL | CLOSE, &close(1000, &[b'*'; 123]))]).closed(1000),
        case("7.3.6", &[(FINAL | CLOSE, &close(1000, &[b'*'; 124]))]).closed(1002),
        case("7.5.1", &[(FINAL | CLOSE, &close(1000, b"\xce\xba\xed\xa0\x80"))]).closed(1007),
    ];
    for code in [1000, 1001, 1002, 1003, 1007, 1008, 1009, 1010, 1011, 3000, 3999, 4000, 4999] {
        cases.push(case("7.7", &[(FINAL | CLOSE, &close(code, b"bye"))]).closed(code));
    }
    for code in [0, 999, 1004, 1005, 1006, 1015, 1016, 1100, 2000, 2999, 5000, 65_535] {
        cases.push(case("7.9", &[(FINAL | CLOSE, &close(code, b""))]).closed(1002));
    }
    Echo::start(binary).check_all(&cases);
}

fn large_messages_come_back_and_larger_ones_are_refused(binary: &Path) {
    let echo = Echo::start(binary);
    let large = vec![b'*'; 16 << 20];
    for opcode in [TEXT, BINARY] {
        let whole = case("9.1.6", &[(FINAL | opcode, &large)]).answered(FINAL | opcode, &large);
        echo.check(&whole);
        echo.check_in_pieces(&whole, 1 << 16);
        let mut fragments = in_fragments(&large, 1 << 16);
        fragments[0].0 = opcode;
        echo.check(&case("9.3.9", &fragments).answered(FINAL | opcode, &large));
    }
    let text = vec![b'*'; 65_536];
    echo.check(&case("10.1.1", &in_fragments(&text, 1300)).answered(FINAL | TEXT, &text));
    let many = vec![(FINAL | BINARY, &text[..64]); 1000];
    echo.check(&many.iter().fold(case("9.8.3", &many), |case, (first, payload)| case.answered(*first, payload)));

    // A header is enough to be refused, and so is the one fragment that is too many.
    let announced = |length: usize| [&[FINAL | BINARY, 0xff][..], &(length as u64).to_be_bytes(), &[0; 4]].concat();
    for length in [LIMIT + 1, 1 << 40, usize::MAX >> 1] {
        echo.check(&Case { name: "over the limit", sent: announced(length), answers: Vec::new() }.closed(1009));
    }
    let half = vec![0; LIMIT / 2];
    let fragments = [(BINARY, &half[..]), (CONTINUATION, &half), (CONTINUATION, b"!")];
    echo.check(&case("over the limit in fragments", &fragments).closed(1009));
    let malformed = [&[FINAL | BINARY, 0xff][..], &u64::MAX.to_be_bytes(), &[0; 4]].concat();
    let answers = echo.answers(&malformed, 1);
    assert!(matches!(close_code(&answers[0]), Some(1002 | 1009)), "{answers:?}");
}

/// What is sent, and what comes back.
#[derive(Debug)]
struct Case {
    name: &'static str,
    sent: Vec<u8>,
    answers: Vec<RawFrame>,
}

/// A case that sends these frames and expects nothing yet.
fn case(name: &'static str, frames: &[(u8, &[u8])]) -> Case {
    let sent = frames.iter().flat_map(|(first, payload)| masked_frame(*first, payload)).collect();
    Case { name, sent, answers: Vec::new() }
}

impl Case {
    fn answered(mut self, first: u8, payload: &[u8]) -> Case {
        self.answers.push(RawFrame { first, payload: payload.into() });
        self
    }

    /// It ends with a close; the reason is not looked at.
    fn closed(self, code: u16) -> Case {
        self.answered(FINAL | CLOSE, &code.to_be_bytes())
    }

    fn closes(&self) -> bool {
        self.answers.last().is_some_and(|answer| answer.first == FINAL | CLOSE)
    }

    /// What was sent, shortened where it is long.
    fn describe(&self) -> String {
        format!("case {} sends {:02x?}, {} bytes", self.name, &self.sent[..self.sent.len().min(80)], self.sent.len())
    }
}

/// A text message in fragments of this length.
fn in_fragments(payload: &[u8], length: usize) -> Vec<(u8, &[u8])> {
    let mut frames: Vec<(u8, &[u8])> = payload.chunks(length).map(|piece| (CONTINUATION, piece)).collect();
    frames[0].0 = TEXT;
    if let Some((first, _)) = frames.last_mut() {
        *first |= FINAL;
    }
    frames
}

fn close_code(frame: &RawFrame) -> Option<u16> {
    let code = frame.payload.first_chunk().map(|code| u16::from_be_bytes(*code));
    code.filter(|_| frame.first == FINAL | CLOSE)
}

/// A gateway that echoes.
struct Echo(Gateway);

impl Echo {
    fn start(binary: &Path) -> Echo {
        Echo(Setup::new(binary).config(CONFIG).start())
    }

    /// Each case at once and, where nothing is refused half-way, byte by byte.
    fn check_all(&self, cases: &[Case]) {
        for case in cases {
            self.check(case);
            if !case.closes() {
                self.check_in_pieces(case, 1);
            }
        }
    }

    fn check(&self, case: &Case) {
        self.check_in_pieces(case, case.sent.len().max(1));
    }

    fn check_in_pieces(&self, case: &Case, piece: usize) {
        let mut client = RawClient::upgraded(self.0.addr(), "/", &[]);
        case.sent.chunks(piece).for_each(|piece| client.send(piece));
        let mut expected = case.answers.clone();
        if !case.closes() {
            client.send(&[masked_frame(FINAL | PING, b"still there"), masked_frame(FINAL | CLOSE, b"\x03\xe8")].concat());
            expected.push(RawFrame { first: FINAL | PONG, payload: b"still there".into() });
            expected.push(RawFrame { first: FINAL | CLOSE, payload: b"\x03\xe8".into() });
        }
        for expected in expected {
            let Some(mut answer) = client.frame() else { panic!("the connection ends; {}", case.describe()) };
            if answer.first == FINAL | CLOSE {
                answer.payload.truncate(2);
            }
            // Millions of bytes would make no good message.
            let brief =
                |frame: &RawFrame| (frame.first, frame.payload.len(), frame.payload[..frame.payload.len().min(40)].to_vec());
            assert!(answer == expected, "{:02x?} instead of {:02x?}; {}", brief(&answer), brief(&expected), case.describe());
        }
        assert!(client.is_closed(PATIENCE), "{}", case.describe());
    }

    /// The first frames that come back.
    fn answers(&self, sent: &[u8], count: usize) -> Vec<RawFrame> {
        let mut client = RawClient::upgraded(self.0.addr(), "/", &[]);
        client.send(sent);
        (0..count).map(|_| client.frame().expect("there is an answer")).collect()
    }
}
