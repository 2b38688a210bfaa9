//! The call of a script that stores messages, while its words are being written: each key and each rule is said once, and messages
//! refer to them by number.

use core::time::Duration;
use std::collections::BTreeMap;

use bytes::Bytes;

use super::{Redis, Words, lifetime, pack, text, word, words};
use crate::store::{Kept, Place, Posting};

/// The keys and the rules of a call.
pub(super) struct Call<'a> {
    redis: &'a Redis,
    keys: Vec<Bytes>,
    /// Where keys stand that may be asked for again.
    known: BTreeMap<String, usize>,
    /// Where the keys of rooms begin.
    rooms: BTreeMap<&'a str, usize>,
    rules: Words,
    numbers: BTreeMap<Rule<'a>, usize>,
}

/// What messages of a room have in common: how the room remembers them, and for how long their identifiers are remembered.
type Rule<'a> = (&'a str, Option<(Place, u32, Duration)>, Option<Duration>);

impl<'a> Call<'a> {
    /// A call that begins with these keys.
    pub(super) fn new(redis: &'a Redis, keys: impl IntoIterator<Item = String>) -> Call<'a> {
        let keys = keys.into_iter().map(Bytes::from).collect();
        Call { redis, keys, known: BTreeMap::new(), rooms: BTreeMap::new(), rules: Words::new(), numbers: BTreeMap::new() }
    }

    /// The number of a key, which is added where it has not been asked for before.
    pub(super) fn key(&mut self, key: String) -> usize {
        let Call { keys, known, .. } = self;
        *known.entry(key).or_insert_with_key(|key| {
            keys.push(Bytes::from(key.clone()));
            keys.len()
        })
    }

    /// The words of messages of one partition.
    pub(super) fn messages(&mut self, partition: u16, messages: impl Iterator<Item = &'a Posting>) -> Words {
        let mut words = Words::new();
        for message in messages {
            let rule = self.rule(partition, message);
            let (tag, at) = match message.kept {
                Some(Kept { place: Place::Log, tag, .. }) => (text(tag), word("")),
                Some(Kept { place: Place::Inbox, tag, at, .. }) => (text(tag), pack::netstring(text(at.0).as_ref())),
                None => (word(""), word("")),
            };
            let once = match &message.once {
                Some(once) => text(self.key(self.redis.identifier_key(partition, &message.room, &once.id))),
                None => word(""),
            };
            words.extend([text(rule), pack::netstring(&message.payload), tag, at, once]);
        }
        words
    }

    /// The words of the call of a script: first come those of `head`, then the rules, then those of `body`.
    pub(super) fn words(self, script: &'static str, head: Words, body: Words) -> Words {
        let mut call = Words::with_capacity(4 + self.keys.len() + head.len() + self.rules.len() + body.len());
        call.extend([word("EVAL"), word(script), text(self.keys.len())]);
        call.extend(self.keys);
        call.extend(head);
        call.push(text(self.numbers.len()));
        call.extend(self.rules);
        call.extend(body);
        call
    }

    fn rule(&mut self, partition: u16, Posting { room, kept, once, .. }: &'a Posting) -> usize {
        let rule = (&**room, kept.map(|kept| (kept.place, kept.size, kept.ttl)), once.as_ref().map(|once| once.window));
        if let Some(number) = self.numbers.get(&rule) {
            return *number;
        }
        self.rules.push(pack::netstring(room.as_bytes()));
        match kept {
            Some(Kept { place, size, ttl, epoch, .. }) => {
                let place = if *place == Place::Log { "log" } else { "inbox" };
                let (size, outlives) = ((*size).max(1).to_string(), lifetime(Kept::position_ttl(*ttl)));
                let first = self.room(partition, room).to_string();
                self.rules.extend(words([&first, place, &size, &lifetime(*ttl), &outlives, &format!("{epoch:x}")]));
            }
            None => self.rules.extend(words(["0", "", "", "", "", ""])),
        }
        self.rules.push(Bytes::from(once.as_ref().map_or(String::new(), |once| lifetime(once.window))));
        let number = self.numbers.len() + 1;
        self.numbers.insert(rule, number);
        number
    }

    /// Where the keys of a room begin.
    fn room(&mut self, partition: u16, room: &'a str) -> usize {
        let Call { redis, keys, rooms, .. } = self;
        *rooms.entry(room).or_insert_with(|| {
            keys.extend(redis.room_keys(partition, room).map(Bytes::from));
            keys.len() - 2
        })
    }
}
