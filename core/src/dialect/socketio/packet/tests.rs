use proptest::prelude::*;
use serde_json::Value;

use super::*;

fn packet(text: &str) -> Packet<'_> {
    parse(text, 10).unwrap_or_else(|error| panic!("{text}: {error}"))
}

fn refused(texts: &[&str]) {
    for text in texts {
        assert_eq!(parse(text, 10), Err(Malformed), "{text}");
    }
}

/// Name, arguments, number and attachments of an event.
fn event_of(text: &str) -> (String, Vec<&str>, Option<u64>, usize) {
    let Body::Event { name, args, ack, attachments } = packet(text).body else { panic!("{text} is no event") };
    (name.into_owned(), args.iter().map(Json::as_str).collect(), ack, attachments)
}

fn ack_of(text: &str) -> (u64, Vec<&str>, usize) {
    let Body::Ack { id, args, attachments } = packet(text).body else { panic!("{text} is no answer") };
    (id, args.iter().map(Json::as_str).collect(), attachments)
}

#[test]
fn namespaces_are_entered_and_left() {
    let auth = Json::parse(r#"{"token":"a,b"}"#);
    for (text, namespace, body) in [
        ("0", "/", Body::Connect(None)),
        ("0/", "/", Body::Connect(None)),
        ("0/,", "/", Body::Connect(None)),
        ("0/custom", "/custom", Body::Connect(None)),
        ("0/custom,", "/custom", Body::Connect(None)),
        (r#"0{"token":"a,b"}"#, "/", Body::Connect(auth)),
        (r#"0/a/é,{"token":"a,b"}"#, "/a/é", Body::Connect(auth)),
        ("1", "/", Body::Disconnect),
        ("1/ws", "/ws", Body::Disconnect),
        ("1/ws,", "/ws", Body::Disconnect),
        ("4", "/", Body::ConnectError),
        (r#"4/ws,{"message":"no"}"#, "/ws", Body::ConnectError),
    ] {
        assert_eq!(packet(text), Packet { namespace, body }, "{text}");
    }
    refused(&["", "7", "é", "/ws", "0[]", "0\"a\"", "0null", "0{", "0{}x", "01{}", "0custom", "1{}", "11", "4{", "-0"]);
}

#[test]
fn events_are_read() {
    assert_eq!(event_of(r#"2["a"]"#), ("a".into(), vec![], None, 0));
    assert_eq!(event_of(r#"2/ws,["a",1.0e5,"x,y"]"#), ("a".into(), vec!["1.0e5", "\"x,y\""], None, 0));
    assert_eq!(event_of(r#"2/,0["a"]"#), ("a".into(), vec![], Some(0), 0));
    assert_eq!(event_of(r#"218446744073709551615["a"]"#), ("a".into(), vec![], Some(u64::MAX), 0));
    assert_eq!(event_of("2[ \"a\" ,\t{\"b\": [1 ,2]} ,null ]"), ("a".into(), vec!["{\"b\": [1 ,2]}", "null"], None, 0));
    assert_eq!(event_of(r#"2["\u0061\n"]"#).0, "a\n");
    assert_eq!(event_of(r#"2["", "\ud800"]"#), (String::new(), vec![r#""\ud800""#], None, 0));
    refused(&[
        "2",
        "2/ws",
        "2[]",
        "2{}",
        r#"2"a""#,
        "2null",
        "2[null]",
        "2[true]",
        "2[{}]",
        "2[[\"a\"]]",
        r#"2["a""#,
        r#"2["a",]"#,
    ]);
    refused(&[r#"2["a"]x"#, r#"2abc["a"]"#, r#"2-1["a"]"#, r#"218446744073709551616["a"]"#, r#"2/ws["a"]"#, r#"21-["a"]"#]);
    refused(&[r#"2["\ud800"]"#, "2[\"a\u{1e}\"]", "2[\"a\"]\u{1e}"]);
}

#[test]
fn a_number_names_an_event_by_its_digits() {
    for name in ["0", "42", "-1", "1.50", "1e999"] {
        assert_eq!(event_of(&format!("2[{name},1]")), (name.into(), vec!["1"], None, 0));
    }
}

#[test]
fn no_client_can_feign_an_event_that_clients_raise_themselves() {
    for name in RESERVED.iter().copied().chain([r"conn\u0065ct"]) {
        refused(&[&format!(r#"2["{name}"]"#), &format!(r#"50-/ws,1["{name}",1]"#)]);
        // Only the name is.
        assert_eq!(ack_of(&format!(r#"31["{name}"]"#)).1.len(), 1);
    }
    assert_eq!(event_of(r#"2["Connect"]"#).0, "Connect");
}

#[test]
fn answers_are_read() {
    assert_eq!(ack_of("31[]"), (1, vec![], 0));
    assert_eq!(ack_of("3/ws,007[ ]"), (7, vec![], 0));
    assert_eq!(ack_of(r#"312["a", {"b":1}]"#), (12, vec!["\"a\"", r#"{"b":1}"#], 0));
    assert_eq!(ack_of(r#"61-/ws,3[{"_placeholder":true,"num":0}]"#), (3, vec![r#"{"_placeholder":true,"num":0}"#], 1));
    refused(&["3", "3[]", "31", "31{}", "3/ws,[1]", "318446744073709551616[]", "6[]", "60-[]", "61-[1]", "3-1[]"]);
}

#[test]
fn attachments_are_counted_and_their_places_are_checked() {
    assert_eq!(event_of(r#"50-["a"]"#), ("a".into(), vec![], None, 0));
    assert_eq!(event_of(r#"510-/ws,3["a",1]"#), ("a".into(), vec!["1"], Some(3), 10));
    assert_eq!(event_of(r#"52-["a",{"x":[{"_placeholder":true,"num":1}]}]"#).3, 2);
    // In a packet without attachments it is an object like others.
    assert_eq!(event_of(r#"2["a",{"_placeholder":true,"num":7}]"#).1.len(), 1);
    refused(&[r#"5["a"]"#, r#"51["a"]"#, r#"5-["a"]"#, r#"5-1-["a"]"#, r#"5x-["a"]"#, r#"511-["a"]"#, "51-", "51"]);
    refused(&[r#"51-["a",{"_placeholder":true,"num":1}]"#, r#"50-["a",{"_placeholder":true,"num":0}]"#]);
    refused(&[r#"61-2[{"_placeholder":true,"num":1}]"#, r#"599999999999999999999999-["a"]"#]);
    assert_eq!(parse(r#"51-["a"]"#, 0), Err(Malformed));
}

#[test]
fn arguments_are_found_again_and_again() {
    let Body::Event { args, .. } = packet(r#"2["a", {"b": 1.0,  "c":"],["} ,[ ] ,"\"" , -0 ]"#).body else { panic!() };
    let values = [r#"{"b": 1.0,  "c":"],["}"#, "[ ]", r#""\"""#, "-0"];
    assert!(args.iter().map(Json::as_str).eq(values));
    assert!(args.iter().map(Json::as_str).eq(values));
    assert_eq!(args.first().map(Json::as_str), Some(values[0]));
    assert!(!args.is_empty());
    assert!(serde_json::from_str::<Vec<Value>>(&args.as_array()).is_ok_and(|array| array.len() == 4));

    let Body::Event { args: none, .. } = packet("2[\"a\" ]").body else { panic!() };
    assert!(none.is_empty() && none.first().is_none() && none.as_array() == "[]");
    assert_ne!(none, args);
    assert_eq!(packet("2[\"a\",1,2]"), packet("2[ \"a\" , 1\n, 2 ]"));
    assert_ne!(packet("2[\"a\",1,2]"), packet("2[\"a\",1]"));
}

#[test]
fn nesting_is_limited_like_that_of_serde_json() {
    for depth in 120..135 {
        let array = format!("{}{}", "[".repeat(depth), "]".repeat(depth));
        let object = format!("{}1{}", "{\"a\":".repeat(depth), "}".repeat(depth));
        let fits = serde_json::from_str::<Value>(&array).is_ok();
        assert_eq!(parse(&format!("31{array}"), 0).is_ok(), fits, "{depth}");
        assert_eq!(parse(&format!("0{object}"), 0).is_ok(), fits, "{depth}");
        assert_eq!(parse(&format!("61-1[{object}]"), 1).is_ok(), depth < 127, "{depth}");
    }
    for start in ["2[\"a\",", "51-[\"a\",", "31", "0{\"a\":", "4"] {
        let deep = format!("{start}{}{}", "[".repeat(300_000), "]".repeat(300_000));
        let closed = deep.clone() + if start.ends_with(':') { "}" } else { "]" };
        refused(&[&deep, &closed, &format!("{start}{}", "{\"a\":".repeat(100_000))]);
    }
}

#[test]
fn what_is_written_is_what_clients_expect() {
    let [data, place] = [r#"{"n": 1.0}"#, r#"{"_placeholder":true,"num":0}"#].map(|json| Json::parse(json).unwrap());
    for (written, expected) in [
        (connect("/", r#"{"sid":"s"}"#), r#"40{"sid":"s"}"#),
        (connect("/ws", r#"{"sid":"s"}"#), r#"40/ws,{"sid":"s"}"#),
        (connect_error("/ws", r#"{"message":"no"}"#), r#"44/ws,{"message":"no"}"#),
        (disconnect("/"), "41"),
        (disconnect("/ws"), "41/ws,"),
        (event("/", "a\"b\u{1e}", &[], None, 0), r#"42["a\"b\u001e"]"#),
        (event("/ws", "tick", &[data, data], Some(0), 0), r#"42/ws,0["tick",{"n": 1.0},{"n": 1.0}]"#),
        (event("/", "tick", &[place], Some(12), 1), r#"451-12["tick",{"_placeholder":true,"num":0}]"#),
        (event("/ws", "tick", &[place], None, 1), r#"451-/ws,["tick",{"_placeholder":true,"num":0}]"#),
        (ack("/", 0, &[], 0), "430[]"),
        (ack("/ws", u64::MAX, &[data], 0), r#"43/ws,18446744073709551615[{"n": 1.0}]"#),
        (ack("/ws", 7, &[place], 1), r#"461-/ws,7[{"_placeholder":true,"num":0}]"#),
    ] {
        assert_eq!(written, expected);
    }
}

fn value() -> impl Strategy<Value = Value> {
    let leaf = prop_oneof![
        Just(Value::Null),
        any::<bool>().prop_map(Value::from),
        any::<i64>().prop_map(Value::from),
        any::<f64>().prop_map(Value::from),
        ".{0,5}".prop_map(Value::from),
    ];
    leaf.prop_recursive(4, 16, 4, |inner| {
        prop_oneof![
            prop::collection::vec(inner.clone(), 0..4).prop_map(Value::from),
            prop::collection::btree_map(".{0,4}", inner, 0..4).prop_map(|fields| Value::Object(fields.into_iter().collect())),
        ]
    })
}

proptest! {
    #[test]
    fn what_is_written_is_read(
        namespace in "/([^,]{0,8})",
        name in ".{0,8}".prop_filter("reserved", |name| !RESERVED.contains(&name.as_str())),
        values in prop::collection::vec((value(), any::<bool>()), 0..5),
        number: u64,
        answer: bool,
        attachments in 0..10_usize,
    ) {
        let texts: Vec<String> = values
            .iter()
            .map(|(value, pretty)| if *pretty { format!("{value:#}") } else { value.to_string() })
            .collect();
        let args: Vec<Json<'_>> = texts.iter().map(|text| Json::parse(text).unwrap()).collect();

        let text = event(&namespace, &name, &args, answer.then_some(number), attachments);
        let read = parse(text.strip_prefix('4').unwrap(), 10).unwrap();
        prop_assert_eq!(read.namespace, &namespace);
        let Body::Event { name: read, args: values, ack: id, attachments: count } = read.body else { panic!() };
        prop_assert_eq!((read.as_ref(), id, count), (name.as_str(), answer.then_some(number), attachments));
        prop_assert!(values.iter().eq(args.iter().copied()));

        let text = ack(&namespace, number, &args, attachments);
        let read = parse(text.strip_prefix('4').unwrap(), 10).unwrap();
        prop_assert_eq!(read.namespace, &namespace);
        let Body::Ack { id, args: values, attachments: count } = read.body else { panic!() };
        prop_assert_eq!((id, count), (number, attachments));
        prop_assert!(values.iter().eq(args.iter().copied()));
        let array: Value = serde_json::from_str(&values.as_array()).unwrap();
        prop_assert_eq!(array.as_array().map(Vec::len), Some(args.len()));
    }

    #[test]
    fn nothing_panics(
        text in r#"[0-6][0-9]{0,2}-?(/[a-z]{0,2},?)?[0-9]{0,2}[\[\]{}":, \\a-z0-9é]{0,30}"#,
        any in ".{0,40}",
    ) {
        for text in [text, any] {
            if let Ok(Packet { body: Body::Event { args, .. } | Body::Ack { args, .. }, .. }) = parse(&text, 10) {
                prop_assert_eq!(args.iter().count() == 0, args.is_empty());
                prop_assert!(Json::parse(&args.as_array()).is_some());
            }
        }
    }
}
