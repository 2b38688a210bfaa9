//! Messages of channels: whatever is heard, what is passed on is an envelope with the publisher's own bytes in it, and every node
//! maps it to the same.

use roomcast_core::channel::{Heard, MOST_ROOMS, Mapped, Mapper};
use roomcast_core::config::{Channel, Form, Limits};
use roomcast_core::time::UnixMillis;
use serde::Deserialize;
use serde_json::Value;
use serde_json::value::RawValue;

/// Separates the name of the channel from the message.
pub const SEPARATOR: u8 = b'\n';

/// The parts of an envelope that stand where they stood, byte for byte.
#[derive(Deserialize)]
struct Envelope<'a> {
    #[serde(borrow, rename = "type")]
    kind: &'a RawValue,
    #[serde(borrow)]
    data: &'a RawValue,
    #[serde(borrow)]
    timestamp: &'a RawValue,
    #[serde(borrow)]
    message_id: &'a RawValue,
    room: String,
}

/// Input: the name of a channel, [`SEPARATOR`], a message. It is mapped as what each kind of channel may hear.
///
/// # Panics
///
/// When what is passed on is not an envelope, has other bytes than the message, or is not the same the second time.
pub fn run(data: &[u8]) {
    let at = data.iter().position(|&byte| byte == SEPARATOR).unwrap_or(data.len());
    let (name, payload) = (String::from_utf8_lossy(&data[..at]), data.get(at + 1..).unwrap_or_default());
    for channel in channels() {
        check(&channel, &name, payload);
    }
}

/// The defaults, and one with everything that a name of a room can have.
fn channels() -> Vec<Channel> {
    let to = ["{match}:{data.task.id}", "{channel}/{id}", "{room}"].map(String::from).into();
    let pattern = Channel { channel: None, pattern: Some(r"n?ws:[a-c]*:\**".into()), to, ..Channel::new("") };
    vec![Channel::broadcast(), Channel::task_updates(), Channel::general_updates(), Channel::socketio(), pattern]
}

fn check(channel: &Channel, name: &str, payload: &[u8]) {
    let limits = Limits::default();
    let heard = Heard { channel: name, payload, occurrence: 7, at: UnixMillis(0) };
    let result = Mapper::new(channel, &limits).map(&heard);
    assert_eq!(Mapper::new(channel, &limits).map(&heard), result, "another node maps it differently");
    let mapped = match result {
        Ok(mapped) => mapped,
        Err(error) => {
            // It goes to logs and metrics.
            assert!(!error.code().is_empty() && (1..1000).contains(&error.to_string().len()), "{error}");
            return;
        }
    };
    let text = str::from_utf8(payload).expect("what is no text is not passed on");
    assert!((1..=MOST_ROOMS).contains(&mapped.len()));
    for (at, Mapped { room, payload, message_id, derived }) in mapped.iter().enumerate() {
        assert!(limits.allows_room_name(room), "{room:?}");
        assert!(mapped[..at].iter().all(|other| other.room != *room), "{room} is told twice");
        let sent = str::from_utf8(payload).expect("an envelope is text");
        let sent: Envelope<'_> = serde_json::from_str(sent).unwrap_or_else(|error| panic!("{error}: {sent}"));
        assert!(sent.kind.get().starts_with('"') && text.contains(sent.kind.get()));
        assert_eq!(sent.room, **room);
        assert!(text.contains(sent.data.get()) || sent.data.get() == "null", "the data is not the publisher's own bytes");
        let own = "\"1970-01-01T00:00:00.000Z\"";
        assert!(text.contains(sent.timestamp.get()) || sent.timestamp.get() == own);
        assert!(*derived || text.contains(sent.message_id.get()));
        assert_eq!(*message_id, mapped[0].message_id);
        if let Ok(Value::String(id)) = serde_json::from_str(sent.message_id.get()) {
            assert_eq!(id, **message_id);
        }
        // Another one of the same bytes is another message, unless its publisher says otherwise.
        let next = Mapper::new(channel, &limits).map(&Heard { occurrence: 8, ..heard }).expect("the same bytes go");
        assert_eq!(next[at].message_id != *message_id, *derived);
    }
    if channel.form == Form::Envelope {
        assert_eq!(mapped.len(), 1);
    }
}
