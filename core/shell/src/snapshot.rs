//! Code of the host that gives the states of rooms.

use std::fmt;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use std::time::Instant;

use bytes::Bytes;
use roomcast_core::pattern::Pattern;
use roomcast_core::snapshot::Request;

use crate::backplane::{Input, Post};
use crate::clock::Clock;

/// Providers by the patterns of the rooms whose states they know; the first that fits is asked. In these rooms nothing that
/// stands in the store is a snapshot.
///
/// A provider is called on the backplane's own task and must return at once: what takes time belongs into a task or a thread of
/// its own.
///
/// ```
/// use roomcast_shell::snapshot::{Snapshot, Snapshots};
///
/// let mut snapshots = Snapshots::default();
/// snapshots.register("job:*", |snapshot: Snapshot| {
///     std::thread::spawn(move || match snapshot.room() {
///         "job:1" => snapshot.give(r#"{"status":"processing"}"#),
///         _ => snapshot.give_none(),
///     });
/// });
/// ```
#[derive(Clone, Default)]
pub struct Snapshots(Vec<(Pattern, Provider)>);

type Provider = Arc<dyn Fn(Snapshot) + Send + Sync>;

impl Snapshots {
    /// Registers a provider for the rooms of a pattern, behind those that were registered before.
    pub fn register(&mut self, rooms: &str, provider: impl Fn(Snapshot) + Send + Sync + 'static) {
        self.0.push((Pattern::new(rooms), Arc::new(provider)));
    }

    /// The rooms of all of them.
    pub(crate) fn rooms(&self) -> Vec<Pattern> {
        self.0.iter().map(|(rooms, _)| rooms.clone()).collect()
    }

    /// Asks the provider of a room. One that panics drops the question.
    pub(crate) fn ask(&self, request: Request, clock: Clock, post: Arc<Post>) {
        let provider = self.0.iter().find(|(rooms, _)| rooms.matches(&request.room));
        let deadline = clock.instant(request.deadline);
        let snapshot = Snapshot { request, deadline, post, data: None };
        if let Some((_, provider)) = provider {
            // The panic itself has been printed; the question knows all that follows from it.
            let _ = catch_unwind(AssertUnwindSafe(|| provider(snapshot)));
        }
    }
}

impl fmt::Debug for Snapshots {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_set().entries(self.rooms()).finish()
    }
}

/// A question for the state of a room, in the hands of a provider.
///
/// It ends with [`Snapshot::give`] or [`Snapshot::give_none`], from any thread. One that is dropped without a word ends like the
/// latter.
pub struct Snapshot {
    request: Request,
    deadline: Option<Instant>,
    post: Arc<Post>,
    data: Option<Bytes>,
}

impl Snapshot {
    /// The room.
    pub fn room(&self) -> &str {
        &self.request.room
    }

    /// By when it must have ended: a later word is ignored. Nothing where that is beyond all time.
    pub fn deadline(&self) -> Option<Instant> {
        self.deadline
    }

    /// Gives the state: one JSON value, which becomes the data of `current_state`. What is none counts as broken, and members
    /// are sent nothing.
    pub fn give(mut self, data: impl Into<Bytes>) {
        self.data = Some(data.into());
    }

    /// There is no state.
    pub fn give_none(self) {}
}

impl Drop for Snapshot {
    fn drop(&mut self) {
        self.post.post(Input::Snapshot(self.request.ticket, self.data.take()));
    }
}

impl fmt::Debug for Snapshot {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Snapshot").field("request", &self.request).finish_non_exhaustive()
    }
}
