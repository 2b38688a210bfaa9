//! The subscriptions of the host's code, on the side of the backplane's task.

use std::collections::BTreeMap;
use std::mem;
use std::sync::Arc;

use bytes::Bytes;
use roomcast_core::door::{Ask, Tell};
use roomcast_core::message::RoomName;
use roomcast_core::position::Position;
use roomcast_core::store;

use crate::subscription::{Message, Sender};

/// What is subscribed to.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Target {
    /// A room.
    Room(RoomName),
    /// A channel, or a pattern of channels.
    Channel(store::Subscription),
}

/// All subscriptions, by what they are to. The backplane is asked once for those to the same.
#[derive(Debug, Default)]
pub(crate) struct Listeners {
    listened: BTreeMap<Target, Listened>,
    joins: u64,
}

#[derive(Debug)]
struct Listened {
    senders: Vec<Sender>,
    /// The number of the joining, where it is a room.
    join: u64,
    /// Whether the backplane has confirmed it.
    holds: bool,
}

impl Listeners {
    /// There is another subscription. What the backplane is to be asked for, if anything.
    pub(crate) fn add(&mut self, target: Target, sender: Sender) -> Option<Ask> {
        if let Some(listened) = self.listened.get_mut(&target) {
            if listened.holds {
                sender.hold();
            }
            listened.senders.push(sender);
            return None;
        }
        self.joins += 1;
        let join = self.joins;
        self.listened.insert(target.clone(), Listened { senders: vec![sender], join, holds: false });
        Some(match target {
            Target::Room(room) => Ask::Join { room, join },
            Target::Channel(subscription) => Ask::Listen { subscription },
        })
    }

    /// A subscription was dropped. What the backplane is to be asked for, if it was the last one to this.
    pub(crate) fn remove(&mut self, target: Target) -> Option<Ask> {
        let listened = self.listened.get_mut(&target)?;
        listened.senders.retain(|sender| !sender.is_dropped());
        if !listened.senders.is_empty() {
            return None;
        }
        self.listened.remove(&target);
        Some(match target {
            Target::Room(room) => Ask::Leave { room },
            Target::Channel(subscription) => Ask::Unlisten { subscription },
        })
    }

    /// What the backplane tells.
    pub(crate) fn hear(&mut self, tell: Tell) {
        match tell {
            Tell::Joined { room, join, .. } => {
                if let Some(listened) = self.listened.get_mut(&Target::Room(room)).filter(|listened| listened.join == join) {
                    listened.hold();
                }
            }
            Tell::Messages { room, payloads, positions } => {
                let mut positions = positions.into_iter();
                for payload in payloads {
                    self.send(&Target::Room(room.clone()), &room, payload, positions.next());
                }
            }
            Tell::Others { room, payload, .. } => self.send(&Target::Room(room.clone()), &room, payload, None),
            Tell::Lost { room, .. } => self.lose(&Target::Room(room)),
            Tell::Listening { subscription } => {
                let target = Target::Channel(subscription);
                // Told once more, there was a gap before.
                self.lose(&target);
                if let Some(listened) = self.listened.get_mut(&target) {
                    listened.hold();
                }
            }
            Tell::Said { by, channel, payload } => {
                let name = String::from_utf8_lossy(&channel).into();
                self.send(&Target::Channel(by), &name, payload, None);
            }
            // What else there is goes to hubs, or to whoever has asked.
            _ => {}
        }
    }

    fn send(&self, target: &Target, name: &Arc<str>, payload: Bytes, position: Option<Position>) {
        if let Some(listened) = self.listened.get(target).filter(|listened| listened.holds) {
            for sender in &listened.senders {
                sender.send(Message { name: name.clone(), payload: payload.clone(), position });
            }
        }
    }

    fn lose(&self, target: &Target) {
        if let Some(listened) = self.listened.get(target).filter(|listened| listened.holds) {
            listened.senders.iter().for_each(Sender::lose);
        }
    }
}

impl Listened {
    fn hold(&mut self) {
        if !mem::replace(&mut self.holds, true) {
            self.senders.iter().for_each(Sender::hold);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::subscription::{Item, Subscription};
    use std::task::{Context, Poll, Waker};

    const AT: Position = Position { epoch: 1, offset: 1, tag: 1 };

    fn room() -> Target {
        Target::Room("r".into())
    }

    fn subscribe(listeners: &mut Listeners, target: &Target) -> (Subscription, Option<Ask>) {
        let (subscription, sender) = Subscription::new(Arc::default(), target.clone());
        let ask = listeners.add(target.clone(), sender);
        (subscription, ask)
    }

    fn next(subscription: &mut Subscription) -> Option<Item> {
        let mut next = Box::pin(subscription.next());
        match next.as_mut().poll(&mut Context::from_waker(Waker::noop())) {
            Poll::Ready(item) => item,
            Poll::Pending => None,
        }
    }

    fn messages(positions: &[Position]) -> Tell {
        Tell::Messages { room: "r".into(), payloads: vec!["{}".into()], positions: positions.into() }
    }

    #[test]
    fn the_backplane_is_asked_once_for_all_subscriptions_to_the_same() {
        let mut listeners = Listeners::default();
        let (mut one, ask) = subscribe(&mut listeners, &room());
        assert_eq!(ask, Some(Ask::Join { room: "r".into(), join: 1 }));
        listeners.hear(messages(&[AT]));
        assert_eq!(next(&mut one), None, "it does not hold yet");
        listeners.hear(Tell::Joined { room: "r".into(), join: 1, position: Some(AT) });
        let (mut two, ask) = subscribe(&mut listeners, &room());
        assert_eq!(ask, None);
        listeners.hear(messages(&[AT]));
        listeners.hear(Tell::Lost { room: "r".into(), position: AT });
        for subscription in [&mut one, &mut two] {
            let message = Message { name: "r".into(), payload: "{}".into(), position: Some(AT) };
            assert_eq!(next(subscription), Some(Item::Message(message)));
            assert_eq!((next(subscription), next(subscription)), (Some(Item::Lost), None));
        }
        drop(one);
        assert_eq!(listeners.remove(room()), None);
        drop(two);
        assert_eq!(listeners.remove(room()), Some(Ask::Leave { room: "r".into() }));
        assert_eq!(listeners.remove(room()), None);
    }

    #[test]
    fn the_answer_to_an_earlier_joining_says_nothing() {
        let mut listeners = Listeners::default();
        drop(subscribe(&mut listeners, &room()));
        listeners.remove(room());
        let (mut again, ask) = subscribe(&mut listeners, &room());
        assert_eq!(ask, Some(Ask::Join { room: "r".into(), join: 2 }));
        listeners.hear(Tell::Joined { room: "r".into(), join: 1, position: None });
        listeners.hear(messages(&[]));
        assert_eq!(next(&mut again), None);
    }

    #[test]
    fn a_channel_that_is_listened_to_again_had_a_gap() {
        let mut listeners = Listeners::default();
        let by = store::Subscription::pattern("n*");
        let (mut subscription, ask) = subscribe(&mut listeners, &Target::Channel(by.clone()));
        assert_eq!(ask, Some(Ask::Listen { subscription: by.clone() }));
        let said = Tell::Said { by: by.clone(), channel: b"n\xff"[..].into(), payload: "x".into() };
        for tell in [Tell::Listening { subscription: by.clone() }, said.clone(), Tell::Listening { subscription: by }, said] {
            listeners.hear(tell);
        }
        let message = Item::Message(Message { name: "n\u{fffd}".into(), payload: "x".into(), position: None });
        let items: Vec<Item> = std::iter::from_fn(|| next(&mut subscription)).collect();
        assert_eq!(items, [message.clone(), Item::Lost, message]);
    }
}
