//! Code of the host that decides who may do what, where the rules of access leave it to that.

use std::fmt;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use std::time::Instant;

use roomcast_core::hub::{Intent, Petition, PetitionId};
use roomcast_core::id::ConnId;

use crate::clock::Clock;

/// What decides in rooms whose rules name the class `host`. Where nothing does, the answer is no.
///
/// It is called on the task of the client's shard and must return at once: what takes time belongs into a task or a thread of its
/// own, which the question may be moved to.
///
/// ```
/// use roomcast_core::hub::Intent;
/// use roomcast_shell::authorizer::{Authorizer, Question};
/// use roomcast_shell::options::Options;
///
/// let authorizer = Authorizer::new(|question: Question| {
///     std::thread::spawn(move || match (question.user(), question.intent()) {
///         (Some("7"), Intent::Subscribe) if question.room().starts_with("team:") => question.allow(),
///         _ => question.deny(),
///     });
/// });
/// let options = Options { authorizer, ..Options::default() };
/// # drop(options);
/// ```
#[derive(Clone, Default)]
pub struct Authorizer(Option<Arc<dyn Fn(Question) + Send + Sync>>);

impl Authorizer {
    /// This code decides.
    pub fn new(decide: impl Fn(Question) + Send + Sync + 'static) -> Authorizer {
        Authorizer(Some(Arc::new(decide)))
    }

    /// Asks. `answer` takes the answer to the hub.
    pub(crate) fn ask(&self, petition: Petition, clock: Clock, answer: impl FnOnce(PetitionId, bool) + Send + 'static) {
        let deadline = clock.instant(petition.deadline);
        let question = Question { petition, deadline, allowed: false, answer: Some(Box::new(answer)) };
        if let Some(decide) = &self.0 {
            // The panic itself has been printed; the question is dropped by it, which means no.
            let _ = catch_unwind(AssertUnwindSafe(|| decide(question)));
        }
    }
}

impl fmt::Debug for Authorizer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(if self.0.is_some() { "Authorizer(…)" } else { "Authorizer(nobody)" })
    }
}

/// A question, in the hands of the host's code.
///
/// It ends with [`Question::allow`] or [`Question::deny`], from any thread. One that is dropped without a word ends like the latter.
pub struct Question {
    petition: Petition,
    deadline: Option<Instant>,
    allowed: bool,
    answer: Option<Box<dyn FnOnce(PetitionId, bool) + Send>>,
}

impl Question {
    /// The connection that wants it.
    pub fn conn(&self) -> ConnId {
        self.petition.conn
    }

    /// Whose connection it is; nothing for one without a token.
    pub fn user(&self) -> Option<&str> {
        self.petition.user.as_deref()
    }

    /// What is wanted.
    pub fn intent(&self) -> Intent {
        self.petition.intent
    }

    /// In which room.
    pub fn room(&self) -> &str {
        &self.petition.room
    }

    /// By when it must have ended: a later word is ignored. Nothing where that is beyond all time.
    pub fn deadline(&self) -> Option<Instant> {
        self.deadline
    }

    /// Yes.
    pub fn allow(mut self) {
        self.allowed = true;
    }

    /// No.
    pub fn deny(self) {}
}

impl Drop for Question {
    fn drop(&mut self) {
        if let Some(answer) = self.answer.take() {
            answer(self.petition.id, self.allowed);
        }
    }
}

impl fmt::Debug for Question {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Question").field("petition", &self.petition).finish_non_exhaustive()
    }
}
