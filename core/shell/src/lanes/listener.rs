//! One connection that listens to channels, and what it has heard.

use std::mem;
use std::sync::Arc;
use std::task::Context;
use std::time::Duration;

use redis::{PushKind, Value};
use roomcast_core::id::Ticket;
use roomcast_core::store::redis::{Reply, Words, said, subscribe};
use roomcast_core::store::{Answer, Heard, Said, StoreError, Subscription, SubscriptionKind};
use roomcast_core::time::Time;

use super::link::Link;
use super::redis::reply;
use super::server::Server;

/// Messages that are read without anybody asking for them. Beyond, the server keeps what comes, or drops the connection.
const MOST_HEARD: usize = 1_000;
/// The same of their bytes.
const MOST_BYTES: usize = 4 << 20;

/// A connection that listens: one question at a time, each answered with what was said since the one before.
pub(super) struct Listener {
    link: Link<Errand>,
    /// What the connection listens to, or will when what it was asked is answered.
    subscriptions: Arc<[Subscription]>,
    waiting: Option<Waiting>,
    heard: Vec<Said>,
    /// Bytes of what was heard.
    bytes: usize,
    /// Whether nobody has been told that the connection is new.
    begins: bool,
}

struct Waiting {
    ticket: Ticket,
    /// When to give up waiting, and to see whether the server is there.
    until: Time,
    /// Whether the subscriptions are not known to hold yet.
    subscribing: bool,
}

/// What the server was asked.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Errand {
    /// To begin or end subscriptions, for a question. That is answered by the answer to the PING behind it.
    Subscribe(Ticket),
    Ping,
}

/// The answer to a question.
pub(super) type Answered = Option<(Ticket, Result<Answer, StoreError>)>;

impl Listener {
    pub(super) fn new() -> Listener {
        Listener {
            link: Link::listening(),
            subscriptions: Arc::default(),
            waiting: None,
            heard: Vec::new(),
            bytes: 0,
            begins: true,
        }
    }

    /// Asks what is said. The answer comes from [`Listener::drive`].
    pub(super) fn listen(&mut self, now: Time, ticket: Ticket, wanted: Arc<[Subscription]>, block: Duration) {
        if self.link.is_closed() {
            (self.subscriptions, self.begins) = (Arc::default(), true);
        }
        let subscribing = self.begins || self.subscriptions != wanted;
        if subscribing {
            let mut commands: Vec<Words> = subscribe(&self.subscriptions, &wanted);
            commands.push(vec!["PING".into()]);
            self.link.ask_for(Errand::Subscribe(ticket), &commands, 1);
            self.subscriptions = wanted;
        }
        self.waiting = Some(Waiting { ticket, until: now + block, subscribing });
    }

    /// Goes on as far as possible.
    pub(super) fn drive(&mut self, cx: &mut Context<'_>, server: &Server, buffer: &mut [u8]) -> Answered {
        if self.waiting.is_none() && (self.heard.len() >= MOST_HEARD || self.bytes >= MOST_BYTES) {
            return None;
        }
        let mut answers = Vec::new();
        self.link.drive(cx, server, buffer, &mut answers);
        let mut has_lost = false;
        for (kind, data) in self.link.pushes() {
            has_lost |= kind == PushKind::SUnsubscribe && self.subscriptions.iter().any(|one| ends(one, &data));
            let data: Result<Vec<Reply>, StoreError> = data.into_iter().map(reply).collect();
            if let Some(said) = data.ok().and_then(|data| said(name(&kind), data)) {
                self.bytes += said.payload.len();
                self.heard.push(said);
            }
        }
        let mut renewed = false;
        for (errand, answer) in answers {
            match answer {
                Ok(Value::ServerError(refusal)) => {
                    let refusal = roomcast_core::store::redis::error(refusal.code(), refusal.details().unwrap_or_default());
                    return self.fail(&refusal);
                }
                Ok(_) => match (errand, &mut self.waiting) {
                    (Errand::Subscribe(ticket), Some(waiting)) if ticket == waiting.ticket => {
                        (waiting.subscribing, renewed) = (false, true);
                    }
                    // The server is there, and nothing was said.
                    (Errand::Ping, Some(Waiting { subscribing: false, .. })) => return self.answer(),
                    // A question that was ended has asked for it.
                    (Errand::Subscribe(_) | Errand::Ping, _) => {}
                },
                Err(error) => return self.fail(&error),
            }
        }
        if has_lost {
            return self.fail(&StoreError::Disconnected("the channel has moved to another node".into()));
        }
        if self.link.is_closed() {
            return self.fail(&StoreError::Disconnected("the server closed the connection".into()));
        }
        if self.holds() && (renewed || !self.heard.is_empty()) { self.answer() } else { None }
    }

    /// Whether all that is wanted is known to be listened to.
    pub(super) fn holds(&self) -> bool {
        self.waiting.as_ref().is_some_and(|waiting| !waiting.subscribing)
    }

    /// Time has passed: whether the connection has something to do.
    pub(super) fn tick(&mut self, now: Time) -> bool {
        let Some(waiting) = self.waiting.as_mut().filter(|waiting| waiting.until <= now) else { return false };
        // What does not answer is noticed by whoever asks.
        waiting.until = Time::NEVER;
        self.link.ask_for(Errand::Ping, &[vec!["PING"]], 1);
        true
    }

    pub(super) fn next_deadline(&self) -> Option<Time> {
        self.waiting.as_ref().map(|waiting| waiting.until).filter(|until| *until < Time::NEVER)
    }

    /// Answers with what there is, and does not wait any longer.
    pub(super) fn answer(&mut self) -> Answered {
        let waiting = self.waiting.take()?;
        // Where the subscriptions do not hold yet, nothing has begun.
        let begins = !waiting.subscribing && mem::take(&mut self.begins);
        self.bytes = 0;
        Some((waiting.ticket, Ok(Answer::Heard(Heard { begins, messages: mem::take(&mut self.heard) }))))
    }

    /// Drops the connection.
    pub(super) fn fail(&mut self, error: &StoreError) -> Answered {
        self.link.fail(error, &mut Vec::new());
        Some((self.waiting.take()?.ticket, Err(error.clone())))
    }
}

/// Whether the server has ended this subscription, as it does when the slot of a channel leaves it.
fn ends(subscription: &Subscription, data: &[Value]) -> bool {
    let is_named = matches!(data.first(), Some(Value::BulkString(name)) if **name == *subscription.name.as_bytes());
    is_named && subscription.kind == SubscriptionKind::Sharded
}

fn name(kind: &PushKind) -> &'static str {
    match kind {
        PushKind::Message => "message",
        PushKind::PMessage => "pmessage",
        PushKind::SMessage => "smessage",
        _ => "",
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::lanes::Connector;
    use crate::pipe::{Pipe, connect, will_connect};
    use std::task::Waker;

    const BLOCK: Duration = Duration::from_secs(5);

    fn drive(listener: &mut Listener) -> Answered {
        let server = Server::new("redis://h".parse().unwrap(), &Connector::new(connect));
        listener.drive(&mut Context::from_waker(Waker::noop()), &server, &mut [0; 4096])
    }

    fn listen(listener: &mut Listener, ticket: u64, names: &[&str]) {
        listener.listen(Time::ZERO, Ticket(ticket), names.iter().map(|name| Subscription::channel(name)).collect(), BLOCK);
    }

    fn heard(answered: Answered) -> (u64, bool, Vec<String>) {
        let Some((Ticket(ticket), Ok(Answer::Heard(Heard { begins, messages })))) = answered else { panic!("{answered:?}") };
        (ticket, begins, messages.iter().map(|said| String::from_utf8_lossy(&said.payload).into_owned()).collect())
    }

    const GREETING: &[u8] = b"%1\r\n$5\r\nproto\r\n:3\r\n:7\r\n";
    const SUBSCRIBED: &[u8] = b">3\r\n$9\r\nsubscribe\r\n$1\r\na\r\n:1\r\n+PONG\r\n";
    const HELLO: &[u8] = b">3\r\n$7\r\nmessage\r\n$1\r\na\r\n$5\r\nhello\r\n";

    /// A listener on a connection, which listens to `a` since question 1.
    fn listening(wire: &Pipe) -> Listener {
        let mut listener = Listener::new();
        listen(&mut listener, 1, &["a"]);
        wire.feed(GREETING);
        wire.feed(SUBSCRIBED);
        assert_eq!(heard(drive(&mut listener)), (1, true, vec![]));
        listener
    }

    #[test]
    fn what_is_said_is_heard_once_the_subscription_holds() {
        let wire = Pipe::default();
        will_connect([&wire]);
        let mut listener = Listener::new();
        listen(&mut listener, 1, &["a"]);
        wire.feed(GREETING);
        assert_eq!(drive(&mut listener), None);
        wire.feed(SUBSCRIBED);
        assert_eq!(heard(drive(&mut listener)), (1, true, vec![]));
        wire.feed(HELLO);
        assert_eq!(drive(&mut listener), None, "nobody asks");
        listen(&mut listener, 2, &["a"]);
        assert_eq!(heard(drive(&mut listener)), (2, false, vec!["hello".into()]));
        let words: Vec<String> = wire.written().split("\r\n").map(String::from).collect();
        let words: Vec<&str> = words.iter().map(String::as_str).filter(|w| !w.starts_with(['*', '$']) && !w.is_empty()).collect();
        assert_eq!(words, ["HELLO", "3", "CLIENT", "ID", "SUBSCRIBE", "a", "PING"]);
    }

    #[test]
    fn a_wait_in_vain_ends_when_the_server_says_that_it_is_there() {
        let wire = Pipe::default();
        will_connect([&wire]);
        let mut listener = listening(&wire);
        listen(&mut listener, 2, &["a"]);
        assert_eq!(drive(&mut listener), None);
        assert!(!listener.tick(Time::ZERO + BLOCK / 2));
        assert!(listener.tick(Time::ZERO + BLOCK));
        assert_eq!((drive(&mut listener), listener.tick(Time::ZERO + BLOCK * 2)), (None, false));
        wire.feed(b"+PONG\r\n");
        assert_eq!(heard(drive(&mut listener)), (2, false, vec![]));
    }

    #[test]
    fn other_subscriptions_are_told_of_when_they_hold_and_nothing_is_missed() {
        let wire = Pipe::default();
        will_connect([&wire]);
        let mut listener = listening(&wire);
        listen(&mut listener, 2, &["a", "b"]);
        wire.feed(HELLO);
        assert_eq!(drive(&mut listener), None, "it is not known yet that b is listened to");
        wire.feed(b">3\r\n$9\r\nsubscribe\r\n$1\r\nb\r\n:2\r\n+PONG\r\n");
        assert_eq!(heard(drive(&mut listener)), (2, false, vec!["hello".into()]));
        listen(&mut listener, 3, &["a"]);
        assert_eq!(drive(&mut listener), None);
        wire.feed(b">3\r\n$11\r\nunsubscribe\r\n$1\r\nb\r\n:1\r\n+PONG\r\n");
        assert_eq!(heard(drive(&mut listener)), (3, false, vec![]), "at once, though nothing was said");
    }

    #[test]
    fn an_answer_to_a_question_that_was_ended_says_nothing_of_the_next() {
        let wire = Pipe::default();
        will_connect([&wire]);
        let mut listener = listening(&wire);
        listen(&mut listener, 2, &["a"]);
        assert!(listener.tick(Time::ZERO + BLOCK));
        assert_eq!(heard(listener.answer()), (2, false, vec![]));
        listen(&mut listener, 3, &["a", "b"]);
        assert_eq!(heard(listener.answer()), (3, false, vec![]));
        listen(&mut listener, 4, &["a", "b", "c"]);
        wire.feed(b"+PONG\r\n>3\r\n$9\r\nsubscribe\r\n$1\r\nb\r\n:2\r\n+PONG\r\n");
        assert_eq!(drive(&mut listener), None, "it is not known yet that c is listened to");
        wire.feed(b">3\r\n$9\r\nsubscribe\r\n$1\r\nc\r\n:3\r\n+PONG\r\n");
        assert_eq!(heard(drive(&mut listener)), (4, false, vec![]));
    }

    #[test]
    fn a_connection_that_is_lost_is_told_and_the_next_one_begins_anew() {
        let (first, second) = (Pipe::default(), Pipe::default());
        will_connect([&first, &second]);
        let mut listener = listening(&first);
        first.feed(HELLO);
        first.ends().ended = true;
        assert_eq!(drive(&mut listener), None, "nobody asks");
        listen(&mut listener, 2, &["a"]);
        second.feed(GREETING);
        second.feed(SUBSCRIBED);
        assert_eq!(heard(drive(&mut listener)), (2, true, vec!["hello".into()]), "what was heard before is not lost");
        listen(&mut listener, 3, &["a"]);
        second.ends().ended = true;
        assert!(matches!(drive(&mut listener), Some((Ticket(3), Err(StoreError::Disconnected(_))))));
    }

    #[test]
    fn a_refused_subscription_is_an_error() {
        let wire = Pipe::default();
        will_connect([&wire]);
        let mut listener = Listener::new();
        listen(&mut listener, 1, &["a"]);
        wire.feed(GREETING);
        wire.feed(b"-NOPERM no permissions to access a channel\r\n+PONG\r\n");
        assert!(matches!(drive(&mut listener), Some((Ticket(1), Err(StoreError::Refused(_))))));
    }
}
