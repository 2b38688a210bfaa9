//! Batches: whatever an entry holds, the decoder keeps to its limits, hands out the publisher's own bytes, and forgets.

use base64::Engine as _;
use base64::prelude::BASE64_STANDARD;
use flate2::Crc;
use roomcast_core::batch::{Batch, BatchError, Decoder, Limits};
use serde_json::Value;
use serde_json::value::RawValue;

/// What separates the entries of one input.
pub const SEPARATOR: &[u8] = b"\n--\n";

/// Limits that real entries meet, and limits that short ones exceed.
const LIMITS: [Limits; 2] = [
    Limits { compressed: 1 << 16, inflated: 1 << 18, events: 100, depth: 64 },
    Limits { compressed: 300, inflated: 400, events: 1, depth: 4 },
];

/// Input: `data` fields of entries, separated by [`SEPARATOR`]. Each is decoded as it is and, because no fuzzer guesses a
/// checksum, compressed as well.
///
/// # Panics
///
/// When a limit does not hold, when events are not the publisher's bytes, or when a decoder remembers.
pub fn run(data: &[u8]) {
    let mut entries = Vec::new();
    let mut rest = data;
    while let Some(at) = rest.windows(SEPARATOR.len()).position(|window| window == SEPARATOR) {
        entries.push(&rest[..at]);
        rest = &rest[at + SEPARATOR.len()..];
    }
    entries.push(rest);
    for limits in LIMITS {
        // One decoder decodes them all, and what it decodes must not show it.
        let mut worn = Decoder::new(limits);
        entries.iter().for_each(|entry| check(entry, &mut worn, &limits));
    }
}

fn check(entry: &[u8], worn: &mut Decoder, limits: &Limits) {
    let mut fresh = Decoder::new(*limits);
    let plain = fresh.decode(entry);
    assert_eq!(worn.decode(entry), plain, "a used decoder decodes differently");
    check_result(&plain, entry, limits);
    if let Ok(batch) = &plain
        && !batch.compressed
    {
        check_slices(batch, entry);
    }

    // What is packed decodes to the same, as far as the limits are the same.
    if entry.trim_ascii_start().first() == Some(&b'{') && entry.len() <= limits.inflated {
        let gzip = gzip(entry);
        for packed in [BASE64_STANDARD.encode(&gzip).into_bytes(), gzip] {
            let unpacked = worn.decode(&packed);
            if packed.len() > limits.compressed {
                assert!(matches!(unpacked, Err(BatchError::TooLarge { .. })), "{unpacked:?}");
                continue;
            }
            check_result(&unpacked, &packed, limits);
            let unpacked = unpacked.map(|batch| Batch { compressed: false, ..batch });
            assert_eq!(unpacked, plain, "packed");
        }
    } else if plain.is_err() {
        let gzip = gzip(entry);
        check_result(&worn.decode(&gzip), &gzip, limits);
    }
}

fn check_result(result: &Result<Batch<'_>, BatchError>, entry: &[u8], limits: &Limits) {
    let batch = match result {
        Ok(batch) => batch,
        Err(error) => {
            // It goes to logs and metrics.
            assert!(!error.code().is_empty() && (1..1000).contains(&error.to_string().len()), "{error}");
            return;
        }
    };
    assert!(batch.events.len() <= limits.events);
    assert!(batch.events.iter().map(|event| event.json.len()).sum::<usize>() <= limits.inflated);
    assert!(entry.len() <= if batch.compressed { limits.compressed } else { limits.inflated });
    for event in &batch.events {
        assert!(serde_json::from_str::<&RawValue>(event.json).is_ok_and(|raw| raw.get() == event.json), "{}", event.json);
        assert!(event.json.starts_with('{'));
        assert!(depth(event.json) + 2 <= limits.depth, "{}", event.json);
        // Letters that no text can have may stand where the decoder does not read; then this reader refuses the event.
        if let Ok(value) = serde_json::from_str::<Value>(event.json) {
            let workspace = &value["workspace"]["id"];
            assert_eq!(workspace.as_str().unwrap_or(&event.workspace), event.workspace);
            assert!(workspace.is_string() || event.workspace.trim_start_matches('-').bytes().all(|byte| byte.is_ascii_digit()));
            assert_eq!(value["file"]["path"].as_str(), Some(&*event.path));
            assert_eq!(value["file"]["event_type"].as_str(), Some(&*event.event_type));
            assert!(
                ["event_id", "timestamp"].iter().all(|field| value[*field].is_string()) && value["change"]["type"].is_string()
            );
        }
    }
}

/// The events are pieces of the entry, in its order.
fn check_slices(batch: &Batch<'_>, entry: &[u8]) {
    let mut end = entry.as_ptr().addr();
    for event in &batch.events {
        let start = event.json.as_ptr().addr();
        assert!(start >= end, "out of order");
        end = start + event.json.len();
    }
    assert!(end <= entry.as_ptr().addr() + entry.len());
}

/// Nesting, counted as slowly and plainly as can be.
fn depth(json: &str) -> usize {
    let (mut depth, mut deepest, mut quoted, mut escaped) = (0_usize, 0, false, false);
    for letter in json.chars() {
        match letter {
            _ if escaped => escaped = false,
            '\\' if quoted => escaped = true,
            '"' => quoted = !quoted,
            '{' | '[' if !quoted => depth += 1,
            '}' | ']' if !quoted => depth -= 1,
            _ => {}
        }
        deepest = deepest.max(depth);
    }
    deepest
}

/// Stored, not compressed: quick to make, and as long as the text, so that both limits are met.
fn gzip(text: &[u8]) -> Vec<u8> {
    let mut packed = b"\x1f\x8b\x08\0\0\0\0\0\0\xff".to_vec();
    let mut blocks = text.chunks(0xffff).peekable();
    while let Some(block) = blocks.next() {
        let length = block.len() as u16;
        packed.push(u8::from(blocks.peek().is_none()));
        packed.extend(length.to_le_bytes());
        packed.extend((!length).to_le_bytes());
        packed.extend(block);
    }
    let mut crc = Crc::new();
    crc.update(text);
    packed.extend(crc.sum().to_le_bytes());
    packed.extend((text.len() as u32).to_le_bytes());
    packed
}
