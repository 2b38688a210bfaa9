//! A session of Engine.IO as its client sees it, whichever its transport.

use std::fmt;

/// A packet of Engine.IO: text, which begins with its type, or the bytes of a binary message.
#[derive(Clone, PartialEq, Eq)]
pub enum Packet {
    /// Text, with its type.
    Text(String),
    /// Bytes.
    Binary(Vec<u8>),
}

impl From<&str> for Packet {
    fn from(text: &str) -> Packet {
        Packet::Text(text.into())
    }
}

impl From<&[u8]> for Packet {
    fn from(bytes: &[u8]) -> Packet {
        Packet::Binary(bytes.into())
    }
}

/// Shortened: a million bytes make no good message.
impl fmt::Debug for Packet {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Packet::Text(text) => write!(f, "{:.200?} ({} bytes)", text, text.len()),
            Packet::Binary(bytes) => write!(f, "{:02x?} ({} bytes)", &bytes[..bytes.len().min(50)], bytes.len()),
        }
    }
}

/// A session whose client answers the server's pings.
pub trait Session: fmt::Debug {
    /// Sends packets: in one request, or each in a frame of its own.
    ///
    /// # Panics
    ///
    /// When they are not taken.
    fn send(&mut self, packets: &[Packet]);

    /// Sends packets that the server may refuse.
    fn send_wrong(&mut self, packets: &[Packet]);

    /// The next packet that is no ping.
    ///
    /// # Panics
    ///
    /// When none comes in time.
    fn next(&mut self) -> Packet;

    /// Waits for the end of the session, and returns the code of the close frame, where there is one with a code.
    ///
    /// # Panics
    ///
    /// When it does not end in time, or says something before.
    fn expect_closed(&mut self) -> Option<u16>;

    /// Sends one packet of text.
    ///
    /// # Panics
    ///
    /// As [`Session::send`].
    fn say(&mut self, text: &str) {
        self.send(&[text.into()]);
    }

    /// Expects this packet of text.
    ///
    /// # Panics
    ///
    /// When another comes, or none.
    fn expect(&mut self, text: &str) {
        let packet = self.next();
        assert_eq!(packet, text.into(), "{self:?}");
    }

    /// The next packet, which is text.
    ///
    /// # Panics
    ///
    /// When it is bytes, or none comes.
    fn text(&mut self) -> String {
        match self.next() {
            Packet::Text(text) => text,
            Packet::Binary(_) => panic!("bytes instead of text; {self:?}"),
        }
    }
}
