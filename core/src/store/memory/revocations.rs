//! Revoked tokens, in memory.

use super::Memory;
use crate::store::{Answer, RevocationOp};
use crate::token::{Revocation, Revoked};

impl Memory {
    /// What is revoked.
    pub fn revoked(&self) -> &Revoked {
        &self.revoked
    }

    pub(super) fn work_on_revocations(&mut self, op: &RevocationOp) -> Answer {
        match op {
            RevocationOp::Add { subject, at, ttl } => {
                self.revoked.add(Revocation::new(subject.clone(), *at, *ttl));
                self.revoked.forget(*at);
                Answer::Done
            }
            RevocationOp::Since(since) => {
                let since = self.revoked.iter().filter(|revocation| revocation.at >= *since);
                let mut revoked: Vec<_> = since.map(|revocation| (revocation.subject, revocation.at)).collect();
                revoked.sort_by_key(|(_, at)| *at);
                Answer::Revoked(revoked)
            }
        }
    }
}
