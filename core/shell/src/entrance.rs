//! The entrance of a gateway: which sockets are let in, and whose they are.

use std::io::{Read as _, Write as _};
use std::net::{IpAddr, Shutdown};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Waker};

use bytes::Bytes;
use http::header::{CONNECTION, RETRY_AFTER};
use http::{HeaderValue, Request, Response};
use roomcast_core::address::{ClientAddress, client_address};
use roomcast_core::admission::{Admission, NotAdmitted};
use roomcast_core::config::{Config, Limits};
use roomcast_core::stats::Stats;
use roomcast_core::time::Time;
use socket2::SockRef;

use crate::handshake;
use crate::http::refusal;
use crate::log;
use crate::transport::Transport;

/// What all shards of a gateway ask before they serve somebody. Where nothing is limited, nobody waits for anybody here.
#[derive(Debug)]
pub(crate) struct Entrance {
    config: Arc<Config>,
    counts_sockets: bool,
    admission: Mutex<Admission>,
}

/// A socket that was let in is counted as long as this lives. None is needed where nothing is counted.
pub(crate) type Permit = Option<Box<Counted>>;

/// What a socket is counted for.
#[derive(Debug)]
pub(crate) struct Counted {
    entrance: Arc<Entrance>,
    address: Option<IpAddr>,
}

/// Who is let in: the other end of a socket, where it has an address, as long as it is counted.
#[derive(Debug, Default)]
pub struct Guest {
    pub(crate) peer: Option<IpAddr>,
    pub(crate) permit: Permit,
}

/// Who is not let in, and why. Where there are too many of them, that is not told.
#[derive(Debug)]
pub struct TurnedAway {
    refused: NotAdmitted,
    told: bool,
}

impl Entrance {
    pub(crate) fn new(config: Arc<Config>, seed: [u8; 32]) -> Entrance {
        let mut key = 0;
        seed.iter().take(8).for_each(|byte| key = key << 8 | u64::from(*byte));
        let admission = Admission::new(config.clone(), key);
        Entrance { config, counts_sockets: admission.counts_sockets(), admission: Mutex::new(admission) }
    }

    pub(crate) fn limits(&self) -> &Limits {
        &self.config.limits
    }

    /// A socket was accepted.
    pub(crate) fn admit(self: &Arc<Entrance>, now: Time, peer: Option<IpAddr>) -> Result<Guest, TurnedAway> {
        if !self.counts_sockets {
            return Ok(Guest { peer, permit: None });
        }
        // Behind a proxy, whose connection it is shows with the request.
        let address = peer.filter(|peer| !self.config.limits.is_proxy(peer.to_canonical()));
        self.ask(now, peer, |admission| admission.connect(now, address))?;
        Ok(Guest { peer, permit: Some(Box::new(Counted { entrance: self.clone(), address })) })
    }

    /// Whether something may be that was asked for from this address. The log is told where it is told at all.
    fn ask(
        &self,
        now: Time,
        address: Option<IpAddr>,
        question: impl FnOnce(&mut Admission) -> Result<(), NotAdmitted>,
    ) -> Result<(), TurnedAway> {
        let mut admission = self.lock();
        let Err(refused) = question(&mut admission) else { return Ok(()) };
        let told = admission.tells(now);
        drop(admission);
        if told {
            log::turned_away(address, refused);
        }
        Err(TurnedAway { refused, told })
    }

    /// Who has sent a request, as far as that is known.
    pub(crate) fn address_of<B>(&self, peer: Option<IpAddr>, request: &Request<B>) -> Option<IpAddr> {
        let noted = request.extensions().get().map(|ClientAddress(address)| *address);
        noted.or_else(|| Some(client_address(peer?, request.headers(), &self.config.limits)))
    }

    /// Notes in a request who has sent it. That has its price, and not every request is worth it.
    pub(crate) fn recognise<B>(&self, peer: Option<IpAddr>, request: &mut Request<B>) {
        if let Some(address) = self.address_of(peer, request) {
            request.extensions_mut().insert(ClientAddress(address));
        }
    }

    /// A socket will serve nobody but whoever has sent this request: it is counted for that one from now on.
    pub(crate) fn settle<B>(&self, now: Time, permit: &mut Permit, request: &Request<B>) -> Result<(), NotAdmitted> {
        let (Some(counted), Some(ClientAddress(address))) = (permit, request.extensions().get()) else { return Ok(()) };
        if counted.address.is_none() {
            let answer = self.ask(now, Some(*address), |admission| admission.identify(now, *address));
            answer.map_err(|TurnedAway { refused, .. }| refused)?;
            counted.address = Some(*address);
        }
        Ok(())
    }

    /// Whether an address may have another connection that no socket stands for.
    pub(crate) fn identify(&self, now: Time, address: IpAddr) -> Result<(), NotAdmitted> {
        self.lock().identify(now, address)
    }

    /// Such a connection is gone.
    pub(crate) fn forget(&self, address: IpAddr) {
        self.lock().forget(address);
    }

    /// The answer to a request that asks for no WebSocket, where it is one too many.
    pub(crate) fn refuse_request<B>(&self, now: Time, peer: Option<IpAddr>, request: &Request<B>) -> Option<Response<Bytes>> {
        self.config.limits.per_address.as_ref()?;
        let address = self.address_of(peer, request)?;
        let TurnedAway { refused, .. } = self.ask(now, Some(address), |admission| admission.request(now, address)).err()?;
        let mut response = refusal(refused.status(), refused.message());
        response.headers_mut().insert(RETRY_AFTER, refused.retry_after().into());
        // Who goes on has to come again, which counts as well. A proxy brings others.
        if !peer.is_some_and(|peer| self.config.limits.is_proxy(peer.to_canonical())) {
            response.headers_mut().insert(CONNECTION, HeaderValue::from_static("close"));
        }
        Some(response)
    }

    /// Whether a user may have another connection.
    pub(crate) fn enter(&self, user: &str) -> bool {
        self.lock().enter(user).is_ok()
    }

    /// A connection of a user is gone.
    pub(crate) fn left(&self, user: &str) {
        self.lock().left(user);
    }

    pub(crate) fn stats(&self) -> Stats {
        *self.lock().stats()
    }

    fn lock(&self) -> MutexGuard<'_, Admission> {
        // Counts are whole whatever happened to another thread.
        self.admission.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Drop for Counted {
    fn drop(&mut self) {
        self.entrance.lock().disconnected(self.address);
    }
}

impl TurnedAway {
    /// Tells the other end of a socket, if it is to be told and can be without waiting.
    pub(crate) fn tell(&self, io: &mut impl Transport) {
        if self.told {
            let mut cx = Context::from_waker(Waker::noop());
            // A request that is left unread would make the system reset the connection before the answer is read.
            let _ = io.poll_read(&mut cx, &mut [0; 2048]);
            let _ = io.poll_write(&mut cx, &answer(self.refused));
            let _ = io.poll_close(&mut cx);
        }
    }

    /// The same for a socket that need not be one of a runtime's yet.
    pub(crate) fn tell_socket(&self, socket: SockRef<'_>) {
        if self.told && socket.set_nonblocking(true).is_ok() {
            let _ = (&*socket).read(&mut [0; 2048]);
            let _ = (&*socket).write(&answer(self.refused));
            let _ = socket.shutdown(Shutdown::Write);
        }
    }
}

/// The answer to whoever is not let in.
pub(crate) fn answer(refused: NotAdmitted) -> bytes::Bytes {
    handshake::refused(refused.into())
}
