//! A connection on which one thing is asked after the other: to find out where Redis is.

use std::future::poll_fn;
use std::io;

use redis::{ConnectionAddr, Parser, RedisConnectionInfo, Value};

use super::link::{Feed, authentication, put_command};
use super::server::Connector;
use crate::transport::Transport;

/// Bytes that are read in one go.
const READ_BUFFER: usize = 4 * 1024;

/// A connection that has said whose it is.
pub(super) struct Line {
    io: Box<dyn Transport>,
    longest_reply: usize,
}

impl Line {
    /// Opens one, on which no reply is longer than so many bytes.
    pub(super) async fn open(
        address: &ConnectionAddr,
        settings: &RedisConnectionInfo,
        connector: &Connector,
        longest_reply: usize,
    ) -> io::Result<Line> {
        let mut line = Line { io: connector.open(address).await?, longest_reply };
        if let Some(words) = authentication(settings) {
            line.ask(&words).await?;
        }
        Ok(line)
    }

    /// Asks, and fails where the server refuses.
    pub(super) async fn ask(&mut self, words: &[&str]) -> io::Result<Value> {
        let mut command = Vec::new();
        put_command(&mut command, words);
        let mut rest = &command[..];
        while !rest.is_empty() {
            match poll_fn(|cx| self.io.poll_write(cx, rest)).await {
                Ok(0) => return Err(io::ErrorKind::WriteZero.into()),
                Ok(written) => rest = &rest[written..],
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => return Err(error),
            }
        }
        let (mut parser, mut buffer, mut read) = (Parser::new(), [0; READ_BUFFER], 0);
        while read < self.longest_reply {
            let bytes = match poll_fn(|cx| self.io.poll_read(cx, &mut buffer)).await {
                Ok(0) => return Err(io::Error::new(io::ErrorKind::UnexpectedEof, "the server closed the connection")),
                Ok(bytes) => bytes,
                Err(error) if error.kind() == io::ErrorKind::Interrupted => 0,
                Err(error) => return Err(error),
            };
            read += bytes;
            let mut feed = Feed { bytes: &buffer[..bytes], is_dry: false };
            match parser.parse_value(&mut feed) {
                Ok(Value::ServerError(error)) => return Err(io::Error::other(error.to_string())),
                Ok(value) => return Ok(value),
                Err(_) if feed.is_dry => {}
                Err(error) => return Err(io::Error::other(format!("not a reply: {error}"))),
            }
        }
        Err(io::Error::other("a reply without end"))
    }

    /// The connection, on which nothing is awaited.
    pub(super) fn into_io(self) -> Box<dyn Transport> {
        self.io
    }
}

/// A word of a reply; nothing where it is something else.
pub(super) fn text(value: Value) -> Option<String> {
    match value {
        Value::BulkString(bytes) => String::from_utf8(bytes).ok(),
        Value::SimpleString(text) => Some(text),
        _ => None,
    }
}
