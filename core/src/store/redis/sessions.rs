//! The rooms of connections, in the words of Redis: for each token a hash, with a field for each connection.

use bytes::Bytes;

use super::{Redis, Reply, Words, bytes, millis, pack, text, unexpected, words};
use crate::store::{Answer, Places, SessionOp, StoreError, scripts};

impl Redis {
    pub(super) fn session(&self, token: &str, op: &SessionOp) -> Words {
        let key = self.session_key(token);
        match op {
            SessionOp::Save { conn, places, over, ttl } => {
                let (field, over) = (format!("{}/{conn}", self.consumer), if *over { "over" } else { "open" });
                let mut words = words(["EVAL", scripts::SAVE_SESSION, "1", &key, &field, over, &millis(*ttl)]);
                words.push(pack_places(places));
                words
            }
            SessionOp::Take => words(["EVAL", scripts::TAKE_SESSION, "1", &key]),
        }
    }

    pub(super) fn session_key(&self, token: &str) -> String {
        format!("{}session:{{{token}}}", self.prefix)
    }
}

pub(super) fn answer(op: &SessionOp, reply: Reply) -> Result<Answer, StoreError> {
    match (op, reply) {
        (_, Reply::Error(error)) => Err(error),
        (SessionOp::Save { .. }, _) => Ok(Answer::Done),
        (SessionOp::Take, Reply::Nil) => Ok(Answer::Places(Vec::new())),
        (SessionOp::Take, packed) => {
            let places = unpack_places(bytes(packed)?).ok_or_else(|| unexpected("not the rooms of a connection"))?;
            Ok(Answer::Places(places))
        }
    }
}

fn pack_places(places: &Places) -> Bytes {
    let position = |position: &Option<_>| position.as_ref().map(text).unwrap_or_default();
    let words = places.iter().flat_map(|(room, at)| [pack::netstring(room.as_bytes()), pack::netstring(&position(at))]);
    words.flatten().collect()
}

fn unpack_places(mut packed: Bytes) -> Option<Places> {
    let mut places = Vec::new();
    while !packed.is_empty() {
        let (room, at) = (pack::take(&mut packed)?, pack::take(&mut packed)?);
        let at = if at.is_empty() { None } else { Some(str::from_utf8(&at).ok()?.parse().ok()?) };
        places.push((str::from_utf8(&room).ok()?.into(), at));
    }
    Some(places)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::position::Position;

    #[test]
    fn places_are_packed_and_unpacked() {
        let at = Position { epoch: 1, offset: 2, tag: 3 };
        let places = vec![("a,b".into(), Some(at)), ("c".into(), None)];
        assert_eq!(pack_places(&places), "3:a,b,5:1.2.3,1:c,0:,");
        assert_eq!(unpack_places(pack_places(&places)), Some(places));
        assert_eq!(unpack_places(Bytes::from("1:a,")), None);
        assert_eq!(unpack_places(Bytes::from("1:a,1:x,")), None);
    }
}
