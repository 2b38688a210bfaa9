//! One connection to Redis: commands are pipelined, replies come back in their order.

use std::collections::VecDeque;
use std::io::{self, Read, Write as _};
use std::task::{Context, Poll};

use redis::{Parser, PushKind, RedisConnectionInfo, RedisError, Value};
use roomcast_core::store::StoreError;
use roomcast_core::store::redis::error;

use super::server::{Connecting, Server};
use crate::transport::Transport;

/// Memory that is kept while it is not used, in bytes.
const MOST_KEPT: usize = 1 << 20;
/// Reads in a row before everything else has its turn again.
const READS: usize = 16;

/// One connection, which is opened when something is asked, and again after it has broken. `Q` says what a reply answers.
///
/// Nothing here gives an answer up or waits for one too long: the deadlines are the core's, and it resets what is overdue.
pub(super) struct Link<Q> {
    state: State,
    /// What has been asked and not been answered, the oldest first.
    asked: VecDeque<Asked<Q>>,
    /// Commands that have not been written, beginning at `written`.
    output: Vec<u8>,
    written: usize,
    /// Whether it is told what is said on channels, and what it was told.
    listens: bool,
    pushes: Vec<Push>,
}

/// What the server says without being asked.
pub(super) type Push = (PushKind, Vec<Value>);

struct Asked<Q> {
    question: Q,
    /// Replies that are still to come; the last of them is the answer.
    replies: usize,
    /// Unless one before it was an error: the first such.
    failure: Option<Value>,
}

enum State {
    Closed,
    Connecting(Connecting),
    Open(Box<Open>),
}

struct Open {
    io: Box<dyn Transport>,
    parser: Parser,
    /// Replies to the greeting that are still to come; the last of them is the client identifier.
    greetings: usize,
    client: Option<i64>,
    /// What the server had against us, if it closes the connection: that there are too many, for example.
    refusal: Option<StoreError>,
    /// Bytes read since the parser was new. It keeps the memory of the longest reply.
    read: usize,
    /// Which of the server's masters it leads to.
    epoch: u64,
}

/// Answers of a link: what was asked, and the reply.
pub(super) type Answers<Q> = Vec<(Q, Result<Value, StoreError>)>;

impl<Q> Link<Q> {
    pub(super) fn new() -> Link<Q> {
        let (asked, output, pushes) = (VecDeque::new(), Vec::new(), Vec::new());
        Link { state: State::Closed, asked, output, written: 0, listens: false, pushes }
    }

    /// A connection that can listen to channels.
    pub(super) fn listening() -> Link<Q> {
        Link { listens: true, ..Link::new() }
    }

    /// Asks something, by one or more commands. They are sent with the next [`Link::drive`].
    pub(super) fn ask<W: AsRef<[u8]>>(&mut self, question: Q, commands: &[Vec<W>]) {
        self.ask_for(question, commands, commands.len());
    }

    /// The same, where not every command is replied to.
    pub(super) fn ask_for<W: AsRef<[u8]>>(&mut self, question: Q, commands: &[Vec<W>], replies: usize) {
        self.asked.push_back(Asked { question, replies, failure: None });
        commands.iter().for_each(|words| put_command(&mut self.output, words));
    }

    /// Whether answers are awaited.
    pub(super) fn is_busy(&self) -> bool {
        !self.asked.is_empty()
    }

    /// Whether there is no connection, nor one that is being opened.
    pub(super) fn is_closed(&self) -> bool {
        matches!(self.state, State::Closed)
    }

    /// What the server has said without being asked.
    pub(super) fn pushes(&mut self) -> impl Iterator<Item = Push> {
        self.pushes.drain(..)
    }

    /// Whether a connection is being opened.
    pub(super) fn is_connecting(&self) -> bool {
        matches!(self.state, State::Connecting(_))
    }

    /// The server's identifier of this connection, once it is known.
    pub(super) fn client(&self) -> Option<i64> {
        match &self.state {
            State::Open(open) => open.client,
            State::Closed | State::Connecting(_) => None,
        }
    }

    /// Closes the connection and answers everything with an error.
    pub(super) fn fail(&mut self, error: &StoreError, answers: &mut Answers<Q>) {
        self.state = State::Closed;
        self.output = Vec::new();
        self.written = 0;
        answers.extend(self.asked.drain(..).map(|asked| (asked.question, Err(error.clone()))));
    }

    /// Goes on as far as possible, and wakes the task when it can go on again.
    pub(super) fn drive(&mut self, cx: &mut Context<'_>, server: &Server, buffer: &mut [u8], answers: &mut Answers<Q>) {
        if let Err(error) = self.advance(cx, server, buffer, answers) {
            self.fail(&error, answers);
        }
    }

    fn advance(
        &mut self,
        cx: &mut Context<'_>,
        server: &Server,
        buffer: &mut [u8],
        answers: &mut Answers<Q>,
    ) -> Result<(), StoreError> {
        let mut reads = 0;
        loop {
            match &mut self.state {
                State::Closed if self.asked.is_empty() => return Ok(()),
                State::Closed => self.state = State::Connecting(server.open()),
                State::Connecting(connecting) => match connecting.as_mut().poll(cx) {
                    Poll::Pending => return Ok(()),
                    Poll::Ready(io) => self.greet(io.map_err(lost)?, server),
                },
                State::Open(open) if open.epoch < server.epoch() => {
                    return Err(StoreError::Disconnected("another server is the master now".into()));
                }
                State::Open(open) => {
                    write(&mut open.io, cx, &mut self.output, &mut self.written)?;
                    if reads == READS {
                        cx.waker().wake_by_ref();
                        return Ok(());
                    }
                    reads += 1;
                    let Poll::Ready(read) = open.io.poll_read(cx, buffer) else { return Ok(()) };
                    match read {
                        Ok(0) => {
                            let closed = || StoreError::Disconnected("the server closed the connection".into());
                            return Err(open.refusal.take().unwrap_or_else(closed));
                        }
                        Ok(read) => {
                            open.take(&buffer[..read], &mut self.asked, answers, &mut self.pushes)?;
                            // Where something may come unasked, the parser may be in the middle of it.
                            if !self.listens && self.asked.is_empty() && open.read > MOST_KEPT {
                                (open.parser, open.read) = (Parser::new(), 0);
                            }
                        }
                        Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                        Err(error) => return Err(lost(error)),
                    }
                }
            }
        }
    }

    /// Begins with what the server must know first, before all that has been asked so far.
    fn greet(&mut self, io: Box<dyn Transport>, server: &Server) {
        let mut greeting = Vec::new();
        let mut greetings = 0;
        let mut greet = |words: &[&str]| {
            greetings += 1;
            put_command(&mut greeting, words);
        };
        let settings = server.settings();
        if let Some(words) = authentication(settings) {
            greet(&words);
        }
        if settings.db() != 0 {
            greet(&["SELECT", &settings.db().to_string()]);
        }
        if self.listens {
            greet(&["HELLO", "3"]);
        }
        greet(&["CLIENT", "ID"]);
        self.output.splice(..0, greeting);
        let open = Open { io, parser: Parser::new(), greetings, client: None, refusal: None, read: 0, epoch: server.epoch() };
        self.state = State::Open(Box::new(open));
    }
}

impl Open {
    /// Takes bytes, which may hold replies, or parts of one.
    fn take<Q>(
        &mut self,
        bytes: &[u8],
        asked: &mut VecDeque<Asked<Q>>,
        answers: &mut Answers<Q>,
        pushes: &mut Vec<Push>,
    ) -> Result<(), StoreError> {
        let mut feed = Feed { bytes, is_dry: false };
        loop {
            let value = match self.parser.parse_value(&mut feed) {
                Ok(value) => value,
                Err(_) if feed.is_dry => break,
                Err(error) => return Err(StoreError::Disconnected(format!("not a reply: {error}").into())),
            };
            if let Value::Push { kind, data } = value {
                pushes.push((kind, data));
                continue;
            }
            if self.greetings > 0 {
                self.greetings -= 1;
                match value {
                    Value::ServerError(refusal) => {
                        let refusal = error(refusal.code(), refusal.details().unwrap_or_default());
                        if self.greetings > 0 {
                            return Err(refusal);
                        }
                        // Without the identifier everything works; only reads cannot be ended early.
                        self.refusal = Some(refusal);
                    }
                    Value::Int(client) => self.client = Some(client),
                    _ => {}
                }
                continue;
            }
            let Some(first) = asked.front_mut() else {
                return Err(StoreError::Disconnected("a reply to nothing".into()));
            };
            first.replies -= 1;
            if first.replies > 0 {
                let is_error = matches!(value, Value::ServerError(_));
                first.failure = first.failure.take().or(is_error.then_some(value));
            } else if let Some(Asked { question, failure, .. }) = asked.pop_front() {
                answers.push((question, Ok(failure.unwrap_or(value))));
            }
        }
        self.read += bytes.len();
        Ok(())
    }
}

/// The command by which a connection says whose it is, where it has to.
pub(super) fn authentication(settings: &RedisConnectionInfo) -> Option<Vec<&str>> {
    let password = settings.password()?;
    Some(["AUTH"].into_iter().chain(settings.username()).chain([password]).collect())
}

/// A command as Redis reads it. The client library's own way would copy every word once more.
pub(super) fn put_command<W: AsRef<[u8]>>(output: &mut Vec<u8>, words: &[W]) {
    // Writing to memory cannot fail.
    let _ = write!(output, "*{}\r\n", words.len());
    for word in words.iter().map(AsRef::as_ref) {
        let _ = write!(output, "${}\r\n", word.len());
        output.extend_from_slice(word);
        output.extend_from_slice(b"\r\n");
    }
}

fn write(io: &mut Box<dyn Transport>, cx: &mut Context<'_>, output: &mut Vec<u8>, written: &mut usize) -> Result<(), StoreError> {
    while *written < output.len() {
        match io.poll_write(cx, &output[*written..]) {
            Poll::Pending => return Ok(()),
            Poll::Ready(Ok(0)) => return Err(lost(io::ErrorKind::WriteZero.into())),
            Poll::Ready(Ok(bytes)) => *written += bytes,
            Poll::Ready(Err(error)) if error.kind() == io::ErrorKind::Interrupted => {}
            Poll::Ready(Err(error)) => return Err(lost(error)),
        }
    }
    *written = 0;
    output.clear();
    output.shrink_to(MOST_KEPT);
    Ok(())
}

fn lost(error: io::Error) -> StoreError {
    // The client library's words for it, which say more than the system's where a connection is refused.
    StoreError::Disconnected(RedisError::from(error).to_string().into())
}

/// Bytes for the parser, which keeps its state when they run dry in the middle of a reply.
pub(super) struct Feed<'a> {
    pub(super) bytes: &'a [u8],
    pub(super) is_dry: bool,
}

impl Read for Feed<'_> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        if self.bytes.is_empty() {
            self.is_dry = true;
            return Err(io::ErrorKind::WouldBlock.into());
        }
        self.bytes.read(buffer)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::lanes::Connector;
    use crate::pipe::{Pipe, connect, will_connect};
    use proptest::prelude::*;
    use std::collections::BTreeMap;
    use std::task::Waker;

    fn server(url: &str) -> Server {
        Server::new(url.parse().unwrap(), &Connector::new(connect))
    }

    fn drive(link: &mut Link<u32>, server: &Server) -> Answers<u32> {
        let mut answers = Vec::new();
        link.drive(&mut Context::from_waker(Waker::noop()), server, &mut [0; 4096], &mut answers);
        answers
    }

    fn get(key: &str) -> [Vec<&str>; 1] {
        [vec!["GET", key]]
    }

    #[test]
    fn the_greeting_goes_first_and_replies_come_in_order() {
        let (wire, server) = (Pipe::default(), server("redis://user:pass@h/3"));
        will_connect([&wire]);
        let mut link = Link::new();
        link.ask(1, &get("a"));
        link.ask(2, &get("b"));
        wire.feed(b"+OK\r\n+OK\r\n:42\r\n$1\r\nx\r\n$-1\r\n");
        assert_eq!(drive(&mut link, &server), [(1, Ok(Value::BulkString(b"x".to_vec()))), (2, Ok(Value::Nil))]);
        assert_eq!(link.client(), Some(42));
        let sent = wire.written();
        let words: Vec<&str> = sent.split("\r\n").filter(|word| !word.starts_with(['*', '$']) && !word.is_empty()).collect();
        assert_eq!(words, ["AUTH", "user", "pass", "SELECT", "3", "CLIENT", "ID", "GET", "a", "GET", "b"]);
    }

    #[test]
    fn a_refused_greeting_fails_everything_that_waits() {
        let (wire, server) = (Pipe::default(), server("redis://:wrong@h"));
        will_connect([&wire]);
        let mut link = Link::new();
        link.ask(1, &get("a"));
        wire.feed(b"-WRONGPASS no\r\n");
        assert!(matches!(&drive(&mut link, &server)[..], [(1, Err(StoreError::Refused(_)))]));
        assert!(!link.is_busy());
    }

    #[test]
    fn a_lost_connection_fails_what_was_asked_and_the_next_question_opens_another() {
        let (first, second, server) = (Pipe::default(), Pipe::default(), server("redis://h"));
        will_connect([&first, &second]);
        let mut link = Link::new();
        link.ask(1, &get("a"));
        assert_eq!(drive(&mut link, &server), []);
        // In the middle of a reply.
        first.feed(b":1\r\n$5\r\nhal");
        first.ends().ended = true;
        assert!(matches!(&drive(&mut link, &server)[..], [(1, Err(StoreError::Disconnected(_)))]));
        link.ask(2, &get("b"));
        second.feed(b":2\r\n+yes\r\n");
        assert_eq!(drive(&mut link, &server), [(2, Ok(Value::SimpleString("yes".into())))]);
        link.ask(3, &get("c"));
        second.ends().ended = true;
        assert!(matches!(&drive(&mut link, &server)[..], [(3, Err(StoreError::Disconnected(_)))]));
        link.ask(4, &get("d"));
        assert!(matches!(&drive(&mut link, &server)[..], [(4, Err(StoreError::Disconnected(_)))]), "refused");
    }

    #[test]
    fn the_last_of_several_replies_is_the_answer_unless_one_before_it_failed() {
        let (wire, server) = (Pipe::default(), server("redis://h"));
        will_connect([&wire]);
        let mut link = Link::new();
        link.ask(1, &[vec!["MULTI"], vec!["INCR", "a"], vec!["EXEC"]]);
        link.ask(2, &[vec!["MULTI"], vec!["INCR", "a"], vec!["EXEC"]]);
        link.ask(3, &get("a"));
        wire.feed(b":9\r\n+OK\r\n+QUEUED\r\n*1\r\n:1\r\n+OK\r\n-OOM no\r\n-EXECABORT because\r\n$1\r\n1\r\n");
        let answers = drive(&mut link, &server);
        assert_eq!(answers[0], (1, Ok(Value::Array(vec![Value::Int(1)]))));
        assert!(matches!(&answers[1], (2, Ok(Value::ServerError(error))) if error.code() == "OOM"), "{answers:?}");
        assert_eq!(answers[2], (3, Ok(Value::BulkString(b"1".to_vec()))));
    }

    #[test]
    fn bytes_that_are_no_reply_end_the_connection() {
        for nonsense in [&b":1\r\nwhat?\r\n"[..], b":1\r\n+to nothing\r\n+more\r\n"] {
            let (wire, server) = (Pipe::default(), server("redis://h"));
            will_connect([&wire]);
            let mut link = Link::new();
            link.ask(1, &get("a"));
            wire.feed(nonsense);
            drive(&mut link, &server);
            assert!(!link.is_busy() && link.client().is_none());
        }
    }

    #[test]
    fn what_the_server_says_before_it_closes_is_told() {
        let (wire, server) = (Pipe::default(), server("redis://h"));
        will_connect([&wire]);
        let mut link = Link::new();
        link.ask(1, &get("a"));
        wire.feed(b"-ERR max number of clients reached\r\n");
        wire.ends().ended = true;
        let [(1, Err(error))] = &drive(&mut link, &server)[..] else { panic!() };
        assert!(error.to_string().contains("max number of clients"), "{error}");
    }

    #[test]
    fn a_reply_without_end_is_read_by_and_by() {
        let (wire, server) = (Pipe::default(), server("redis://h"));
        will_connect([&wire]);
        let mut link = Link::new();
        link.ask(1, &get("a"));
        wire.ends().to_read.extend([b":1\r\n$1000000\r\n".to_vec()].into_iter().chain(vec![vec![b'x'; 1000]; 100]));
        assert_eq!(drive(&mut link, &server), []);
        assert_eq!(wire.ends().to_read.len(), 101 - READS, "the others have their turn");
    }

    #[test]
    fn what_comes_unasked_is_whole_however_much_there_is_of_it() {
        const COUNT: usize = 8;
        const LENGTH: usize = MOST_KEPT / 5;
        let (wire, server) = (Pipe::default(), server("redis://h"));
        will_connect([&wire]);
        let mut link = Link::listening();
        link.ask(1, &get("a"));
        wire.feed(b"%1\r\n$5\r\nproto\r\n:3\r\n:7\r\n$-1\r\n");
        assert_eq!(drive(&mut link, &server), [(1, Ok(Value::Nil))]);
        let message = format!(">3\r\n$7\r\nmessage\r\n$1\r\na\r\n${LENGTH}\r\n{}\r\n", "x".repeat(LENGTH));
        let mut heard = 0;
        for piece in message.repeat(COUNT).as_bytes().chunks(1_000) {
            wire.feed(piece);
            drive(&mut link, &server);
            heard += link.pushes().count();
        }
        assert_eq!((heard, link.is_closed()), (COUNT, false));
    }

    proptest! {
        #[test]
        fn pieces_change_nothing(sizes in proptest::collection::vec(1..40usize, 1..60)) {
            let replies: BTreeMap<u32, Value> = (0..20)
                .map(|number| (number, Value::Array(vec![Value::Int(number.into()), Value::BulkString(vec![b'\r'; number as usize])])))
                .collect();
            let mut bytes = b":7\r\n".to_vec();
            for number in replies.keys() {
                bytes.extend(format!("*2\r\n:{number}\r\n${number}\r\n{}\r\n", "\r".repeat(*number as usize)).bytes());
            }
            let (wire, server) = (Pipe::default(), server("redis://h"));
            will_connect([&wire]);
            let mut link = Link::new();
            replies.keys().for_each(|number| link.ask(*number, &get("x")));
            let (mut answers, mut sizes) = (Vec::new(), sizes.into_iter().cycle());
            let mut rest = &bytes[..];
            while !rest.is_empty() {
                let (piece, behind) = rest.split_at(sizes.next().unwrap_or(1).min(rest.len()));
                wire.feed(piece);
                rest = behind;
                answers.extend(drive(&mut link, &server));
            }
            let expected: Answers<u32> = replies.into_iter().map(|(number, value)| (number, Ok(value))).collect();
            prop_assert_eq!(answers, expected);
        }
    }
}
