//! Accepts connections and hands their sockets to the gateway.

use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use roomcast_shell::gateway::Gateway;
use socket2::{Domain, Protocol, SockRef, Type};
use tokio::net::{TcpListener, TcpStream};
use tracing::{debug, warn};

use crate::transport::Socket;

/// Connections that may wait to be accepted: a stampede after a restart must not be refused by the kernel.
const BACKLOG: i32 = 4096;
/// Bytes the kernel takes beyond what the peer's window allows. Without it, a reader that has died holds 4 MB of kernel
/// memory before its outbox even begins to fill.
const NOT_SENT_LOW_WATER: u32 = 128 * 1024;

/// Listens on an address.
///
/// # Errors
/// The address is in use or may not be used.
pub fn bind(address: SocketAddr) -> io::Result<TcpListener> {
    let socket = socket2::Socket::new(Domain::for_address(address), Type::STREAM, Some(Protocol::TCP))?;
    socket.set_reuse_address(true)?;
    socket.set_nonblocking(true)?;
    socket.bind(&address.into())?;
    socket.listen(BACKLOG)?;
    TcpListener::from_std(socket.into())
}

/// Accepts until the task is dropped.
pub async fn accept(listener: TcpListener, gateway: Arc<Gateway<Socket>>) {
    loop {
        match listener.accept().await {
            Ok((stream, _)) => match prepare(&stream) {
                Ok(()) => gateway.accept(Socket(stream), Vec::new()),
                Err(error) => debug!(%error, "a connection ended before it was served"),
            },
            Err(error) => {
                warn!(%error, "a connection could not be accepted");
                // Most likely there are no file descriptors left: give those who have them time to go.
                tokio::time::sleep(Duration::from_millis(50)).await;
            }
        }
    }
}

fn prepare(stream: &TcpStream) -> io::Result<()> {
    stream.set_nodelay(true)?;
    #[cfg(any(target_os = "linux", target_os = "android"))]
    SockRef::from(stream).set_tcp_notsent_lowat(NOT_SENT_LOW_WATER)?;
    Ok(())
}
