//! The frames of JSON clients: nothing panics, and what is understood is understood again when it is written down.

use roomcast_core::dialect::json::{Command, Object, Request, Topic, parse};
use serde_json::Value;
use serde_json::value::RawValue;

/// Input: the text of a frame. What is not UTF-8 never gets to the dialect.
///
/// # Panics
///
/// When a frame is not what its rewritten form is, or when data is not kept as it was written.
pub fn run(data: &[u8]) {
    let Ok(text) = str::from_utf8(data) else { return };
    match parse(text) {
        Ok(request) => {
            if let Command::Publish { data, .. } = &request.command {
                assert!(lies_within(data.as_str(), text), "the data is not the client's own bytes");
                assert!(serde_json::from_str::<&RawValue>(data.as_str()).is_ok());
            }
            let again = write(&request);
            assert_eq!(parse(&again).as_ref(), Ok(&request), "{again}");
        }
        Err(error) => {
            assert!(!error.message.is_empty() && !error.code.as_str().is_empty());
            // Who asked is known although the request is not understood: the reply can be written.
            let reply = Object::new().string("reply_to", error.id.as_deref().unwrap_or_default()).finish();
            let reply: Value = serde_json::from_str(&reply).unwrap_or_else(|error| panic!("{error}: {reply}"));
            assert_eq!(reply["reply_to"].as_str(), Some(error.id.as_deref().unwrap_or_default()));
        }
    }
}

/// The plainest frame that asks for the same.
fn write(request: &Request<'_>) -> String {
    let string = |text: &str| Value::from(text).to_string();
    let topic = |verb: &str, Topic { room, echo, recover, history }: &Topic<'_>| {
        let recover = recover.as_ref().map(|position| format!(r#","recover":{}"#, string(position))).unwrap_or_default();
        let history = history.map(|count| format!(r#","history":{count}"#)).unwrap_or_default();
        match echo {
            Some((field, value)) => format!(r#""type":"{verb}","{field}":{}{recover}{history}"#, value.as_str()),
            None => {
                let data = format!(r#"{{"action":"{verb}","room":{}{recover}{history}}}"#, string(room));
                format!(r#""type":"subscription","data":{data}"#)
            }
        }
    };
    let fields = match &request.command {
        Command::Ping => r#""type":"ping""#.to_owned(),
        Command::History { room, limit, since, reverse } => {
            let limit = limit.map(|limit| format!(r#","limit":{limit}"#)).unwrap_or_default();
            let since = since.as_ref().map(|since| format!(r#","since":{}"#, string(since))).unwrap_or_default();
            format!(r#""type":"history","data":{{"room":{},"reverse":{reverse}{limit}{since}}}"#, string(room))
        }
        Command::Rooms => r#""type":"rooms""#.to_owned(),
        Command::Presence { room } => format!(r#""type":"presence","data":{{"room":{}}}"#, string(room)),
        Command::Auth { token } => format!(r#""type":"auth","data":{{"token":{}}}"#, string(token)),
        Command::Subscribe(room) => topic("subscribe", room),
        Command::Unsubscribe(room) => topic("unsubscribe", room),
        Command::Publish { room, kind, data } => {
            let (room, kind) = (string(room), string(kind));
            format!(r#""type":"publish","data":{{"room":{room},"type":{kind},"data":{}}}"#, data.as_str())
        }
    };
    match &request.id {
        Some(id) => format!(r#"{{"message_id":{},{fields}}}"#, string(id)),
        None => format!("{{{fields}}}"),
    }
}

fn lies_within(part: &str, whole: &str) -> bool {
    whole.as_bytes().as_ptr_range().contains(&part.as_ptr())
}
