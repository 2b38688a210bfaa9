//! Many connections in one thread.

use std::io;
use std::net::SocketAddr;
use std::time::{Duration, Instant};

use nix::errno::Errno;
use nix::sys::epoll::{Epoll, EpollCreateFlags, EpollEvent, EpollFlags, EpollTimeout};
use roomcast_tests::real::PATIENCE;

use crate::socket::{Event, Socket, request};

/// Clients of which each has one connection at most.
pub(crate) struct Swarm {
    epoll: Epoll,
    clients: Vec<Client>,
    events: Vec<EpollEvent>,
    buffer: Vec<u8>,
}

struct Client {
    request: Vec<u8>,
    socket: Option<Socket>,
}

impl Swarm {
    /// So many clients, who are users of their own, with numbers from `first`.
    pub(crate) fn new(first: usize, clients: usize) -> Self {
        let client = |user| Client { request: request(user), socket: None };
        Self {
            epoll: Epoll::new(EpollCreateFlags::empty()).expect("there are files left"),
            clients: (first..first + clients).map(client).collect(),
            events: vec![EpollEvent::empty(); 256],
            buffer: vec![0; 256 * 1024],
        }
    }

    /// How many clients there are.
    pub(crate) fn len(&self) -> usize {
        self.clients.len()
    }

    /// Connects a client.
    ///
    /// # Errors
    ///
    /// Nobody listens there.
    pub(crate) fn connect(&mut self, index: usize, addr: SocketAddr) -> io::Result<()> {
        let socket = Socket::connect(addr)?;
        self.epoll.add(&socket.stream, EpollEvent::new(EpollFlags::EPOLLOUT, index as u64)).expect("a socket can be watched");
        self.clients[index].socket = Some(socket);
        Ok(())
    }

    /// Connects all clients, some at a time. What they are told meanwhile is a greeting.
    pub(crate) fn connect_all(&mut self, addr: impl Fn(usize) -> SocketAddr) {
        const TOGETHER: usize = 100;
        let mut open = 0;
        for index in 0..self.len() {
            self.connect(index, addr(index)).unwrap_or_else(|error| panic!("client {index} cannot connect: {error}"));
            if (index + 1).is_multiple_of(TOGETHER) || index + 1 == self.len() {
                let deadline = Instant::now() + PATIENCE;
                while open <= index {
                    assert!(Instant::now() < deadline, "only {open} clients can connect");
                    self.poll(deadline, |_, index, _, event| match event {
                        Event::Open => open += 1,
                        Event::Text(_) => {}
                        Event::Lost(reason) => panic!("client {index} cannot connect: {reason}"),
                    });
                }
            }
        }
    }

    /// Cuts a client's connection, without a word to the server.
    pub(crate) fn cut(&mut self, index: usize) {
        self.clients[index].socket = None;
    }

    /// Sends a text of a client that is connected.
    pub(crate) fn send(&mut self, index: usize, text: &str) {
        self.clients[index].socket.as_mut().expect("the client is connected").send(text);
    }

    /// Waits until something happens, no longer than until then, and tells of it.
    pub(crate) fn poll(&mut self, until: Instant, mut on: impl FnMut(&mut Socket, usize, Instant, Event<'_>)) {
        let left = until.saturating_duration_since(Instant::now()).min(PATIENCE);
        // Whole milliseconds, not too few.
        let limit = EpollTimeout::try_from(left + Duration::from_micros(999)).expect("the limit fits");
        let ready = match self.epoll.wait(&mut self.events, limit) {
            Err(Errno::EINTR) => 0,
            ready => ready.expect("epoll works"),
        };
        for event in &self.events[..ready] {
            let index = event.data() as usize;
            let Client { request, socket: slot } = &mut self.clients[index];
            let Some(socket) = slot else { continue };
            if !socket.is_connecting() {
                if !socket.receive(&mut self.buffer, |socket, now, event| on(socket, index, now, event)) {
                    *slot = None;
                }
                continue;
            }
            match socket.upgrade(request) {
                Ok(()) => {
                    let mut interest = EpollEvent::new(EpollFlags::EPOLLIN, index as u64);
                    self.epoll.modify(&socket.stream, &mut interest).expect("a socket can be watched");
                }
                Err(reason) => {
                    on(socket, index, Instant::now(), Event::Lost(&reason));
                    *slot = None;
                }
            }
        }
    }
}
