//! The raw limit: servers that only read and write ready bytes.

use std::io::{ErrorKind, Read as _, Write as _};
use std::net::{TcpListener, TcpStream};

use clap::ValueEnum;
use nix::sys::epoll::{Epoll, EpollCreateFlags, EpollEvent, EpollFlags, EpollTimeout};

use crate::connection::watch;
use crate::{frame, server_frame};

/// What is done with messages.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum Mode {
    /// Fan-out: one write per message and subscriber.
    #[value(name = "limit-single")]
    Single,
    /// Fan-out: one write per subscriber for all messages that are there.
    #[value(name = "limit-joined")]
    Joined,
    /// Echo: one read and one write per message.
    #[value(name = "limit-echo")]
    Echo,
}

impl Mode {
    /// The name on the command line and in the tables.
    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Single => "limit-single",
            Self::Joined => "limit-joined",
            Self::Echo => "limit-echo",
        }
    }
}

/// The path on which the publisher of a fan-out comes, after all subscribers.
pub(crate) const PUBLISHER: &str = "/publish";

/// Serves until the publisher leaves, or the first client of an echo.
pub(crate) fn serve(mode: Mode) {
    let listener = TcpListener::bind("127.0.0.1:0").expect("a port is free");
    let addr = listener.local_addr().expect("a listener has an address");
    println!("listening on http://{addr}");
    match mode {
        Mode::Single | Mode::Joined => fan_out(mode, &listener),
        Mode::Echo => echo(&listener),
    }
}

/// Whatever the publisher sends is already what the subscribers get.
fn fan_out(mode: Mode, listener: &TcpListener) {
    let mut subscribers = Vec::new();
    let mut publisher = loop {
        let (stream, path) = accept(listener);
        if path == PUBLISHER {
            break stream;
        }
        subscribers.push(stream);
    };
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
                write_to_all(&mut subscribers, &rest[..rest.len() - frame.rest.len()]);
            }
            rest = frame.rest;
        }
        let whole = filled - rest.len();
        if mode == Mode::Joined && whole > 0 {
            write_to_all(&mut subscribers, &buffer[..whole]);
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

/// Clients have one message in flight, so a read brings one message and a write has room for it.
fn echo(listener: &TcpListener) {
    const LISTENER: u64 = u64::MAX;
    let epoll = Epoll::new(EpollCreateFlags::empty()).expect("there are files left");
    epoll.add(listener, EpollEvent::new(EpollFlags::EPOLLIN, LISTENER)).expect("a listener can be watched");
    let mut clients: Vec<TcpStream> = Vec::new();
    let mut events = [EpollEvent::empty(); 1024];
    let mut buffer = vec![0; 128 * 1024];
    loop {
        let ready = epoll.wait(&mut events, EpollTimeout::NONE).expect("nothing interrupts");
        for event in &events[..ready] {
            if event.data() == LISTENER {
                let (client, _) = accept(listener);
                client.set_nonblocking(true).expect("a socket need not block");
                watch(&epoll, &client, clients.len() as u64);
                clients.push(client);
                continue;
            }
            let client = &mut clients[event.data() as usize];
            let read = match client.read(&mut buffer) {
                Ok(0) => return,
                Ok(read) => read,
                Err(error) if error.kind() == ErrorKind::ConnectionReset => return,
                Err(error) => panic!("a client is lost: {error}"),
            };
            let answer = server_frame::turn_back(&mut buffer[..read]).expect("a message comes in one piece");
            client.write_all(answer).expect("there is room for one message");
        }
    }
}

/// Accepts whoever comes, whatever it asks for, and returns the path too.
fn accept(listener: &TcpListener) -> (TcpStream, String) {
    let mut stream = listener.accept().expect("there are files left").0;
    stream.set_nodelay(true).expect("a TCP socket has no delay");
    let mut request = Vec::new();
    let mut bytes = [0; 1024];
    while !request.ends_with(b"\r\n\r\n") {
        let read = stream.read(&mut bytes).expect("the client asks");
        assert!(read > 0, "the client left in the middle of its request");
        request.extend_from_slice(&bytes[..read]);
    }
    // The load generator does not check the accept key, so none is computed.
    stream
        .write_all(b"HTTP/1.1 101 Switching Protocols\r\nupgrade: websocket\r\nconnection: upgrade\r\n\r\n")
        .expect("the client waits");
    let line = String::from_utf8_lossy(&request);
    let path = line.split(' ').nth(1).unwrap_or_default().to_owned();
    (stream, path)
}
