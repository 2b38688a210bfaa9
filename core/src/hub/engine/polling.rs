//! Sessions whose clients poll: a GET waits until there is something to say, a POST brings what the client says.

use core::net::IpAddr;
use core::time::Duration;

use bytes::Bytes;
use http::{Method, Request, StatusCode};

use super::answer::{EngineError, ExchangeId, PollAnswer};
use super::{Query, Sid};
use crate::admission::NotAdmitted;
use crate::config::Route;
use crate::dialect::socketio::engine::{parse_payload, put_payload};
use crate::frame::{FrameKind, split};
use crate::hub::connection::Connection;
use crate::hub::page::Page;
use crate::hub::{CloseCause, Hub, HubAction, Refused, Wake};
use crate::id::ConnId;
use crate::time::Time;

/// Packets in one answer: the most that common clients take.
const PACKETS: usize = 16;

/// A poll of which nothing is expected but its end is answered with nothing after so much time.
const NOTHING: Duration = Duration::from_millis(100);

/// How a session is polled.
#[derive(Debug)]
pub(in super::super) struct Polling {
    pub(super) sid: Sid,
    /// For which address it is counted, if it is.
    counted: Option<IpAddr>,
    /// The request that waits for something to be said.
    pub(super) held: Option<Held>,
    /// The one that was answered last: should its client turn out to be gone, what it was answered is lost.
    pub(super) answered: Option<ExchangeId>,
    pub(super) upgrade: Option<Upgrade>,
}

/// A request that waits.
#[derive(Debug)]
pub(super) struct Held {
    pub(super) exchange: ExchangeId,
    page: Option<Page>,
}

/// A WebSocket that is to take over.
#[derive(Clone, Copy, Debug)]
pub(super) struct Upgrade {
    pub(super) conn: ConnId,
    /// It works: the client waits only until its last poll is answered.
    pub(super) probed: bool,
    /// A poll that came after that was answered with nothing.
    pub(super) ended: bool,
}

impl Polling {
    fn new(sid: Sid, counted: Option<IpAddr>) -> Polling {
        Polling { sid, counted, held: None, answered: None, upgrade: None }
    }

    fn is_probed(&self) -> bool {
        self.upgrade.is_some_and(|upgrade| upgrade.probed)
    }
}

impl Hub {
    /// A client of an Engine.IO route sends a request that asks for no upgrade. It is answered by [`HubAction::Respond`], at once
    /// or when there is something to say. Where it would begin a session and addresses have limits, `admit` is asked whether one more is
    /// let in for this address; one that is counts until [`HubAction::SessionGone`].
    pub fn exchange(
        &mut self,
        now: Time,
        exchange: ExchangeId,
        request: &Request<Bytes>,
        admit: impl FnOnce(IpAddr) -> Result<(), NotAdmitted>,
    ) {
        self.expire(now);
        let (answer, page) = match self.page_of(request) {
            Ok(page) => match self.take(now, exchange, request, &page, admit) {
                Ok(None) => return,
                Ok(Some(answer)) => (answer, page),
                Err(Failure(error, retry_after)) => (PollAnswer::error(error).retry_after(retry_after), page),
            },
            // It is no business of that page why.
            Err(refused) => {
                self.note_refusal(now, request, refused);
                (PollAnswer::error(EngineError::Forbidden), None)
            }
        };
        self.actions.push_back(HubAction::Respond(exchange, answer.readable_by(page)));
    }

    /// Nobody waits for the answer to a request any more, or the answer could not be handed over: the client has gone, and its
    /// session ends, for what it was to be told may be lost.
    pub fn abandon(&mut self, now: Time, exchange: ExchangeId) {
        let Some(id) = self.held.remove(&exchange) else { return };
        if let Some(polling) = self.polling(id) {
            polling.held = None;
        }
        self.closed(now, id, CloseCause::Gone);
    }

    /// The answer to a request, where it is to be answered at once.
    fn take(
        &mut self,
        now: Time,
        exchange: ExchangeId,
        request: &Request<Bytes>,
        page: &Option<Page>,
        admit: impl FnOnce(IpAddr) -> Result<(), NotAdmitted>,
    ) -> Result<Option<PollAnswer>, Failure> {
        if *request.method() == Method::OPTIONS {
            return Ok(Some(PollAnswer::preflight()));
        }
        let query = Query::of(request);
        match query.transport {
            _ if query.is_script => return Err(EngineError::Jsonp.into()),
            Some("polling") if query.version == Some("4") => {}
            Some("polling") => return Err(EngineError::UnsupportedVersion.into()),
            Some("websocket") => return Err(EngineError::BadRequest.into()),
            _ => return Err(EngineError::UnknownTransport.into()),
        }
        let is_get = *request.method() == Method::GET;
        let Some(sid) = query.sid else {
            if !is_get {
                return Err(EngineError::HandshakeMethod.into());
            }
            let admitted = self.admit(request).and_then(|route| Ok((route, self.count_session(request, admit)?)));
            let (route, counted) = admitted.map_err(|refused| Failure::of(self.note_refusal(now, request, refused)))?;
            let polling = Polling::new(self.new_sid(), counted);
            let id = self.open_session(now, request, route, Some(polling));
            return self.hold(now, id, exchange, page);
        };
        let route = Route::find(&self.config.routes, request.uri().path()).map(|(route, _)| route);
        let id = self.session(route, sid)?;
        // What is due counts, even where the time has not been looked at yet.
        self.due(now, id);
        if !self.is_polling(id) {
            return Err(EngineError::UnknownSession.into());
        }
        match *request.method() {
            Method::POST => self.take_payload(now, id, request.body()),
            _ if is_get => self.hold(now, id, exchange, page),
            _ => Err(EngineError::BadRequest.into()),
        }
    }

    /// The session that polls under an identifier, on its own route.
    pub(super) fn session(&self, route: Option<usize>, sid: &str) -> Result<ConnId, EngineError> {
        let sid = Sid::parse(sid).ok_or(EngineError::UnknownSession)?;
        let missing = || if sid.mark() == self.mark_of_node() { EngineError::UnknownSession } else { EngineError::Elsewhere };
        let id = *self.sids.get(&sid).ok_or_else(missing)?;
        let is_there = self.peek(id).is_some_and(|conn| Some(usize::from(conn.route)) == route);
        if is_there { Ok(id) } else { Err(EngineError::BadRequest) }
    }

    /// A client polls: it is answered when there is something to say.
    fn hold(&mut self, now: Time, id: ConnId, exchange: ExchangeId, page: &Option<Page>) -> Result<Option<PollAnswer>, Failure> {
        let held = Held { exchange, page: page.clone() };
        let Some(polling) = self.polling(id) else { return Err(EngineError::UnknownSession.into()) };
        if polling.held.is_some() {
            // What it is sent next might be lost with either.
            self.release(id, "1");
            self.remove(id, "polled twice at once", true);
            return Err(EngineError::BadRequest.into());
        }
        polling.held = Some(held);
        let answered = polling.answered.take();
        // One may have crossed the answer to the probe. Those that follow are no sign of a client that stops polling.
        let crossed =
            polling.upgrade.as_mut().filter(|upgrade| upgrade.probed).map(|upgrade| core::mem::replace(&mut upgrade.ended, true));
        if let Some(answered) = answered {
            self.held.remove(&answered);
        }
        self.held.insert(exchange, id);
        match crossed {
            None => {}
            Some(false) => self.end_poll(id),
            Some(true) => self.timers.arm(now + NOTHING, Wake::Poll(id)),
        }
        self.answer_poll(id);
        Ok(None)
    }

    /// A client has sent packets.
    fn take_payload(&mut self, now: Time, id: ConnId, body: &Bytes) -> Result<Option<PollAnswer>, Failure> {
        let socketio = &self.config.socketio;
        let (most, packets) = (socketio.max_payload, socketio.payload_packets);
        let failed = match parse_payload(body, packets) {
            _ if body.len() > most => EngineError::TooLarge,
            Err(_) => EngineError::Malformed,
            Ok(packets) => {
                self.stats.received += packets.len() as u64;
                packets.into_iter().for_each(|packet| self.hear(now, id, Ok(packet)));
                return Ok(Some(PollAnswer::text("ok")));
            }
        };
        self.remove(id, failed.message(), true);
        Err(failed.into())
    }

    /// Answers a poll with what there is to say, as much as clients take at once.
    pub(in super::super) fn answer_poll(&mut self, id: ConnId) {
        let Some(conn) = self.peek(id) else { return };
        let Some(polling) = conn.engine().and_then(|engine| engine.polling.as_ref()) else { return };
        if polling.held.is_none() {
            return;
        }
        let Some(queue) = &conn.queue else { return };
        let (mut body, mut bytes) = (Vec::new(), 0);
        let outbox = queue.outbox();
        let frames = outbox.pieces().flat_map(split).take(PACKETS);
        let packets = frames.map(|(kind, payload, length)| {
            bytes += length;
            (kind == FrameKind::Binary, payload)
        });
        put_payload(&mut body, packets);
        self.release(id, body);
        self.written(id, bytes);
    }

    /// A client whose WebSocket works may wait for nothing but the end of its poll.
    pub(in super::super) fn end_poll(&mut self, id: ConnId) {
        let is_silent = self.peek(id).is_some_and(|conn| conn.queue.is_none());
        if is_silent && self.polling(id).is_some_and(|polling| polling.is_probed()) {
            self.release(id, "6");
        }
    }

    /// Answers the request that waits, where one does.
    pub(super) fn release(&mut self, id: ConnId, body: impl Into<Bytes>) {
        let Some(polling) = self.polling(id) else { return };
        let Some(held) = polling.held.take() else { return };
        polling.answered = Some(held.exchange);
        self.respond(held, PollAnswer::text(body));
    }

    /// A session is named by nobody any more, nor is what it was answered last.
    pub(super) fn forget_polling(&mut self, polling: &Polling) {
        self.sids.remove(&polling.sid);
        if let Some(address) = polling.counted {
            self.actions.push_back(HubAction::SessionGone { address });
        }
        if let Some(answered) = polling.answered {
            self.held.remove(&answered);
        }
    }

    pub(super) fn respond(&mut self, held: Held, answer: PollAnswer) {
        self.actions.push_back(HubAction::Respond(held.exchange, answer.readable_by(held.page)));
    }

    pub(super) fn polling(&mut self, id: ConnId) -> Option<&mut Polling> {
        self.get(id)?.engine_mut()?.polling.as_deref_mut()
    }

    pub(in super::super) fn is_polling(&self, id: ConnId) -> bool {
        self.peek(id).is_some_and(Connection::polls)
    }
}

/// Why a request fails, and after how many seconds another attempt may do better.
struct Failure(EngineError, Option<u64>);

impl Failure {
    fn of(refused: Refused) -> Failure {
        let error = match refused.status {
            StatusCode::FORBIDDEN => EngineError::Forbidden,
            StatusCode::SERVICE_UNAVAILABLE => EngineError::Busy,
            StatusCode::TOO_MANY_REQUESTS => EngineError::TooMany,
            _ => EngineError::BadRequest,
        };
        Failure(error, refused.retry_after)
    }
}

impl From<EngineError> for Failure {
    fn from(error: EngineError) -> Failure {
        Failure(error, None)
    }
}
