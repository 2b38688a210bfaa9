//! The raw limit: a server that only writes ready bytes to everybody.

use std::io::{Read as _, Write as _};
use std::net::{TcpListener, TcpStream};

use clap::ValueEnum;

use crate::frame;

/// How messages that have come together are written.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum Mode {
    /// One write per message and subscriber.
    #[value(name = "limit-single")]
    Single,
    /// One write per subscriber for all messages that are there.
    #[value(name = "limit-joined")]
    Joined,
}

impl Mode {
    /// The name on the command line and in the table.
    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Single => "limit-single",
            Self::Joined => "limit-joined",
        }
    }
}

/// The path on which the publisher comes, after all subscribers.
pub(crate) const PUBLISHER: &str = "/publish";

/// Serves until the publisher leaves.
pub(crate) fn serve(mode: Mode) {
    let listener = TcpListener::bind("127.0.0.1:0").expect("a port is free");
    let addr = listener.local_addr().expect("a listener has an address");
    println!("listening on http://{addr}");
    let mut subscribers = Vec::new();
    let publisher = loop {
        let mut stream = listener.accept().expect("there are files left").0;
        stream.set_nodelay(true).expect("a TCP socket has no delay");
        if shake_hands(&mut stream) == PUBLISHER {
            break stream;
        }
        subscribers.push(stream);
    };
    fan_out(mode, publisher, &mut subscribers);
}

/// Whatever the publisher sends is already what the subscribers get.
fn fan_out(mode: Mode, mut publisher: TcpStream, subscribers: &mut [TcpStream]) {
    let mut buffer = vec![0; 256 * 1024];
    let mut filled = 0;
    loop {
        match publisher.read(&mut buffer[filled..]) {
            Ok(read) if read > 0 => filled += read,
            _ => return,
        }
        let mut rest = &buffer[..filled];
        while let Some(frame) = frame::split(rest) {
            if mode == Mode::Single {
                write_to_all(subscribers, &rest[..rest.len() - frame.rest.len()]);
            }
            rest = frame.rest;
        }
        let whole = filled - rest.len();
        if mode == Mode::Joined && whole > 0 {
            write_to_all(subscribers, &buffer[..whole]);
        }
        buffer.copy_within(whole..filled, 0);
        filled -= whole;
    }
}

fn write_to_all(subscribers: &mut [TcpStream], bytes: &[u8]) {
    for subscriber in subscribers {
        // The window keeps far less in flight than a socket holds, so this never waits.
        subscriber.write_all(bytes).expect("subscribers stay");
    }
}

/// Reads a request, accepts it whatever it says, and returns its path.
fn shake_hands(stream: &mut TcpStream) -> String {
    let mut request = Vec::new();
    let mut byte = [0; 1024];
    while !request.ends_with(b"\r\n\r\n") {
        let read = stream.read(&mut byte).expect("the client asks");
        assert!(read > 0, "the client left in the middle of its request");
        request.extend_from_slice(&byte[..read]);
    }
    // The load generator does not check the accept key, so none is computed.
    stream
        .write_all(b"HTTP/1.1 101 Switching Protocols\r\nupgrade: websocket\r\nconnection: upgrade\r\n\r\n")
        .expect("the client waits");
    let line = String::from_utf8_lossy(&request);
    line.split(' ').nth(1).unwrap_or_default().to_owned()
}
