//! A blocking WebSocket client of the JSON dialect.

use std::collections::BTreeMap;
use std::io::ErrorKind;
use std::net::{SocketAddr, TcpStream};
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use jsonwebtoken::{Algorithm, EncodingKey, Header};
use serde_json::value::RawValue;
use serde_json::{Value, json};
use tungstenite::client::{ClientRequestBuilder, client_with_config};
use tungstenite::handshake::HandshakeError;
use tungstenite::http::Uri;
use tungstenite::protocol::{Message, WebSocket, WebSocketConfig};

use super::PATIENCE;

/// Where a client puts its token.
#[derive(Debug, Clone, Copy)]
pub enum Credential<'a> {
    /// Nowhere: the client is anonymous.
    None,
    /// `Sec-WebSocket-Protocol: access_token.<jwt>`, as browsers must.
    Protocol(&'a str),
    /// `?token=<jwt>` in the address.
    Query(&'a str),
    /// `Authorization: Bearer <jwt>`.
    Header(&'a str),
}

/// Why a handshake failed.
#[derive(Debug)]
pub struct Refused {
    /// The status of the answer, if the server answered in HTTP.
    pub status: Option<u16>,
    /// What went wrong, in words.
    pub message: String,
}

/// A WebSocket client that sends and receives JSON objects.
#[derive(Debug)]
pub struct JsonClient {
    socket: WebSocket<TcpStream>,
    /// How the connection ended, once it has.
    end: Option<End>,
    /// The last frames received, for the message of a failing test.
    recent: Vec<String>,
}

/// How a connection ended.
#[derive(Debug, Clone, PartialEq, Eq)]
enum End {
    /// With a close frame; the code, if it had one.
    Close(Option<u16>),
    /// Without one.
    Unclean(String),
}

impl JsonClient {
    /// Connects, with the token where the credential says.
    ///
    /// # Panics
    ///
    /// When the server refuses the handshake.
    #[must_use]
    pub fn connect(addr: SocketAddr, path: &str, credential: Credential<'_>) -> Self {
        Self::try_connect(addr, path, credential, &[]).unwrap_or_else(|refused| {
            panic!("the handshake on {path} failed: {}", refused.message);
        })
    }

    /// Connects with more header fields, such as `Origin`.
    ///
    /// # Errors
    ///
    /// When the server refuses the handshake.
    pub fn try_connect(
        addr: SocketAddr,
        path: &str,
        credential: Credential<'_>,
        headers: &[(&str, &str)],
    ) -> Result<Self, Refused> {
        let query = match credential {
            Credential::Query(token) if path.contains('?') => format!("&token={token}"),
            Credential::Query(token) => format!("?token={token}"),
            _ => String::new(),
        };
        let uri: Uri = format!("ws://{addr}{path}{query}").parse().expect("a valid path");
        let mut request = ClientRequestBuilder::new(uri);
        match credential {
            Credential::Protocol(token) => {
                request = request.with_sub_protocol(format!("access_token.{token}"));
            }
            Credential::Header(token) => {
                request = request.with_header("authorization", format!("Bearer {token}"));
            }
            Credential::None | Credential::Query(_) => {}
        }
        for &(name, value) in headers {
            request = request.with_header(name, value);
        }
        let stream =
            open(addr).map_err(|error| Refused { status: None, message: format!("cannot connect to {addr}: {error}") })?;
        // The default takes 128 KiB a client, which tells when a test has thousands.
        let config = WebSocketConfig::default().read_buffer_size(4096);
        match client_with_config(request, stream, Some(config)) {
            Ok((socket, _response)) => Ok(Self { socket, end: None, recent: Vec::new() }),
            Err(error) => Err(refused(&error)),
        }
    }

    /// Sends one JSON object as a text frame.
    ///
    /// # Panics
    ///
    /// When the connection is gone.
    pub fn send(&mut self, frame: &Value) {
        self.send_text(&frame.to_string());
    }

    /// Sends any text, valid JSON or not.
    ///
    /// # Panics
    ///
    /// As [`JsonClient::send`].
    pub fn send_text(&mut self, text: &str) {
        self.send_message(Message::text(text));
    }

    /// Sends any WebSocket message.
    ///
    /// # Panics
    ///
    /// As [`JsonClient::send`].
    pub fn send_message(&mut self, message: Message) {
        if let Err(error) = self.socket.send(message) {
            panic!("cannot send ({error}); {}", self.history());
        }
    }

    /// The next text frame, as JSON.
    ///
    /// # Panics
    ///
    /// When none comes in time, or it is not JSON.
    pub fn next(&mut self, within: Duration) -> Value {
        let text = self.next_text(within);
        serde_json::from_str(&text).unwrap_or_else(|error| panic!("not JSON ({error}): {text}"))
    }

    /// The next text frame, byte for byte.
    ///
    /// # Panics
    ///
    /// When none comes in time.
    pub fn next_text(&mut self, within: Duration) -> String {
        match self.try_next_text(within) {
            Some(text) => text,
            None => panic!("no frame within {within:?}; {}", self.history()),
        }
    }

    /// The next text frame, or `None` when the time is over or the connection has ended.
    pub fn try_next_text(&mut self, within: Duration) -> Option<String> {
        let deadline = Instant::now() + within;
        loop {
            match self.read(deadline)? {
                Message::Text(text) => {
                    const KEPT: usize = 20;
                    if self.recent.len() == KEPT {
                        self.recent.remove(0);
                    }
                    self.recent.push(text.to_string());
                    return Some(text.to_string());
                }
                Message::Binary(bytes) => {
                    panic!("a binary frame of {} bytes; {}", bytes.len(), self.history())
                }
                // Pings are answered by the library.
                Message::Ping(_) | Message::Pong(_) | Message::Close(_) | Message::Frame(_) => {}
            }
        }
    }

    /// The next text frame, which must have this type.
    ///
    /// # Panics
    ///
    /// When none comes in time, or it has another type.
    pub fn expect_type(&mut self, kind: &str) -> Value {
        let frame = self.next(PATIENCE);
        assert_eq!(frame["type"], kind, "the frame is {frame}; {}", self.history());
        frame
    }

    /// Reads on until a frame of this type comes, over frames of other types.
    ///
    /// # Panics
    ///
    /// When none comes in time.
    pub fn wait_for_type(&mut self, kind: &str, within: Duration) -> Value {
        let deadline = Instant::now() + within;
        loop {
            let frame = self.next(deadline.saturating_duration_since(Instant::now()));
            if frame["type"] == kind {
                return frame;
            }
        }
    }

    /// Subscribes to a room (B's frame) and returns the data of the reply.
    ///
    /// # Panics
    ///
    /// When the reply is not `subscribed`.
    pub fn subscribe(&mut self, room: &str) -> Value {
        self.send(&json!({"type": "subscription", "data": {"action": "subscribe", "room": room}}));
        self.expect_type("subscribed")["data"].take()
    }

    /// Reads on until the connection ends and returns the close code, or `None` if it was cut
    /// without a close frame or with one that has no code.
    ///
    /// # Panics
    ///
    /// When it does not end in time.
    pub fn close_code(&mut self, within: Duration) -> Option<u16> {
        match self.wait_for_end(within) {
            End::Close(code) => code,
            End::Unclean(_) => None,
        }
    }

    /// Reads on until the connection ends and tells whether it was cut without a close frame.
    ///
    /// # Panics
    ///
    /// When it does not end in time.
    pub fn is_cut(&mut self, within: Duration) -> bool {
        matches!(self.wait_for_end(within), End::Unclean(_))
    }

    /// Closes the connection in order.
    pub fn close(mut self) {
        // It may be closed already, which is as good.
        let _ = self.socket.close(None);
        let _ = self.socket.flush();
    }

    fn wait_for_end(&mut self, within: Duration) -> End {
        let deadline = Instant::now() + within;
        while self.read(deadline).is_some() {}
        match &self.end {
            Some(end) => end.clone(),
            None => panic!("the connection is still open after {within:?}; {}", self.history()),
        }
    }

    /// The next message of any kind; `None` at the deadline and at the end.
    fn read(&mut self, deadline: Instant) -> Option<Message> {
        loop {
            if self.end.is_some() {
                return None;
            }
            let left = deadline.saturating_duration_since(Instant::now());
            let stream = self.socket.get_ref();
            // A time limit of zero would mean none; what has arrived is read even at the deadline.
            stream.set_read_timeout(Some(left.max(Duration::from_millis(1)))).expect("the limit is not zero");
            match self.socket.read() {
                Ok(Message::Close(frame)) => {
                    self.end = Some(End::Close(frame.map(|frame| frame.code.into())));
                    // The library has queued the reply; the server may be gone, which is as good.
                    let _ = self.socket.flush();
                }
                Ok(message) => return Some(message),
                Err(tungstenite::Error::Io(error)) if matches!(error.kind(), ErrorKind::WouldBlock | ErrorKind::TimedOut) => {
                    if Instant::now() >= deadline {
                        return None;
                    }
                }
                Err(error) => {
                    self.end = Some(End::Unclean(error.to_string()));
                }
            }
        }
    }

    fn history(&self) -> String {
        let end = match &self.end {
            None => "the connection is open".to_owned(),
            Some(end) => format!("the connection has ended: {end:?}"),
        };
        format!("{end}; received before:\n{}", self.recent.join("\n"))
    }
}

/// A top-level field of a JSON object, byte for byte as it is written there.
///
/// # Panics
///
/// When the text is not an object or has no such field.
#[must_use]
pub fn raw_field(text: &str, name: &str) -> String {
    let fields: BTreeMap<String, Box<RawValue>> =
        serde_json::from_str(text).unwrap_or_else(|error| panic!("not an object ({error}): {text}"));
    fields.get(name).unwrap_or_else(|| panic!("no {name} in {text}")).get().to_owned()
}

/// An HS256 token with exactly these claims.
///
/// # Panics
///
/// When the claims are not a JSON object.
#[must_use]
pub fn token(secret: &str, claims: &Value) -> String {
    assert!(claims.is_object(), "claims are an object, not {claims}");
    let key = EncodingKey::from_secret(secret.as_bytes());
    jsonwebtoken::encode(&Header::new(Algorithm::HS256), claims, &key).expect("claims can be signed")
}

/// An access token of a user, good for an hour, with more claims laid over the usual ones.
///
/// # Panics
///
/// When the claims are not a JSON object.
#[must_use]
pub fn access_token(secret: &str, user: &str, more: &Value) -> String {
    let mut claims = json!({
        "sub": user,
        "email": format!("{user}@example.com"),
        "role": "user",
        "token_type": "access",
        "iat": unix_time(),
        "exp": unix_time() + 3600,
    });
    for (name, value) in more.as_object().expect("claims are an object") {
        claims[name] = value.clone();
    }
    token(secret, &claims)
}

/// Seconds since 1970, for the claims of a token.
///
/// # Panics
///
/// When the clock stands before 1970.
#[must_use]
pub fn unix_time() -> u64 {
    SystemTime::now().duration_since(UNIX_EPOCH).expect("the clock is right").as_secs()
}

fn open(addr: SocketAddr) -> std::io::Result<TcpStream> {
    let stream = TcpStream::connect_timeout(&addr, PATIENCE)?;
    stream.set_nodelay(true)?;
    stream.set_read_timeout(Some(PATIENCE))?;
    stream.set_write_timeout(Some(PATIENCE))?;
    Ok(stream)
}

fn refused<Role: tungstenite::handshake::HandshakeRole>(error: &HandshakeError<Role>) -> Refused {
    let status = match error {
        HandshakeError::Failure(tungstenite::Error::Http(response)) => Some(response.status().as_u16()),
        _ => None,
    };
    Refused { status, message: error.to_string() }
}

#[cfg(test)]
mod tests {
    use std::net::TcpListener;
    use std::thread;

    use jsonwebtoken::{DecodingKey, Validation, decode};
    use tungstenite::handshake::server::{ErrorResponse, Request, Response};
    use tungstenite::protocol::CloseFrame;

    use super::*;

    /// Serves one WebSocket; a token is echoed as PROTOCOL.md asks. The first frame names the request's
    /// address, authorization and protocol; what follows is up to `serve`.
    fn server(serve: fn(WebSocket<TcpStream>)) -> SocketAddr {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let addr = listener.local_addr().unwrap();
        thread::spawn(move || {
            let stream = listener.accept().unwrap().0;
            let mut seen = Value::Null;
            #[expect(clippy::result_large_err, reason = "the library wants this signature")]
            let look = |request: &Request, mut response: Response| -> Result<_, ErrorResponse> {
                let field = |name: &str| request.headers().get(name).map(|value| value.to_str().unwrap());
                if let Some(protocol) = request.headers().get("sec-websocket-protocol") {
                    response.headers_mut().insert("sec-websocket-protocol", protocol.clone());
                }
                seen = json!({
                    "uri": request.uri().to_string(),
                    "authorization": field("authorization"),
                    "protocol": field("sec-websocket-protocol"),
                });
                if request.uri().path() == "/forbidden" {
                    return Err(Response::builder().status(403).body(None).unwrap());
                }
                Ok(response)
            };
            if let Ok(mut socket) = tungstenite::accept_hdr(stream, look) {
                socket.send(Message::text(json!({"type": "seen", "data": seen}).to_string())).unwrap();
                serve(socket);
            }
        });
        addr
    }

    /// Echoes until the client closes.
    fn echo(mut socket: WebSocket<TcpStream>) {
        while let Ok(message) = socket.read() {
            if message.is_text() {
                socket.send(message).unwrap();
            }
        }
    }

    #[test]
    fn the_token_goes_where_the_credential_says() {
        let seen = |credential| {
            let mut client = JsonClient::connect(server(echo), "/ws?a=1", credential);
            client.expect_type("seen")["data"].take()
        };
        assert_eq!(seen(Credential::None), json!({"uri": "/ws?a=1", "authorization": null, "protocol": null}));
        assert_eq!(seen(Credential::Protocol("t"))["protocol"], "access_token.t");
        assert_eq!(seen(Credential::Query("t"))["uri"], "/ws?a=1&token=t");
        assert_eq!(seen(Credential::Header("t"))["authorization"], "Bearer t");
    }

    #[test]
    fn frames_are_sent_and_received_and_silence_is_noticed() {
        let mut client = JsonClient::connect(server(echo), "/ws", Credential::None);
        client.send(&json!({"type": "ping"}));
        client.send_text("{ \"type\" : 1 }");
        client.wait_for_type("ping", PATIENCE);
        assert_eq!(client.next_text(PATIENCE), "{ \"type\" : 1 }");
        assert_eq!(client.try_next_text(Duration::from_millis(30)), None);
        client.send(&json!({"type": "after"}));
        client.expect_type("after");
    }

    #[test]
    fn the_close_code_comes_after_the_frames_before_it() {
        let addr = server(|mut socket| {
            socket.send(Message::text("{}")).unwrap();
            let frame = CloseFrame { code: 4008.into(), reason: "slow consumer".into() };
            socket.close(Some(frame)).unwrap();
            // The reply proves that the client answers a close.
            assert!(matches!(socket.read(), Ok(Message::Close(Some(_)))));
        });
        let mut client = JsonClient::connect(addr, "/ws", Credential::None);
        assert_eq!(client.close_code(PATIENCE), Some(4008));
        assert!(!client.is_cut(PATIENCE));
        assert_eq!(client.try_next_text(PATIENCE), None);
    }

    #[test]
    fn a_cut_connection_has_no_close_code() {
        let mut client = JsonClient::connect(server(drop), "/ws", Credential::None);
        assert!(client.is_cut(PATIENCE));
        assert_eq!(client.close_code(PATIENCE), None);
    }

    #[test]
    fn a_refused_handshake_has_its_status() {
        let addr = server(echo);
        let refused = JsonClient::try_connect(addr, "/forbidden", Credential::None, &[]).unwrap_err();
        assert_eq!(refused.status, Some(403), "{}", refused.message);
    }

    #[test]
    fn a_raw_field_is_as_it_was_written() {
        assert_eq!(raw_field("{\"type\":\"x\", \"data\" : {\"b\": 1.0,  \"a\":null} }", "data"), "{\"b\": 1.0,  \"a\":null}");
    }

    #[test]
    fn tokens_are_signed_and_carry_the_claims() {
        let token = access_token("secret", "u-1", &json!({"role": "admin"}));
        let key = DecodingKey::from_secret(b"secret");
        let claims = decode::<Value>(&token, &key, &Validation::default()).unwrap().claims;
        assert_eq!(claims["sub"], "u-1");
        assert_eq!(claims["role"], "admin");
        assert_eq!(claims["token_type"], "access");
        let wrong = DecodingKey::from_secret(b"another");
        assert!(decode::<Value>(&token, &wrong, &Validation::default()).is_err());
    }
}
