//! What a gateway says, as far as a client of the benchmark understands it.

use std::time::Duration;

use serde_json::Value;

/// The type of the messages that are published.
pub(crate) const KIND: &str = "note";

const MESSAGE: &[u8] = b"{\"type\":\"note\",\"data\":{\"n\":";
const POSITION: &[u8] = b",\"position\":\"";

/// A text frame of a gateway.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Text<'a> {
    /// A message with its number and, where its room remembers, its position.
    Message(usize, Option<&'a str>),
    /// The answer to a subscription.
    Subscribed {
        /// What it follows, where its room remembers.
        position: Option<String>,
        /// What became of what was to be recovered.
        recovered: Option<bool>,
    },
    /// The connection will end now; when to come back.
    Reconnect(Duration),
    /// A greeting, or the confirmation of something else.
    Other,
}

/// The data of a message: its number, and a padding to a length.
pub(crate) fn data(number: usize, bytes: usize) -> String {
    let bare = format!("{{\"n\":{number},\"p\":\"\"}}");
    format!("{{\"n\":{number},\"p\":\"{}\"}}", "x".repeat(bytes.saturating_sub(bare.len())))
}

/// Understands a frame.
///
/// # Panics
///
/// When it is a refusal.
#[inline]
pub(crate) fn understand(payload: &[u8]) -> Text<'_> {
    let Some(rest) = payload.strip_prefix(MESSAGE) else { return understand_answer(payload) };
    let digits = rest.iter().take_while(|byte| byte.is_ascii_digit());
    let number = digits.fold(0, |number, digit| number * 10 + usize::from(digit - b'0'));
    Text::Message(number, position(payload))
}

/// The position is the last field, where there is one.
fn position(payload: &[u8]) -> Option<&str> {
    let payload = payload.strip_suffix(b"\"}")?;
    let start = payload.iter().rposition(|byte| *byte == b'"')? + 1;
    payload[..start].ends_with(POSITION).then(|| std::str::from_utf8(&payload[start..]).expect("a position is ASCII"))
}

fn understand_answer(payload: &[u8]) -> Text<'_> {
    let answer: Value = serde_json::from_slice(payload).expect("a gateway speaks JSON");
    let data = &answer["data"];
    match answer["type"].as_str() {
        Some("subscribed") => {
            let position = data["position"].as_str().map(str::to_owned);
            Text::Subscribed { position, recovered: data["recovered"].as_bool() }
        }
        Some("reconnect") => Text::Reconnect(Duration::from_millis(data["after_ms"].as_u64().expect("it says when"))),
        Some("error") => panic!("refused: {answer}"),
        _ => Text::Other,
    }
}
