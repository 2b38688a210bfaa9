//! Operations on dead-letter streams, in the words of Redis.

use super::super::{Answer, LetterOp, Replayed, StoreError, scripts};
use super::{Reply, Words, array, entries, script_error, stream_id, text, unexpected, words};

pub(super) fn command(stream: &str, op: &LetterOp) -> Words {
    match op {
        LetterOp::Read { from, to, count, newest_first } => {
            let (from, to, count) = (from.to_string(), to.to_string(), count.to_string());
            match newest_first {
                false => words(["XRANGE", stream, &from, &to, "COUNT", &count]),
                true => words(["XREVRANGE", stream, &to, &from, "COUNT", &count]),
            }
        }
        LetterOp::Count => words(["XLEN", stream]),
        LetterOp::Replay { source, letters } => {
            let mut words = words(["EVAL", scripts::REPLAY, "2", stream, source]);
            for (id, fields) in letters {
                words.extend([text(id), text(fields.len() * 2)]);
                words.extend(fields.iter().flat_map(|(name, value)| [name.clone(), value.clone()]));
            }
            words
        }
        LetterOp::Delete(ids) => {
            let mut words = words(["XDEL", stream]);
            words.extend(ids.iter().map(text));
            words
        }
        LetterOp::DeleteAll => words(["XTRIM", stream, "MAXLEN", "=", "0"]),
    }
}

pub(super) fn answer(op: &LetterOp, reply: Reply) -> Result<Answer, StoreError> {
    match op {
        LetterOp::Read { .. } => entries(reply).map(Answer::Entries),
        LetterOp::Count | LetterOp::Delete(_) | LetterOp::DeleteAll => match reply {
            Reply::Int(count) => u64::try_from(count).map(Answer::Count).map_err(|_| unexpected("less than nothing")),
            Reply::Error(error) => Err(error),
            Reply::Nil | Reply::Bytes(_) | Reply::Array(_) => Err(unexpected("not a number")),
        },
        LetterOp::Replay { letters, .. } => replayed(letters.len(), reply),
    }
}

/// What came of so many entries that were to be added.
pub(super) fn replayed(count: usize, reply: Reply) -> Result<Answer, StoreError> {
    let outcomes: Vec<Replayed> = array(reply)?.into_iter().map(outcome).collect::<Result<_, _>>()?;
    if outcomes.len() != count {
        return Err(unexpected("a different number of outcomes"));
    }
    Ok(Answer::Replayed(outcomes))
}

fn outcome(reply: Reply) -> Result<Replayed, StoreError> {
    match reply {
        Reply::Int(0) => Ok(Replayed::Gone),
        Reply::Array(failure) => match &failure[..] {
            [Reply::Bytes(text)] => Ok(Replayed::Failed(script_error(text))),
            _ => Err(unexpected("an unknown outcome")),
        },
        id @ Reply::Bytes(_) => stream_id(id).map(Replayed::Added),
        Reply::Int(_) | Reply::Nil | Reply::Error(_) => Err(unexpected("an unknown outcome")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::id::StreamId;
    use bytes::Bytes;

    const LETTER: StreamId = StreamId { millis: 1, sequence: 2 };

    fn replay(count: usize) -> LetterOp {
        let fields = vec![(Bytes::from("a"), Bytes::from("1")), (Bytes::from("b"), Bytes::from(""))];
        LetterOp::Replay { source: "s".into(), letters: vec![(LETTER, fields); count] }
    }

    fn spoken(op: &LetterOp) -> String {
        let words = command("d", op);
        words.iter().map(|word| String::from_utf8_lossy(word).into_owned()).collect::<Vec<_>>().join(" ")
    }

    #[test]
    fn operations_become_the_documented_commands() {
        let read = |newest_first| LetterOp::Read { from: StreamId::ZERO, to: LETTER, count: 7, newest_first };
        for (op, expected) in [
            (read(false), "XRANGE d 0-0 1-2 COUNT 7"),
            (read(true), "XREVRANGE d 1-2 0-0 COUNT 7"),
            (LetterOp::Count, "XLEN d"),
            (LetterOp::Delete(vec![LETTER, StreamId::ZERO]), "XDEL d 1-2 0-0"),
            (LetterOp::DeleteAll, "XTRIM d MAXLEN = 0"),
        ] {
            assert_eq!(spoken(&op), expected);
        }
        let spoken = spoken(&replay(2));
        let (_, arguments) = spoken.split_once("return out\n ").unwrap();
        assert_eq!(arguments, "2 d s 1-2 4 a 1 b  1-2 4 a 1 b ");
    }

    #[test]
    fn each_letter_has_an_outcome_of_its_own() {
        let string = |text: &'static str| Reply::Bytes(Bytes::from(text));
        let outcomes = vec![
            string("5-0"),
            Reply::Int(0),
            Reply::Array(vec![string("WRONGTYPE s is a string")]),
            Reply::Array(vec![string("-OOM command not allowed")]),
        ];
        let Ok(Answer::Replayed(outcomes)) = answer(&replay(4), Reply::Array(outcomes)) else { panic!("not outcomes") };
        use StoreError::{Busy, Refused};
        let [Replayed::Added(id), Replayed::Gone, Replayed::Failed(Refused(text)), Replayed::Failed(Busy(_))] = &outcomes[..]
        else {
            panic!("{outcomes:?}")
        };
        assert_eq!((id.to_string().as_str(), &**text), ("5-0", "WRONGTYPE s is a string"));
    }

    #[test]
    fn nonsense_is_an_error_and_never_a_panic() {
        let ops = [
            LetterOp::Read { from: StreamId::ZERO, to: LETTER, count: 1, newest_first: true },
            LetterOp::Count,
            LetterOp::Delete(vec![LETTER]),
            replay(1),
        ];
        let nonsense = [
            Reply::Nil,
            Reply::Int(-1),
            Reply::Bytes("x".into()),
            Reply::Array(vec![Reply::Bytes("x".into())]),
            Reply::Array(vec![Reply::Int(7)]),
            Reply::Array(vec![Reply::Array(vec![]), Reply::Nil]),
        ];
        for op in &ops {
            for reply in &nonsense {
                assert!(answer(op, reply.clone()).is_err(), "{op:?} {reply:?}");
            }
        }
        assert!(answer(&replay(2), Reply::Array(vec![Reply::Int(0)])).is_err(), "an outcome is missing");
    }
}
