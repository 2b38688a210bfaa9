//! Revoked tokens, as the store remembers them: for each subject, when it was revoked last.

use core::time::Duration;

use crate::time::UnixMillis;
use crate::token::Subject;

/// Work on what is revoked.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum RevocationOp {
    /// Remember this. Answer: [`Answer::Done`](super::Answer::Done).
    Add {
        /// Whose tokens.
        subject: Subject,
        /// Since when.
        at: UnixMillis,
        /// For how long anything of this kind is remembered.
        ttl: Duration,
    },
    /// What has been revoked since then, the earliest first? Answer: [`Answer::Revoked`](super::Answer::Revoked).
    Since(UnixMillis),
}
