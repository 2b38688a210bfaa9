//! TLS over the runtime's sockets: both ends of a connection in one task.

use std::future::poll_fn;
use std::task::{Context, Poll};

use super::patience::soon;
use super::transport::{MUCH, check, pair, pattern};
use super::{Subject, Surroundings};
use crate::tls::Tls;
use crate::transport::Transport;

cases!("tls":
    what_is_said_arrives_in_both_directions_at_the_same_time,
);

fn what_is_said_arrives_in_both_directions_at_the_same_time<S: Subject>(subject: &S, surroundings: &Surroundings) {
    let (acceptor, connector) = &surroundings.tls;
    let (stream, peer) = pair();
    peer.set_nonblocking(true).expect("a socket need not block");
    subject.block_on(soon("the last byte by TLS", async {
        let [stream, peer] = [stream, peer].map(|stream| subject.socket(stream).expect("the runtime takes a socket"));
        let mut server = End::new(acceptor.accept(stream).expect("a handshake can begin"));
        let mut client = End::new(connector.connect(peer, "localhost").expect("a handshake can begin"));
        poll_fn(|cx| {
            let ends = [server.drive(cx), client.drive(cx)];
            if ends.iter().all(Poll::is_ready) { Poll::Ready(()) } else { Poll::Pending }
        })
        .await;
        check(&server.received);
        check(&client.received);
    }));
}

/// One end, which says much, closes its side, and hears what the other says.
struct End<T: Transport> {
    io: Tls<T>,
    rest: &'static [u8],
    received: Vec<u8>,
    is_closed: bool,
    has_heard_all: bool,
}

impl<T: Transport> End<T> {
    fn new(io: Tls<T>) -> End<T> {
        End { io, rest: pattern(), received: Vec::with_capacity(MUCH), is_closed: false, has_heard_all: false }
    }

    fn drive(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        while !self.rest.is_empty()
            && let Poll::Ready(written) = self.io.poll_write(cx, self.rest)
        {
            self.rest = &self.rest[written.expect("it can be written to")..];
        }
        if self.rest.is_empty() && !self.is_closed {
            self.is_closed = self.io.poll_close(cx).map(|closed| closed.expect("it can be closed")).is_ready();
        }
        let mut buffer = [0; 10_000];
        while !self.has_heard_all
            && let Poll::Ready(read) = self.io.poll_read(cx, &mut buffer)
        {
            let read = read.expect("it can be read");
            self.received.extend_from_slice(&buffer[..read]);
            self.has_heard_all = read == 0;
        }
        if self.is_closed && self.has_heard_all { Poll::Ready(()) } else { Poll::Pending }
    }
}
