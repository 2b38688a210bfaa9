//! Plain HTTP/1.1 on one connection (RFC 9110, RFC 9112), without I/O and without a clock.
//!
//! The shard owns the socket: it feeds what it reads, writes what is put out, and ends a phase that lasts too long. Requests
//! are handed out one at a time, each with its whole body, so that a connection never holds more than one. Where senders
//! disagree about where a request ends, the strict reading is the only safe one (RFC 9112, section 11.2): whatever is not
//! clear is refused, and the connection closed.

mod answer;
mod body;
mod head;

#[cfg(test)]
mod tests;

use core::mem;
use core::time::Duration;

use bytes::Bytes;
use http::{Request, Response, StatusCode};
use roomcast_core::config::Limits;
use roomcast_core::time::{Time, UnixMillis};

use self::answer::{Manner, Persistence, write};
pub(crate) use self::answer::{closing, refusal};
use self::body::Body;
use self::head::{Fault, check_host, expects_continue};
use crate::handshake::{HeadBuffer, HeadError, HeadLimit, is_upgrade, parse_head_within};

/// How long an open connection may rest between two requests. Longer than the 60 s for which common proxies keep theirs, so
/// that it is they who close: a request sent into a closing connection is lost.
pub const IDLE: Duration = Duration::from_secs(75);

/// How long a request head may take, from its first byte, unless the configuration says otherwise.
pub const HEAD: Duration = Duration::from_secs(10);

/// How long the body may take, from the end of the head.
pub const BODY: Duration = Duration::from_secs(30);

/// How long the client may take to read an answer.
pub const WRITE: Duration = Duration::from_secs(30);

/// How long the client may take to close its side after ours. Closing a socket that still receives resets it, and the client
/// might lose the answer it was about to read (RFC 9112, section 9.6).
pub const LINGER: Duration = Duration::from_secs(5);

/// The interim answer to `Expect: 100-continue`.
const CONTINUE: &[u8] = b"HTTP/1.1 100 Continue\r\n\r\n";

/// The plain HTTP of one connection. It holds no buffer while it is idle.
///
/// All methods may be called at any time and in any order; a peer can cause no error but only answers. The way it is meant:
/// after anything happened, take what [`next`](Http::next) gives until that is [`Event::Wait`], write the
/// [`output`](Http::output), read if it [`wants_input`](Http::wants_input), close the write side once it
/// [`is_over`](Http::is_over) and everything is written, drop the socket when it [`is_done`](Http::is_done), and else come
/// back at the [`deadline`](Http::deadline).
///
/// Held are at most a request head ([`MAX_HEAD`](crate::handshake::MAX_HEAD)), a body
/// ([`MOST_BODY`](roomcast_core::http::MOST_BODY)), as much of chunk extensions and trailers as one head may have, the last
/// bytes fed, and an answer.
///
/// ```
/// use bytes::Bytes;
/// use http::Response;
/// use roomcast_core::time::UnixMillis;
/// use roomcast_shell::http::{Event, Http};
///
/// let mut http = Http::new(b"POST /a HTTP/1.1\r\nHost: a.example\r\nContent-Length: 5\r\n\r\nhe".to_vec());
/// assert!(matches!(http.next(UnixMillis(0)), Event::Wait));
/// http.feed(b"llo");
/// let Event::Request(request) = http.next(UnixMillis(0)) else { panic!() };
/// assert_eq!((request.uri().path(), &request.body()[..]), ("/a", &b"hello"[..]));
///
/// http.respond(UnixMillis(0), Response::new(Bytes::from_static(b"hi")));
/// let answer = "HTTP/1.1 200 OK\r\ndate: Thu, 01 Jan 1970 00:00:00 GMT\r\ncontent-length: 2\r\n\r\nhi";
/// assert_eq!(http.output(), answer.as_bytes());
/// http.written(answer.len());
/// assert!(http.wants_input() && !http.is_over());
/// ```
#[derive(Debug)]
pub struct Http {
    /// What was fed and is not understood so far, from `at` on. Nothing of it is left when more is waited for.
    input: Vec<u8>,
    at: usize,
    /// What is to be written, from `written` on.
    output: Vec<u8>,
    written: usize,
    stage: Stage,
    /// Nothing has been answered yet.
    fresh: bool,
    /// How the request at hand is to be answered.
    manner: Manner,
    /// When the patience with this stage ends, if that was asked.
    deadline: Option<Time>,
    /// The peer has closed its side.
    ended: bool,
    limit: HeadLimit,
    /// How long a head may take.
    head: Duration,
    /// The status of the last request that was refused here, or was never sent in time.
    refused: Option<StatusCode>,
}

/// What a connection is at.
#[derive(Debug)]
enum Stage {
    /// Between two requests.
    Idle,
    /// A request head is cut.
    Head(HeadBuffer),
    /// The body is being read.
    Body(Box<(Request<()>, Body)>),
    /// The application has the request.
    Answer,
    /// The answer is being written.
    Write {
        last: bool,
    },
    /// Our side is closed, or is to be; what still comes is thrown away.
    Close,
    Done,
}

/// What comes of the bytes fed.
#[derive(Debug)]
#[allow(clippy::large_enum_variant, reason = "it is taken apart as soon as it is there")]
pub enum Event {
    /// Nothing at the moment: more bytes are needed, or an answer, or the answer has to be written first.
    Wait,
    /// A request whose body is whole. The next one comes after [`Http::respond`].
    Request(Request<Bytes>),
    /// A request that asks for a WebSocket, well or badly (see [`is_upgrade`]), and the bytes that were fed behind it. The HTTP
    /// of this connection is done; nothing is left to be written.
    Upgrade(Request<()>, Vec<u8>),
}

impl Http {
    /// The HTTP of a connection of which `read` has been read so far, from the beginning of a request. The first may take no
    /// longer than [`HEAD`], even where nothing of it is there.
    pub fn new(read: Vec<u8>) -> Http {
        Http {
            input: read,
            at: 0,
            output: Vec::new(),
            written: 0,
            stage: Stage::Idle,
            fresh: true,
            manner: Manner::default(),
            deadline: None,
            ended: false,
            limit: HeadLimit::default(),
            head: HEAD,
            refused: None,
        }
    }

    /// The same, with the bounds of a configuration.
    pub fn within(read: Vec<u8>, limits: &Limits) -> Http {
        let limit = HeadLimit { bytes: limits.head_bytes, fields: limits.headers };
        Http { limit, head: limits.handshake_timeout, ..Http::new(read) }
    }

    /// The end of a connection, whatever was spoken on it: puts these bytes out, closes, and waits a little for the peer.
    pub fn ending(output: Vec<u8>) -> Http {
        let stage = if output.is_empty() { Stage::Close } else { Stage::Write { last: true } };
        Http { output, stage, ..Http::new(Vec::new()) }
    }

    /// Takes bytes from the socket. Nothing looks at them before [`next`](Http::next); once the connection
    /// [`is_over`](Http::is_over) nothing does at all.
    pub fn feed(&mut self, bytes: &[u8]) {
        if !self.is_over() {
            self.input.drain(..mem::take(&mut self.at));
            self.input.extend_from_slice(bytes);
        }
    }

    /// The next request, if there is a whole one and no other is being answered. An answer of its own, to a request that
    /// cannot be served, is dated with `unix`.
    pub fn next(&mut self, unix: UnixMillis) -> Event {
        let event = match self.stage {
            Stage::Idle | Stage::Head(_) => self.next_head(),
            Stage::Body(_) => self.next_body(),
            Stage::Answer | Stage::Write { .. } | Stage::Close | Stage::Done => return Event::Wait,
        };
        match event {
            Ok(Event::Wait) if self.ended => self.enter(Stage::Done),
            Ok(event) => return event,
            Err(fault) => self.refuse(unix, fault),
        }
        Event::Wait
    }

    fn next_head(&mut self) -> Result<Event, Fault> {
        let Some((request, head)) = self.parse_head()? else { return Ok(Event::Wait) };
        if is_upgrade(&request) {
            self.input.drain(..mem::take(&mut self.at) + head);
            let rest = mem::take(&mut self.input);
            self.enter(Stage::Done);
            return Ok(Event::Upgrade(request, rest));
        }
        self.at += head;
        self.manner = Manner::of(&request);
        check_host(&request)?;
        let body = Body::of(&request)?;
        // A client that has sent something of the body does not wait for leave (RFC 9110, section 10.1.1).
        if expects_continue(&request)? && !body.is_whole() && self.at == self.input.len() {
            self.output.extend_from_slice(CONTINUE);
        }
        self.enter(Stage::Body(Box::new((request, body))));
        self.next_body()
    }

    /// The head at the beginning of the input. One that is cut is moved into a buffer that knows when it may be whole; those
    /// that are whole are read where they are, or many in one piece would be moved again and again.
    fn parse_head(&mut self) -> Result<Option<(Request<()>, usize)>, HeadError> {
        let fresh = &self.input[self.at..];
        if fresh.is_empty() {
            return Ok(None);
        }
        if let Stage::Head(buffer) = &mut self.stage {
            let parsed = buffer.feed(fresh)?;
            self.input = if parsed.is_some() { mem::take(buffer).into_bytes() } else { Vec::new() };
            return Ok(parsed);
        }
        let parsed = parse_head_within(fresh, self.limit)?;
        if parsed.is_none() {
            let mut buffer = HeadBuffer::within(self.limit);
            buffer.feed(fresh)?;
            self.forget_input();
            self.enter(Stage::Head(buffer));
        }
        Ok(parsed)
    }

    fn next_body(&mut self) -> Result<Event, Fault> {
        let Stage::Body(mut reading) = mem::replace(&mut self.stage, Stage::Answer) else { return Ok(Event::Wait) };
        self.at += reading.1.feed(&self.input[self.at..])?;
        if self.at == self.input.len() {
            self.forget_input();
        }
        if !reading.1.is_whole() {
            // Back, and the deadline stays.
            self.stage = Stage::Body(reading);
            return Ok(Event::Wait);
        }
        let (request, body) = *reading;
        Ok(Event::Request(request.map(|()| body.into_bytes())))
    }

    /// Answers the request that was handed out last. Without one that waits for its answer, nothing happens.
    ///
    /// The length, the date and what becomes of the connection are written here: such headers of the response do not count,
    /// except that a `connection: close` is obeyed. `HEAD` is answered like `GET`, and loses the body here.
    pub fn respond(&mut self, unix: UnixMillis, response: Response<Bytes>) {
        if matches!(self.stage, Stage::Answer) {
            self.answer(unix, &response);
        }
    }

    /// Answers a request that cannot be served. What follows it cannot be told from it, so nothing else is read.
    fn refuse(&mut self, unix: UnixMillis, fault: Fault) {
        self.manner.persistence = Persistence::Close;
        self.refused = Some(fault.status);
        self.answer(unix, &refusal(fault.status, fault.message));
    }

    fn answer(&mut self, unix: UnixMillis, response: &Response<Bytes>) {
        let manner = mem::take(&mut self.manner).with(response);
        let last = manner.persistence == Persistence::Close;
        self.fresh = false;
        write(&mut self.output, response, manner, Some(unix));
        self.enter(Stage::Write { last });
        if last {
            self.forget_input();
        }
    }

    /// The bytes to be written now.
    pub fn output(&self) -> &[u8] {
        &self.output[self.written..]
    }

    /// So many bytes of the [`output`](Http::output) have been written. The next request may be there already.
    pub fn written(&mut self, bytes: usize) {
        self.written = self.output.len().min(self.written.saturating_add(bytes));
        if self.written < self.output.len() {
            return;
        }
        self.forget_output();
        if let Stage::Write { last } = self.stage {
            self.enter(match last {
                false => Stage::Idle,
                true if self.ended => Stage::Done,
                true => Stage::Close,
            });
        }
    }

    /// Whether the socket is to be read. It is not while output waits: a client that does not read gets nothing more done. While
    /// a request is answered, it is read until something of the next one is there, so that a client that has gone is noticed.
    /// Once the write side is closed, it is read until the client has closed its own.
    pub fn wants_input(&self) -> bool {
        let reads = match self.stage {
            Stage::Idle | Stage::Head(_) | Stage::Body(_) | Stage::Answer => self.input.is_empty(),
            Stage::Close => true,
            Stage::Write { .. } | Stage::Done => false,
        };
        reads && !self.ended && self.output.is_empty()
    }

    /// Whether nothing will follow the output: once that is written, the write side of the socket is to be closed.
    pub fn is_over(&self) -> bool {
        matches!(self.stage, Stage::Write { last: true } | Stage::Close | Stage::Done)
    }

    /// Whether the socket may be dropped: both sides are closed, or the client took too long.
    pub fn is_done(&self) -> bool {
        matches!(self.stage, Stage::Done)
    }

    /// The peer has closed its side. Requests that are whole are still answered; a cut one is not: see
    /// [`next`](Http::next).
    pub fn ended(&mut self) {
        self.ended = true;
        if matches!(self.stage, Stage::Close) {
            self.enter(Stage::Done);
        }
    }

    /// When [`expire`](Http::expire) is due unless something happens; `now` is the moment at which something last did. To be
    /// asked after every other call.
    ///
    /// It stays the same for as long as the connection is at the same phase ([`IDLE`], [`HEAD`], [`BODY`], [`WRITE`],
    /// [`LINGER`]): bytes that trickle in do not move it. While the application answers it is [`Time::NEVER`].
    pub fn deadline(&mut self, now: Time) -> Time {
        let patience = match self.stage {
            Stage::Idle if self.fresh => self.head,
            Stage::Idle => IDLE,
            Stage::Head(_) => self.head,
            Stage::Body(_) => BODY,
            Stage::Write { .. } => WRITE,
            Stage::Close => LINGER,
            Stage::Answer | Stage::Done => return Time::NEVER,
        };
        *self.deadline.get_or_insert(now + patience)
    }

    /// The [`deadline`](Http::deadline) has passed: a request that has begun is answered with 408, and the connection ends.
    pub fn expire(&mut self, unix: UnixMillis) {
        match self.stage {
            Stage::Idle => {
                self.refused = self.fresh.then_some(StatusCode::REQUEST_TIMEOUT);
                self.enter(Stage::Close);
            }
            Stage::Head(_) | Stage::Body(_) => {
                self.refuse(unix, Fault::new(StatusCode::REQUEST_TIMEOUT, "the request took too long"));
            }
            Stage::Write { .. } | Stage::Close => {
                self.forget_output();
                self.enter(Stage::Done);
            }
            Stage::Answer | Stage::Done => {}
        }
    }

    /// Nothing more is to be asked for here: a connection between two requests is closed, and one whose answer is being written after
    /// that. What has been fed and not been looked at is lost.
    pub fn hang_up(&mut self) {
        match &mut self.stage {
            Stage::Idle => self.enter(Stage::Close),
            Stage::Write { last } => *last = true,
            Stage::Head(_) | Stage::Body(_) | Stage::Answer | Stage::Close | Stage::Done => {}
        }
    }

    /// Whether a request was refused here since this was asked last, and the status it was answered with.
    pub fn take_refused(&mut self) -> Option<StatusCode> {
        self.refused.take()
    }

    fn enter(&mut self, stage: Stage) {
        self.stage = stage;
        self.deadline = None;
    }

    fn forget_input(&mut self) {
        self.input = Vec::new();
        self.at = 0;
    }

    fn forget_output(&mut self) {
        self.output = Vec::new();
        self.written = 0;
    }
}
