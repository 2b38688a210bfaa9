//! Plain HTTP, served by hyper behind the shard: the shard has read the request head and found that it is not for a WebSocket.

use std::convert::Infallible;
use std::future;
use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use bytes::Bytes;
use http::{Request, Response, StatusCode};
use http_body_util::{BodyExt as _, Full, Limited};
use hyper::body::Incoming;
use hyper::server::conn::http1::{self, Parts};
use hyper::service::service_fn;
use hyper_util::rt::{TokioIo, TokioTimer};
use roomcast_core::http::{MOST_BODY, error};
use roomcast_shell::handshake::is_upgrade;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::TcpStream;
use tokio::sync::mpsc;
use tracing::debug;

use crate::gateway::Gateway;
use crate::transport::Socket;

/// How long a client may take for a request head on a connection that is kept alive.
const HEAD_TIMEOUT: Duration = Duration::from_secs(10);
/// How long it may take for a body.
const BODY_TIMEOUT: Duration = Duration::from_secs(30);

/// Serves a socket of which `read` has been read already, in a task of its own.
pub fn serve(gateway: &Arc<Gateway>, socket: Socket<TcpStream>, read: Vec<u8>) {
    let gateway = gateway.clone();
    let io = TokioIo::new(Prefixed { read: read.into(), io: socket.0 });
    let mut server = http1::Builder::new();
    server.timer(TokioTimer::new()).header_read_timeout(HEAD_TIMEOUT);
    tokio::spawn(async move {
        let (upgrade, mut upgrades) = mpsc::channel(1);
        let answering = gateway.clone();
        let service = service_fn(move |request| serve_one(answering.clone(), upgrade.clone(), request));
        let mut connection = server.serve_connection(io, service);
        let head = tokio::select! {
            ended = &mut connection => {
                if let Err(error) = ended {
                    debug!(%error, "an HTTP connection ended early");
                }
                return;
            }
            Some(head) = upgrades.recv() => head,
        };
        let Parts { io, read_buf, .. } = connection.into_parts();
        let Prefixed { read, io } = io.into_inner();
        gateway.accept(Socket(io), [&head[..], &read_buf, &read].concat());
    });
}

/// Answers a request, or gives the connection back to a shard where it asks for a WebSocket: a reverse proxy that keeps
/// connections open may use one for plain HTTP first.
async fn serve_one(
    gateway: Arc<Gateway>,
    upgrade: mpsc::Sender<Vec<u8>>,
    request: Request<Incoming>,
) -> Result<Response<Full<Bytes>>, Infallible> {
    // The receiver is there for as long as this connection is.
    if is_upgrade(&request) && upgrade.send(head_of(&request)).await.is_ok() {
        return future::pending().await;
    }
    answer(gateway, request).await
}

/// The request head, as it may have arrived.
fn head_of(request: &Request<Incoming>) -> Vec<u8> {
    let mut head = format!("{} {} {:?}\r\n", request.method(), request.uri(), request.version()).into_bytes();
    for (name, value) in request.headers() {
        head.extend([name.as_str().as_bytes(), b": ", value.as_bytes(), b"\r\n"].concat());
    }
    head.extend(b"\r\n");
    head
}

async fn answer(gateway: Arc<Gateway>, request: Request<Incoming>) -> Result<Response<Full<Bytes>>, Infallible> {
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
