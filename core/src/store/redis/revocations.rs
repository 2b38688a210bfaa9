//! Revoked tokens, in the words of Redis: one sorted set, by the moment.

use super::{Redis, Reply, Words, array, bytes, millis, text, unexpected, words};
use crate::store::{Answer, RevocationOp, StoreError, scripts};
use crate::time::UnixMillis;
use crate::token::{MOST_REVOCATIONS, Subject};

impl Redis {
    pub(super) fn work_on_revocations(&self, op: &RevocationOp) -> Words {
        let key = self.revoked_key();
        match op {
            RevocationOp::Add { subject, at, ttl } => {
                let ended = at.0.saturating_sub(ttl.as_millis() as u64);
                let mut words = words(["EVAL", scripts::REVOKE, "1", &key, &member(subject)]);
                words.extend([text(at.0), text(ended), millis(*ttl).into(), text(MOST_REVOCATIONS)]);
                words
            }
            RevocationOp::Since(at) => words(["ZRANGE", &key, &at.0.to_string(), "+inf", "BYSCORE", "WITHSCORES"]),
        }
    }

    pub(super) fn revoked_key(&self) -> String {
        format!("{}revoked", self.prefix)
    }
}

pub(super) fn answer(op: &RevocationOp, reply: Reply) -> Result<Answer, StoreError> {
    match op {
        RevocationOp::Add { .. } => Ok(Answer::Done),
        RevocationOp::Since(_) => {
            let mut words = array(reply)?.into_iter();
            let mut revoked = Vec::new();
            while let (Some(subject), Some(at)) = (words.next(), words.next()) {
                let (subject, at) = (bytes(subject)?, bytes(at)?);
                let at = str::from_utf8(&at).ok().and_then(|at| at.parse::<f64>().ok());
                let at = at.ok_or_else(|| unexpected("not the moment of a revocation"))?;
                // What is none of ours is passed over: who can write there can do worse.
                let subject = str::from_utf8(&subject).ok().and_then(|text| match text.split_once(':')? {
                    ("user", user) => Some(Subject::User(user.into())),
                    ("token", jti) => Some(Subject::Token(jti.into())),
                    _ => None,
                });
                revoked.extend(subject.map(|subject| (subject, UnixMillis(at as u64))));
            }
            Ok(Answer::Revoked(revoked))
        }
    }
}

fn member(subject: &Subject) -> String {
    match subject {
        Subject::User(user) => format!("user:{user}"),
        Subject::Token(jti) => format!("token:{jti}"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use bytes::Bytes;

    #[test]
    fn what_is_not_ours_in_the_set_is_passed_over() {
        let word = |text: &'static str| Reply::Bytes(Bytes::from_static(text.as_bytes()));
        let reply = ["user:7", "1000", "nonsense", "5", "token:a:b", "1.7e3"].map(word).into();
        let revoked = vec![(Subject::User("7".into()), UnixMillis(1000)), (Subject::Token("a:b".into()), UnixMillis(1700))];
        assert_eq!(answer(&RevocationOp::Since(UnixMillis(0)), Reply::Array(reply)), Ok(Answer::Revoked(revoked)));
        let broken = Reply::Array(["user:7", "soon"].map(word).into());
        assert!(answer(&RevocationOp::Since(UnixMillis(0)), broken).is_err());
    }
}
