use std::io::Write as _;

use base64::engine::general_purpose::{STANDARD, STANDARD_NO_PAD};
use flate2::write::GzEncoder;
use flate2::{Compression, GzBuilder};
use proptest::prelude::*;

use super::*;

/// What the manual test of system A's documentation publishes, as Python's `json.dumps` writes it.
const MANUAL_TEST: &str = concat!(
    r#"{"batch_id": "test-batch", "timestamp": "2025-10-06T01:00:00Z", "batch_count": 1, "events": [{"event_id": "test-event", "#,
    r#""timestamp": "2025-10-06T01:00:00Z", "workspace": {"id": "test-workspace"}, "file": {"path": "test.py", "#,
    r#""event_type": "create"}, "change": {"type": "full_content", "content": "print('test')"}}]}"#
);

/// An event with odd whitespace, odd numbers and odd order, all of which must survive.
const ODD_EVENT: &str = concat!(
    "{ \"zeta\" :1.0e5,\"big\":123456789012345678901234567890 ,\n\t\"change\":{\"size\":-0.0,\"type\":\"di\\u0066f\",\"diff\":\"\\ud800 \\/\\u00e9é\"},",
    "\"file\":{\"event_type\":\"mo\\u0064ify\",\"path\":\"a\\\\\\\"}]{[.py\"},\"git\":null,\r\n\"twice\":1,\"twice\":2,",
    "\"workspace\":{\"name\":null,\"id\":\"w\\u0073\"},\"timestamp\":\"\",\"event_id\":\"\" }"
);

fn event(id: &str) -> String {
    format!(
        r#"{{"event_id":"e","timestamp":"t","workspace":{{"id":"{id}"}},"file":{{"path":"p","event_type":"modify"}},"change":{{"type":"diff"}}}}"#
    )
}

fn batch(events: &[&str]) -> String {
    format!(r#"{{"batch_id":"b","timestamp":"t","batch_count":7,"events":[{}]}}"#, events.join(","))
}

fn gzip(text: &[u8]) -> Vec<u8> {
    let mut encoder = GzEncoder::new(Vec::new(), Compression::default());
    encoder.write_all(text).unwrap();
    encoder.finish().unwrap()
}

fn packed(text: &str) -> Vec<u8> {
    STANDARD.encode(gzip(text.as_bytes())).into_bytes()
}

fn refusal(data: impl AsRef<[u8]>) -> BatchError {
    Decoder::default().decode(data.as_ref()).expect_err("the data should be refused")
}

fn with(limits: Limits, data: impl AsRef<[u8]>) -> Result<(), BatchError> {
    Decoder::new(limits).decode(data.as_ref()).map(|_| ())
}

#[test]
fn the_originals_manual_test_is_decoded_in_every_form() {
    let compressed = gzip(MANUAL_TEST.as_bytes());
    let lines: Vec<_> = STANDARD.encode(&compressed).into_bytes().chunks(60).map(<[u8]>::to_vec).collect();
    let wrapped = [b"\n ".to_vec(), lines.join(&b"\r\n"[..]), b"\n".to_vec()].concat();
    let forms = [
        (MANUAL_TEST.as_bytes().to_vec(), false),
        (format!(" \t\r\n{MANUAL_TEST}\n").into_bytes(), false),
        (STANDARD.encode(&compressed).into_bytes(), true),
        (STANDARD_NO_PAD.encode(&compressed).into_bytes(), true),
        (wrapped, true),
        (compressed, true),
    ];
    let mut decoder = Decoder::default();
    for (data, compressed) in forms {
        let batch = decoder.decode(&data).unwrap();
        assert_eq!((batch.id.as_ref(), batch.compressed, batch.events.len()), ("test-batch", compressed, 1));
        let event = &batch.events[0];
        assert_eq!((&*event.workspace, &*event.event_type, &*event.path), ("test-workspace", "create", "test.py"));
        assert_eq!(event.json, &MANUAL_TEST[MANUAL_TEST.find(r#"{"event_id""#).unwrap()..MANUAL_TEST.len() - 2]);
        assert!(matches!((&batch.id, &event.workspace, &event.path), (Cow::Borrowed(_), Cow::Borrowed(_), Cow::Borrowed(_))));
    }
}

#[test]
fn an_events_bytes_stay_as_they_are() {
    let text = format!("\n{{\"events\"\t:[ {ODD_EVENT} ,\n{}],\r\n\"batch_id\":\"\\u0062\" }} ", event("x"));
    for data in [text.clone().into_bytes(), packed(&text)] {
        let mut decoder = Decoder::default();
        let batch = decoder.decode(&data).unwrap();
        assert_eq!(batch.id, "b");
        assert_eq!(batch.events[0].json, ODD_EVENT);
        assert_eq!(batch.events[0].workspace, "ws");
        assert_eq!(batch.events[0].event_type, "modify");
        assert_eq!(batch.events[0].path, "a\\\"}]{[.py");
        assert_eq!(batch.events[1].json, event("x"));
    }
}

#[test]
fn a_batch_may_be_empty_and_its_count_wrong() {
    for count in ["-1", "\"x\"", "null", "[{}]"] {
        let text = format!(r#"{{"batch_id":"b","batch_count":{count},"events":[]}}"#);
        assert_eq!(Decoder::default().decode(text.as_bytes()).unwrap().events, []);
    }
}

#[test]
fn a_workspace_is_named_by_a_string_or_a_whole_number() {
    for (written, read) in
        [("7", "7"), ("-7", "-7"), ("123456789012345678901234567890", "123456789012345678901234567890"), (r#""""#, "")]
    {
        let text = batch(&[&event("x").replace(r#""x""#, written)]);
        assert_eq!(Decoder::default().decode(text.as_bytes()).unwrap().events[0].workspace, read);
    }
    for wrong in ["7.0", "1e3", "null", "true", "[7]", "{}"] {
        assert_eq!(refusal(batch(&[&event("x").replace(r#""x""#, wrong)])).code(), "shape", "{wrong}");
    }
    assert_eq!(refusal(batch(&[&event(r"\ud800")])).code(), "not_json");
}

#[test]
fn every_required_field_is_required() {
    let good = event("x");
    let cases = [
        ("event_id", r#""event_id":"e","#),
        ("timestamp", r#""timestamp":"t","#),
        ("workspace.id", r#""workspace":{"id":"x"},"#),
        ("workspace.id", r#""id":"x""#),
        ("file.path", r#""file":{"path":"p","event_type":"modify"},"#),
        ("file.path", r#""path":"p","#),
        ("file.event_type", r#","event_type":"modify""#),
        ("change.type", r#","change":{"type":"diff"}"#),
        ("change.type", r#""type":"diff""#),
    ];
    for (field, text) in cases {
        assert!(good.contains(text));
        // One bad event refuses its batch, wherever it stands.
        assert_eq!(refusal(batch(&[&good, &good.replace(text, ""), &good])), BatchError::Missing(field));
    }
    assert_eq!(refusal("{}"), BatchError::Missing("batch_id"));
    assert_eq!(refusal(r#"{"batch_id":"b"}"#), BatchError::Missing("events"));
    assert_eq!(refusal(r#"{"events":[]}"#).to_string(), "the field `batch_id` is missing");
}

#[test]
fn wrong_types_are_refused() {
    let good = event("x");
    for (right, wrong) in [
        (r#""e""#, "1"),
        (r#""t""#, "null"),
        (r#"{"id":"x"}"#, r#"["x"]"#),
        (r#"{"id":"x"}"#, r#""x""#),
        (r#"{"path":"p","event_type":"modify"}"#, r#"["p","modify"]"#),
        (r#"{"type":"diff"}"#, r#"["diff"]"#),
        (r#"{"type":"diff"}"#, "null"),
        (r#""p""#, "[]"),
        (r#""diff""#, "{}"),
    ] {
        assert!(good.contains(right));
        let error = refusal(batch(&[&good, &good.replace(right, wrong)]));
        assert_eq!(error.code(), "shape", "{wrong}");
        assert!(error.to_string().contains("event 1"), "{error}");
    }
    for text in [
        r#"{"batch_id":1,"events":[]}"#,
        r#"{"batch_id":null,"events":[]}"#,
        r#"{"batch_id":"b","events":null}"#,
        r#"{"batch_id":"b","events":{}}"#,
        r#"{"batch_id":"b","events":"[]"}"#,
        r#"{"batch_id":"b","events":["e"]}"#,
        r#"{"batch_id":"b","events":[["e","t",["x"],["p","m"],["d"]]]}"#,
    ] {
        assert_eq!(refusal(text).code(), "shape", "{text}");
    }
    assert_eq!(refusal(packed("[]")).to_string(), "the text is not a batch of events: expected an object at byte 0");
    assert_eq!(
        refusal(r#"{"batch_id": 5}"#).to_string(),
        "the text is not a batch of events: invalid type: integer `5`, expected a string at line 1 column 1 of the value at byte 13"
    );
}

#[test]
fn a_message_never_repeats_a_text() {
    let secret = "\u{7f}".repeat(1 << 20);
    let good = event("x");
    for part in [r#"{"id":"x"}"#, r#"{"path":"p","event_type":"modify"}"#, r#"{"type":"diff"}"#, &good] {
        let reason = refusal(batch(&[&good.replace(part, &format!("\"{secret}\""))])).to_string();
        assert!(reason.len() < 200, "{} bytes", reason.len());
    }
    assert!(refusal(format!(r#"{{"batch_id":"b","events":"{secret}"}}"#)).to_string().len() < 200);
}

#[test]
fn a_key_that_routes_must_not_occur_twice() {
    let good = event("x");
    for (once, twice) in [
        (r#""event_id":"e""#, r#""event_id":"e","event_id":"e""#),
        (r#"{"id":"x"}"#, r#"{"id":"x","id":"y"}"#),
        (r#"{"id":"x"}"#, r#"{"id":"x","\u0069d":"y"}"#),
        (r#""workspace":{"id":"x"}"#, r#""workspace":{"id":"x"},"w\u006frkspace":{"id":"y"}"#),
        (r#""path":"p""#, r#""path":"p","path":"p""#),
    ] {
        assert!(good.contains(once));
        assert_eq!(refusal(batch(&[&good.replace(once, twice)])).code(), "shape", "{twice}");
    }
    for text in [r#"{"batch_id":"b","batch_id":"c","events":[]}"#, r#"{"batch_id":"b","events":[],"\u0065vents":[]}"#] {
        assert!(refusal(text).to_string().contains("duplicate field"));
    }
}

#[test]
fn what_is_not_json_is_refused() {
    let good = batch(&[&event("x")]);
    for end in 1..good.len() {
        assert_eq!(refusal(&good[..end]).code(), "not_json", "{}", &good[..end]);
    }
    for text in [
        format!("{good}x"),
        format!("{good}{good}"),
        r#"{"batch_id":"b",}"#.into(),
        r#"{"batch_id" "b"}"#.into(),
        r#"{1:2}"#.into(),
        r#"{,}"#.into(),
        r#"{"x":tru}"#.into(),
        r#"{"x":NaN}"#.into(),
        r#"{"x":1 2}"#.into(),
        "{\"x\":\"\n\"}".into(),
        good.replace("]}", ",]}"),
        good.replace("]}", " 1]}"),
        good.replace("}]", "]"),
    ] {
        assert_eq!(refusal(&text).code(), "not_json", "{text}");
    }
    assert_eq!(refusal(good.replace("\"e\"", "\"\u{e9}\"").into_bytes().split_last().unwrap().1).code(), "not_json");
    let mut bytes = good.into_bytes();
    bytes[13] = 0xff;
    assert_eq!(refusal(&bytes), BatchError::NotUtf8 { valid: 13 });
}

#[test]
fn what_is_neither_json_nor_gzip_is_refused() {
    for (data, code) in [
        (&b""[..], "empty"),
        (b" \r\n", "empty"),
        (b"[1]", "base64"),
        (b"\xef\xbb\xbf{}", "base64"),
        (b"H4sI*", "base64"),
        (b"H4sI=AAA", "base64"),
        (b"A", "base64"),
        (b"null", "gzip_magic"),
        (b"eJwDAAAAAAE=", "gzip_magic"), // zlib
        (b"H4sI", "gzip_truncated"),
    ] {
        assert_eq!(refusal(data).code(), code, "{data:?}");
    }
}

#[test]
fn gzip_headers_may_carry_fields() {
    let mut builder =
        GzBuilder::new().filename("batch.json").comment("c").extra(vec![1, 2, 3]).write(Vec::new(), Compression::best());
    builder.write_all(MANUAL_TEST.as_bytes()).unwrap();
    let data = builder.finish().unwrap();
    assert_eq!(with(Limits::default(), &data), Ok(()));
    for end in 1..data.len() {
        let cut = &data[..end];
        assert_eq!(refusal(STANDARD.encode(cut)), GzipError::Truncated.into(), "cut at {end}");
    }
    // A checksum of the header, which nothing needs.
    let plain = gzip(MANUAL_TEST.as_bytes());
    let checked = [&plain[..3], &[2], &plain[4..10], &[0xab, 0xcd], &plain[10..]].concat();
    assert_eq!(with(Limits::default(), &checked), Ok(()));
    for (at, byte) in [(2, 7), (3, 0x80)] {
        let mut data = plain.clone();
        data[at] = byte;
        assert_eq!(refusal(&data), GzipError::Header.into());
    }
}

#[test]
fn gzip_data_cut_anywhere_is_refused() {
    let data = gzip(batch(&[&event("x"), ODD_EVENT]).as_bytes());
    for end in 2..data.len() {
        assert_eq!(refusal(&data[..end]), GzipError::Truncated.into(), "cut at {end}");
    }
}

#[test]
fn damaged_gzip_data_is_refused() {
    let good = gzip(MANUAL_TEST.as_bytes());
    for at in 10..good.len() {
        for bit in 0..8 {
            let mut data = good.clone();
            data[at] ^= 1 << bit;
            // A few bits mean nothing, like those that fill the last byte.
            let mut decoder = Decoder::default();
            match decoder.decode(&data) {
                Ok(batch) => assert!(batch.events.len() == 1 && MANUAL_TEST.contains(batch.events[0].json)),
                Err(error) => assert!(matches!(error, BatchError::Gzip(_)), "byte {at}, bit {bit}: {error}"),
            }
            if at >= good.len() - 8 {
                assert_eq!(refusal(&data), GzipError::Checksum.into());
            }
        }
    }
    assert_eq!(refusal([&good[..10], &[7], &good[11..]].concat()), GzipError::Corrupt.into());
}

#[test]
fn members_and_padding_may_follow_and_nothing_else() {
    let (head, tail) = MANUAL_TEST.split_at(100);
    let members = [gzip(head.as_bytes()), gzip(b""), vec![0; 5], gzip(tail.as_bytes()), vec![0; 512]].concat();
    assert_eq!(Decoder::default().decode(&members).unwrap().events.len(), 1);
    let good = gzip(MANUAL_TEST.as_bytes());
    for rest in [&b"x"[..], b"\0x", b"\x1f", MANUAL_TEST.as_bytes()] {
        assert_eq!(refusal([&good, rest].concat()), GzipError::Trailing.into());
    }
}

#[test]
fn sizes_are_bounded() {
    let limits = Limits { compressed: 100, inflated: MANUAL_TEST.len(), ..Limits::default() };
    let data = gzip(MANUAL_TEST.as_bytes());
    assert_eq!(with(limits, &data), Err(BatchError::TooLarge { size: data.len(), limit: 100 }));
    let limits = Limits { compressed: data.len(), ..limits };
    assert_eq!(with(limits, &data), Ok(()));
    assert_eq!(with(limits, MANUAL_TEST), Ok(()));
    let limits = Limits { inflated: limits.inflated - 1, ..limits };
    assert_eq!(with(limits, &data), Err(BatchError::Bomb { limit: limits.inflated }));
    let error = BatchError::TooLarge { size: MANUAL_TEST.len(), limit: limits.inflated };
    assert_eq!(with(limits, MANUAL_TEST), Err(error));
    // The limit is for all members together.
    let half = gzip(&MANUAL_TEST.as_bytes()[..200]);
    let limits = Limits { compressed: 1 << 20, inflated: 399, ..limits };
    assert_eq!(with(limits, half.repeat(2)), Err(BatchError::Bomb { limit: 399 }));
}

#[test]
fn a_bomb_of_a_gigabyte_is_cheap() {
    let mut encoder = GzEncoder::new(Vec::new(), Compression::best());
    let zeros = vec![0; 1 << 20];
    for _ in 0..1024 {
        encoder.write_all(&zeros).unwrap();
    }
    let data = STANDARD.encode(encoder.finish().unwrap());
    assert!(data.len() < 2 << 20);
    let mut decoder = Decoder::default();
    assert_eq!(decoder.decode(data.as_bytes()), Err(BatchError::Bomb { limit: 16 << 20 }));
    assert!(decoder.gunzip.buffer().capacity() <= (16 << 20) + (1 << 11));
}

#[test]
fn a_trailer_that_lies_about_the_length_takes_no_memory() {
    let mut data = gzip(b"{}");
    let end = data.len();
    data[end - 4..].fill(0xff);
    let mut decoder = Decoder::default();
    assert_eq!(decoder.decode(&data), Err(GzipError::Checksum.into()));
    assert!(decoder.gunzip.buffer().capacity() < 32 << 10);
}

#[test]
fn large_buffers_are_given_back() {
    let text = batch(&[&event("x").replace("\"e\"", &format!("\"{}\"", "e".repeat(3 << 20)))]);
    let mut decoder = Decoder::default();
    assert!(decoder.decode(&packed(&text)).is_ok());
    assert!(decoder.gunzip.buffer().capacity() > RETAINED);
    assert!(decoder.decode(MANUAL_TEST.as_bytes()).is_ok());
    assert_eq!(decoder.gunzip.buffer().capacity(), 0);
    assert!(decoder.decode(&packed(MANUAL_TEST)).is_ok());
    let kept = decoder.gunzip.buffer().capacity();
    decoder.shrink();
    assert!(kept > 0 && kept == decoder.gunzip.buffer().capacity());
}

#[test]
fn events_are_counted_before_they_are_kept() {
    let limits = Limits { events: 2, ..Limits::default() };
    let (one, broken) = (event("x"), "nonsense");
    assert_eq!(with(limits, batch(&[&one, &one])), Ok(()));
    assert_eq!(with(limits, batch(&[&one, &one, broken])), Err(BatchError::TooManyEvents { limit: 2 }));
    assert_eq!(with(Limits { events: 0, ..limits }, batch(&[])), Ok(()));
}

#[test]
fn nesting_is_bounded_everywhere() {
    let nested = |levels: usize| format!("{}{}", "[{\"\\\"]\":".repeat(levels / 2), "0") + &"}]".repeat(levels / 2);
    let placed = |deep: &str| {
        let good = event("x");
        [
            batch(&[&good, &good.replace("\"event_id\"", &format!("\"more\":{deep},\"event_id\""))]),
            batch(&[&good.replace("\"type\"", &format!("\"more\":{deep},\"type\""))]),
            batch(&[&good]).replace("\"batch_id\"", &format!("\"more\":{deep},\"batch_id\"")),
        ]
    };
    // Brackets in a text, and brackets side by side, are not nesting.
    for text in placed(&format!("[{}\"{}\"]", "{},[],".repeat(100), "[{".repeat(100))) {
        assert_eq!(with(Limits::default(), text), Ok(()));
    }
    for (text, own) in placed(&nested(20)).into_iter().zip([3, 4, 1]) {
        let limits = Limits { depth: 20 + own, ..Limits::default() };
        assert_eq!(with(limits, &text), Ok(()));
        let limits = Limits { depth: limits.depth - 1, ..limits };
        assert_eq!(with(limits, &text), Err(BatchError::TooDeep { limit: limits.depth }));
    }
}

#[test]
fn absurd_nesting_does_not_touch_the_stack() {
    let absurd = || {
        for open in ["[", "{\"a\":"] {
            let close = if open == "[" { "]" } else { "}" };
            let deep = format!("{}0{}", open.repeat(100_000), close.repeat(100_000));
            let good = event("x");
            for data in [
                batch(&[&deep]),
                batch(&[&good.replace("\"e\"", &deep)]),
                batch(&[&good.replace("{\"id\"", &format!("{{\"more\":{deep},\"id\""))]),
                batch(&[&good.replace("\"x\"", &deep)]),
                batch(&[&good]).replace("\"b\"", &deep),
                batch(&[&good]).replace('7', &deep),
                batch(&[&good]).replace('7', &open.repeat(100_000)),
                deep.clone(),
            ] {
                for data in [packed(&data), data.into_bytes()] {
                    refusal(&data);
                }
            }
            assert_eq!(refusal(batch(&[&good]).replace('7', &deep)).code(), "too_deep");
        }
    };
    std::thread::Builder::new().stack_size(256 << 10).spawn(absurd).unwrap().join().unwrap();
}

#[test]
fn codes_and_sentences_are_for_reading() {
    let gzip =
        [GzipError::Magic, GzipError::Header, GzipError::Truncated, GzipError::Corrupt, GzipError::Checksum, GzipError::Trailing];
    let others = [
        BatchError::Empty,
        BatchError::Base64,
        BatchError::TooLarge { size: 2, limit: 1 },
        BatchError::Bomb { limit: 1 },
        BatchError::NotUtf8 { valid: 0 },
        BatchError::NotJson { reason: String::new() },
        BatchError::Shape { reason: String::new() },
        BatchError::TooDeep { limit: 1 },
        BatchError::TooManyEvents { limit: 1 },
        BatchError::Missing("events"),
    ];
    let all: Vec<_> = gzip.into_iter().map(BatchError::Gzip).chain(others).collect();
    let codes: std::collections::BTreeSet<_> = all.iter().map(BatchError::code).collect();
    assert_eq!(codes.len(), all.len());
    assert!(codes.iter().all(|code| code.bytes().all(|byte| byte.is_ascii_lowercase() || byte.is_ascii_digit() || byte == b'_')));
    assert!(all.iter().all(|error| error.to_string().starts_with("the ")));
}

#[test]
fn a_decoder_can_move_to_its_thread() {
    fn assert_send<T: Send>() {}
    assert_send::<Decoder>();
}

fn json_text() -> impl Strategy<Value = String> {
    prop_oneof![Just(String::new()), "[ -~]{0,12}", any::<String>()].prop_map(|text| serde_json::to_string(&text).unwrap())
}

fn json() -> impl Strategy<Value = String> {
    let leaf = prop_oneof![
        Just("null".to_owned()),
        Just("true".to_owned()),
        Just(r#""\ud83d\u00e9\/""#.to_owned()),
        "-?[1-9][0-9]{0,30}(\\.[0-9]{1,3})?([eE][+-]?[0-9]{1,3})?",
        json_text(),
    ];
    leaf.prop_recursive(4, 16, 4, |inner| {
        let list = prop::collection::vec(inner.clone(), 0..4).prop_map(|items| format!("[{}]", items.join(" ,\n")));
        let object = prop::collection::vec((json_text(), inner), 0..4);
        let object =
            object.prop_map(|items| items.iter().map(|(key, value)| format!("{key}\t: {value}")).collect::<Vec<_>>().join(","));
        prop_oneof![list, object.prop_map(|items| format!("{{ {items}}}"))]
    })
}

/// An event as text, and the workspace, event type and path that it names.
fn any_event() -> impl Strategy<Value = (String, [String; 3])> {
    let text = || any::<String>();
    (text(), text(), text(), json(), json(), any::<[bool; 3]>()).prop_map(|(workspace, kind, path, one, other, order)| {
        let quote = |text: &str| serde_json::to_string(text).unwrap();
        let mut file =
            [format!("\"path\":{}", quote(&path)), format!("\"event_type\" :{}", quote(&kind)), format!("\"old_path\":{other}")];
        let mut parts = [
            "\"event_id\":\"\"".to_owned(),
            "\"timestamp\": \"\\n\"".to_owned(),
            format!("\"workspace\":{{\"id\":{},\"name\":{one}}}", quote(&workspace)),
            format!("\"change\":{{\"diff\":{one}, \"type\":\"\"}}"),
            format!("\"git\":{other}"),
        ];
        if order[0] {
            parts.reverse();
        }
        if order[1] {
            file.rotate_left(1);
        }
        let file = format!("\"file\":{{{}}}", file.join(","));
        let parts = parts.join(if order[2] { "," } else { " ,\r\n" });
        (format!("{{{parts},{file}}}"), [workspace, kind, path])
    })
}

/// Anything from noise to a batch with a scratch.
fn any_data() -> impl Strategy<Value = Vec<u8>> {
    let good = prop::collection::vec(any_event(), 0..3).prop_map(|events| {
        let events: Vec<_> = events.iter().map(|(json, _)| json.as_str()).collect();
        batch(&events)
    });
    let good = good.boxed();
    let scratched = (good.clone(), any::<prop::sample::Index>(), any::<u8>()).prop_map(|(text, at, byte)| {
        let mut bytes = text.into_bytes();
        let at = at.index(bytes.len());
        bytes[at] = byte;
        bytes
    });
    let scratched = scratched.boxed();
    prop_oneof![
        prop::collection::vec(any::<u8>(), 0..200),
        prop::collection::vec(any::<u8>(), 0..200).prop_map(|bytes| [&gzip::MAGIC[..], &[8, 0], &bytes].concat()),
        prop::collection::vec(any::<u8>(), 0..200).prop_map(|bytes| gzip(&bytes)),
        "[A-Za-z0-9+/=\n]{0,100}".prop_map(String::into_bytes),
        "[]\\[{}\",:0-9a-z\\\\ ]{0,100}".prop_map(|text| format!("{{{text}").into_bytes()),
        good.clone().prop_map(String::into_bytes),
        good.prop_map(|text| packed(&text)),
        scratched.clone(),
        scratched.clone().prop_map(|bytes| gzip(&bytes)),
        scratched.prop_map(|bytes| STANDARD.encode(gzip(&bytes)).into_bytes()),
    ]
}

proptest! {
    #[test]
    fn what_is_published_is_what_is_decoded(events in prop::collection::vec(any_event(), 0..8), id in any::<String>()) {
        let texts: Vec<_> = events.iter().map(|(json, _)| json.as_str()).collect();
        let text = format!("{{\"events\":[{}], \"batch_id\":{}}}", texts.join(" , "), serde_json::to_string(&id).unwrap());
        let mut decoder = Decoder::default();
        for (data, compressed) in [(text.clone().into_bytes(), false), (packed(&text), true)] {
            let batch = decoder.decode(&data).unwrap();
            prop_assert_eq!((batch.id.as_ref(), batch.compressed, batch.events.len()), (id.as_str(), compressed, events.len()));
            for (decoded, (json, names)) in batch.events.iter().zip(&events) {
                prop_assert_eq!(decoded.json, json);
                prop_assert_eq!([&*decoded.workspace, &*decoded.event_type, &*decoded.path], names.each_ref().map(String::as_str));
            }
        }
    }

    #[test]
    fn one_decoder_for_many_entries_is_as_good_as_one_for_each(entries in prop::collection::vec(any_data(), 1..6)) {
        let limits = Limits { compressed: 4000, inflated: 4000, events: 2, depth: 8 };
        let mut decoder = Decoder::new(limits);
        for data in &entries {
            let mut fresh = Decoder::new(limits);
            prop_assert_eq!(decoder.decode(data), fresh.decode(data));
        }
    }

    #[test]
    fn what_is_decoded_is_json(data in any_data()) {
        if let Ok(batch) = Decoder::default().decode(&data) {
            for event in batch.events {
                // `IgnoredAny`, because a lone surrogate is JSON and yet no text.
                prop_assert!(serde_json::from_str::<IgnoredAny>(event.json).is_ok());
                prop_assert_eq!((event.json.as_bytes().first(), event.json.as_bytes().last()), (Some(&b'{'), Some(&b'}')));
            }
        }
    }

    #[test]
    fn depth_is_measured_like_it_is_parsed(text in json()) {
        fn deepest(value: &serde_json::Value) -> usize {
            match value {
                serde_json::Value::Array(items) => 1 + items.iter().map(deepest).max().unwrap_or(0),
                serde_json::Value::Object(items) => 1 + items.values().map(deepest).max().unwrap_or(0),
                _ => 0,
            }
        }
        let Ok(value) = serde_json::from_str::<serde_json::Value>(&text) else { return Ok(()) };
        let measured = depth(&text);
        // A repeated key hides what the first one holds, so that parsing may see less.
        prop_assert!(measured >= deepest(&value) && measured <= brackets(&text));
    }
}
