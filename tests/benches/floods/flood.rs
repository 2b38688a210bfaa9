//! The floods, each by a process of its own that begins again whenever it is stopped.

use std::fmt;
use std::io::{Read as _, Write as _};
use std::net::{Ipv4Addr, SocketAddr, TcpStream};
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use clap::ValueEnum;
use roomcast_tests::real::PATIENCE;
use socket2::{Domain, SockRef, Socket, Type};

use crate::frame::{PING, TEXT, push_masked};
use crate::socket::request;

/// Another address than that of everybody else.
const ELSEWHERE: Ipv4Addr = Ipv4Addr::new(127, 0, 0, 2);
/// The number of the user who floods.
const USER: usize = 1_000_000;

/// A way to flood a gateway.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum Flood {
    /// Messages.
    Messages,
    /// Subscriptions.
    Subscriptions,
    /// Messages of one byte.
    Bytes,
    /// Messages in fragments of one byte.
    Fragments,
    /// Messages in fragments without payload.
    Nothings,
    /// Pings.
    Pings,
    /// Frames that say that they are compressed.
    Bombs,
    /// Connections.
    Connects,
    /// Requests that stop in the middle.
    HalfOpen,
    /// Requests that come byte by byte.
    SlowLoris,
}

/// Somebody who floods, until this is dropped.
pub(crate) struct Flooder(Child);

impl Flood {
    pub(crate) const ALL: [Flood; 10] = [
        Flood::Messages,
        Flood::Subscriptions,
        Flood::Bytes,
        Flood::Fragments,
        Flood::Nothings,
        Flood::Pings,
        Flood::Bombs,
        Flood::Connects,
        Flood::HalfOpen,
        Flood::SlowLoris,
    ];

    /// The figure of the limit that ends it.
    pub(crate) fn metric(self) -> &'static str {
        match self {
            Flood::Messages | Flood::Pings => "roomcast_limit_refusals_total",
            Flood::Subscriptions => "roomcast_rate_limited_total",
            Flood::Bytes => "roomcast_limit_errors_total",
            Flood::Fragments | Flood::Nothings => "roomcast_limit_fragments_total",
            Flood::Bombs => "roomcast_connections_closed_total",
            Flood::Connects => "roomcast_limit_address_connects_total",
            Flood::HalfOpen | Flood::SlowLoris => "roomcast_limit_handshakes_total",
        }
    }

    /// Floods for ever.
    pub(crate) fn run(self, target: SocketAddr) {
        let frames = |opcode: u8, payload: &[u8]| {
            let mut one = Vec::new();
            push_masked(&mut one, opcode, payload);
            one.repeat(1_000)
        };
        // The first of a message is not its last, nor are those that follow.
        let fragments = |payload: &[u8]| {
            let mut bytes = frames(0, payload);
            let length = bytes.len() / 1_000;
            bytes.iter_mut().step_by(length).for_each(|first| *first = 0);
            bytes[0] = TEXT;
            bytes
        };
        match self {
            Flood::Messages => speak(target, &frames(TEXT, br#"{"type":"ping"}"#)),
            Flood::Subscriptions => speak(target, &frames(TEXT, br#"{"type":"subscribe","room":"workspace:x"}"#)),
            Flood::Bytes => speak(target, &frames(TEXT, b"x")),
            Flood::Fragments => speak(target, &fragments(b"x")),
            Flood::Nothings => speak(target, &fragments(b"")),
            Flood::Pings => speak(target, &frames(PING, b"?")),
            Flood::Bombs => speak(target, &frames(0x40 | TEXT, &[0; 400])),
            Flood::Connects => loop {
                // Closed at once and without a word, or there would soon be no ports left to flood with.
                drop(connect(target).map(|stream| SockRef::from(&stream).set_linger(Some(Duration::ZERO))));
            },
            Flood::HalfOpen | Flood::SlowLoris => trickle(target, self == Flood::SlowLoris),
        }
    }
}

impl fmt::Display for Flood {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(self.to_possible_value().expect("all have names").get_name())
    }
}

impl Flooder {
    /// Starts one, behind everybody else who wants this core.
    pub(crate) fn start(flood: Flood, target: SocketAddr) -> Self {
        let program = std::env::current_exe().expect("the benchmark is a program");
        // Whoever is only nice is still given slices of some milliseconds, for which honest clients would have to wait.
        let mut command = Command::new("chrt");
        command.args(["--idle", "0"]).arg(program).args(["--floods", &flood.to_string(), "--target", &target.to_string()]);
        Self(command.stdin(Stdio::null()).spawn().expect("it can be started"))
    }
}

impl Drop for Flooder {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// Opens a WebSocket and sends the same again and again, as fast as it is taken. What is answered is thrown away.
fn speak(target: SocketAddr, frames: &[u8]) {
    let request = request(USER);
    loop {
        let Some(mut stream) = connect(target) else { continue };
        if stream.write_all(&request).is_err() {
            continue;
        }
        let reading = stream.try_clone().expect("there are files left");
        let reader = std::thread::spawn(move || drain(reading));
        while stream.write_all(frames).is_ok() && !reader.is_finished() {}
        let _ = stream.shutdown(std::net::Shutdown::Both);
        let _ = reader.join();
    }
}

/// Reads until the end.
fn drain(mut stream: TcpStream) {
    let mut buffer = [0; 16 * 1024];
    while stream.read(&mut buffer).is_ok_and(|read| read > 0) {}
}

/// Begins many requests and does not end them; or goes on a little with each in turn.
fn trickle(target: SocketAddr, goes_on: bool) {
    const MANY: usize = 500;
    const PAUSE: Duration = Duration::from_millis(1);
    let mut streams: Vec<TcpStream> = Vec::new();
    loop {
        while streams.len() < MANY {
            let Some(mut stream) = connect(target) else { continue };
            if stream.write_all(b"GET /ws HTTP/1.1\r\nhost: x\r\nx: ").is_ok() {
                stream.set_read_timeout(Some(PAUSE)).expect("the limit is not zero");
                streams.push(stream);
            }
        }
        // Those that were given up are replaced.
        streams.retain_mut(|stream| {
            if goes_on {
                return stream.write_all(b"y").is_ok();
            }
            !stream.read(&mut [0; 512]).is_ok_and(|read| read == 0)
        });
    }
}

fn connect(target: SocketAddr) -> Option<TcpStream> {
    let socket = Socket::new(Domain::IPV4, Type::STREAM, None).expect("there are files left");
    socket.bind(&SocketAddr::from((ELSEWHERE, 0)).into()).ok()?;
    socket.connect_timeout(&target.into(), PATIENCE).ok()?;
    Some(socket.into())
}
