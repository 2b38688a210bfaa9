//! Effects of entries that stand elsewhere than their stream, in another Redis or in other slots of a cluster: they are stored first,
//! share by share, and acknowledged when all are.

use std::collections::BTreeMap;
use std::sync::Arc;

use super::{Errand, Place, Purpose};
use crate::backplane::Core;
use crate::id::StreamId;
use crate::store::{Answer, Committed, Effect, Effects, Fields, Lane, NewEntry, Postings, Replayed, Share, StoreError, StoreOp};
use crate::time::Time;

/// The shares of the effects of a commit that are being stored.
#[derive(Debug)]
pub(super) struct Applying {
    /// Tells their answers from those of an earlier attempt.
    attempt: u32,
    /// The entries of each share that has not been answered for.
    open: BTreeMap<u16, Vec<StreamId>>,
    refused: BTreeMap<StreamId, StoreError>,
    /// Why all has to be tried again.
    failed: Option<StoreError>,
}

/// A stream, and about how many entries it keeps.
type Target = (Arc<str>, u32);

/// What has come of it.
pub(super) enum Applied {
    /// Not all is known.
    NotYet,
    /// All is stored but for what these entries are to become.
    Done(BTreeMap<StreamId, StoreError>),
    /// It has to be tried again. What has been stored is not stored twice.
    Failed(StoreError),
}

impl Place {
    /// Whether an effect stands elsewhere than the source's stream.
    pub(super) fn is_apart(&self, effect: &Effect) -> bool {
        match effect {
            Effect::Relay(_) => self.source.redis.is_some() || self.source.cluster,
            Effect::Route(_) | Effect::DeadLetter(_) => self.source.cluster,
            Effect::Nothing => false,
        }
    }
}

impl Applying {
    /// Has stored what stands elsewhere; nothing where there is no such effect.
    pub(super) fn begin(core: &mut Core, now: Time, place: &Place, attempt: u32, effects: &Effects) -> Option<Applying> {
        let mut relays: BTreeMap<u16, Vec<(StreamId, Postings)>> = BTreeMap::new();
        let mut streams: BTreeMap<Target, Vec<(StreamId, Fields)>> = BTreeMap::new();
        for (id, effect) in effects.iter().filter(|(_, effect)| place.is_apart(effect)) {
            match effect {
                Effect::Relay(partitions) => {
                    for (partition, messages) in partitions {
                        relays.entry(*partition).or_default().push((*id, messages.clone()));
                    }
                }
                Effect::Route(NewEntry { stream, length, fields }) | Effect::DeadLetter(NewEntry { stream, length, fields }) => {
                    streams.entry((stream.clone(), *length)).or_default().push((*id, fields.clone()));
                }
                Effect::Nothing => {}
            }
        }
        let mut open = BTreeMap::new();
        let relays = relays.into_iter().map(|(partition, entries)| {
            let ids: Vec<StreamId> = entries.iter().map(|(id, _)| *id).collect();
            (Lane::Command, ids, Share::Relay { partition, entries })
        });
        let streams = streams.into_iter().map(|((stream, length), entries)| {
            let ids: Vec<StreamId> = entries.iter().map(|(id, _)| *id).collect();
            (place.command_lane(), ids, Share::Stream { stream, length, entries })
        });
        for (number, (lane, ids, share)) in (0..).zip(relays.chain(streams)) {
            open.insert(number, ids);
            let purpose = Purpose::Source(place.index, Errand::Share(attempt, number));
            core.ask(now, lane, purpose, StoreOp::Apply { group: place.group.clone(), share });
        }
        (!open.is_empty()).then_some(Applying { attempt, open, refused: BTreeMap::new(), failed: None })
    }

    /// A share is answered for.
    pub(super) fn answered(&mut self, attempt: u32, number: u16, answer: Result<Answer, StoreError>) -> Applied {
        if attempt != self.attempt {
            return Applied::NotYet;
        }
        let Some(ids) = self.open.remove(&number) else { return Applied::NotYet };
        let failures: Vec<(StreamId, StoreError)> = match answer {
            Ok(Answer::Committed(outcomes)) if outcomes.len() == ids.len() => {
                let failure = |(id, outcome)| if let Committed::Failed(error) = outcome { Some((id, error)) } else { None };
                ids.into_iter().zip(outcomes).filter_map(failure).collect()
            }
            Ok(Answer::Replayed(outcomes)) if outcomes.len() == ids.len() => {
                let failure = |(id, outcome)| if let Replayed::Failed(error) = outcome { Some((id, error)) } else { None };
                ids.into_iter().zip(outcomes).filter_map(failure).collect()
            }
            other => {
                self.failed = Some(other.err().unwrap_or(StoreError::Unexpected("the answer to another question".into())));
                Vec::new()
            }
        };
        for (id, error) in failures {
            match error {
                StoreError::Busy(_) => self.failed = Some(error),
                error => drop(self.refused.insert(id, error)),
            }
        }
        match &mut self.failed {
            _ if !self.open.is_empty() => Applied::NotYet,
            Some(error) => Applied::Failed(error.clone()),
            None => Applied::Done(core::mem::take(&mut self.refused)),
        }
    }
}
