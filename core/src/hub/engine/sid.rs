//! Identifiers of sessions.

use core::fmt;

use base64::Engine as _;
use base64::display::Base64Display;
use base64::prelude::BASE64_URL_SAFE_NO_PAD;
use rand_chacha::rand_core::Rng as _;
use sha2::{Digest as _, Sha256};

use super::Query;
use crate::hub::Hub;
use crate::id::ShardId;

/// The identifier of a session: its hub (1 byte), a mark of its node (3 bytes), and 14 bytes that nobody guesses.
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
pub(in super::super) struct Sid([u8; Sid::BYTES]);

impl Sid {
    const BYTES: usize = 18;

    pub(super) fn parse(text: &str) -> Option<Sid> {
        let mut bytes = [0; Sid::BYTES];
        let length = BASE64_URL_SAFE_NO_PAD.decode_slice(text, &mut bytes).ok()?;
        (length == Sid::BYTES).then_some(Sid(bytes))
    }

    /// The mark of the node, which tells a session that has ended from one of another node.
    pub(super) fn mark(self) -> [u8; 3] {
        let [_, a, b, c, ..] = self.0;
        [a, b, c]
    }
}

impl fmt::Debug for Sid {
    /// Whoever knows it speaks for its client.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Sid(…)")
    }
}

impl fmt::Display for Sid {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        Base64Display::new(&self.0, &BASE64_URL_SAFE_NO_PAD).fmt(f)
    }
}

impl Hub {
    /// The mark of this node.
    pub(super) fn mark_of_node(&self) -> [u8; 3] {
        let [a, b, c, ..] = <[u8; 32]>::from(Sha256::digest(&self.config.node));
        [a, b, c]
    }

    pub(super) fn new_sid(&mut self) -> Sid {
        let mut bytes = [0; Sid::BYTES];
        self.dice.fill_bytes(&mut bytes);
        bytes[0] = self.shard.0;
        bytes[1..4].copy_from_slice(&self.mark_of_node());
        Sid(bytes)
    }
}

/// The hub that a request of an Engine.IO route belongs to: that of the session it names, where it names one. Whether there is
/// such a hub here is not known: the session may be of another node.
pub fn session_shard<B>(request: &http::Request<B>) -> Option<ShardId> {
    let sid = Query::of(request).sid.and_then(Sid::parse)?;
    Some(ShardId(sid.0[0]))
}
