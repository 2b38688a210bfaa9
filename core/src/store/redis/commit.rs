//! Commits: effects and acknowledgements in one atomic step, in the words of Redis.

use std::collections::BTreeMap;

use super::super::{APPLIED, Answer, Committed, Effect, Fields, GroupRef, MOST_FIELDS, Posting, Postings, StoreError, scripts};
use super::call::Call;
use super::{Redis, Reply, Words, array, pack, script_error, text, unexpected, word, words};
use crate::id::StreamId;

/// Pending entries of one's own, beside those of a commit, among which these are looked for in one go.
const MOST_BETWEEN: usize = 1_000;

/// Messages by the partition of their rooms, in order.
type ByPartition<'a> = BTreeMap<u16, Vec<&'a Posting>>;

/// Messages on their way to a relay log.
struct Append {
    key: usize,
    form: &'static str,
    words: Words,
}

impl Redis {
    /// All or nothing, and much cheaper: messages that no room remembers do not pass through a script, which only acknowledges; or
    /// takes back what the transaction has appended before it, where something is not as it should be.
    ///
    /// Messages of one room are all remembered or none is, so their order is kept.
    pub(super) fn commit_together(&self, group: &GroupRef, effects: &[(StreamId, Effect)]) -> Vec<Words> {
        let (mut plain, mut kept) = (ByPartition::new(), ByPartition::new());
        for (_, effect) in effects {
            if let Effect::Relay(partitions) = effect {
                for (partition, messages) in partitions {
                    for message in messages {
                        let logs = if message.is_plain() { &mut plain } else { &mut kept };
                        logs.entry(*partition).or_default().push(message);
                    }
                }
            }
        }
        let mut call = Call::new(self, [group.stream.to_string(), self.mark_key(group)]);
        let mut commands = vec![words(["MULTI"])];
        let mut head = Words::new();
        self.put_guard(&mut head, group, effects);
        head.extend([text(plain.len()), text(effects.len())]);
        head.extend(effects.iter().map(|(id, _)| text(id)));
        for (partition, messages) in plain {
            call.key(self.relay_key(partition));
            commands.push(self.append_plain(partition, messages.into_iter()));
        }
        let mut body = Words::new();
        for (partition, messages) in &kept {
            let key = call.key(self.relay_key(*partition));
            let messages = call.messages(*partition, messages.iter().copied());
            body.extend([text(key), text(self.relay_length), text(messages.len())]);
            body.extend(messages);
        }
        let script = if kept.is_empty() { scripts::TOGETHER } else { scripts::TOGETHER_KEPT };
        commands.extend([call.words(script, head, body), words(["EXEC"])]);
        commands
    }

    /// Each entry by itself, whatever becomes of the others.
    pub(super) fn commit_each(&self, group: &GroupRef, effects: &[(StreamId, Effect)]) -> Words {
        let mut call = Call::new(self, [group.stream.to_string(), self.mark_key(group)]);
        let (mut head, mut body) = (Words::new(), Words::new());
        self.put_guard(&mut head, group, effects);
        for (id, effect) in effects {
            body.push(text(id));
            match effect {
                Effect::Relay(partitions) => {
                    let appends: Vec<Append> = partitions
                        .iter()
                        .flat_map(|(partition, messages)| self.appends(&mut call, *partition, messages))
                        .collect();
                    body.push(text(appends.len()));
                    for Append { key, form, words } in appends {
                        body.extend([text(key), text(self.relay_length), word(form), text(words.len())]);
                        body.extend(words);
                    }
                }
                Effect::Route(entry) | Effect::DeadLetter(entry) => {
                    let fields = &entry.fields[..entry.fields.len().min(MOST_FIELDS)];
                    let key = call.key(entry.stream.to_string());
                    body.extend([text(1), text(key), text(entry.length), word("alone"), text(fields.len() * 2)]);
                    body.extend(fields.iter().flat_map(|(name, value)| [name.clone(), value.clone()]));
                }
                Effect::Nothing => body.push(text(0)),
            }
        }
        call.words(scripts::EACH, head, body)
    }

    /// The messages in one partition of entries that are acknowledged elsewhere.
    pub(super) fn apply(&self, group: &GroupRef, partition: u16, entries: &[(StreamId, Postings)]) -> Words {
        let GroupRef { stream, group } = group;
        let mut call = Call::new(self, [format!("{}applied:{{{partition}}}:{stream}:{group}", self.prefix)]);
        let mut body = Words::new();
        for (id, messages) in entries {
            let appends = self.appends(&mut call, partition, messages);
            body.extend([text(id), text(appends.len())]);
            for Append { key, form, words } in appends {
                body.extend([text(key), word(form), text(words.len())]);
                body.extend(words);
            }
        }
        call.words(scripts::APPLY, vec![text(APPLIED), text(self.relay_length)], body)
    }

    /// What entries that are acknowledged elsewhere become in another stream.
    pub(super) fn put(&self, from: &GroupRef, (stream, length): (&str, u32), entries: &[(StreamId, Fields)]) -> Words {
        let seen = self.key_beside(stream, "put", &format!("{}:{}", from.stream, from.group));
        let mut words = words(["EVAL", scripts::PUT, "2", stream, &seen]);
        words.extend([text(APPLIED), text(length)]);
        for (StreamId { millis, sequence }, fields) in entries {
            let fields = &fields[..fields.len().min(MOST_FIELDS)];
            // As long as any other, so that the order of the texts is that of the identifiers.
            words.extend([text(format_args!("{millis:020}-{sequence:020}")), text(fields.len() * 2)]);
            words.extend(fields.iter().flat_map(|(name, value)| [name.clone(), value.clone()]));
        }
        words
    }

    /// What is appended to relay logs, in order: messages that pass through a script as they are, packed, and others.
    fn appends<'a>(&self, call: &mut Call<'a>, partition: u16, messages: &'a [Posting]) -> Vec<Append> {
        let key = call.key(self.relay_key(partition));
        let append = |messages: &'a [Posting]| match messages.iter().all(Posting::is_plain) {
            true => Append { key, form: "joined", words: vec![pack::pack(messages.iter())] },
            false => Append { key, form: "kept", words: call.messages(partition, messages.iter()) },
        };
        messages.chunk_by(|a, b| a.is_plain() == b.is_plain()).map(append).collect()
    }

    /// What the scripts of commits need to find out which entries are pending.
    fn put_guard(&self, args: &mut Words, group: &GroupRef, effects: &[(StreamId, Effect)]) {
        let ids = || effects.iter().map(|(id, _)| *id);
        let (first, last) = (ids().min().unwrap_or_default(), ids().max().unwrap_or_default());
        let most = effects.len() + MOST_BETWEEN;
        args.extend([text(&group.group), text(&self.consumer), text(first), text(last), text(most)]);
    }
}

pub(super) fn answer(effects: usize, together: bool, reply: Reply) -> Result<Answer, StoreError> {
    let mut outcomes = array(reply)?;
    if together {
        // The identifiers of what was appended, then the script's word. A log is nobody's but ours, so an append that fails although
        // its log is a stream should be impossible; it is told, and not taken for a success.
        let last = outcomes.pop();
        let failed = outcomes.into_iter().find_map(|reply| if let Reply::Error(error) = reply { Some(error) } else { None });
        return match (last, failed) {
            (Some(Reply::Int(1)), None) => Ok(Answer::Committed(vec![Committed::Stored; effects])),
            (Some(Reply::Int(0)), _) => Ok(Answer::Declined),
            (Some(Reply::Error(error)), _) | (Some(Reply::Int(1)), Some(error)) => Err(error),
            _ => Err(unexpected("an unknown outcome")),
        };
    }
    if outcomes.len() != effects {
        return Err(unexpected("a different number of outcomes"));
    }
    outcomes.into_iter().map(committed).collect::<Result<_, _>>().map(Answer::Committed)
}

fn committed(reply: Reply) -> Result<Committed, StoreError> {
    match reply {
        Reply::Int(1) => Ok(Committed::Stored),
        Reply::Int(0) => Ok(Committed::NotPending),
        Reply::Bytes(text) => Ok(Committed::Failed(script_error(&text))),
        Reply::Int(_) | Reply::Nil | Reply::Array(_) | Reply::Error(_) => Err(unexpected("an unknown outcome")),
    }
}

#[cfg(test)]
mod tests {
    use core::time::Duration;

    use bytes::Bytes;

    use super::*;
    use crate::config::Config;
    use crate::store::{Kept, NewEntry, Place, Share, StoreOp};
    use crate::time::UnixMillis;

    fn spoken(effects: Vec<(StreamId, Effect)>, together: bool) -> String {
        let redis = Redis::new(&Config { node: "n1".into(), ..Config::default() });
        let group = GroupRef { stream: "s".into(), group: "g".into() };
        let words = redis.commands(&StoreOp::Commit { group, effects: effects.into(), together }).concat();
        let words: Vec<_> = words.iter().map(|word| String::from_utf8_lossy(word)).collect();
        let words = words.join(" ").replace(scripts::EACH, "each").replace(scripts::TOGETHER, "together");
        words.replace(scripts::TOGETHER_KEPT, "together-kept")
    }

    fn id(millis: u64) -> StreamId {
        StreamId { millis, sequence: 0 }
    }

    fn relay(partitions: &[u16], payload: &'static str) -> Effect {
        Effect::Relay(
            partitions.iter().map(|partition| (*partition, vec![Posting::plain("r".into(), Bytes::from(payload))])).collect(),
        )
    }

    #[test]
    fn what_is_committed_together_is_one_entry_in_each_log() {
        let effects = vec![(id(2), relay(&[4, 5], "a")), (id(1), relay(&[4], "b")), (id(3), Effect::Nothing)];
        assert_eq!(
            spoken(effects, true),
            "MULTI XADD rc:relay:{4} MAXLEN ~ 100000 * m 1:r,0:,1:a,1:r,0:,1:b, XADD rc:relay:{5} MAXLEN ~ 100000 * m 1:r,0:,1:a, \
             EVAL together 4 s rc:mark:{s}:g rc:relay:{4} rc:relay:{5} g n1 1-0 3-0 1003 2 3 2-0 1-0 3-0 0 EXEC"
        );
    }

    fn remembered(room: &str) -> Posting {
        let (place, ttl) = (Place::Log, Duration::from_secs(90_000));
        let kept = Kept { place, size: 5, ttl, epoch: 0x2e, tag: 16, at: UnixMillis(77) };
        Posting { kept: Some(kept), ..Posting::plain(room.into(), "k".into()) }
    }

    #[test]
    fn what_is_remembered_is_committed_together_by_the_script() {
        let mixed = || Effect::Relay(vec![(4, vec![remembered("r"), Posting::plain("p".into(), "a".into())])]);
        let only = Effect::Relay(vec![(5, vec![remembered("s")])]);
        assert_eq!(
            spoken(vec![(id(1), mixed()), (id(2), only), (id(3), mixed())], true),
            "MULTI XADD rc:relay:{4} MAXLEN ~ 100000 * m 1:p,0:,1:a,1:p,0:,1:a, EVAL together-kept 10 s rc:mark:{s}:g \
             rc:relay:{4} rc:{4}:r:meta rc:{4}:r:log rc:{4}:r:inbox rc:relay:{5} rc:{5}:s:meta rc:{5}:s:log rc:{5}:s:inbox \
             g n1 1-0 3-0 1003 1 3 1-0 2-0 3-0 2 1:r, 4 log 5 90000000 180000000 2e  1:s, 8 log 5 90000000 180000000 2e  \
             3 100000 10 1 1:k, 16   1 1:k, 16   7 100000 5 2 1:k, 16   EXEC"
        );
    }

    #[test]
    fn what_is_remembered_keeps_its_order_where_each_entry_is_committed_by_itself() {
        let plain = || Posting::plain("p".into(), "a".into());
        let effect = Effect::Relay(vec![(4, vec![plain(), plain(), remembered("r"), plain()])]);
        assert_eq!(
            spoken(vec![(id(1), effect)], false),
            "EVAL each 6 s rc:mark:{s}:g rc:relay:{4} rc:{4}:r:meta rc:{4}:r:log rc:{4}:r:inbox g n1 1-0 1-0 1001 \
             1 1:r, 4 log 5 90000000 180000000 2e  1-0 3 3 100000 joined 1 1:p,0:,1:a,1:p,0:,1:a, \
             3 100000 kept 5 1 1:k, 16   3 100000 joined 1 1:p,0:,1:a,"
        );
    }

    #[test]
    fn what_is_committed_by_itself_names_each_stream_once() {
        let entry = |stream: &str, fields| NewEntry { stream: stream.into(), length: 10, fields };
        let field = |name: &'static str, value: &'static str| (Bytes::from(name), Bytes::from(value));
        let effects = vec![
            (id(1), relay(&[4, 5], "a")),
            (id(2), relay(&[4], "b")),
            (id(3), Effect::Route(entry("t", vec![field("a", "1"), field("a", "2")]))),
            (id(4), Effect::DeadLetter(entry("d", vec![field("error", "e")]))),
            (id(5), Effect::Nothing),
            (id(6), Effect::Route(entry("t", vec![field("", "")]))),
        ];
        assert_eq!(
            spoken(effects, false),
            "EVAL each 6 s rc:mark:{s}:g rc:relay:{4} rc:relay:{5} t d g n1 1-0 6-0 1006 0 \
             1-0 2 3 100000 joined 1 1:r,0:,1:a, 4 100000 joined 1 1:r,0:,1:a, 2-0 1 3 100000 joined 1 1:r,0:,1:b, \
             3-0 1 5 10 alone 4 a 1 a 2 4-0 1 6 10 alone 2 error e 5-0 0 6-0 1 5 10 alone 2  "
        );
    }

    fn shared(share: Share) -> String {
        let redis = Redis::new(&Config::default());
        let group = GroupRef { stream: "s".into(), group: "g".into() };
        let words = redis.commands(&StoreOp::Apply { group, share }).concat();
        let words: Vec<_> = words.iter().map(|word| String::from_utf8_lossy(word)).collect();
        words.join(" ").replace(scripts::APPLY, "apply").replace(scripts::PUT, "put")
    }

    #[test]
    fn what_is_acknowledged_elsewhere_is_applied_by_its_identifier() {
        let messages = |payload: &'static str| vec![Posting::plain("r".into(), Bytes::from(payload))];
        let entries = vec![(id(1), messages("a")), (id(2), messages("c"))];
        assert_eq!(
            shared(Share::Relay { partition: 4, entries }),
            "EVAL apply 2 rc:applied:{4}:s:g rc:relay:{4} 100000 100000 0 1-0 1 2 joined 1 1:r,0:,1:a, 2-0 1 2 joined 1 1:r,0:,1:c,"
        );
        let entries = vec![(id(7), vec![(Bytes::from("a"), Bytes::from("1"))])];
        assert_eq!(
            shared(Share::Stream { stream: "t".into(), length: 9, entries: entries.clone() }),
            "EVAL put 2 t rc:put:{t}:s:g 100000 9 00000000000000000007-00000000000000000000 2 a 1"
        );
        assert!(shared(Share::Stream { stream: "a{t}".into(), length: 9, entries }).contains(" a{t} rc:put:{t}:a{t}:s:g "));
    }

    #[test]
    fn each_effect_has_an_outcome_of_its_own() {
        let string = |text: &'static str| Reply::Bytes(Bytes::from(text));
        let outcomes =
            vec![Reply::Int(1), string("ERR The stream has exhausted"), string("-OOM command not allowed"), Reply::Int(0)];
        let Ok(Answer::Committed(outcomes)) = answer(4, false, Reply::Array(outcomes)) else { panic!("not outcomes") };
        use StoreError::{Busy, Refused};
        assert!(matches!(
            &outcomes[..],
            [Committed::Stored, Committed::Failed(Refused(_)), Committed::Failed(Busy(_)), Committed::NotPending]
        ));
    }

    #[test]
    fn the_script_has_the_last_word_on_what_is_committed_together() {
        let appended = || Reply::Bytes(Bytes::from("1-0"));
        let wrong = || Reply::Error(StoreError::Refused("WRONGTYPE".into()));
        for (replies, expected) in [
            (vec![appended(), Reply::Int(1)], Ok(Answer::Committed(vec![Committed::Stored; 2]))),
            (vec![appended(), wrong(), Reply::Int(0)], Ok(Answer::Declined)),
            (vec![appended(), Reply::Error(StoreError::NoGroup)], Err(StoreError::NoGroup)),
            (vec![wrong(), Reply::Int(1)], Err(StoreError::Refused("WRONGTYPE".into()))),
        ] {
            assert_eq!(answer(2, true, Reply::Array(replies)), expected);
        }
    }
}
