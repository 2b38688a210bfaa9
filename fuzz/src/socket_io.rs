//! Packets of Socket.IO with their attachments: what is understood is the client's own bytes within the limits, and is understood
//! again when it is written down.

use bytes::Bytes;
use roomcast_core::dialect::socketio::packet::{
    Args, Assembly, Body, Packet, ack, connect, connect_error, disconnect, event, parse,
};
use roomcast_core::message::Json;
use serde_json::Value;

/// Separates the packet from what follows it, and one attachment from the next. No JSON has it.
pub const SEPARATOR: u8 = 0x1e;

/// Attachments of one packet.
const MOST: usize = 3;

/// The names of events that a library raises itself.
const RESERVED: [&str; 6] = ["connect", "connect_error", "disconnect", "disconnecting", "newListener", "removeListener"];

/// Input: the text of a packet, and the attachments that follow it, all separated by [`SEPARATOR`].
///
/// # Panics
///
/// When a packet is not what its rewritten form is, has other bytes than the client's, or exceeds a limit; or when its attachments
/// do not come out as they went in.
pub fn run(data: &[u8]) {
    let mut parts = data.split(|&byte| byte == SEPARATOR);
    let Some(Ok(text)) = parts.next().map(str::from_utf8) else { return };
    let Ok(packet) = parse(text, MOST) else { return };
    assert!(packet.namespace.starts_with('/') && !packet.namespace.contains(','));
    let again = write(&packet);
    let again = again.strip_prefix('4').expect("it is a message of Engine.IO");
    assert_eq!(parse(again, MOST).as_ref(), Ok(&packet), "{again}");

    let attachments = match &packet.body {
        Body::Event { name, args, attachments, .. } => {
            assert!(!RESERVED.contains(&name.as_ref()), "{name}");
            check(args, text, *attachments);
            *attachments
        }
        Body::Ack { args, attachments, .. } => {
            check(args, text, *attachments);
            *attachments
        }
        Body::Connect(_) | Body::Disconnect | Body::ConnectError => 0,
    };
    assert!(attachments <= MOST);
    assemble(text, attachments, parts);
}

fn check(args: &Args<'_>, text: &str, attachments: usize) {
    let array = args.as_array();
    assert!(Json::parse(&array).is_some(), "{array}");
    assert_eq!(args.is_empty(), args.first().is_none());
    for arg in args.iter() {
        assert!(text.as_bytes().as_ptr_range().contains(&arg.as_str().as_ptr()), "an argument is not the client's own bytes");
        assert_eq!(Json::parse(arg.as_str()), Some(arg));
    }
    match serde_json::from_str(&array) {
        // Others have no attachments, so that their placeholders mean nothing.
        Ok(value) if text.starts_with(['5', '6']) => assert!(fits(&value, attachments as u64), "{array}"),
        Ok(_) => {}
        // Numbers that are too large and halves of characters go through as they are.
        Err(error) => assert!(!error.to_string().contains("recursion"), "{error}"),
    }
}

/// Whether every placeholder has its attachment.
fn fits(value: &Value, attachments: u64) -> bool {
    match value {
        Value::Array(items) => items.iter().all(|item| fits(item, attachments)),
        Value::Object(fields) => {
            let number = fields.get("num").and_then(Value::as_u64);
            (fields.get("_placeholder") != Some(&Value::Bool(true)) || number.is_some_and(|number| number < attachments))
                && fields.values().all(|field| fits(field, attachments))
        }
        _ => true,
    }
}

/// The plainest packet that says the same.
fn write(packet: &Packet<'_>) -> String {
    let namespace = packet.namespace;
    match &packet.body {
        Body::Connect(data) => connect(namespace, data.map_or("", Json::as_str)),
        Body::Disconnect => disconnect(namespace),
        Body::ConnectError => connect_error(namespace, "{}"),
        Body::Event { name, args, ack, attachments } => {
            event(namespace, name, &args.iter().collect::<Vec<_>>(), *ack, *attachments)
        }
        Body::Ack { id, args, attachments } => ack(namespace, *id, &args.iter().collect::<Vec<_>>(), *attachments),
    }
}

fn assemble<'a>(text: &str, attachments: usize, parts: impl Iterator<Item = &'a [u8]>) {
    let mut assembly = Assembly::new(text, attachments);
    let (mut bytes, mut came) = (text.len(), Vec::new());
    for part in parts {
        assert_eq!(assembly.is_whole(), came.len() == attachments);
        if !assembly.is_whole() {
            bytes += part.len();
            came.push(part);
        }
        assembly.add(Bytes::copy_from_slice(part));
        assert_eq!(assembly.bytes(), bytes);
    }
    assert_eq!(assembly.is_whole(), came.len() == attachments);
    let (kept, kept_attachments) = assembly.into_parts();
    assert_eq!(&*kept, text);
    assert_eq!(kept_attachments, came);
}
