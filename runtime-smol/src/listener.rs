//! Accepts connections and hands their sockets to the gateway.

use std::net::TcpListener;
use std::sync::Arc;
use std::time::Duration;

use roomcast_shell::listen;
use roomcast_shell::tls::{Stream, TlsAcceptor};
use smol::{Async, Timer};
use tracing::{debug, warn};

use crate::gateway::Gateway;
use crate::transport::Socket;

/// Accepts until the task is dropped.
pub async fn accept(listener: Async<TcpListener>, gateway: Arc<Gateway>, tls: Option<TlsAcceptor>) {
    loop {
        // There may be more and more of them: between two, everybody else gets their turn.
        smol::future::yield_now().await;
        match listener.accept().await {
            Ok((stream, peer)) => match listen::prepare(&stream).and_then(|()| Stream::accepted(Socket(stream), tls.as_ref())) {
                Ok(stream) => gateway.accept(stream, Vec::new(), Some(peer.ip())),
                Err(error) => debug!(%error, "a connection ended before it was served"),
            },
            Err(error) => {
                warn!(%error, "a connection could not be accepted");
                // Most likely there are no file descriptors left: give those who have them time to go.
                Timer::after(Duration::from_millis(50)).await;
            }
        }
    }
}
