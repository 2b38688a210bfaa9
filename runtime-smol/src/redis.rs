//! Connections to Redis.

use std::io;
use std::net::TcpStream;
use std::os::unix::net::UnixStream;

use redis::ConnectionAddr;
use roomcast_shell::lanes::Connecting;
use roomcast_shell::listen;
use roomcast_shell::transport::Transport;
use smol::{Async, net};

use crate::transport::Socket;

/// Opens a connection to a server.
pub fn connect(address: &ConnectionAddr) -> Connecting {
    match address.clone() {
        ConnectionAddr::Tcp(host, port) => Box::pin(async move {
            let mut failed = io::ErrorKind::NotFound.into();
            for address in net::resolve((host, port)).await? {
                match Async::<TcpStream>::connect(address).await {
                    Ok(stream) => {
                        listen::prepare_client(&stream)?;
                        return Ok(Box::new(Socket(stream)) as Box<dyn Transport>);
                    }
                    Err(error) => failed = error,
                }
            }
            Err(failed)
        }),
        ConnectionAddr::Unix(path) => {
            Box::pin(async move { Ok(Box::new(Socket(Async::<UnixStream>::connect(path).await?)) as Box<dyn Transport>) })
        }
        // An address is of no other kind.
        _ => Box::pin(async { Err(io::ErrorKind::Unsupported.into()) }),
    }
}
