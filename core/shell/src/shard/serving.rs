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

/// Reads in a round, and requests, so that one fast sender does not hold up the others.
const READS: usize = 4;
const REQUESTS: usize = 16;

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
    /// It has used its turn up and goes on in the next round; the deadline counts all the same.
    Again(Time),
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
        let (mut reads, mut requests) = (0, 0);
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
            if requests == REQUESTS {
                return Served::Again(self.http.deadline(now));
            }
            match self.http.next(unix) {
                Event::Wait => {}
                Event::Request(request) => {
                    requests += 1;
                    self.answer = Some(respond(request));
                }
                Event::Upgrade(request, rest) => return Served::Upgrade(request, rest),
            }
            if self.http.is_done() && self.http.output().is_empty() {
                return Served::Over;
            }
            if !self.http.wants_input() {
                continue;
            }
            if reads == READS {
                return Served::Again(self.http.deadline(now));
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
            let closed = io.poll_close(cx);
            self.closed = closed.is_ready();
            return closed;
        }
        Poll::Ready(Ok(()))
    }

    /// Whether a request is being answered.
    pub(super) fn is_answering(&self) -> bool {
        self.answer.is_some() || !self.http.output().is_empty()
    }

    /// An armed deadline has come. The one that counts may be a later one by now.
    pub(super) fn expire(&mut self, now: Time, unix: UnixMillis) {
        if self.http.deadline(now) <= now {
            self.http.expire(unix);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::task::Waker;
    use std::time::Duration;

    struct Flood(Vec<u8>, usize);
    impl Transport for Flood {
        fn poll_read(&mut self, _: &mut Context<'_>, buffer: &mut [u8]) -> Poll<io::Result<usize>> {
            buffer[..self.0.len()].copy_from_slice(&self.0);
            Poll::Ready(Ok(self.0.len()))
        }
        fn poll_write(&mut self, _: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
            self.1 += 1;
            Poll::Ready(Ok(bytes.len()))
        }
        fn poll_close(&mut self, _: &mut Context<'_>) -> Poll<io::Result<()>> {
            Poll::Ready(Ok(()))
        }
    }

    #[test]
    fn a_client_that_goes_on_sending_is_not_listened_to_for_ever() {
        let mut io = Flood(vec![b'x'], 0);
        let mut serving = Serving::new(Http::ending(b"bye".to_vec()));
        let mut cx = Context::from_waker(Waker::noop());
        for second in 0..1000 {
            let now = Time::ZERO + Duration::from_secs(second);
            match serving.drive((now, UnixMillis(0)), &mut cx, &mut io, &mut [0; 64], &|_| unreachable!()) {
                Served::Again(deadline) if deadline > now => {}
                _ => return,
            }
        }
        panic!("the patience with it does not end");
    }

    #[test]
    fn requests_in_one_turn_are_bounded() {
        let request = b"GET / HTTP/1.1\r\nHost:\r\n\r\n";
        let mut io = Flood(request.repeat(65536 / request.len()), 0);
        let mut serving = Serving::new(Http::new(Vec::new()));
        let mut cx = Context::from_waker(Waker::noop());
        let served = serving.drive((Time::ZERO, UnixMillis(0)), &mut cx, &mut io, &mut vec![0; 65536], &|_| {
            Box::pin(async { Response::new(Bytes::new()) })
        });
        assert!(matches!(served, Served::Again(_)));
        assert!(io.1 < 100, "{} requests answered, each with a write of its own, in one turn", io.1);
    }
}
