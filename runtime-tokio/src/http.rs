//! Plain HTTP, served by hyper behind the shard: the shard has read the request head and found that it is not for a WebSocket.

use std::convert::Infallible;
use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use bytes::Bytes;
use http::{Request, Response, StatusCode};
use http_body_util::{BodyExt as _, Full, Limited};
use hyper::body::Incoming;
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper_util::rt::{TokioIo, TokioTimer};
use roomcast_core::http::{MOST_BODY, error};
use roomcast_shell::gateway::Gateway;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::TcpStream;
use tracing::debug;

use crate::transport::Socket;

/// How long a client may take for a request head on a connection that is kept alive.
const HEAD_TIMEOUT: Duration = Duration::from_secs(10);
/// How long it may take for a body.
const BODY_TIMEOUT: Duration = Duration::from_secs(30);

/// Serves a socket of which `read` has been read already, in a task of its own.
pub fn serve(gateway: &Arc<Gateway<Socket>>, socket: Socket, read: Vec<u8>) {
    let gateway = gateway.clone();
    let service = service_fn(move |request| answer(gateway.clone(), request));
    let io = TokioIo::new(Prefixed { read: read.into(), io: socket.0 });
    let mut server = http1::Builder::new();
    server.timer(TokioTimer::new()).header_read_timeout(HEAD_TIMEOUT);
    tokio::spawn(async move {
        if let Err(error) = server.serve_connection(io, service).await {
            debug!(%error, "an HTTP connection ended early");
        }
    });
}

async fn answer(gateway: Arc<Gateway<Socket>>, request: Request<Incoming>) -> Result<Response<Full<Bytes>>, Infallible> {
    let (head, body) = request.into_parts();
    let body = tokio::time::timeout(BODY_TIMEOUT, Limited::new(body, MOST_BODY).collect()).await;
    let response = match body {
        Ok(Ok(body)) => gateway.respond(Request::from_parts(head, body.to_bytes())).await,
        Ok(Err(_)) => error(StatusCode::PAYLOAD_TOO_LARGE, "too_large", "The body is too long or was cut off"),
        Err(_) => error(StatusCode::REQUEST_TIMEOUT, "timeout", "The body took too long"),
    };
    Ok(response.map(Full::new))
}

/// A socket that first gives back what was read of it.
struct Prefixed {
    read: Bytes,
    io: TcpStream,
}

impl AsyncRead for Prefixed {
    fn poll_read(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buffer: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        if self.read.is_empty() {
            return Pin::new(&mut self.io).poll_read(cx, buffer);
        }
        let length = self.read.len().min(buffer.remaining());
        buffer.put_slice(&self.read.split_to(length));
        Poll::Ready(Ok(()))
    }
}

impl AsyncWrite for Prefixed {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.io).poll_write(cx, bytes)
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.io).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.io).poll_shutdown(cx)
    }
}
