//! A client that polls, with one request at a time on one connection.

use std::net::SocketAddr;
use std::ops::Range;
use std::time::Instant;

use httparse::{EMPTY_HEADER, Status};
use serde_json::Value;

use crate::client::{Client, check_accepted};
use crate::connection::TOGETHER;
use crate::line::Line;
use crate::room::Member;
use crate::server::PATH;

/// What stands between the packets of an answer.
const SEPARATOR: u8 = 0x1e;

/// A session over long-polling.
pub(crate) struct Poller {
    line: Line,
    /// The request that polls.
    poll: Vec<u8>,
    /// The head of a request that sends, but for the length at its end.
    send: String,
    /// Whether a request that sends has not been answered yet.
    is_sending: bool,
}

impl Poller {
    fn start(addr: SocketAddr, user: usize) -> Self {
        let mut line = Line::connect(addr, user);
        let poll = poll(addr, "");
        line.send(&poll);
        Self { line, poll, send: String::new(), is_sending: false }
    }

    fn finish_handshake(&mut self, addr: SocketAddr) {
        let handshake = self.take();
        let session = handshake.strip_prefix('0').and_then(|text| serde_json::from_str::<Value>(text).ok());
        let sid = session.as_ref().and_then(|session| session["sid"].as_str());
        let sid = sid.unwrap_or_else(|| panic!("no handshake: {handshake}"));
        self.poll = poll(addr, &format!("&sid={sid}"));
        self.send = format!(
            "POST {PATH}?EIO=4&transport=polling&sid={sid} HTTP/1.1\r\nhost: {addr}\r\n\
             content-type: text/plain;charset=UTF-8\r\ncontent-length: "
        );
    }

    /// Waits for an answer, and returns its body.
    fn take(&mut self) -> String {
        self.line.take(|bytes| {
            let (body, rest) = split(bytes)?;
            Some((String::from_utf8_lossy(body).into_owned(), rest))
        })
    }
}

impl Member for Poller {
    fn line(&self) -> &Line {
        &self.line
    }

    /// What has come is answered with the next poll at once.
    fn receive(&mut self, buffer: &mut [u8], mut on_text: impl FnMut(Instant, &[u8])) {
        let filled = self.line.read(buffer);
        let now = Instant::now();
        let mut rest = &buffer[..filled];
        while let Some((body, after)) = split(rest) {
            rest = after;
            self.line.send(&self.poll);
            body.split(|byte| *byte == SEPARATOR).for_each(|packet| on_text(now, packet));
        }
        self.line.keep(rest);
    }
}

impl Client for Poller {
    const TRANSPORT: &str = "polling";

    fn open(addr: SocketAddr, users: Range<usize>) -> Vec<Self> {
        let mut pollers: Vec<Self> = Vec::with_capacity(users.len());
        let users: Vec<usize> = users.collect();
        for group in users.chunks(TOGETHER) {
            let first = pollers.len();
            pollers.extend(group.iter().map(|user| Self::start(addr, *user)));
            pollers[first..].iter_mut().for_each(|poller| poller.finish_handshake(addr));
        }
        pollers
    }

    fn say(&mut self, packet: &str) {
        let request = format!("{}{}\r\n\r\n{packet}", self.send, packet.len());
        self.line.send(request.as_bytes());
        self.is_sending = true;
    }

    fn listen(&mut self) {
        if std::mem::take(&mut self.is_sending) {
            let answer = self.take();
            assert_eq!(answer, "ok", "what was sent is refused");
        }
        self.line.send(&self.poll);
    }

    fn wait_for(&mut self, start: &str) -> String {
        loop {
            let body = self.take();
            body.split(char::from(SEPARATOR)).for_each(check_accepted);
            if let Some(packet) = body.split(char::from(SEPARATOR)).find(|packet| packet.starts_with(start)) {
                return packet.to_owned();
            }
            self.listen();
        }
    }
}

fn poll(addr: SocketAddr, sid: &str) -> Vec<u8> {
    format!("GET {PATH}?EIO=4&transport=polling{sid} HTTP/1.1\r\nhost: {addr}\r\n\r\n").into_bytes()
}

/// Splits off the body of the first answer, or returns `None` if that is not whole yet.
///
/// # Panics
///
/// When it is a refusal.
fn split(bytes: &[u8]) -> Option<(&[u8], &[u8])> {
    let mut headers = [EMPTY_HEADER; 16];
    let mut answer = httparse::Response::new(&mut headers);
    let Status::Complete(head) = answer.parse(bytes).expect("servers speak HTTP") else { return None };
    let length = answer.headers.iter().find(|header| header.name.eq_ignore_ascii_case("content-length"));
    let length = length.and_then(|header| std::str::from_utf8(header.value).ok()?.parse().ok());
    let (body, rest) = bytes[head..].split_at_checked(length.expect("an answer has a length"))?;
    assert_eq!(answer.code, Some(200), "refused: {}", String::from_utf8_lossy(body));
    Some((body, rest))
}
