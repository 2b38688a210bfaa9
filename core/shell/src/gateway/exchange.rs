//! Requests of Engine.IO sessions, which are answered by the shard that owns the session.

use std::future::Future;
use std::net::IpAddr;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::task::{Context, Poll};

use bytes::Bytes;
use futures_channel::oneshot;
use http::header::ORIGIN;
use http::{Request, Response, StatusCode};
use roomcast_core::hub::{ExchangeId, PollAnswer, session_shard};
use roomcast_core::id::ShardId;

use super::Gateway;
use crate::http::refusal;
use crate::mailbox::Mailbox;
use crate::shard::Input;
use crate::transport::Transport;

/// Whether a client has closed its side. What is held for it is given up; what is there already is still sent.
#[derive(Clone, Debug, Default)]
pub(crate) struct HungUp(Arc<AtomicBool>);

impl HungUp {
    /// It has. The answer that is being made for it is to be polled again.
    pub(crate) fn set(&self) {
        self.0.store(true, Ordering::Relaxed);
    }

    /// Whether it has.
    pub(crate) fn is_set(&self) -> bool {
        self.0.load(Ordering::Relaxed)
    }
}

impl<T: Transport> Gateway<T> {
    /// Has a request answered by the shard that owns the session it names; without one, by that of the client, or by any. There is
    /// none in a worker.
    pub(super) fn exchange(
        &self,
        (at, peer): (Option<ShardId>, Option<IpAddr>),
        mut request: Box<Request<Bytes>>,
        hung_up: HungUp,
    ) -> Option<Waiting<T>> {
        let owner = self.owner(&request);
        // Who polls was noted with the session. There may still be a page that may not.
        if owner.is_none() || request.headers().contains_key(ORIGIN) {
            self.entrance.recognise(peer, &mut request);
        }
        let owner = owner.or(at).and_then(|shard| self.shards.get(usize::from(shard.0)));
        let shard = owner.or_else(|| self.turn())?;
        let exchange = ExchangeId(self.exchanges.fetch_add(1, Ordering::Relaxed));
        let (done, answer) = oneshot::channel();
        shard.post(Input::Exchange(request, exchange, done));
        Some(Waiting { exchange, answer, hung_up, shard: Some(shard.clone()) })
    }

    /// Whether a request belongs to a session, or begins one.
    pub(crate) fn has_sessions<B>(&self, request: &Request<B>) -> bool {
        self.api.get().has_sessions(request.uri().path())
    }

    /// The shard of the session that a request names, as far as it is one of this gateway's and the route has sessions.
    pub(crate) fn owner<B>(&self, request: &Request<B>) -> Option<ShardId> {
        if !self.has_sessions(request) {
            return None;
        }
        session_shard(request).filter(|shard| usize::from(shard.0) < self.shards.len())
    }
}

/// Somebody waits for the answer to a request. When they do no longer, the shard is told.
pub(super) struct Waiting<T: Transport> {
    exchange: ExchangeId,
    answer: oneshot::Receiver<PollAnswer>,
    hung_up: HungUp,
    /// The shard, until it has answered or been told.
    shard: Option<Arc<Mailbox<Input<T>>>>,
}

impl<T: Transport> Future for Waiting<T> {
    type Output = Response<Bytes>;

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Response<Bytes>> {
        match Pin::new(&mut self.answer).poll(cx) {
            Poll::Ready(answer) => {
                self.shard = None;
                Poll::Ready(answer.map_or_else(|_| stopped(), PollAnswer::into_response))
            }
            Poll::Pending => {
                if self.hung_up.is_set() {
                    // The shard learns of it after the request: it has answered by then, or holds the answer and drops it.
                    self.abandon();
                }
                Poll::Pending
            }
        }
    }
}

impl<T: Transport> Waiting<T> {
    fn abandon(&mut self) {
        if let Some(shard) = self.shard.take() {
            shard.post(Input::Abandon(self.exchange));
        }
    }
}

impl<T: Transport> Drop for Waiting<T> {
    fn drop(&mut self) {
        self.abandon();
    }
}

/// The answer where nobody is left to give another.
pub(super) fn stopped() -> Response<Bytes> {
    refusal(StatusCode::SERVICE_UNAVAILABLE, "the server is going away")
}
