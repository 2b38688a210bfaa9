//! The Lua scripts, each one atomic step of the contract.

// The others are made of parts of this one.
#[macro_use]
mod rooms;
mod commit;
mod groups;
mod letters;

pub(super) use commit::{APPLY, EACH, TOGETHER, TOGETHER_KEPT};
pub(super) use groups::{CLAIM, HEALTH, HOLD, OPEN, TIDY};
pub(super) use letters::REPLAY;
pub(super) use rooms::{APPEND, DELIVERED, INBOX, POSITIONS};
