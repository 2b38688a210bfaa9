//! A WebSocket client that blocks.

use std::io::{ErrorKind, Read as _, Write as _};
use std::net::{SocketAddr, TcpStream};

use serde_json::{Value, json};
use socket2::SockRef;
use tungstenite::protocol::frame::Frame;
use tungstenite::protocol::frame::coding::{Data, OpCode};
use tungstenite::protocol::{Role, WebSocketConfig};
use tungstenite::{Message, WebSocket};

use super::patience::PATIENCE;

/// A client of a gateway. Whatever it waits for in vain ends the case.
pub(super) struct Client {
    socket: WebSocket<TcpStream>,
}

impl Client {
    /// Connects to a path.
    pub(super) fn connect(address: SocketAddr, path: &str) -> Client {
        let mut stream = connect(address);
        stream.write_all(&request(path)).expect("a request can be sent");
        Client::upgrade(stream)
    }

    /// Connects to a path and joins a room.
    pub(super) fn member(address: SocketAddr, path: &str, room: &str) -> Client {
        let mut client = Client::connect(address, path);
        client.send(&json!({ "type": "subscribe", "room": room }).to_string());
        let answer = client.json();
        assert_eq!(answer["type"], "subscribed", "{answer}");
        client
    }

    /// A client from a connection on which the request has been sent.
    pub(super) fn upgrade(mut stream: TcpStream) -> Client {
        const END: &[u8] = b"\r\n\r\n";
        let mut answer = Vec::new();
        let end = loop {
            if let Some(end) = answer.windows(END.len()).position(|bytes| bytes == END) {
                break end + END.len();
            }
            let mut buffer = [0; 1024];
            let read = stream.read(&mut buffer).expect("the request is answered");
            assert!(read > 0, "the request is refused with {:?}", String::from_utf8_lossy(&answer));
            answer.extend_from_slice(&buffer[..read]);
        };
        let rest = answer.split_off(end);
        let answer = String::from_utf8_lossy(&answer);
        assert!(answer.starts_with("HTTP/1.1 101 ") && answer.contains(ACCEPT), "{answer:?}");
        // The default buffer takes 128 KiB, which tells where there are thousands of clients.
        let config = WebSocketConfig::default().read_buffer_size(4096).max_message_size(None).max_frame_size(None);
        Client { socket: WebSocket::from_partially_read(stream, rest, Role::Client, Some(config)) }
    }

    /// Lets the kernel keep little of what the client has not read, so that it has to wait at the gateway.
    pub(super) fn leave_it_to_the_gateway(&self) {
        SockRef::from(self.socket.get_ref()).set_recv_buffer_size(64 << 10).expect("a buffer can be set");
    }

    /// Sends a text message.
    pub(super) fn send(&mut self, text: &str) {
        self.socket.send(Message::text(text)).expect("a message can be sent");
    }

    /// The next text message.
    pub(super) fn text(&mut self) -> String {
        match self.message() {
            Message::Text(text) => text.as_str().into(),
            other => panic!("not a text message: {other:?}"),
        }
    }

    /// The next message of the JSON dialect.
    pub(super) fn json(&mut self) -> Value {
        let text = self.text();
        serde_json::from_str(&text).unwrap_or_else(|error| panic!("{error}: {text}"))
    }

    /// The data of the next message.
    pub(super) fn data(&mut self) -> Value {
        self.json()["data"].take()
    }

    /// Reads to the end: the data of all messages, and the code with which the connection is closed.
    pub(super) fn into_end(mut self) -> (Vec<Value>, u16) {
        let mut data = Vec::new();
        loop {
            match self.message() {
                Message::Text(text) => {
                    let mut message: Value = serde_json::from_str(&text).expect("messages are JSON");
                    data.push(message["data"].take());
                }
                Message::Close(Some(frame)) => {
                    // Our answer, and the server's end of the connection.
                    while self.socket.read().is_ok() {}
                    return (data, frame.code.into());
                }
                other => panic!("neither a text message nor a close with a code: {other:?}"),
            }
        }
    }

    fn message(&mut self) -> Message {
        loop {
            match self.socket.read() {
                Ok(Message::Ping(_) | Message::Pong(_)) => {}
                Ok(message) => return message,
                Err(tungstenite::Error::Io(error)) if matches!(error.kind(), ErrorKind::WouldBlock | ErrorKind::TimedOut) => {
                    panic!("no message came in {PATIENCE:?}");
                }
                Err(error) => panic!("the connection has ended: {error}"),
            }
        }
    }
}

/// The accepted key of [`request`]; both are the example of RFC 6455, section 1.3.
const ACCEPT: &str = "s3pPLMBiTxaQ9kYGzzhZRbK+xOo=";

/// A connection on which nothing has been sent.
pub(super) fn connect(address: SocketAddr) -> TcpStream {
    let stream = TcpStream::connect(address).expect("the gateway listens");
    stream.set_nodelay(true).expect("a delay can be switched off");
    stream.set_read_timeout(Some(PATIENCE)).expect("a time-out can be set");
    stream.set_write_timeout(Some(PATIENCE)).expect("a time-out can be set");
    stream
}

/// The request for a WebSocket on a path.
pub(super) fn request(path: &str) -> Vec<u8> {
    format!(
        "GET {path} HTTP/1.1\r\nHost: roomcast\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\
         Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n"
    )
    .into_bytes()
}

/// The frame of a text message, as a client sends it.
pub(super) fn frame(text: &str) -> Vec<u8> {
    let mut frame = Frame::message(text.to_owned(), OpCode::Data(Data::Text), true);
    frame.header_mut().mask = Some([0x5a, 0xa5, 0x3c, 0xc3]);
    let mut bytes = Vec::new();
    frame.format(&mut bytes).expect("memory can be written to");
    bytes
}
