//! Code of the host that deals with the entries of a source.

use std::collections::BTreeMap;
use std::fmt;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use std::time::Instant;

use bytes::Bytes;
use roomcast_core::config::{Config, ConfigError, Destination};
use roomcast_core::id::StreamId;
use roomcast_core::processor::{Delivery, Verdict};

use crate::backplane::{Input, Post};
use crate::clock::Clock;

/// Processors by the names under which sources name them (`to.host.processor`).
///
/// A processor is called on the backplane's own task and must return at once: what takes time belongs into a task or a thread of
/// its own.
///
/// ```
/// use roomcast_shell::processor::{Entry, Processors};
///
/// let mut processors = Processors::default();
/// processors.register("invoices", |entry: Entry| {
///     std::thread::spawn(move || match entry.field("total").map(|total| total.len()) {
///         Some(1..) => entry.done(),
///         _ => entry.reject("an invoice has a total"),
///     });
/// });
/// ```
#[derive(Clone, Default)]
pub struct Processors(BTreeMap<String, Processor>);

type Processor = Arc<dyn Fn(Entry) + Send + Sync>;

/// The processor of each source that has one, by the source's index, and the source's stream.
pub(crate) type BySource = BTreeMap<u16, (Arc<str>, Processor)>;

impl Processors {
    /// Registers a processor. An earlier one of the same name is replaced.
    pub fn register(&mut self, name: &str, processor: impl Fn(Entry) + Send + Sync + 'static) {
        self.0.insert(name.to_owned(), Arc::new(processor));
    }

    /// Those that the sources of a configuration name.
    pub(crate) fn by_source(&self, config: &Config) -> Result<BySource, ConfigError> {
        let mut found = BTreeMap::new();
        for (index, source) in (0..).zip(&config.sources) {
            if let Destination::Host(host) = &source.to {
                let processor = self.0.get(&host.processor).ok_or_else(|| ConfigError {
                    path: format!("sources[{index}].to.host.processor"),
                    reason: format!("names {:?}, which is not registered in this program", host.processor),
                })?;
                found.insert(index, (source.stream.as_str().into(), processor.clone()));
            }
        }
        Ok(found)
    }
}

impl fmt::Debug for Processors {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_set().entries(self.0.keys()).finish()
    }
}

/// An entry in the hands of a processor.
///
/// It ends with [`Entry::done`], [`Entry::retry`] or [`Entry::reject`], from any thread. One that is dropped without a word is
/// tried again. Entries may come more than once (see [`Delivery`]): what must be done only once is remembered by [`Entry::id`].
pub struct Entry {
    delivery: Delivery,
    stream: Arc<str>,
    deadline: Option<Instant>,
    post: Arc<Post>,
    verdict: Option<Verdict>,
}

impl Entry {
    pub(crate) fn new(delivery: Delivery, stream: Arc<str>, clock: Clock, post: Arc<Post>) -> Entry {
        let deadline = clock.instant(delivery.deadline);
        Entry { delivery, stream, deadline, post, verdict: None }
    }

    /// Key of the stream it stands in.
    pub fn stream(&self) -> &str {
        &self.stream
    }

    /// Its identifier in that stream.
    pub fn id(&self) -> StreamId {
        self.delivery.entry
    }

    /// Its fields, in order.
    pub fn fields(&self) -> &[(Bytes, Bytes)] {
        &self.delivery.fields
    }

    /// The value of the first field of this name.
    pub fn field(&self, name: &str) -> Option<&Bytes> {
        self.fields().iter().find(|(other, _)| other.as_ref() == name.as_bytes()).map(|(_, value)| value)
    }

    /// How often it has been delivered, this time included.
    pub fn deliveries(&self) -> u32 {
        self.delivery.deliveries
    }

    /// By when it must have ended: a later word is ignored, and the entry comes again. Nothing where that is beyond all time.
    pub fn deadline(&self) -> Option<Instant> {
        self.deadline
    }

    /// It is done, and will be acknowledged.
    pub fn done(self) {
        self.end(Verdict::Done);
    }

    /// It failed and may work later: it comes again after a pause, until its source's `max_deliveries` is reached.
    pub fn retry(self, reason: &str) {
        self.end(Verdict::Retry(reason.into()));
    }

    /// It can never work: it becomes a dead letter.
    pub fn reject(self, reason: &str) {
        self.end(Verdict::Reject(reason.into()));
    }

    fn end(mut self, verdict: Verdict) {
        self.verdict = Some(verdict);
    }
}

impl Drop for Entry {
    fn drop(&mut self) {
        let verdict = self.verdict.take().unwrap_or_else(|| Verdict::Retry("its processor dropped it".into()));
        self.post.post(Input::Processed(self.delivery.ticket, verdict));
    }
}

impl fmt::Debug for Entry {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Entry").field("delivery", &self.delivery).finish_non_exhaustive()
    }
}

/// Calls a processor. One that panics drops the entry.
pub(crate) fn call(processor: &Processor, entry: Entry) {
    // The panic itself has been printed; the entry knows all that follows from it.
    let _ = catch_unwind(AssertUnwindSafe(|| processor(entry)));
}
