//! Connections to Redis.

use std::io;

use redis::ConnectionAddr;
use roomcast_shell::lanes::Connecting;
use roomcast_shell::listen;
use roomcast_shell::transport::Transport;
use tokio::net::{TcpStream, UnixStream};

use crate::transport::Socket;

/// Opens a connection to a server.
pub fn connect(address: &ConnectionAddr) -> Connecting {
    match address.clone() {
        ConnectionAddr::Tcp(host, port) => Box::pin(async move {
            let stream = TcpStream::connect((host, port)).await?;
            listen::prepare_client(&stream)?;
            Ok(Box::new(Socket(stream)) as Box<dyn Transport>)
        }),
        ConnectionAddr::Unix(path) => {
            Box::pin(async move { Ok(Box::new(Socket(UnixStream::connect(path).await?)) as Box<dyn Transport>) })
        }
        // An address is of no other kind.
        _ => Box::pin(async { Err(io::ErrorKind::Unsupported.into()) }),
    }
}
