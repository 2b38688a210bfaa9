//! One number for all that a run did, so that two runs can be compared byte for byte (contract C12).

use std::fmt::Debug;
use std::hash::Hasher;

use siphasher::sip::SipHasher13;

use super::host::Peer;

#[derive(Default)]
pub(super) struct Digest(SipHasher13);

impl Digest {
    /// A node did something.
    pub(super) fn add(&mut self, node: usize, action: &impl Debug) {
        self.0.write_usize(node);
        self.0.write(format!("{action:?}").as_bytes());
    }

    /// A client was sent bytes.
    pub(super) fn bytes(&mut self, peer: Peer, bytes: &[u8]) {
        self.0.write(format!("{peer:?}").as_bytes());
        self.0.write(bytes);
    }

    pub(super) fn value(&self) -> u64 {
        self.0.finish()
    }
}

impl Debug for Digest {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Digest({:x})", self.value())
    }
}
