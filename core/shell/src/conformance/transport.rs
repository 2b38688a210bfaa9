//! Sockets: bytes in both directions, both ends of a connection, and the wake-ups between them.
//!
//! The peer is a blocking socket on a thread of its own.

use std::future::poll_fn;
use std::io::{Read as _, Write as _};
use std::net::{Shutdown, TcpListener, TcpStream};
use std::sync::mpsc;
use std::task::{Context, Poll, Waker};
use std::time::Duration;

use socket2::SockRef;

use super::patience::{Job, PATIENCE, soon};
use super::{Subject, Surroundings};
use crate::transport::Transport;

/// Bytes the kernel keeps for each direction of a connection, about: little, so that a socket is full soon.
const KERNEL: usize = 256 * 1024;
/// More than that by far.
pub(super) const MUCH: usize = 8 << 20;

cases!("transport":
    what_is_read_has_its_order_in_pieces_of_any_size,
    what_is_written_has_its_order_in_pieces_of_any_size,
    a_full_socket_wakes_the_task_when_the_peer_reads,
    both_directions_go_on_at_the_same_time,
    new_bytes_wake_a_task_that_has_rearmed,
    bytes_that_came_before_the_rearming_are_noticed,
    the_last_waker_is_the_one_that_is_woken,
    after_the_peers_end_we_can_still_write,
    after_our_end_we_can_still_read,
    a_reset_ends_a_read_that_waits,
    a_reset_ends_a_write_that_waits,
    a_socket_that_is_dropped_is_closed,
);

fn what_is_read_has_its_order_in_pieces_of_any_size<S: Subject>(subject: &S, _: &Surroundings) {
    let (stream, mut peer) = pair();
    let peer = Job::start(move || {
        let (single, rest) = pattern().split_at(1_000);
        single.iter().for_each(|byte| peer.write_all(&[*byte]).expect("the peer can write"));
        peer.write_all(rest).expect("the peer can write");
    });
    subject.block_on(soon("the last of the bytes", async {
        let mut socket = subject.socket(stream).expect("the runtime takes a socket");
        let mut received = Vec::new();
        for size in [1, 3, 1_000, 100_000].into_iter().cycle() {
            let mut buffer = vec![0; size];
            let read = read(&mut socket, &mut buffer).await;
            if read == 0 {
                break;
            }
            received.extend_from_slice(&buffer[..read]);
        }
        check(&received);
    }));
    peer.end("the peer that writes");
}

fn what_is_written_has_its_order_in_pieces_of_any_size<S: Subject>(subject: &S, _: &Surroundings) {
    let (stream, peer) = pair();
    let peer = Job::start(move || check(&read_to_end(peer)));
    subject.block_on(soon("room for the last of the bytes", async {
        let mut socket = subject.socket(stream).expect("the runtime takes a socket");
        let (single, rest) = pattern().split_at(1_000);
        for byte in single {
            write_all(&mut socket, &[*byte]).await;
        }
        write_all(&mut socket, rest).await;
        close(&mut socket).await;
    }));
    peer.end("the peer that reads");
}

fn a_full_socket_wakes_the_task_when_the_peer_reads<S: Subject>(subject: &S, _: &Surroundings) {
    let (stream, peer) = pair();
    let (full, is_full) = mpsc::channel();
    let peer = Job::start(move || {
        is_full.recv_timeout(PATIENCE).expect("a socket that nobody reads is full some time");
        check(&read_to_end(peer));
    });
    subject.block_on(soon("room for more", async {
        let mut socket = subject.socket(stream).expect("the runtime takes a socket");
        let mut rest = pattern();
        poll_fn(|cx| {
            while !rest.is_empty() {
                match socket.poll_write(cx, rest) {
                    Poll::Ready(written) => rest = &rest[written.expect("the socket can be written to")..],
                    Poll::Pending => {
                        // The peer reads from now on: nothing but that can wake this task.
                        let _ = full.send(());
                        return Poll::Pending;
                    }
                }
            }
            Poll::Ready(())
        })
        .await;
        close(&mut socket).await;
    }));
    peer.end("the peer that reads");
}

fn both_directions_go_on_at_the_same_time<S: Subject>(subject: &S, _: &Surroundings) {
    let (stream, mut peer) = pair();
    let peer = Job::start(move || {
        let mut buffer = vec![0; 50_000];
        loop {
            match peer.read(&mut buffer).expect("the peer can read") {
                0 => return,
                read => peer.write_all(&buffer[..read]).expect("the peer can write"),
            }
        }
    });
    subject.block_on(soon("the last byte to come back", async {
        let mut socket = subject.socket(stream).expect("the runtime takes a socket");
        let (mut rest, mut received, mut buffer) = (pattern(), Vec::new(), vec![0; 30_000]);
        poll_fn(|cx| {
            // With one waker for both, as a shard has it.
            while !rest.is_empty()
                && let Poll::Ready(written) = socket.poll_write(cx, rest)
            {
                rest = &rest[written.expect("the socket can be written to")..];
            }
            while received.len() < MUCH {
                let Poll::Ready(read) = socket.poll_read(cx, &mut buffer) else { return Poll::Pending };
                let read = read.expect("the socket can be read");
                assert!(read > 0, "the peer has not closed");
                received.extend_from_slice(&buffer[..read]);
            }
            Poll::Ready(())
        })
        .await;
        check(&received);
    }));
    peer.end("the peer that echoes");
}

fn new_bytes_wake_a_task_that_has_rearmed<S: Subject>(subject: &S, _: &Surroundings) {
    const ROUNDS: usize = 300;
    let (stream, mut peer) = pair();
    let (ask, asked) = mpsc::channel();
    let peer = Job::start(move || {
        for _ in 0..ROUNDS {
            asked.recv_timeout(PATIENCE).expect("the task asks for more");
            peer.write_all(b"more").expect("the peer can write");
        }
    });
    subject.block_on(soon("the wake-up of a rearmed socket", async {
        let mut socket = subject.socket(stream).expect("the runtime takes a socket");
        for _ in 0..ROUNDS {
            let mut rearmed = false;
            let read = poll_fn(|cx| {
                if !rearmed {
                    rearmed = true;
                    let rearmed = socket.poll_rearm(cx);
                    ask.send(()).expect("the peer is there");
                    if rearmed.is_pending() {
                        return Poll::Pending;
                    }
                }
                // Either woken, or told that there may be more: then a read says what to wait for.
                socket.poll_read(cx, &mut [0; 100])
            });
            assert_eq!(read.await.expect("the socket can be read"), b"more".len());
        }
    }));
    peer.end("the peer that writes");
}

fn bytes_that_came_before_the_rearming_are_noticed<S: Subject>(subject: &S, _: &Surroundings) {
    const ROUNDS: usize = 300;
    let (stream, mut peer) = pair();
    subject.block_on(soon("the wake-up for bytes that were there already", async {
        let mut socket = subject.socket(stream).expect("the runtime takes a socket");
        for _ in 0..ROUNDS {
            peer.write_all(b"first").expect("the peer can write");
            assert_eq!(read(&mut socket, &mut [0; 100]).await, b"first".len());
            peer.write_all(b"more").expect("the peer can write");
            let mut rearmed = false;
            poll_fn(|cx| {
                if rearmed {
                    return Poll::Ready(());
                }
                rearmed = true;
                socket.poll_rearm(cx).map(|rearmed| rearmed.expect("the socket can be read"))
            })
            .await;
            assert_eq!(read(&mut socket, &mut [0; 100]).await, b"more".len());
        }
    }));
}

fn the_last_waker_is_the_one_that_is_woken<S: Subject>(subject: &S, _: &Surroundings) {
    let (stream, mut peer) = pair();
    let ((empty, is_empty), (full, is_full)) = (mpsc::channel(), mpsc::channel());
    let peer = Job::start(move || {
        is_empty.recv_timeout(PATIENCE).expect("the task waits for bytes");
        peer.write_all(b"bytes").expect("the peer can write");
        is_full.recv_timeout(PATIENCE).expect("the task waits for room");
        check(&read_to_end(peer));
    });
    subject.block_on(soon("the wake-up of the last waker", async {
        let mut socket = subject.socket(stream).expect("the runtime takes a socket");
        let nobody = &mut Context::from_waker(Waker::noop());
        assert!(socket.poll_read(nobody, &mut [0; 100]).is_pending(), "nothing has been written");
        let read = poll_fn(|cx| {
            let read = socket.poll_read(cx, &mut [0; 100]);
            let _ = empty.send(());
            read
        });
        assert_eq!(read.await.expect("the socket can be read"), b"bytes".len());

        let mut rest = pattern();
        while let Poll::Ready(written) = socket.poll_write(nobody, rest) {
            rest = &rest[written.expect("the socket can be written to")..];
            assert!(!rest.is_empty(), "a socket that nobody reads is full some time");
        }
        let written = poll_fn(|cx| {
            let written = socket.poll_write(cx, rest);
            let _ = full.send(());
            written
        });
        rest = &rest[written.await.expect("the socket can be written to")..];
        write_all(&mut socket, rest).await;
        close(&mut socket).await;
    }));
    peer.end("the peer");
}

fn after_the_peers_end_we_can_still_write<S: Subject>(subject: &S, _: &Surroundings) {
    let (stream, peer) = pair();
    let (ask, asked) = mpsc::channel();
    let peer = Job::start(move || {
        asked.recv_timeout(PATIENCE).expect("the task reads");
        peer.shutdown(Shutdown::Write).expect("the peer can close");
        assert_eq!(read_to_end(peer), b"still here");
    });
    subject.block_on(soon("the peer's end", async {
        let mut socket = subject.socket(stream).expect("the runtime takes a socket");
        let end = poll_fn(|cx| {
            let end = socket.poll_read(cx, &mut [0; 100]);
            let _ = ask.send(());
            end
        });
        assert_eq!(end.await.expect("the socket can be read"), 0);
        write_all(&mut socket, b"still here").await;
        close(&mut socket).await;
    }));
    peer.end("the peer that has closed");
}

fn after_our_end_we_can_still_read<S: Subject>(subject: &S, _: &Surroundings) {
    let (stream, mut peer) = pair();
    let peer = Job::start(move || {
        assert_eq!(read_to_end(peer.try_clone().expect("a socket can be cloned")), b"the last");
        peer.write_all(b"still here").expect("the peer can write");
    });
    subject.block_on(soon("the peer's answer to our end", async {
        let mut socket = subject.socket(stream).expect("the runtime takes a socket");
        write_all(&mut socket, b"the last").await;
        close(&mut socket).await;
        let mut received = Vec::new();
        let mut buffer = [0; 100];
        loop {
            match read(&mut socket, &mut buffer).await {
                0 => break,
                read => received.extend_from_slice(&buffer[..read]),
            }
        }
        assert_eq!(received, b"still here");
    }));
    peer.end("the peer that answers");
}

fn a_reset_ends_a_read_that_waits<S: Subject>(subject: &S, _: &Surroundings) {
    let (stream, peer) = pair();
    let (ask, asked) = mpsc::channel();
    let peer = Job::start(move || {
        asked.recv_timeout(PATIENCE).expect("the task waits");
        reset(peer);
    });
    subject.block_on(soon("the end of a read", async {
        let mut socket = subject.socket(stream).expect("the runtime takes a socket");
        let end = poll_fn(|cx| {
            let end = socket.poll_read(cx, &mut [0; 100]);
            let _ = ask.send(());
            end
        });
        assert!(matches!(end.await, Err(_) | Ok(0)), "nothing was written");
    }));
    peer.end("the peer that resets");
}

fn a_reset_ends_a_write_that_waits<S: Subject>(subject: &S, _: &Surroundings) {
    let (stream, peer) = pair();
    let (full, is_full) = mpsc::channel();
    let peer = Job::start(move || {
        is_full.recv_timeout(PATIENCE).expect("the task waits");
        reset(peer);
    });
    subject.block_on(soon("the end of a write", async {
        let mut socket = subject.socket(stream).expect("the runtime takes a socket");
        poll_fn(|cx| {
            loop {
                match socket.poll_write(cx, pattern()) {
                    Poll::Ready(Ok(written)) if written > 0 => {}
                    Poll::Ready(_) => return Poll::Ready(()),
                    Poll::Pending => {
                        let _ = full.send(());
                        return Poll::Pending;
                    }
                }
            }
        })
        .await;
    }));
    peer.end("the peer that resets");
}

fn a_socket_that_is_dropped_is_closed<S: Subject>(subject: &S, _: &Surroundings) {
    let (stream, peer) = pair();
    let peer = Job::start(move || assert_eq!(read_to_end(peer), b"the last"));
    subject.block_on(soon("room for a few bytes", async {
        let mut socket = subject.socket(stream).expect("the runtime takes a socket");
        write_all(&mut socket, b"the last").await;
        // A waker that waits does not keep it open.
        let _ = poll_fn(|cx| Poll::Ready(socket.poll_read(cx, &mut [0; 100]))).await;
    }));
    peer.end("the peer that reads the end");
}

/// Two ends of a connection: the subject's, which does not block, and the peer's, which does.
pub(super) fn pair() -> (TcpStream, TcpStream) {
    let listener = TcpListener::bind(("127.0.0.1", 0)).expect("a free port");
    let peer = TcpStream::connect(listener.local_addr().expect("it has an address")).expect("it listens");
    let (stream, _) = listener.accept().expect("the peer waits");
    for end in [&stream, &peer] {
        let socket = SockRef::from(end);
        socket.set_send_buffer_size(KERNEL).expect("a buffer can be set");
        socket.set_recv_buffer_size(KERNEL).expect("a buffer can be set");
        socket.set_tcp_nodelay(true).expect("a delay can be switched off");
    }
    stream.set_nonblocking(true).expect("a socket need not block");
    peer.set_read_timeout(Some(PATIENCE)).expect("a time-out can be set");
    peer.set_write_timeout(Some(PATIENCE)).expect("a time-out can be set");
    (stream, peer)
}

/// Many bytes that nobody would take for others.
pub(super) fn pattern() -> &'static [u8] {
    use std::sync::LazyLock;
    static PATTERN: LazyLock<Vec<u8>> = LazyLock::new(|| (0..MUCH).map(|at| (at ^ at >> 8 ^ at >> 16) as u8).collect());
    &PATTERN
}

pub(super) fn check(received: &[u8]) {
    let difference = received.iter().zip(pattern()).position(|(received, sent)| received != sent);
    assert_eq!((difference, received.len()), (None, MUCH), "the first difference, and how many bytes have come");
}

fn read_to_end(mut peer: TcpStream) -> Vec<u8> {
    let mut received = Vec::new();
    peer.read_to_end(&mut received).expect("the peer can read");
    received
}

/// Ends a connection without a word.
fn reset(peer: TcpStream) {
    SockRef::from(&peer).set_linger(Some(Duration::ZERO)).expect("a socket can be told not to linger");
}

async fn read(socket: &mut impl Transport, buffer: &mut [u8]) -> usize {
    poll_fn(|cx| socket.poll_read(cx, buffer)).await.expect("the socket can be read")
}

async fn write_all(socket: &mut impl Transport, mut bytes: &[u8]) {
    while !bytes.is_empty() {
        let written = poll_fn(|cx| socket.poll_write(cx, bytes)).await.expect("the socket can be written to");
        assert!(written > 0, "a write that takes nothing says so");
        bytes = &bytes[written..];
    }
}

async fn close(socket: &mut impl Transport) {
    poll_fn(|cx| socket.poll_close(cx)).await.expect("a socket can be closed");
}
