//! What rooms remember, in the words of Redis.

use super::{Reply, unexpected};
use crate::store::{Answer, Place, Posting, Query, StoreError};

pub(super) fn appended(messages: &[Posting], reply: Reply) -> Result<Answer, StoreError> {
    match reply {
        Reply::Error(error) => Err(error),
        Reply::Bytes(_) => Ok(Answer::Appended(vec![None; messages.len()])),
        _ => Err(unexpected("not an identifier")),
    }
}

pub(super) fn positions(_rooms: usize, _reply: Reply) -> Result<Answer, StoreError> {
    todo!()
}

pub(super) fn page(_place: Place, _query: Query, _count: usize, _reply: Reply) -> Result<Answer, StoreError> {
    todo!()
}

pub(super) fn delivered(_reply: Reply) -> Result<Answer, StoreError> {
    todo!()
}
