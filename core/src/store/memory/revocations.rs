//! Revoked tokens, in memory.

use super::Memory;
use crate::store::{Answer, RevocationOp};
use crate::token::MOST_REVOCATIONS;

impl Memory {
    pub(super) fn work_on_revocations(&mut self, op: &RevocationOp) -> Answer {
        match op {
            RevocationOp::Add { subject, at, ttl } => {
                let known = self.revoked.entry(subject.clone()).or_default();
                *known = (*known).max(*at);
                let ended = at.0.saturating_sub(ttl.as_millis() as u64);
                self.revoked.retain(|_, at| at.0 > ended);
                if self.revoked.len() > MOST_REVOCATIONS
                    && let Some(oldest) = self.revoked.iter().min_by_key(|(_, at)| **at).map(|(subject, _)| subject.clone())
                {
                    self.revoked.remove(&oldest);
                }
                Answer::Done
            }
            RevocationOp::Since(since) => {
                let since = self.revoked.iter().filter(|(_, at)| **at >= *since);
                let mut revoked: Vec<_> = since.map(|(subject, at)| (subject.clone(), *at)).collect();
                revoked.sort_by_key(|(_, at)| *at);
                Answer::Revoked(revoked)
            }
        }
    }
}
