//! The commands of the binary.

pub(crate) mod file;
pub(crate) mod publish;
pub(crate) mod redis;
pub(crate) mod serve;
pub(crate) mod token;

/// What a command ends with.
pub(crate) type Outcome = Result<(), Box<dyn std::error::Error>>;
