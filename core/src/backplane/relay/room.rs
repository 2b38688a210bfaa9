//! Rooms that some hub of this node is in, and how far each that remembers has come here.

use slab::Slab;

use crate::id::{ShardId, ShardSet};
use crate::message::RoomName;
use crate::position::Position;
use crate::table::Table;

/// The rooms.
#[derive(Debug)]
pub(super) struct Rooms {
    rooms: Slab<Room>,
    by_name: Table<RoomName, u32>,
}

#[derive(Debug)]
pub(super) struct Room {
    pub(super) name: RoomName,
    pub(super) shards: ShardSet,
    /// How far it has come, where it remembers.
    pub(super) track: Option<Track>,
}

/// How far a room has come on this node.
#[derive(Debug, Default)]
pub(super) struct Track {
    /// The last message that the hubs were told of. Until it is known, its epoch is zero.
    pub(super) at: Position,
    /// Whether the relay log has come so far: before, it brings what is known already.
    synced: bool,
    /// Whether nothing has been heard since the room was checked last.
    pub(super) quiet: bool,
    /// Whether something in it came by a channel: what is said there while nobody listens is lost.
    pub(super) fed: bool,
    pub(super) errand: Option<Box<Errand>>,
}

/// What is being done about a room.
#[derive(Debug)]
pub(super) enum Errand {
    /// It is asked where the room stands.
    Asking {
        /// Who is to be told.
        joining: Vec<(ShardId, u64)>,
        /// Whether those who have joined are to be told that messages were lost.
        lost: bool,
        /// The furthest that the relay log has brought meanwhile.
        ahead: Option<Position>,
    },
    /// What is missing is being read.
    Healing {
        /// The furthest that the relay log has brought meanwhile.
        ahead: Option<Position>,
        /// Whether those who have joined are to be told after it that messages were lost, which no memory has.
        lost: bool,
    },
}

/// What is to be done with a message that the relay log brings.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Verdict {
    /// It is the next one.
    Pass,
    /// It is known already, or will come from the room's memory.
    Skip,
    /// Something is missing before it, or it is not of the log that is known here.
    Heal,
}

impl Rooms {
    pub(super) fn new(key: u64) -> Rooms {
        Rooms { rooms: Slab::new(), by_name: Table::new(key) }
    }

    pub(super) fn find(&self, name: &str) -> Option<usize> {
        self.by_name.get(name).map(|index| *index as usize)
    }

    pub(super) fn get(&self, index: usize) -> Option<&Room> {
        self.rooms.get(index)
    }

    pub(super) fn get_mut(&mut self, index: usize) -> Option<&mut Room> {
        self.rooms.get_mut(index)
    }

    pub(super) fn add(&mut self, name: RoomName, remembers: bool) -> usize {
        let track = remembers.then(Track::default);
        let index = self.rooms.insert(Room { name: name.clone(), shards: ShardSet::default(), track });
        self.by_name.insert(name, index as u32);
        index
    }

    pub(super) fn remove(&mut self, index: usize) {
        if let Some(room) = self.rooms.try_remove(index) {
            self.by_name.remove(&room.name);
        }
    }

    /// The slots that rooms stand in, empty ones included.
    pub(super) fn slots(&self) -> usize {
        self.rooms.capacity()
    }
}

impl Track {
    /// A message comes from the relay log.
    pub(super) fn hear(&mut self, position: Position, previous: u32) -> Verdict {
        self.quiet = false;
        match self.errand.as_deref_mut() {
            Some(Errand::Asking { ahead, .. } | Errand::Healing { ahead, .. }) => {
                *ahead = Some(position);
                return Verdict::Skip;
            }
            None => {}
        }
        let at = self.at;
        if position.epoch != at.epoch {
            return Verdict::Heal;
        }
        if position.offset == at.offset + 1 && previous == at.tag {
            (self.at, self.synced) = (position, true);
            return Verdict::Pass;
        }
        if position == at {
            self.synced = true;
            return Verdict::Skip;
        }
        // The same offset under another tag, or an offset that was told of before: a log that has lost its end goes on.
        if position.offset < at.offset && !self.synced { Verdict::Skip } else { Verdict::Heal }
    }

    /// A hub no longer waits.
    pub(super) fn forget(&mut self, shard: ShardId) {
        if let Some(Errand::Asking { joining, .. }) = self.errand.as_deref_mut() {
            joining.retain(|(waiting, _)| *waiting != shard);
        }
    }

    /// It is known how far the room has come, by another way than the relay log.
    pub(super) fn stands_at(&mut self, at: Position) {
        (self.at, self.synced) = (at, false);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(offset: u64) -> Position {
        Position { epoch: 1, offset, tag: if offset == 0 { 0 } else { offset as u32 + 100 } }
    }

    fn track(offset: u64) -> Track {
        Track { at: at(offset), ..Track::default() }
    }

    fn hear(track: &mut Track, offset: u64) -> Verdict {
        track.hear(at(offset), at(offset - 1).tag)
    }

    #[test]
    fn what_follows_is_passed_on() {
        let mut track = track(0);
        assert_eq!([1, 2, 3].map(|offset| hear(&mut track, offset)), [Verdict::Pass; 3]);
        assert_eq!(hear(&mut track, 5), Verdict::Heal, "the fourth is missing");
    }

    #[test]
    fn what_was_known_before_the_relay_log_brought_it_is_skipped() {
        let mut track = track(3);
        assert_eq!([2, 3].map(|offset| hear(&mut track, offset)), [Verdict::Skip; 2]);
        assert_eq!(hear(&mut track, 4), Verdict::Pass);
        assert_eq!(hear(&mut track, 3), Verdict::Heal, "the relay log never goes back, unless it is another one");
    }

    #[test]
    fn a_fork_is_noticed_wherever_it_begins() {
        let fork = |offset| Position { tag: 7, ..at(offset) };
        for (known, position, previous) in [
            (5, fork(5), at(4).tag),
            (5, fork(6), 7),
            (5, Position { epoch: 2, ..at(6) }, at(5).tag),
            (5, Position { epoch: 2, ..at(1) }, 0),
        ] {
            assert_eq!(track(known).hear(position, previous), Verdict::Heal, "{position} after {}", at(known));
        }
        let mut synced = track(4);
        assert_eq!(hear(&mut synced, 5), Verdict::Pass);
        assert_eq!(synced.hear(fork(3), at(2).tag), Verdict::Heal, "an offset that was told of before");
    }

    #[test]
    fn while_something_is_read_the_furthest_is_remembered() {
        let mut track = track(1);
        track.errand = Some(Box::new(Errand::Healing { ahead: None, lost: false }));
        assert_eq!([2, 3].map(|offset| hear(&mut track, offset)), [Verdict::Skip; 2]);
        assert!(matches!(track.errand.as_deref(), Some(Errand::Healing { ahead: Some(ahead), .. }) if *ahead == at(3)));
    }
}
