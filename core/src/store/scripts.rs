//! The Lua scripts, each one atomic step of the contract.

// The others are made of parts of this one.
#[macro_use]
mod rooms;
mod commit;
mod groups;
mod letters;
mod presence;
mod revocations;
mod sessions;

pub(super) use commit::{APPLY, EACH, PUT, TOGETHER, TOGETHER_KEPT};
pub(super) use groups::{CLAIM, HEALTH, HOLD, OPEN, TIDY};
pub(super) use letters::REPLAY;
pub(super) use presence::{BEAT, CONDEMN, PRESENT, WHO};
pub(super) use revocations::REVOKE;
pub(super) use rooms::{APPEND, DELIVERED, INBOX, POSITIONS};
pub(super) use sessions::{SAVE_SESSION, TAKE_SESSION};
