//! Operators at work on dead letters: what they want, question by question.

use std::collections::BTreeSet;
use std::sync::Arc;

use super::questions::Purpose;
use super::{BackplaneAction, Core};
use crate::config::Source;
use crate::dead_letter::{DeadLetter, Interrupted, OperationId, Outcome, Replay, Request, Selection, Summary};
use crate::id::StreamId;
use crate::report::Report;
use crate::store::{Answer, Entry, Fields, GroupRef, Lane, LetterOp, Replayed, Share, StoreError, StoreOp};
use crate::time::Time;

/// Letters that are read at once: each may be as large as an entry can be.
const PAGE: usize = 16;
/// Operations under way at the most.
const MOST_OPERATIONS: usize = 64;

/// Carries out what operators want done with dead letters. What is under way stands in its question to the store.
#[derive(Debug)]
pub(super) struct Operator {
    places: Vec<Place>,
    under_way: usize,
}

/// An operation whose next question has been asked.
#[derive(Debug)]
pub(super) struct Operation {
    id: OperationId,
    place: Place,
    work: Work,
}

/// A source and its dead letters.
#[derive(Clone, Debug)]
struct Place {
    source: Arc<str>,
    letters: Arc<str>,
    lane: Lane,
    /// Whether they stand in different slots of a cluster.
    apart: bool,
}

/// What an operation is at.
#[derive(Debug)]
enum Work {
    /// Letters up to one are read, until there are so many and one more, by which it is known that there are more.
    List {
        count: usize,
        to: StreamId,
        letters: Vec<Summary>,
    },
    /// The list is there; how many letters are there in all?
    Count {
        letters: Vec<Summary>,
        next: Option<StreamId>,
    },
    Show(StreamId),
    /// The last letter is looked for: all up to this one are to be replayed.
    Last,
    /// Letters to be replayed are read.
    Pick(Picking),
    /// They are replayed.
    Replay {
        letters: Vec<(StreamId, Fields)>,
        then: Picking,
    },
    /// They stand in their source again, and are deleted.
    Forget {
        letters: Vec<(StreamId, Fields)>,
        outcomes: Vec<Replayed>,
        then: Picking,
    },
    Purge(Selection),
}

/// The letters that are still to be replayed: those from one to another, then some by their identifiers.
#[derive(Debug)]
struct Picking {
    range: Option<(StreamId, StreamId)>,
    ids: BTreeSet<StreamId>,
    replay: Replay,
}

enum Next {
    Ask(Work),
    Done(Outcome),
}

impl Operator {
    pub(super) fn new(sources: &[Source]) -> Operator {
        let place = |(index, source): (u16, &Source)| Place {
            source: source.stream.as_str().into(),
            letters: source.dead_letter.as_str().into(),
            lane: source.lane(index),
            apart: source.cluster,
        };
        Operator { places: (0..).zip(sources).map(place).collect(), under_way: 0 }
    }

    pub(super) fn begin(&mut self, core: &mut Core, now: Time, id: OperationId, source: usize, request: Request) {
        let refused = match self.places.get(source) {
            None => StoreError::Refused("there is no such source".into()),
            Some(_) if self.under_way >= MOST_OPERATIONS => StoreError::Busy("too many operations on dead letters".into()),
            Some(place) => {
                self.under_way += 1;
                return match Work::of(request) {
                    Next::Ask(work) => ask(core, now, Operation { id, place: place.clone(), work }),
                    Next::Done(outcome) => self.end(core, id, Ok(outcome)),
                };
            }
        };
        core.actions.push_back(BackplaneAction::Operated(id, Err(Interrupted { replayed: 0, error: refused })));
    }

    pub(super) fn answered(&mut self, core: &mut Core, now: Time, operation: Operation, answer: Result<Answer, StoreError>) {
        let Operation { id, place, work } = operation;
        let replayed = work.replayed();
        match answer.and_then(|answer| work.next(&place, answer)) {
            Ok(Next::Ask(work)) => ask(core, now, Operation { id, place, work }),
            Ok(Next::Done(outcome)) => {
                report(core, &place, &outcome);
                self.end(core, id, Ok(outcome));
            }
            Err(error) => self.end(core, id, Err(Interrupted { replayed, error })),
        }
    }

    fn end(&mut self, core: &mut Core, id: OperationId, outcome: Result<Outcome, Interrupted>) {
        self.under_way = self.under_way.saturating_sub(1);
        core.actions.push_back(BackplaneAction::Operated(id, outcome));
    }
}

impl Work {
    fn of(request: Request) -> Next {
        Next::Ask(match request {
            Request::List { count, before } => {
                Work::List { count, to: before.map_or(StreamId::LAST, StreamId::previous), letters: Vec::new() }
            }
            Request::Show(id) => Work::Show(id),
            Request::Replay(Selection::All) => Work::Last,
            Request::Replay(Selection::Ids(ids)) => return Picking { range: None, ids, replay: Replay::default() }.go_on(),
            Request::Purge(selection) => Work::Purge(selection),
        })
    }

    /// The question that goes on with it.
    fn question(&self, place: &Place) -> StoreOp {
        let one = |id| LetterOp::Read { from: id, to: id, count: 1, newest_first: false };
        let op = match self {
            Work::List { count, to, letters } => {
                let count = (count + 1).saturating_sub(letters.len()).min(PAGE);
                LetterOp::Read { from: StreamId::ZERO, to: *to, count, newest_first: true }
            }
            Work::Count { .. } => LetterOp::Count,
            Work::Show(id) => one(*id),
            Work::Last => LetterOp::Read { from: StreamId::ZERO, to: StreamId::LAST, count: 1, newest_first: true },
            Work::Pick(Picking { range, .. }) => {
                let (from, to) = range.unwrap_or_default();
                LetterOp::Read { from, to, count: PAGE, newest_first: false }
            }
            // First it is added where it is to be, once, and then deleted.
            Work::Replay { letters, .. } if place.apart => {
                let group = GroupRef { stream: place.letters.clone(), group: "replay".into() };
                let (stream, entries) = (place.source.clone(), letters.clone());
                return StoreOp::Apply { group, share: Share::Stream { stream, length: u32::MAX, entries } };
            }
            Work::Replay { letters, .. } => LetterOp::Replay { source: place.source.clone(), letters: letters.clone() },
            Work::Forget { letters, outcomes, .. } => {
                let is_added = |(_, outcome): &(_, &Replayed)| matches!(outcome, Replayed::Added(_));
                LetterOp::Delete(letters.iter().zip(outcomes).filter(is_added).map(|((id, _), _)| *id).collect())
            }
            Work::Purge(Selection::Ids(ids)) => LetterOp::Delete(ids.iter().copied().collect()),
            Work::Purge(Selection::All) => LetterOp::DeleteAll,
        };
        StoreOp::Letters { stream: place.letters.clone(), op }
    }

    /// What follows the answer.
    fn next(self, place: &Place, answer: Answer) -> Result<Next, StoreError> {
        match (self, answer) {
            (Work::List { count, letters, .. }, Answer::Entries(entries)) => Ok(Next::Ask(list(count, letters, entries))),
            (Work::Count { letters, next }, Answer::Count(depth)) => Ok(Next::Done(Outcome::Listed { letters, next, depth })),
            (Work::Show(_), Answer::Entries(entries)) => {
                let letter = entries.into_iter().next().map(|entry| Box::new(DeadLetter::read(entry)));
                Ok(Next::Done(Outcome::Shown(letter)))
            }
            (Work::Last, Answer::Entries(entries)) => {
                let range = entries.first().map(|last| (StreamId::ZERO, last.id));
                Ok(Picking { range, ids: BTreeSet::new(), replay: Replay::default() }.go_on())
            }
            (Work::Pick(picking), Answer::Entries(entries)) => Ok(picking.picked(place, entries)),
            (Work::Replay { letters, then }, Answer::Replayed(outcomes)) => {
                let any_added = outcomes.iter().any(|outcome| matches!(outcome, Replayed::Added(_)));
                match place.apart && any_added {
                    true => Ok(Next::Ask(Work::Forget { letters, outcomes, then })),
                    false => Ok(then.replayed(&letters, outcomes)),
                }
            }
            (Work::Forget { letters, outcomes, then }, Answer::Count(_)) => Ok(then.replayed(&letters, outcomes)),
            (Work::Purge(_), Answer::Count(count)) => Ok(Next::Done(Outcome::Purged(count))),
            _ => Err(StoreError::Unexpected("the answer to another question".into())),
        }
    }

    /// Letters that have been replayed so far.
    fn replayed(&self) -> u64 {
        match self {
            Work::Pick(picking) | Work::Replay { then: picking, .. } | Work::Forget { then: picking, .. } => {
                picking.replay.replayed
            }
            _ => 0,
        }
    }
}

impl Picking {
    fn go_on(mut self) -> Next {
        self.range = self.range.or_else(|| self.ids.pop_first().map(|id| (id, id)));
        match self.range {
            Some(_) => Next::Ask(Work::Pick(self)),
            None => Next::Done(Outcome::Replayed(self.replay)),
        }
    }

    fn picked(mut self, place: &Place, entries: Vec<Entry>) -> Next {
        if entries.is_empty()
            && let Some((id, to)) = self.range
            && id == to
        {
            self.replay.gone(id);
        }
        let last = entries.last().map(|entry| entry.id);
        self.range = self.range.zip(last).filter(|((_, to), last)| last < to).map(|((_, to), last)| (last.next(), to));
        let mut letters = Vec::with_capacity(entries.len());
        for entry in entries {
            let letter = DeadLetter::read(entry);
            // Sources may share a dead-letter stream.
            let replayed = match letter.header.source.as_deref().is_none_or(|source| source == &*place.source) {
                true => letter.replayed(),
                false => Err("the letter is of another source"),
            };
            match replayed {
                Ok(fields) => letters.push((letter.id, fields)),
                Err(reason) => self.replay.failed(letter.id, StoreError::Refused(reason.into())),
            }
        }
        match letters.is_empty() {
            true => self.go_on(),
            false => Next::Ask(Work::Replay { letters, then: self }),
        }
    }

    fn replayed(mut self, letters: &[(StreamId, Fields)], outcomes: Vec<Replayed>) -> Next {
        for ((id, _), outcome) in letters.iter().zip(outcomes) {
            match outcome {
                Replayed::Added(entry) => self.replay.added(*id, entry),
                Replayed::Gone => self.replay.gone(*id),
                Replayed::Failed(error) => self.replay.failed(*id, error),
            }
        }
        self.go_on()
    }
}

fn list(count: usize, mut letters: Vec<Summary>, entries: Vec<Entry>) -> Work {
    let last = entries.last().map(|entry| entry.id);
    letters.extend(entries.into_iter().map(|entry| DeadLetter::read(entry).summary()));
    match last {
        Some(last) if letters.len() <= count => Work::List { count, to: last.previous(), letters },
        _ => {
            let more = letters.len() > count;
            letters.truncate(count);
            let next = letters.last().map(|letter| letter.id).filter(|_| more);
            Work::Count { letters, next }
        }
    }
}

fn ask(core: &mut Core, now: Time, operation: Operation) {
    let op = operation.work.question(&operation.place);
    core.ask(now, operation.place.lane, Purpose::Operation(Box::new(operation)), op);
}

fn report(core: &mut Core, place: &Place, outcome: &Outcome) {
    let stream = place.letters.clone();
    match outcome {
        Outcome::Replayed(Replay { replayed, failures, .. }) => {
            core.report(|| Report::LettersReplayed { stream, replayed: *replayed, failures: *failures });
        }
        Outcome::Purged(letters) => core.report(|| Report::LettersPurged { stream, letters: *letters }),
        Outcome::Listed { .. } | Outcome::Shown(_) => {}
    }
}
