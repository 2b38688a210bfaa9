//! Packets whose attachments follow them.

use bytes::Bytes;

/// A packet that waits for its attachments. It takes no more of them than the packet announces; their sizes are the caller's to
/// limit, by [`Assembly::bytes`].
#[derive(Clone, Debug)]
pub struct Assembly {
    text: Box<str>,
    attachments: Vec<Bytes>,
    /// How many have not come yet.
    missing: usize,
    bytes: usize,
}

impl Assembly {
    /// A packet, as [`parse`](super::packet::parse) reads it, that announces so many attachments.
    pub fn new(text: &str, attachments: usize) -> Assembly {
        Assembly { text: text.into(), attachments: Vec::new(), missing: attachments, bytes: text.len() }
    }

    /// Adds the next attachment. One that comes when the packet is whole is not kept.
    pub fn add(&mut self, bytes: Bytes) {
        if let Some(missing) = self.missing.checked_sub(1) {
            self.missing = missing;
            self.bytes = self.bytes.saturating_add(bytes.len());
            self.attachments.push(bytes);
        }
    }

    /// Whether nothing is missing.
    pub fn is_whole(&self) -> bool {
        self.missing == 0
    }

    /// Bytes of the text and of the attachments that have come.
    pub fn bytes(&self) -> usize {
        self.bytes
    }

    /// The text, and the attachments in the order of their numbers.
    pub fn into_parts(self) -> (Box<str>, Vec<Bytes>) {
        (self.text, self.attachments)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn what_nobody_waits_for_is_not_kept() {
        let mut assembly = Assembly::new("50-[\"a\"]", 0);
        assert!(assembly.is_whole());
        assembly.add(Bytes::from_static(b"late"));
        assert_eq!(assembly.bytes(), 8);
        assert_eq!(assembly.into_parts(), (Box::from("50-[\"a\"]"), Vec::new()));
    }

    #[test]
    fn what_a_packet_announces_takes_no_memory() {
        let assembly = Assembly::new("5", usize::MAX);
        assert!(!assembly.is_whole());
        assert_eq!(assembly.bytes(), 1);
    }

    proptest! {
        #[test]
        fn attachments_come_out_as_they_went_in(
            text in ".{0,20}",
            sent in prop::collection::vec(prop::collection::vec(any::<u8>(), 0..20), 0..8),
        ) {
            let mut assembly = Assembly::new(&text, sent.len());
            let mut size = text.len();
            for bytes in &sent {
                prop_assert!(!assembly.is_whole());
                assembly.add(Bytes::copy_from_slice(bytes));
                size += bytes.len();
                prop_assert_eq!(assembly.bytes(), size);
            }
            prop_assert!(assembly.is_whole());
            let (kept, attachments) = assembly.into_parts();
            prop_assert_eq!(&*kept, text);
            prop_assert_eq!(attachments, sent);
        }
    }
}
