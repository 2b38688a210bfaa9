//! Accepts connections and hands their sockets to the gateway.

use std::sync::Arc;
use std::time::Duration;

use roomcast_shell::listen;
use roomcast_shell::tls::TlsAcceptor;
use tokio::net::TcpListener;
use tracing::warn;

use crate::gateway::Gateway;
use crate::transport::Socket;

/// Accepts until the task is dropped.
pub async fn accept(listener: TcpListener, gateway: Arc<Gateway>, tls: Option<TlsAcceptor>) {
    loop {
        // There may be more and more of them: between two, everybody else gets their turn.
        tokio::task::yield_now().await;
        match listener.accept().await {
            Ok(accepted) => listen::hand_over(&gateway, accepted, tls.as_ref(), |socket| Ok(Socket(socket))),
            Err(error) => {
                warn!(%error, "a connection could not be accepted");
                // Most likely there are no file descriptors left: give those who have them time to go.
                tokio::time::sleep(Duration::from_millis(50)).await;
            }
        }
    }
}
