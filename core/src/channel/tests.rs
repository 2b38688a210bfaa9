//! What real publishers send, and what nobody should.

use proptest::prelude::*;
use serde_json::Value;

use super::*;
use crate::config::Channel;

const AT: UnixMillis = UnixMillis(1_759_712_400_123);

fn heard<'a>(channel: &'a str, payload: &'a [u8]) -> Heard<'a> {
    Heard { channel, payload, occurrence: 0, at: AT }
}

fn map_all(channel: &Channel, payload: &[u8]) -> Result<Vec<Mapped>, ChannelError> {
    Mapper::new(channel, &Limits::default()).map(&heard(channel.name(), payload))
}

/// The only room, and what it is sent.
fn map(channel: &Channel, payload: &str) -> (String, String) {
    let mapped = map_all(channel, payload.as_bytes()).unwrap_or_else(|error| panic!("{payload}: {error}"));
    let [Mapped { room, payload, .. }] = &mapped[..] else { panic!("{mapped:?}") };
    (room.to_string(), str::from_utf8(payload).unwrap().to_owned())
}

fn room(channel: &Channel, payload: &str) -> Result<String, &'static str> {
    let mapped = map_all(channel, payload.as_bytes()).map_err(|error| error.code())?;
    Ok(mapped.iter().map(|mapped| &*mapped.room).collect::<Vec<_>>().join(" "))
}

/// A channel of envelopes that go to the first of these.
fn to<const N: usize>(to: [&str; N]) -> Channel {
    Channel { to: to.map(String::from).into(), ..Channel::new("c") }
}

#[test]
fn system_b_in_go_names_a_project_a_user_or_nobody() {
    let project = r#"{"type":"task_updated","data":{"task_id":"6f1d3c1e-2f64-4b7c-9a55-1c2f0a6b7d11","project_id":"0b5ac0f4-8d2c-4a53-9c0e-3f5bf0a8e7a1","changes":{"status":{"old":"TODO","new":"PLANNING"}},"task":null},"project_id":"0b5ac0f4-8d2c-4a53-9c0e-3f5bf0a8e7a1","timestamp":"2025-08-07T12:32:56.123456789+07:00","message_id":"2c1f8c3e-6a3b-4d6e-8f1c-5b9a7e0d4c21","source":"worker"}"#;
    let expected = r#"{"type":"task_updated","data":{"task_id":"6f1d3c1e-2f64-4b7c-9a55-1c2f0a6b7d11","project_id":"0b5ac0f4-8d2c-4a53-9c0e-3f5bf0a8e7a1","changes":{"status":{"old":"TODO","new":"PLANNING"}},"task":null},"timestamp":"2025-08-07T12:32:56.123456789+07:00","message_id":"2c1f8c3e-6a3b-4d6e-8f1c-5b9a7e0d4c21","room":"project:0b5ac0f4-8d2c-4a53-9c0e-3f5bf0a8e7a1","project_id":"0b5ac0f4-8d2c-4a53-9c0e-3f5bf0a8e7a1"}"#;
    let broadcast = Channel::broadcast();
    assert_eq!(map(&broadcast, project), ("project:0b5ac0f4-8d2c-4a53-9c0e-3f5bf0a8e7a1".into(), expected.into()));
    let mapped = map_all(&broadcast, project.as_bytes()).unwrap();
    assert_eq!((&*mapped[0].message_id, mapped[0].derived), ("2c1f8c3e-6a3b-4d6e-8f1c-5b9a7e0d4c21", false));

    for (fields, expected) in [
        (r#""user_id":"7""#, "user:7"),
        (r#""user_id":7"#, "user:7"),
        (r#""room":"user:7","project_id":"1""#, "user:7"),
        (r#""project_id":"1","user_id":"7""#, "project:1"),
        (r#""project_id":null,"user_id":"7""#, "user:7"),
        (r#""project_id":"","user_id":"""#, "*"),
        (r#""source":"worker""#, "*"),
    ] {
        let payload = format!(r#"{{"type":"status_changed","data":{{}},{fields},"message_id":"m"}}"#);
        assert_eq!(room(&broadcast, &payload).as_deref(), Ok(expected), "{payload}");
    }
}

#[test]
fn system_c_in_python_writes_its_timestamps_in_two_ways() {
    let data = r#"{"status": "in_progress", "completed_at": null, "error": null, "reddit_username": "Anonymous", "tier": "gold", "subreddit": null, "amount_usd": 25.0, "is_anonymous": true, "progress": null, "stage": null, "message": null}"#;
    for timestamp in ["1732154491.899989", "\"2026-11-21T02:01:31.899989\""] {
        let payload = format!(r#"{{"type": "task_update", "task_id": "12", "data": {data}, "timestamp": {timestamp}}}"#);
        let (room, sent) = map(&Channel::task_updates(), &payload);
        let id = serde_json::from_str::<Value>(&sent).unwrap()["message_id"].as_str().unwrap().to_owned();
        let expected = format!(
            r#"{{"type":"task_update","data":{data},"timestamp":{timestamp},"message_id":"{id}","room":"task:12","task_id":"12"}}"#
        );
        assert_eq!((room.as_str(), sent), ("task:12", expected));
    }

    let info = r#"{"type": "task_created", "task_info": {"task_id": "12", "status": "pending", "created_at": "2026-11-21T02:01:31.899989", "donation_id": 3, "stage": "pending", "message": "Commission created", "progress": 0, "amount_usd": 25.0, "is_anonymous": false, "timestamp": 1732154491.899989}}"#;
    let payload = format!(r#"{{"type": "general_update", "data": {info}, "timestamp": 1732154491.9}}"#);
    let (room, sent) = map(&Channel::general_updates(), &payload);
    assert_eq!(room, "global");
    assert!(sent.starts_with(&format!(r#"{{"type":"general_update","data":{info},"timestamp":1732154491.9,"#)), "{sent}");
}

/// As published by `RedisManager(write_only=True).emit("project.updated", …, namespace="/ws", room="project:7")`.
const EVENT: &str = r#"{"type": "project.updated", "timestamp": "2026-11-21T01:56:52.316882", "data": {"project_id": "7", "x": null}, "source": "project_service"}"#;

fn emit(event: &str, data: &str, room: &str) -> String {
    format!(
        r#"{{"method": "emit", "event": "{event}", "data": {data}, "binary": false, "namespace": "/ws", "room": {room}, "skip_sid": null, "callback": null, "host_id": "89b75afcfefd4358bd882ba38d76c78d"}}"#
    )
}

#[test]
fn python_socketio_sends_envelopes_in_both_forms_of_its_json() {
    // 5.14.0, which does not know `binary`; 5.14.2 to 5.15.0; since 5.15.1, a list of arguments.
    let without_binary = emit("project.updated", EVENT, "\"project:7\"").replace(r#""binary": false, "#, "");
    let argument = emit("project.updated", EVENT, "\"project:7\"");
    let arguments = emit("project.updated", &format!("[{EVENT}]"), "\"project:7\"");
    for payload in [without_binary, argument, arguments] {
        let mapped = map_all(&Channel::socketio(), payload.as_bytes()).unwrap();
        let [Mapped { message_id, derived: true, .. }] = &mapped[..] else { panic!("{mapped:?}") };
        let expected = format!(
            r#"{{"type":"project.updated","data":{{"project_id": "7", "x": null}},"timestamp":"2026-11-21T01:56:52.316882","message_id":"{message_id}","room":"project:7","source":"project_service"}}"#
        );
        assert_eq!(map(&Channel::socketio(), &payload), ("project:7".into(), expected));
    }
}

#[test]
fn python_socketio_sends_arguments_of_any_kind() {
    for (data, expected) in [
        // What 5.14 to 5.15.0 publishes for a dictionary, a string, a list, a tuple, and nothing.
        (r#"{"n": 1}"#, r#"{"n": 1}"#),
        (r#""hello""#, r#""hello""#),
        ("[1, 2]", "[1, 2]"),
        (r#"["a", {"b": 1}]"#, r#"["a", {"b": 1}]"#),
        ("null", "null"),
        (r#"{"t": "\u00e9\ud83d\ude00"}"#, r#"{"t": "\u00e9\ud83d\ude00"}"#),
        // And what 5.15.1 and later do.
        (r#"[{"n": 1}]"#, r#"{"n": 1}"#),
        (r#"["hello"]"#, r#""hello""#),
        ("[[1, 2]]", "[1, 2]"),
        ("[null]", "null"),
        ("[]", "[]"),
        // Envelopes of something else are data.
        (r#"{"type": "text", "data": "hello", "by": "bob"}"#, r#"{"type": "text", "data": "hello", "by": "bob"}"#),
        (r#"{"type": "tick"}"#, r#"{"type": "tick"}"#),
        (r#"{"\ud800": 1}"#, r#"{"\ud800": 1}"#),
    ] {
        let (_, sent) = map(&Channel::socketio(), &emit("tick", data, "\"global\""));
        let start = format!(r#"{{"type":"tick","data":{expected},"timestamp":"2025-10-06T01:00:00.123Z","message_id":""#);
        assert!(sent.starts_with(&start) && sent.ends_with(r#"","room":"global"}"#), "{data}: {sent}");
    }
}

#[test]
fn python_socketio_names_one_room_several_or_everybody() {
    let room = |of: &str| room(&Channel::socketio(), &emit("tick", "1", of));
    for (of, expected) in [
        ("null", Ok("*")),
        ("\"project:7\"", Ok("project:7")),
        ("7", Ok("7")),
        (r#"["a", "b"]"#, Ok("a b")),
        (r#"["a", 7, "a", "7"]"#, Ok("a 7")),
        ("[]", Err("no_target")),
        ("\"\"", Err("room_name")),
        ("true", Err("room_name")),
        ("{}", Err("room_name")),
        (r#"["a", null]"#, Err("room_name")),
        (r#""\ud800""#, Err("room_name")),
    ] {
        assert_eq!(room(of).as_deref(), expected.as_deref(), "{of}");
    }
    let rooms = |count: usize| format!("[{}]", (0..count).map(|room| room.to_string()).collect::<Vec<_>>().join(","));
    assert_eq!(room(&rooms(MOST_ROOMS)).map(|rooms| rooms.split(' ').count()), Ok(MOST_ROOMS));
    assert_eq!(room(&rooms(MOST_ROOMS + 1)), Err("too_many_rooms"));
    let missing = r#"{"method":"emit","event":"tick"}"#;
    let (room, sent) = map(&Channel::socketio(), missing);
    assert!(room == "*" && sent.starts_with(r#"{"type":"tick","data":null,"#), "{sent}");
}

#[test]
fn what_python_socketio_wants_beside_events_is_refused() {
    let code = |payload: &[u8]| map_all(&Channel::socketio(), payload).unwrap_err().code();
    // `emit("tick", {"n": 1})` of 5.10 and 5.13, and the bytes of 5.18 for `emit("tick", b"\x01\x02", room="a")`.
    let pickle = b"\x80\x04\x95\x91\0\0\0\0\0\0\0}\x94(\x8c\x06method\x94\x8c\x04emit\x94\x8c\x05event\x94\x8c\x04tick\x94\x8c\x04data\x94}\x94\x8c\x01n\x94K\x01s\x8c\tnamespace\x94\x8c\x01/\x94\x8c\x04room\x94N\x8c\x08skip_sid\x94N\x8c\x08callback\x94N\x8c\x07host_id\x94\x8c ba309fc28bf248129107f2841e34725a\x94u.";
    assert_eq!(code(pickle), "pickled");
    let binary = emit("tick", r#"[[{"_placeholder": true, "num": 0}], "AQI="]"#, "\"a\"").replace("false", "true");
    assert_eq!(code(binary.as_bytes()), "binary");
    for payload in [
        r#"{"method": "close_room", "room": "a", "namespace": "/ws", "host_id": "89b75afcfefd4358bd882ba38d76c78d"}"#,
        r#"{"method": "enter_room", "sid": "sid1", "room": "a", "namespace": "/ws", "host_id": "89b75afcfefd4358bd882ba38d76c78d"}"#,
        r#"{"method": "leave_room", "sid": "sid1", "room": "a", "namespace": "/ws", "host_id": "89b75afcfefd4358bd882ba38d76c78d"}"#,
        r#"{"method": "disconnect", "sid": "sid1", "namespace": "/ws", "host_id": "89b75afcfefd4358bd882ba38d76c78d"}"#,
        r#"{"method": "callback", "host_id": "h", "sid": "s", "namespace": "/", "id": 1, "args": []}"#,
        r#"{"event": "tick"}"#,
    ] {
        assert_eq!(code(payload.as_bytes()), "unsupported_method", "{payload}");
    }
    assert_eq!(code(br#"{"method": "emit", "data": 1}"#), "no_type");
    assert_eq!(code(br#"{"method": "emit", "method": "emit"}"#), "not_an_object");
    let error = map_all(&Channel::socketio(), format!(r#"{{"method":"{}"}}"#, "x".repeat(50)).as_bytes()).unwrap_err();
    assert_eq!(error.to_string(), format!("the method is \"{}\", and only \"emit\" is passed on", "x".repeat(40)));
}

#[test]
fn the_room_follows_from_fields_the_channel_and_the_pattern() {
    let payload =
        r#"{"type":"t","a":"x","n":12,"f":-1.50,"o":{"p":{"q":"y"}},"s":"12","no":false,"list":[1],"none":null,"empty":""}"#;
    for (template, expected) in [
        ("{a}:{n}", Ok("x:12")),
        ("{s}", Ok("12")),
        ("{f}", Ok("-1.50")),
        ("{o.p.q}/{channel}", Ok("y/c")),
        ("{o}", Err("room_name")),
        ("{o.p.z}", Err("no_target")),
        ("{a.b}", Err("no_target")),
        ("{no}", Err("room_name")),
        ("{list}", Err("room_name")),
        ("{none}", Err("no_target")),
        ("{empty}", Err("no_target")),
        ("{match}", Err("no_target")),
    ] {
        assert_eq!(room(&to([template]), payload).as_deref(), expected.as_deref(), "{template}");
    }
    assert_eq!(room(&to(["x:{none}", "y:{n}", "z"]), payload).as_deref(), Ok("y:12"));
    for broken in ["{o}", "{no}", "{list}"] {
        assert_eq!(room(&to([broken, "*"]), payload), Err("room_name"), "what is meant for {broken} is not told to everybody");
    }

    let news = Channel { channel: None, pattern: Some("news:*:*".into()), ..to(["{match}", "all"]) };
    let room_of = |name| Mapper::new(&news, &Limits::default()).map(&heard(name, payload.as_bytes())).unwrap()[0].room.clone();
    assert_eq!([room_of("news:a:b:c"), room_of("news::b"), room_of("else")], ["a".into(), "all".into(), "all".into()]);
}

#[test]
fn what_goes_nowhere_says_why() {
    let long = format!(r#"{{"type":"t","room":"{}"}}"#, "x".repeat(201));
    let large = format!(r#"{{"type":"{}"}}"#, "x".repeat(foreign::MOST_BYTES));
    for (payload, code, reason) in [
        (large.as_bytes(), "too_large", "the message has 1048587 bytes, the limit is 1048576"),
        (b"\x80\x04", "not_utf8", "the message is not UTF-8 after byte 0"),
        (b"[]", "not_an_object", "the message is not a JSON object: invalid type: sequence, expected an object at line 1"),
        (br#"{"room":"r"}"#, "no_type", "the message has no type"),
        (br#"{"room":"r","type":7}"#, "no_type", "the message has no type"),
        (br#"{"type":"t"}"#, "no_target", "the message names no room"),
        (long.as_bytes(), "room_name", "the name of the room is empty, too long or no text, or has control characters"),
        (br#"{"type":"t","room":"a\nb"}"#, "room_name", "the name of the room"),
        (br#"{"type":"t","room":"\ud800"}"#, "room_name", "the name of the room"),
        (
            br#"{"type":"t","room":"a","r\u006fom":"b"}"#,
            "not_an_object",
            "the message is not a JSON object: duplicate field `room`",
        ),
    ] {
        let error = map_all(&to(["{room}"]), payload).unwrap_err();
        assert_eq!(error.code(), code);
        assert!(error.to_string().starts_with(reason), "{error}");
    }
    // What decides about the room is read, too.
    assert_eq!(room(&Channel::task_updates(), r#"{"type":"t","task_id":"1","task_id":"2"}"#), Err("not_an_object"));
}

#[test]
fn an_identifier_is_the_publishers_or_follows_from_the_message() {
    let mapper = Mapper::new(&Channel::general_updates(), &Limits::default());
    let payload = br#"{"type":"t","data":1}"#;
    let id = |heard: Heard<'_>| {
        let mapped = mapper.map(&heard).unwrap().remove(0);
        let sent: Value = serde_json::from_slice(&mapped.payload).unwrap();
        assert!(mapped.derived && sent["message_id"] == *mapped.message_id);
        mapped.message_id
    };
    let first = heard("general_updates", payload);
    let one = id(first);
    assert_eq!(&*one, "7fe451e1-9e62-8da9-82c1-c2ea6fc654ab", "it is the same on every node and in every version");
    assert_eq!(one, id(Heard { at: UnixMillis(0), ..first }), "also where the time is not");
    assert_ne!(one, id(Heard { occurrence: 1, ..first }));
    assert_ne!(one, id(Heard { channel: "other", ..first }));
    assert_ne!(one, id(Heard { payload: br#"{"type":"t","data":2}"#, ..first }));

    for (written, expected) in [("\"a\\u002fb\"", Some("a/b")), ("7", Some("7")), ("\"\"", None), ("null", None)] {
        let payload = format!(r#"{{"type":"t","message_id":{written}}}"#);
        let mapped = mapper.map(&heard("general_updates", payload.as_bytes())).unwrap().remove(0);
        assert_eq!((!mapped.derived).then_some(&*mapped.message_id), expected);
        let sent = str::from_utf8(&mapped.payload).unwrap();
        assert_eq!(sent.contains(&format!("\"message_id\":{written},")), expected.is_some(), "{sent}");
    }
}

#[test]
fn an_identifier_that_is_too_long_is_passed_on_and_nothing_is_stored_under_it() {
    let mapper = Mapper::new(&Channel::general_updates(), &Limits::default());
    for (length, is_derived) in [(LONGEST_ID, false), (LONGEST_ID + 1, true)] {
        let written = "x".repeat(length);
        let payload = format!(r#"{{"type":"t","message_id":"{written}"}}"#);
        let mapped = |occurrence| {
            let heard = Heard { occurrence, ..heard("general_updates", payload.as_bytes()) };
            mapper.map(&heard).unwrap().remove(0)
        };
        let [first, second] = [0, 1].map(mapped);
        let is_written = *first.message_id == *written;
        assert_eq!((first.derived, is_written, first.message_id == second.message_id), (is_derived, !is_derived, !is_derived));
        for Mapped { payload, .. } in [first, second] {
            assert_eq!(serde_json::from_slice::<Value>(&payload).unwrap()["message_id"], written);
        }
    }
}

#[test]
fn only_what_is_named_is_dropped_and_nothing_pretends_to_be_ours() {
    let channel = Channel { drop: vec!["secret".into(), "data".into()], ..Channel::general_updates() };
    let payload =
        r#"{"type":"t","data":1,"secret":2,"source":"s","room":"elsewhere","position":"1.2.3","timestamp":0,"message_id":1}"#;
    let expected = r#"{"type":"t","data":1,"timestamp":0,"message_id":1,"room":"global","source":"s"}"#;
    assert_eq!(map(&channel, payload), ("global".into(), expected.into()));
}

#[test]
fn deep_nesting_is_no_harm() {
    let deep = format!("{}1{}", r#"{"a":"#.repeat(100_000), "}".repeat(100_000));
    assert_eq!(room(&to(["{data.a.a.b}", "r"]), &format!(r#"{{"type":"t","data":{deep}}}"#)).as_deref(), Ok("r"));
    assert_eq!(room(&Channel::socketio(), &emit("tick", &deep, "null")).as_deref(), Ok("*"));
}

fn channels() -> impl Strategy<Value = Channel> {
    let pattern = Channel { channel: None, pattern: Some("c*".into()), ..to(["{match}:{a.b}", "{room}", "{data.a}", "*"]) };
    prop::sample::select(vec![Channel::broadcast(), Channel::socketio(), Channel::task_updates(), pattern])
}

fn json() -> impl Strategy<Value = String> {
    let leaf =
        prop_oneof!["\"[a-z\\PC&&[^\"\\\\]]{0,4}\"", "-?[1-9][0-9]{0,3}(\\.[0-9]{1,2})?", "null|true|\\[ \\]|\"\\\\u0041\""];
    leaf.prop_recursive(3, 12, 4, |inner| {
        let name = "type|data|event|method|room|a|b|task_id|message_id|timestamp|position|binary";
        let fields = prop::collection::vec((name, inner.clone()), 0..6);
        let object = fields.prop_map(|fields| {
            let fields: Vec<String> = fields.into_iter().map(|(name, value)| format!("\"{name}\" : {value}")).collect();
            format!("{{{}}}", fields.join(", "))
        });
        prop_oneof![object, prop::collection::vec(inner, 0..3).prop_map(|values| format!("[{}]", values.join(" ,")))]
    })
}

proptest! {
    #[test]
    fn no_bytes_are_any_harm(channel in channels(), payload in prop::collection::vec(any::<u8>(), 0..200), name in "\\PC{0,9}") {
        let mapper = Mapper::new(&channel, &Limits::default());
        prop_assert_eq!(mapper.map(&heard(&name, &payload)), mapper.map(&heard(&name, &payload)));
    }

    #[test]
    fn data_is_passed_on_as_it_is_and_the_room_is_ours(channel in channels(), data in json(), more in json(), name in "c[a-z]{0,3}") {
        let payload = match channel.form {
            // A list of one is taken for its element, and that may be an envelope.
            Form::Socketio => emit("no such type", &format!("[{data}, 1]"), "\"r\""),
            Form::Envelope => format!(r#"{{"type":"t","data":{data},"room":"r","task_id":1,"more":{more}}}"#),
        };
        let mapper = Mapper::new(&channel, &Limits::default());
        // What cannot be told is refused: a name that decides and occurs twice.
        if let Ok(mapped) = mapper.map(&heard(&name, payload.as_bytes())) {
            for Mapped { room, payload, .. } in mapped {
                let sent = Fields::read(str::from_utf8(&payload).unwrap()).unwrap();
                let expected = if channel.form == Form::Socketio { format!("[{data}, 1]") } else { data.clone() };
                prop_assert_eq!(sent.get("data").unwrap().unwrap().get(), expected);
                prop_assert_eq!(sent.get("room").unwrap().unwrap().get(), Value::from(&*room).to_string());
                prop_assert!(sent.get("message_id").unwrap().is_some() && sent.get("timestamp").unwrap().is_some());
            }
        }
    }

    #[test]
    fn whatever_is_passed_on_is_an_envelope(channel in channels(), payload in json(), name in "c[a-z]{0,3}") {
        let mapper = Mapper::new(&channel, &Limits::default());
        for Mapped { room, payload, message_id, .. } in mapper.map(&heard(&name, payload.as_bytes())).unwrap_or_default() {
            prop_assert!(Limits::default().allows_room_name(&room) && !message_id.is_empty());
            let sent: Value = serde_json::from_slice(&payload).unwrap();
            prop_assert!(sent["type"].is_string() && sent["room"] == *room && sent.get("position").is_none());
        }
    }
}
