//! Plain HTTP on one socket of a shard.

use std::future::Future;
use std::io;
use std::net::IpAddr;
use std::pin::Pin;
use std::task::{Context, Poll, ready};

use bytes::Bytes;
use http::{Request, Response, StatusCode};
use roomcast_core::time::{Time, UnixMillis};

use crate::gateway::HungUp;
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
    hung_up: HungUp,
    /// Our side is closed.
    closed: bool,
    /// Whether its last request was of a session.
    pub(super) polls: bool,
    /// Where the other end is.
    pub(super) peer: Option<IpAddr>,
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
    pub(super) fn new(http: Http, peer: Option<IpAddr>) -> Serving {
        Serving { http, answer: None, hung_up: HungUp::default(), closed: false, polls: false, peer, armed: Time::NEVER }
    }

    /// Goes on as far as possible. `respond` makes the answer to a request, and learns there when the client has closed its side.
    pub(super) fn drive<T: Transport>(
        &mut self,
        (now, unix): (Time, UnixMillis),
        cx: &mut Context<'_>,
        io: &mut T,
        buffer: &mut [u8],
        respond: &dyn Fn(Request<Bytes>, &HungUp) -> Answer,
    ) -> Served {
        let (mut reads, mut requests) = (0, 0);
        loop {
            if let Some(answer) = &mut self.answer
                && let Poll::Ready(response) = answer.as_mut().poll(cx)
            {
                self.answer = None;
                self.http.respond(unix, response);
            }
            if self.answer.is_none() {
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
                        self.answer = Some(respond(request, &self.hung_up));
                        continue;
                    }
                    Event::Upgrade(request, rest) => return Served::Upgrade(request, rest),
                }
                if self.http.is_done() && self.http.output().is_empty() {
                    return Served::Over;
                }
            }
            if !self.http.wants_input() {
                if self.answer.is_some() {
                    break;
                }
                continue;
            }
            if reads == READS {
                return Served::Again(self.http.deadline(now));
            }
            reads += 1;
            match io.poll_read(cx, buffer) {
                Poll::Pending => break,
                Poll::Ready(Ok(0)) => {
                    self.http.ended();
                    self.hung_up.set();
                }
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
        ready!(io.poll_flush(cx))?;
        if self.http.is_over() && !self.closed {
            let closed = io.poll_close(cx);
            self.closed = closed.is_ready();
            return closed;
        }
        Poll::Ready(Ok(()))
    }

    /// See [`Http::take_refused`].
    pub(super) fn take_refused(&mut self) -> Option<StatusCode> {
        self.http.take_refused()
    }

    /// See [`Http::hang_up`].
    pub(super) fn hang_up(&mut self) {
        self.http.hang_up();
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
    use crate::pipe::Pipe;
    use futures_channel::oneshot;
    use std::sync::{Arc, Mutex};
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
        let mut serving = Serving::new(Http::ending(b"bye".to_vec()), None);
        let mut cx = Context::from_waker(Waker::noop());
        for second in 0..1000 {
            let now = Time::ZERO + Duration::from_secs(second);
            match serving.drive((now, UnixMillis(0)), &mut cx, &mut io, &mut [0; 64], &|_, _| unreachable!()) {
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
        let mut serving = Serving::new(Http::new(Vec::new()), None);
        let mut cx = Context::from_waker(Waker::noop());
        let served = serving.drive((Time::ZERO, UnixMillis(0)), &mut cx, &mut io, &mut vec![0; 65536], &|_, _| {
            Box::pin(async { Response::new(Bytes::new()) })
        });
        assert!(matches!(served, Served::Again(_)));
        assert!(io.1 < 100, "{} requests answered, each with a write of its own, in one turn", io.1);
    }

    const REQUEST: &[u8] = b"GET / HTTP/1.1\r\nHost:\r\n\r\n";

    /// What answers wait for, the last first.
    type Words = Arc<Mutex<Vec<oneshot::Receiver<()>>>>;

    /// One turn of a connection. Each answer waits for a word, and says whether the client had closed its side by then.
    fn turn(serving: &mut Serving, io: &mut impl Transport, words: &Words) -> Served {
        let respond = |_, hung_up: &HungUp| -> Answer {
            let (word, hung_up) = (words.lock().unwrap().pop().unwrap(), hung_up.clone());
            Box::pin(async move {
                let _ = word.await;
                Response::new(if hung_up.is_set() { "alone".into() } else { "together".into() })
            })
        };
        let mut cx = Context::from_waker(Waker::noop());
        serving.drive((Time::ZERO, UnixMillis(0)), &mut cx, io, &mut [0; 64], &respond)
    }

    /// The words of two answers, the first first.
    fn words() -> ([oneshot::Sender<()>; 2], Words) {
        let ((first, one), (second, two)) = (oneshot::channel(), oneshot::channel());
        ([first, second], Arc::new(Mutex::new(vec![two, one])))
    }

    #[test]
    fn what_comes_while_a_request_is_answered_is_served_afterwards() {
        let (mut pipe, mut serving, ([first, second], words)) =
            (Pipe::default(), Serving::new(Http::new(Vec::new()), None), words());
        pipe.feed(REQUEST);
        let waits_for_ever = |served| matches!(served, Served::Waiting(Time::NEVER));
        assert!(waits_for_ever(turn(&mut serving, &mut pipe, &words)), "no deadline cuts an answer that is held");
        pipe.feed(REQUEST);
        pipe.feed(b"more");
        assert!(waits_for_ever(turn(&mut serving, &mut pipe, &words)) && pipe.written().is_empty());
        assert_eq!(pipe.ends().to_read.len(), 1, "no more is read than is needed to see that it is there");
        first.send(()).unwrap();
        assert!(waits_for_ever(turn(&mut serving, &mut pipe, &words)));
        assert_eq!(pipe.written().matches("together").count(), 1);
        second.send(()).unwrap();
        assert!(matches!(turn(&mut serving, &mut pipe, &words), Served::Waiting(deadline) if deadline < Time::NEVER));
        assert_eq!(pipe.written().matches("together").count(), 2);
    }

    #[test]
    fn an_answer_learns_that_its_client_has_closed_and_is_sent_all_the_same() {
        let (mut pipe, mut serving, ([first, _], words)) = (Pipe::default(), Serving::new(Http::new(Vec::new()), None), words());
        pipe.feed(REQUEST);
        pipe.ends().ended = true;
        for _ in 0..3 {
            let served = turn(&mut serving, &mut pipe, &words);
            assert!(matches!(served, Served::Waiting(Time::NEVER)), "what has ended is not read again and again");
        }
        first.send(()).unwrap();
        assert!(matches!(turn(&mut serving, &mut pipe, &words), Served::Over));
        assert!(pipe.written().ends_with("alone"), "{}", pipe.written());
    }

    #[test]
    fn a_connection_that_breaks_while_it_waits_is_over() {
        struct Broken(Pipe);
        impl Transport for Broken {
            fn poll_read(&mut self, cx: &mut Context<'_>, buffer: &mut [u8]) -> Poll<io::Result<usize>> {
                self.0.poll_read(cx, buffer).map(|read| match read {
                    Ok(0) => Err(io::ErrorKind::ConnectionReset.into()),
                    read => read,
                })
            }
            fn poll_write(&mut self, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
                self.0.poll_write(cx, bytes)
            }
            fn poll_close(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
                self.0.poll_close(cx)
            }
        }
        let (pipe, mut serving, ([first, _], words)) = (Pipe::default(), Serving::new(Http::new(Vec::new()), None), words());
        pipe.feed(REQUEST);
        pipe.ends().ended = true;
        assert!(matches!(turn(&mut serving, &mut Broken(pipe), &words), Served::Over));
        drop(serving);
        assert!(first.is_canceled(), "nobody waits for the answer");
    }
}
