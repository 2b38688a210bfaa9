//! A TCP proxy whose connections can break, or die without a word, as those to a machine that has lost its power do.

use std::io::{ErrorKind, Read as _, Write as _};
use std::net::{Shutdown, SocketAddr, TcpListener, TcpStream};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread;
use std::time::Duration;

/// Forwards connections to a server. Its threads end with their connections, or with the test.
#[derive(Debug)]
pub struct Proxy {
    addr: SocketAddr,
    server: Arc<Mutex<SocketAddr>>,
    silences: Arc<Silences>,
    /// One end of each connection, which is both ends.
    connections: Arc<Mutex<Vec<TcpStream>>>,
}

/// How often each direction has fallen silent: requests, and answers.
#[derive(Debug, Default)]
struct Silences([AtomicUsize; 2]);

impl Silences {
    fn of(&self, direction: usize) -> usize {
        self.0[direction].load(Ordering::SeqCst)
    }

    fn add(&self, direction: usize) {
        self.0[direction].fetch_add(1, Ordering::SeqCst);
    }
}

/// The directions.
const REQUESTS: usize = 0;
const ANSWERS: usize = 1;

impl Proxy {
    /// Listens on a port of its own and forwards to `server`.
    ///
    /// # Panics
    ///
    /// When it cannot listen.
    #[must_use]
    pub fn to(server: SocketAddr) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").expect("there is a free port");
        let addr = listener.local_addr().expect("the socket is bound");
        let silences = Arc::new(Silences::default());
        let connections = Arc::new(Mutex::new(Vec::new()));
        let server = Arc::new(Mutex::new(server));
        let (seen, open, target) = (silences.clone(), connections.clone(), server.clone());
        thread::spawn(move || {
            for client in listener.incoming().flatten() {
                // Who cuts finds it, or it leads where those lead that come afterwards.
                let mut open = open.lock().unwrap_or_else(PoisonError::into_inner);
                let server = *target.lock().unwrap_or_else(PoisonError::into_inner);
                if let Ok(server) = TcpStream::connect(server) {
                    forward(&client, &server, seen.clone(), REQUESTS);
                    forward(&server, &client, seen.clone(), ANSWERS);
                    open.push(client);
                }
            }
        });
        Self { addr, server, silences, connections }
    }

    /// Where it listens.
    #[must_use]
    pub fn addr(&self) -> SocketAddr {
        self.addr
    }

    /// New connections lead to another server.
    pub fn lead_to(&self, server: SocketAddr) {
        *self.server.lock().unwrap_or_else(PoisonError::into_inner) = server;
    }

    /// From now on nothing passes on the connections that there are, and nobody is told. New ones work.
    pub fn silence(&self) {
        self.silence_requests();
        self.silence_answers();
    }

    /// The same of what goes to the server: it hears nothing, and what it says arrives.
    pub fn silence_requests(&self) {
        self.silences.add(REQUESTS);
    }

    /// The same of what comes from the server: it hears everything, and what it says does not arrive.
    pub fn silence_answers(&self) {
        self.silences.add(ANSWERS);
    }

    /// Breaks the connections that there are, wherever they stand. New ones work.
    pub fn cut(&self) {
        for connection in self.connections.lock().unwrap_or_else(PoisonError::into_inner).drain(..) {
            // It may have ended by itself.
            let _ = connection.shutdown(Shutdown::Both);
        }
    }
}

/// Forwards one direction of a connection, until it falls silent.
fn forward(from: &TcpStream, to: &TcpStream, silences: Arc<Silences>, direction: usize) {
    let born = silences.of(direction);
    let (Ok(mut from), Ok(mut to)) = (from.try_clone(), to.try_clone()) else { return };
    // Short enough to notice a silence soon.
    from.set_read_timeout(Some(Duration::from_millis(10))).expect("the limit is not zero");
    thread::spawn(move || {
        let mut buffer = [0; 65_536];
        loop {
            let read = from.read(&mut buffer);
            if silences.of(direction) > born {
                // Both ends stay open: whoever waits for an answer waits for ever.
                loop {
                    thread::park();
                }
            }
            match read {
                Ok(0) => break,
                Ok(read) if to.write_all(&buffer[..read]).is_err() => break,
                Err(error) if !matches!(error.kind(), ErrorKind::WouldBlock | ErrorKind::TimedOut) => break,
                Ok(_) | Err(_) => {}
            }
        }
        // The other direction ends too, and with it the connection.
        let _ = from.shutdown(Shutdown::Both);
        let _ = to.shutdown(Shutdown::Both);
    });
}
