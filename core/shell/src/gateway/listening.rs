//! What code of the host asks the store for: whether it is there, and what is said.

use std::sync::Arc;
use std::time::Duration;

use futures_channel::oneshot;
use roomcast_core::message::RoomName;
use roomcast_core::store::{self, StoreError};

use super::Gateway;
use crate::backplane::Input;
use crate::listeners::Target;
use crate::subscription::Subscription;
use crate::transport::Transport;

/// Listening. A subscription to the same as another costs the store nothing.
impl<T: Transport> Gateway<T> {
    /// Asks the store whether it is there: how long it took to answer.
    ///
    /// # Errors
    /// The store did not answer within `relay.timeout`, or not as it should.
    pub async fn ping(&self) -> Result<Duration, StoreError> {
        let (done, answer) = oneshot::channel();
        self.post.post(Input::Ping(done));
        answer.await.unwrap_or_else(|_| Err(StoreError::Disconnected("the gateway has stopped".into())))
    }

    /// What is said in a room, on all nodes.
    pub fn subscribe(&self, room: &str) -> Subscription {
        self.listen(Target::Room(room.into()))
    }

    /// What is said to a user, whose inbox stays as it is.
    pub fn subscribe_user(&self, user: &str) -> Subscription {
        self.listen(Target::Room(RoomName::from(format!("user:{user}"))))
    }

    /// What is said on a Pub/Sub channel of the node's Redis.
    pub fn subscribe_channel(&self, channel: &str) -> Subscription {
        self.listen(Target::Channel(store::Subscription::channel(channel)))
    }

    /// The same of all channels that a pattern fits, as Redis writes it: `news:*`. A channel that other subscriptions fit as well
    /// is heard by each of them.
    pub fn subscribe_pattern(&self, pattern: &str) -> Subscription {
        self.listen(Target::Channel(store::Subscription::pattern(pattern)))
    }

    fn listen(&self, target: Target) -> Subscription {
        let (subscription, sender) = Subscription::new(Arc::clone(&self.post), target.clone());
        self.post.post(Input::Subscribe(target, sender));
        subscription
    }
}
