//! Taking the users of a dead node out of their rooms.

use std::collections::VecDeque;
use std::sync::Arc;

use super::super::Core;
use super::{Errand, Member, ask, change};
use crate::store::{Change, PresenceAnswer, PresenceOp, StoreError};
use crate::time::Time;

/// Users that are taken out by one operation.
const COUNT: usize = 128;

/// What dead nodes had is taken away, one partition after the other; then the node is forgotten.
///
/// Several nodes may do so at once, and each may die half-way: a user is taken out in the same step in which the room is told,
/// and only once. A sweep that fails is begun again with the next beat, by whoever beats first.
#[derive(Debug, Default)]
pub(super) struct Sweep {
    /// The node that is swept.
    node: Option<Arc<str>>,
    waiting: VecDeque<Arc<str>>,
}

/// What the store was asked for.
#[derive(Debug)]
pub(in super::super) enum Step {
    /// Who of a node is left in a partition.
    Condemn(Arc<str>, u16),
    /// To take some of them out.
    TakeOut(Arc<str>, u16),
    /// To forget a node.
    Forget(Arc<str>),
}

impl Sweep {
    /// These are dead.
    pub(super) fn begin(&mut self, core: &mut Core, now: Time, dead: Vec<Arc<str>>) {
        self.waiting = dead.into_iter().filter(|dead| self.node.as_ref() != Some(dead)).collect();
        if self.node.is_none() {
            self.next(core, now);
        }
    }

    /// Whether no node is being swept.
    pub(super) fn is_idle(&self) -> bool {
        self.node.is_none()
    }

    /// Leaves it to others. What is under way comes to nothing.
    pub(super) fn stop(&mut self) {
        *self = Sweep::default();
    }

    pub(super) fn answered(&mut self, core: &mut Core, now: Time, step: Step, answer: Result<PresenceAnswer, StoreError>) {
        let (Step::Condemn(node, _) | Step::TakeOut(node, _) | Step::Forget(node)) = &step;
        if self.node.as_ref() != Some(node) {
            return;
        }
        match (step, answer) {
            (Step::Condemn(node, partition), Ok(PresenceAnswer::Left(left))) if left.is_empty() => {
                let partition = partition + 1;
                if partition < core.config.relay.partitions {
                    condemn(core, now, node, partition);
                } else {
                    ask(core, now, Errand::Sweep(Step::Forget(node.clone())), PresenceOp::Forget { node });
                }
            }
            (Step::Condemn(node, partition), Ok(PresenceAnswer::Left(left))) => {
                let members = left.into_iter().map(|(room, user)| Member { room, user });
                let changes: Vec<Change> = members.map(|member| change(core, now, &member, 0)).collect();
                let errand = Errand::Sweep(Step::TakeOut(node.clone(), partition));
                ask(core, now, errand, PresenceOp::Set { partition, node, number: None, changes });
            }
            (Step::TakeOut(node, partition), Ok(_)) => condemn(core, now, node, partition),
            (Step::Forget(_), Ok(_)) => self.next(core, now),
            (_, _) => self.stop(),
        }
    }

    fn next(&mut self, core: &mut Core, now: Time) {
        self.node = self.waiting.pop_front();
        if let Some(node) = &self.node {
            condemn(core, now, node.clone(), 0);
        }
    }
}

fn condemn(core: &mut Core, now: Time, node: Arc<str>, partition: u16) {
    let errand = Errand::Sweep(Step::Condemn(node.clone(), partition));
    ask(core, now, errand, PresenceOp::Condemn { partition, node, count: COUNT });
}
