//! Sockets as the gateway wants them, before a runtime gets them.

use std::io;
use std::net::{SocketAddr, TcpListener};
#[cfg(unix)]
use std::os::fd::AsFd as AsSocket;
#[cfg(windows)]
use std::os::windows::io::AsSocket;

use std::time::Duration;

use socket2::{Domain, Protocol, SockRef, Socket, TcpKeepalive, Type};
use tracing::debug;

use crate::gateway::Gateway;
use crate::tls::{Stream, TlsAcceptor};
use crate::transport::Transport;

/// Connections that may wait to be accepted: a stampede after a restart must not be refused by the kernel.
const BACKLOG: i32 = 4096;
/// Bytes the kernel takes beyond what the peer's window allows. Without it, a reader that has died holds 4 MB of kernel
/// memory before its outbox even begins to fill.
const NOT_SENT_LOW_WATER: u32 = 128 * 1024;

/// Listens on an address, without blocking.
///
/// # Errors
/// The address is in use or may not be used.
pub fn bind(address: SocketAddr) -> io::Result<TcpListener> {
    let socket = Socket::new(Domain::for_address(address), Type::STREAM, Some(Protocol::TCP))?;
    socket.set_reuse_address(true)?;
    socket.set_nonblocking(true)?;
    socket.bind(&address.into())?;
    socket.listen(BACKLOG)?;
    Ok(socket.into())
}

/// Hands a socket that was accepted to a gateway, with `register` to make it what the runtime serves. Whoever is not let in is not worth
/// that.
pub fn hand_over<S: AsSocket, T: Transport>(
    gateway: &Gateway<Stream<T>>,
    (socket, peer): (S, SocketAddr),
    tls: Option<&TlsAcceptor>,
    register: impl FnOnce(S) -> io::Result<T>,
) {
    match gateway.admit(Some(peer.ip())) {
        Ok(guest) => match prepare(&socket).and_then(|()| Stream::accepted(register(socket)?, tls)) {
            Ok(stream) => gateway.serve(stream, Vec::new(), guest),
            Err(error) => debug!(%error, "a connection ended before it was served"),
        },
        // What is said in the clear is nothing that TLS would understand.
        Err(turned_away) if tls.is_none() => turned_away.tell_socket(SockRef::from(&socket)),
        Err(_) => {}
    }
}

/// Prepares a socket that was accepted: no delay, and little that the kernel takes in advance.
///
/// # Errors
/// The connection has ended already.
pub fn prepare(socket: &impl AsSocket) -> io::Result<()> {
    let socket = SockRef::from(socket);
    socket.set_tcp_nodelay(true)?;
    #[cfg(any(target_os = "linux", target_os = "android"))]
    socket.set_tcp_notsent_lowat(NOT_SENT_LOW_WATER)?;
    Ok(())
}

/// Prepares a socket to a server of ours: no delay, and a peer that has silently gone is noticed even while nothing is asked.
///
/// # Errors
/// The connection has ended already.
pub fn prepare_client(socket: &impl AsSocket) -> io::Result<()> {
    const SILENCE: Duration = Duration::from_secs(30);
    let socket = SockRef::from(socket);
    socket.set_tcp_nodelay(true)?;
    socket.set_tcp_keepalive(&TcpKeepalive::new().with_time(SILENCE).with_interval(SILENCE / 3))?;
    #[cfg(any(target_os = "linux", target_os = "android"))]
    socket.set_tcp_user_timeout(Some(2 * SILENCE))?;
    Ok(())
}
