//! The one blocking read of a lane, which is ended and begun anew when what is to be read has changed.

use super::{BackplaneAction, Core};
use crate::store::Lane;

/// How the read of a lane is doing.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Reading {
    No,
    Yes,
    /// Told to end, because what it reads is out of date.
    Ending,
    /// It failed, and is tried again when the pause is over.
    Paused,
}

impl Reading {
    /// What is to be read has changed. Whether a read is to be begun for that at once; else one follows when the present one has
    /// ended, or the pause is over.
    pub(super) fn renew(&mut self, core: &mut Core, lane: Lane) -> bool {
        if *self == Reading::Yes {
            *self = Reading::Ending;
            core.actions.push_back(BackplaneAction::Interrupt(lane));
        }
        *self == Reading::No
    }
}
