//! A source whose entries go to the host's code: here the test itself.

use std::collections::BTreeSet;

use bytes::Bytes;
use roomcast_core::config::{Config, Destination, Host, Source};
use roomcast_core::id::StreamId;
use roomcast_core::processor::{Delivery, Verdict};
use roomcast_core::store::Fields;

use super::World;

/// The stream and its group.
pub const SOURCE: (&str, &str) = ("invoices", "billing");
/// Its dead letters.
pub const DEAD_LETTERS: &str = "invoices-dlq";

/// An entry that a node has handed over.
#[derive(Clone, Debug)]
pub struct Handed {
    /// The node.
    pub node: usize,
    boot: u32,
    /// What it has handed over.
    pub delivery: Delivery,
}

/// The usual configuration with such a source.
pub fn config(host: Host) -> Config {
    let mut config = Config::default();
    config.sources.push(Source::new(SOURCE.0, SOURCE.1, DEAD_LETTERS, Destination::Host(host)));
    config
}

impl World {
    /// A publisher adds an entry.
    pub fn invoice(&mut self, text: &str) -> StreamId {
        let field = (Bytes::from_static(b"text"), Bytes::copy_from_slice(text.as_bytes()));
        let id = self.memory.add(self.now, SOURCE.0, vec![field]);
        self.after_store();
        id
    }

    /// Entries that were handed over since this was asked last.
    pub fn handed(&mut self) -> Vec<Handed> {
        std::mem::take(&mut self.handed)
    }

    /// The test has dealt with an entry.
    pub fn decide(&mut self, handed: &Handed, verdict: Verdict) {
        let (now, host) = (self.now, &mut self.hosts[handed.node]);
        if host.boot == handed.boot
            && let Some(node) = host.node()
        {
            node.processed(now, handed.delivery.ticket, verdict);
            self.pump(handed.node);
        }
    }

    /// Invoices that are pending, and dead letters of theirs.
    pub fn invoices_left(&self) -> (usize, usize) {
        (self.memory.pending(SOURCE.0, SOURCE.1).count(), self.memory.entries(DEAD_LETTERS).count())
    }

    /// The invoices that became dead letters.
    pub fn dead_invoices(&self) -> BTreeSet<StreamId> {
        let entry = |fields: &Fields| {
            let (_, entry) = fields.iter().find(|(name, _)| name.as_ref() == b"msg_id").expect("dead letters name their entry");
            str::from_utf8(entry).expect("it is text").parse().expect("it is an identifier")
        };
        self.memory.entries(DEAD_LETTERS).map(|(_, fields)| entry(fields)).collect()
    }

    /// Somebody deletes the consumer group of the invoices.
    pub fn destroy_group_of_invoices(&mut self) {
        self.memory.destroy_group(SOURCE.0, SOURCE.1);
        self.after_store();
    }

    pub(super) fn hand(&mut self, node: usize, delivery: Delivery) {
        let boot = self.hosts[node].boot;
        self.handed.push(Handed { node, boot, delivery });
    }
}
