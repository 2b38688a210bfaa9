//! An operation that is asked in parts.

use roomcast_core::store::redis::Redis;
use roomcast_core::store::{Answer, StoreError, StoreOp};

/// The answers to the parts of an operation, as far as they are there.
pub(super) struct Gathering {
    op: StoreOp,
    answers: Vec<Option<Answer>>,
}

impl Gathering {
    pub(super) fn new(op: StoreOp, parts: usize) -> Gathering {
        Gathering { op, answers: vec![None; parts] }
    }

    /// Takes the answer to a part. What has come of the whole, if that is known now: the first error is that of the whole.
    pub(super) fn take(
        &mut self,
        redis: &Redis,
        part: usize,
        answer: Result<Answer, StoreError>,
    ) -> Option<Result<Answer, StoreError>> {
        match answer {
            Ok(answer) => {
                if let Some(place) = self.answers.get_mut(part) {
                    *place = Some(answer);
                }
                let are_all = self.answers.iter().all(Option::is_some);
                are_all.then(|| Ok(redis.join(&self.op, self.answers.drain(..).flatten().collect())))
            }
            Err(error) => Some(Err(error)),
        }
    }
}
