//! Plain HTTP on one socket of a shard.

use std::future::Future;
use std::io;
use std::pin::Pin;
use std::task::{Context, Poll};

use bytes::Bytes;
use http::{Request, Response};
use roomcast_core::time::{Time, UnixMillis};

use crate::http::{Event, Http};
use crate::transport::Transport;

/// Reads in a round, so that one fast sender does not hold up the others.
const READS: usize = 4;

/// An answer that is being made.
pub(super) type Answer = Pin<Box<dyn Future<Output = Response<Bytes>> + Send>>;

/// The requests of one connection, which are answered one after the other; and the end of every connection.
pub(super) struct Serving {
    http: Http,
    answer: Option<Answer>,
    /// Our side is closed.
    closed: bool,
    /// The deadline that the shard has armed for it.
    pub(super) armed: Time,
}

/// What has become of it.
#[allow(clippy::large_enum_variant, reason = "it is taken apart as soon as it is there")]
pub(super) enum Served {
    /// It goes on when its socket or its answer wakes it, or at the deadline.
    Waiting(Time),
    /// It has used its turn up and goes on in the next round.
    Again,
    /// The client asks for a WebSocket; what came behind the request is there as well.
    Upgrade(Request<()>, Vec<u8>),
    /// The connection is over.
    Over,
}

impl Serving {
    pub(super) fn new(http: Http) -> Serving {
        Serving { http, answer: None, closed: false, armed: Time::NEVER }
    }

    /// Goes on as far as possible. `respond` makes the answer to a request.
    pub(super) fn drive<T: Transport>(
        &mut self,
        (now, unix): (Time, UnixMillis),
        cx: &mut Context<'_>,
        io: &mut T,
        buffer: &mut [u8],
        respond: &dyn Fn(Request<Bytes>) -> Answer,
    ) -> Served {
        let mut reads = 0;
        loop {
            if let Some(answer) = &mut self.answer {
                let Poll::Ready(response) = answer.as_mut().poll(cx) else { break };
                self.answer = None;
                self.http.respond(unix, response);
            }
            match self.write(cx, io) {
                Poll::Ready(Ok(())) => {}
                Poll::Ready(Err(_)) => return Served::Over,
                Poll::Pending => break,
            }
            match self.http.next(unix) {
                Event::Wait => {}
                Event::Request(request) => self.answer = Some(respond(request)),
                Event::Upgrade(request, rest) => return Served::Upgrade(request, rest),
            }
            if self.http.is_done() && self.http.output().is_empty() {
                return Served::Over;
            }
            if !self.http.wants_input() {
                continue;
            }
            if reads == READS {
                return Served::Again;
            }
            reads += 1;
            match io.poll_read(cx, buffer) {
                Poll::Pending => break,
                Poll::Ready(Ok(0)) => self.http.ended(),
                Poll::Ready(Ok(read)) => self.http.feed(&buffer[..read]),
                Poll::Ready(Err(error)) if error.kind() == io::ErrorKind::Interrupted => {}
                Poll::Ready(Err(_)) => return Served::Over,
            }
        }
        Served::Waiting(self.http.deadline(now))
    }

    /// Writes what is there, and closes our side once nothing will follow.
    fn write<T: Transport>(&mut self, cx: &mut Context<'_>, io: &mut T) -> Poll<io::Result<()>> {
        while !self.http.output().is_empty() {
            match io.poll_write(cx, self.http.output()) {
                Poll::Pending => return Poll::Pending,
                Poll::Ready(Ok(0)) => return Poll::Ready(Err(io::ErrorKind::WriteZero.into())),
                Poll::Ready(Ok(written)) => self.http.written(written),
                Poll::Ready(Err(error)) if error.kind() == io::ErrorKind::Interrupted => {}
                Poll::Ready(Err(error)) => return Poll::Ready(Err(error)),
            }
        }
        if self.http.is_over() && !self.closed {
            self.closed = true;
            return io.poll_close(cx);
        }
        Poll::Ready(Ok(()))
    }

    /// Whether a request is being answered.
    pub(super) fn is_answering(&self) -> bool {
        self.answer.is_some() || !self.http.output().is_empty()
    }

    /// Its deadline has passed: now, if `now` is the moment. Else says when it will.
    pub(super) fn expire(&mut self, now: Time, unix: UnixMillis) -> Option<Time> {
        let deadline = self.http.deadline(now);
        if deadline > now {
            return Some(deadline);
        }
        self.http.expire(unix);
        None
    }
}
