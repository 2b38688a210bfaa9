//! Pub/Sub, in the words of Redis. A connection that listens speaks RESP 3, where what is said on channels is told from answers.

use bytes::Bytes;

use super::{Reply, Words, word};
use crate::store::{Said, Subscription, SubscriptionKind};

/// The commands that end the subscriptions of a connection which are not wanted any more, and begin those that are new. Redis
/// does not answer them, unless it refuses.
pub fn subscribe(before: &[Subscription], wanted: &[Subscription]) -> Vec<Words> {
    let mut commands = Vec::new();
    for (verbs, from, to) in [
        ([("UNSUBSCRIBE", SubscriptionKind::Channel), ("PUNSUBSCRIBE", SubscriptionKind::Pattern)], before, wanted),
        ([("SUBSCRIBE", SubscriptionKind::Channel), ("PSUBSCRIBE", SubscriptionKind::Pattern)], wanted, before),
    ] {
        for (verb, kind) in verbs {
            let names = from.iter().filter(|one| one.kind == kind && !to.contains(one)).map(name);
            let words: Words = core::iter::once(word(verb)).chain(names).collect();
            if words.len() > 1 {
                commands.push(words);
            }
        }
    }
    let sharded = |one: &&Subscription| one.kind == SubscriptionKind::Sharded;
    for (verb, from, to) in [("SUNSUBSCRIBE", before, wanted), ("SSUBSCRIBE", wanted, before)] {
        // Each may be of another slot, and a command is of one.
        commands.extend(from.iter().filter(sharded).filter(|one| !to.contains(one)).map(|one| vec![word(verb), name(one)]));
    }
    commands
}

/// What a push of Redis says; nothing where it is not a message.
pub fn said(kind: &str, mut data: Vec<Reply>) -> Option<Said> {
    let mut next = || match data.is_empty() {
        true => None,
        false => match data.remove(0) {
            Reply::Bytes(bytes) => Some(bytes),
            Reply::Nil | Reply::Int(_) | Reply::Array(_) | Reply::Error(_) => None,
        },
    };
    let (kind, name) = match kind {
        "message" => (SubscriptionKind::Channel, None),
        "smessage" => (SubscriptionKind::Sharded, None),
        "pmessage" => (SubscriptionKind::Pattern, Some(next()?)),
        _ => return None,
    };
    let (channel, payload) = (next()?, next()?);
    let name = str::from_utf8(name.as_ref().unwrap_or(&channel)).ok()?.into();
    Some(Said { by: Subscription { kind, name }, channel, payload })
}

fn name(subscription: &Subscription) -> Bytes {
    Bytes::copy_from_slice(subscription.name.as_bytes())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn spoken(before: &[Subscription], wanted: &[Subscription]) -> Vec<String> {
        let commands = subscribe(before, wanted);
        commands.iter().map(|words| String::from_utf8(words.join(&b' ')).unwrap()).collect()
    }

    #[test]
    fn only_what_has_changed_is_said() {
        let (a, b, p, s) =
            (Subscription::channel("a"), Subscription::channel("b"), Subscription::pattern("p*"), Subscription::sharded("s"));
        let all = [a.clone(), b.clone(), p.clone(), s.clone()];
        assert_eq!(spoken(&[], &all), ["SUBSCRIBE a b", "PSUBSCRIBE p*", "SSUBSCRIBE s"]);
        assert_eq!(spoken(&all, &all), [""; 0]);
        assert_eq!(spoken(&[a.clone(), s], &[b, p, a]), ["SUBSCRIBE b", "PSUBSCRIBE p*", "SUNSUBSCRIBE s"]);
    }

    #[test]
    fn messages_are_told_from_confirmations() {
        let text = |text: &'static str| Reply::Bytes(Bytes::from(text));
        let heard = said("pmessage", vec![text("p*"), text("p1"), text("hello")]).unwrap();
        assert_eq!((heard.by, &heard.channel[..], &heard.payload[..]), (Subscription::pattern("p*"), &b"p1"[..], &b"hello"[..]));
        let heard = said("message", vec![text("c"), text("hello")]).unwrap();
        assert_eq!(heard.by, Subscription::channel("c"));
        assert_eq!(said("subscribe", vec![text("c"), Reply::Int(1)]), None);
        assert_eq!(said("message", vec![text("c")]), None);
    }
}
