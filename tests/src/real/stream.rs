//! Entries of streams, field by field and byte by byte.

use super::redis::RedisServer;
use super::{PATIENCE, poll_until};

/// A field that is to be written: its name and its value.
pub type Field<'a> = (&'a str, &'a [u8]);
/// The fields of an entry as they stand in a stream.
pub type Fields = Vec<(Vec<u8>, Vec<u8>)>;

/// Adds an entry to a stream and returns its identifier.
///
/// # Panics
///
/// When the server does not take it.
pub fn add_to(redis: &RedisServer, stream: &str, fields: &[Field<'_>]) -> String {
    let mut connection = redis.connect(0).expect("the server is there");
    let mut command = redis::cmd("XADD");
    command.arg(&[stream, "*"]);
    for (name, value) in fields {
        command.arg(name).arg(value);
    }
    command.query(&mut connection).expect("the entry is added")
}

/// The entries of a stream, oldest first.
///
/// # Panics
///
/// When it is no stream.
#[must_use]
pub fn all(redis: &RedisServer, stream: &str) -> Vec<Fields> {
    let entries: Vec<(String, Fields)> = redis.query(&["XRANGE", stream, "-", "+"]);
    entries.into_iter().map(|(_, fields)| fields).collect()
}

/// Fields as they will stand in a stream.
#[must_use]
pub fn owned(fields: &[Field<'_>]) -> Fields {
    fields.iter().map(|(name, value)| (name.as_bytes().to_vec(), value.to_vec())).collect()
}

/// Waits until something is so.
///
/// # Panics
///
/// When it does not come true in time.
pub fn wait_until(mut holds: impl FnMut() -> bool) {
    assert!(poll_until(PATIENCE, || holds().then_some(())).is_some(), "it does not come true");
}
