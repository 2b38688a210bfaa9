//! One connection: who it is, which rooms it is in, and when something is due for it.
//!
//! ```text
//! Authenticating ──good token──▶ Open ──close──▶ Closing ──the outbox is written, or time is up──▶ gone
//!        └──────── too late, bad token ────────────▲
//! ```

use core::net::IpAddr;
use core::time::Duration;

use super::engine::Engine;
use super::limit::Allowance;
use super::outbox::Queue;
use super::room::Membership;
use super::session::Session;
use super::wire::Wire;
use crate::config::Config;
use crate::id::ConnId;
use crate::time::{Time, UnixMillis, WallClock};
use crate::token::Identity;

/// A client is told this long before its token expires.
pub(super) const EXPIRY_NOTICE: Duration = Duration::from_secs(30);

#[derive(Debug)]
pub(super) struct Connection {
    pub(super) id: ConnId,
    pub(super) nature: Nature,
    /// Index of its route in the configuration.
    pub(super) route: u16,
    pub(super) phase: Phase,
    /// Whether it stands in the hub's list of connections to flush.
    pub(super) dirty: bool,
    /// Whether it has been told that its token is about to expire.
    pub(super) warned: bool,
    /// Publishes that wait for the store.
    pub(super) publishing: u16,
    pub(super) identity: Option<Box<Identity>>,
    /// Its rooms as they are remembered, on a route that restores them.
    pub(super) session: Option<Box<Session>>,
    pub(super) queue: Option<Box<Queue>>,
    pub(super) rooms: Vec<Membership>,
    /// The room that its path is bound to, until it is open and has asked for it.
    pub(super) bound: Option<Box<str>>,
    pub(super) allowance: Allowance,
    /// Where its client is, as far as that is known.
    pub(super) address: Option<IpAddr>,
    /// Whether it was closed for doing too much of something.
    pub(super) shut_out: bool,
    /// Whether the host counts it as one of its user's.
    pub(super) entered: bool,
    /// Until when something has to come from it. A ping that is sent leaves the time to answer it, whenever that was: a host
    /// that was stopped for a while must not take its own silence for the clients'.
    pub(super) silent_at: Time,
    /// When it is pinged next.
    pub(super) ping_at: Time,
    /// The end of the time to authenticate, or to close.
    pub(super) deadline: Time,
    /// When it is looked whether its token has expired, by the wall clock.
    pub(super) expiry_at: UnixMillis,
    /// The earliest wake-up that is armed for it.
    pub(super) armed: Time,
}

/// What a connection is made of.
#[derive(Debug)]
pub(super) enum Nature {
    /// A WebSocket that speaks the dialect of its route.
    Plain,
    /// An Engine.IO session, by whichever transport. What it says and hears are packets of its sockets.
    Engine(Box<Engine>),
    /// A WebSocket that is to replace the polling of a session.
    Probe(ConnId),
    /// A namespace of Socket.IO that a client has connected to: what it is sent goes through its carrier, a session.
    Socket { carrier: ConnId, namespace: u8 },
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Phase {
    /// Without a token, on a route that demands one; or a session without a namespace, or a WebSocket that has yet to become one's
    /// transport.
    Authenticating,
    Open,
    /// Nothing is added to its outbox any more, where a close frame may be the last. `answered` says that the peer has sent its own.
    Closing {
        answered: bool,
    },
}

/// What is due for a connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Due {
    AuthenticationLate,
    CloseLate,
    Silent,
    Ping,
    ExpiryNotice,
}

impl Connection {
    pub(super) fn new(id: ConnId, (route, room): (u16, Option<String>), phase: Phase, now: Time, config: &Config) -> Connection {
        Connection {
            id,
            nature: Nature::Plain,
            route,
            phase,
            dirty: false,
            warned: false,
            publishing: 0,
            identity: None,
            session: None,
            queue: None,
            rooms: Vec::new(),
            bound: room.map(String::into_boxed_str),
            allowance: Allowance::default(),
            address: None,
            shut_out: false,
            entered: false,
            silent_at: now + config.heartbeat.timeout,
            ping_at: now + config.heartbeat.ping,
            deadline: if phase == Phase::Authenticating { now + config.limits.auth_timeout } else { Time::NEVER },
            expiry_at: UnixMillis::NEVER,
            armed: Time::NEVER,
        }
    }

    /// Whether it can be in rooms: it is a client, and no mere transport.
    pub(super) fn is_client(&self) -> bool {
        matches!(self.nature, Nature::Plain | Nature::Socket { .. })
    }

    /// Where what it is sent waits, where that is not with itself.
    pub(super) fn carrier(&self) -> Option<ConnId> {
        match self.nature {
            Nature::Socket { carrier, .. } => Some(carrier),
            _ => None,
        }
    }

    /// How it is sent messages.
    pub(super) fn wire(&self) -> Wire {
        match self.nature {
            Nature::Socket { namespace, .. } => Wire::SocketIo { namespace, recovers: self.recovers() },
            _ => Wire::Json,
        }
    }

    /// Whether it has no socket, but requests that are answered when there is something to say.
    pub(super) fn polls(&self) -> bool {
        self.engine().is_some_and(|engine| engine.polling.is_some())
    }

    /// Whether it can be recovered when its client has been away.
    pub(super) fn recovers(&self) -> bool {
        self.session.as_ref().is_some_and(|session| session.recovery.is_some())
    }

    pub(super) fn engine(&self) -> Option<&Engine> {
        match &self.nature {
            Nature::Engine(engine) => Some(engine),
            _ => None,
        }
    }

    pub(super) fn engine_mut(&mut self) -> Option<&mut Engine> {
        match &mut self.nature {
            Nature::Engine(engine) => Some(engine),
            _ => None,
        }
    }

    pub(super) fn is_closing(&self) -> bool {
        matches!(self.phase, Phase::Closing { .. })
    }

    /// The earliest thing that is due, now or later.
    pub(super) fn next_due(&self, now: Time, wall: &WallClock) -> (Time, Due) {
        if self.is_closing() {
            return (self.deadline, Due::CloseLate);
        }
        let mut next = (self.ping_at, Due::Ping);
        let mut consider = |at: Time, due: Due| {
            if at < next.0 {
                next = (at, due);
            }
        };
        consider(self.silent_at, Due::Silent);
        if self.phase == Phase::Authenticating {
            consider(self.deadline, Due::AuthenticationLate);
        }
        if !self.warned
            && let Some(at) = self.expires()
        {
            consider(wall.when(now, at - EXPIRY_NOTICE), Due::ExpiryNotice);
        }
        next
    }

    /// When its token expires, if it does.
    pub(super) fn expires(&self) -> Option<UnixMillis> {
        self.identity.as_ref()?.expires
    }
}
