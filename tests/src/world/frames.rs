//! WebSocket frames as a client reads them.

/// Bytes that are not a whole frame yet.
#[derive(Debug, Default)]
pub(super) struct Frames(Vec<u8>);

impl Frames {
    /// Bytes arrive.
    pub(super) fn extend(&mut self, bytes: &[u8]) {
        self.0.extend_from_slice(bytes);
    }

    /// The connection has ended.
    pub(super) fn clear(&mut self) {
        self.0.clear();
    }
}

impl Iterator for Frames {
    /// The opcode and the payload.
    type Item = (u8, Vec<u8>);

    fn next(&mut self) -> Option<(u8, Vec<u8>)> {
        let (opcode, payload, length) = frame(&self.0)?;
        self.0.drain(..length);
        Some((opcode, payload))
    }
}

/// The first whole frame: opcode, payload and length on the wire. A server's frames are final and not masked.
fn frame(bytes: &[u8]) -> Option<(u8, Vec<u8>, usize)> {
    let (&first, &second) = (bytes.first()?, bytes.get(1)?);
    assert_eq!(first & 0xF0, 0x80, "final, without reserved bits");
    assert_eq!(second & 0x80, 0, "not masked");
    let (length, header) = match second {
        126 => (usize::from(u16::from_be_bytes(bytes.get(2..4)?.try_into().ok()?)), 4),
        127 => (u64::from_be_bytes(bytes.get(2..10)?.try_into().ok()?) as usize, 10),
        short => (usize::from(short), 2),
    };
    Some((first & 0x0F, bytes.get(header..header + length)?.to_vec(), header + length))
}
