//! A minimal HTTP/1.1 client: one request, one connection, the whole answer.

use std::io::{Read as _, Write as _};
use std::net::{SocketAddr, TcpStream};

use serde_json::Value;

use super::PATIENCE;

/// An answer to a request.
#[derive(Debug, Clone)]
pub struct Response {
    /// The status code.
    pub status: u16,
    /// The header fields in their order; names in lower case.
    pub headers: Vec<(String, String)>,
    /// The body, with any chunking removed.
    pub body: Vec<u8>,
}

impl Response {
    /// The first header field of that name.
    #[must_use]
    pub fn header(&self, name: &str) -> Option<&str> {
        self.headers.iter().find(|(known, _)| known.eq_ignore_ascii_case(name)).map(|(_, value)| value.as_str())
    }

    /// The body as text.
    #[must_use]
    pub fn text(&self) -> String {
        String::from_utf8_lossy(&self.body).into_owned()
    }

    /// The body as JSON.
    ///
    /// # Panics
    ///
    /// When it is none.
    #[must_use]
    pub fn json(&self) -> Value {
        serde_json::from_slice(&self.body).unwrap_or_else(|error| panic!("not JSON ({error}): {}", self.text()))
    }
}

/// Sends one request and reads the whole answer.
///
/// # Panics
///
/// When the server cannot be reached, takes too long, or does not speak HTTP.
pub fn http(method: &str, addr: SocketAddr, path: &str, headers: &[(&str, &str)], body: &[u8]) -> Response {
    try_http(method, addr, path, headers, body).unwrap_or_else(|error| panic!("{method} {path} to {addr}: {error}"))
}

/// As [`http()`], for a server that may not be there.
///
/// # Errors
///
/// A description of what went wrong.
pub fn try_http(method: &str, addr: SocketAddr, path: &str, headers: &[(&str, &str)], body: &[u8]) -> Result<Response, String> {
    exchange(addr, &request(method, addr, path, headers, body))
        .map_err(|error| error.to_string())
        .and_then(|(answer, ended)| parse(method, &answer, ended))
}

fn request(method: &str, addr: SocketAddr, path: &str, headers: &[(&str, &str)], body: &[u8]) -> Vec<u8> {
    let mut head = format!("{method} {path} HTTP/1.1\r\nhost: {addr}\r\nconnection: close\r\n");
    for (name, value) in headers {
        head.push_str(&format!("{name}: {value}\r\n"));
    }
    if !body.is_empty() || !matches!(method, "GET" | "HEAD") {
        head.push_str(&format!("content-length: {}\r\n", body.len()));
    }
    head.push_str("\r\n");
    [head.as_bytes(), body].concat()
}

/// Returns the bytes of the answer, and the error that ended them if the server did not close in order.
fn exchange(addr: SocketAddr, request: &[u8]) -> std::io::Result<(Vec<u8>, Option<std::io::Error>)> {
    let mut stream = TcpStream::connect_timeout(&addr, PATIENCE)?;
    stream.set_read_timeout(Some(PATIENCE))?;
    stream.set_write_timeout(Some(PATIENCE))?;
    // A server that refuses a large body answers and closes before it has read all of it.
    let sent = stream.write_all(request);
    let mut answer = Vec::new();
    let ended = stream.read_to_end(&mut answer).err();
    if answer.is_empty() {
        sent?;
    }
    Ok((answer, ended))
}

pub(super) fn parse(method: &str, answer: &[u8], ended: Option<std::io::Error>) -> Result<Response, String> {
    let cut = |what: &str| {
        let cause = ended.as_ref().map_or("the connection closed".to_owned(), ToString::to_string);
        format!("{what} is incomplete ({cause}): {:?}", String::from_utf8_lossy(answer))
    };
    let mut fields = [httparse::EMPTY_HEADER; 64];
    let mut head = httparse::Response::new(&mut fields);
    let httparse::Status::Complete(length) = head.parse(answer).map_err(|error| format!("not HTTP: {error}"))? else {
        return Err(cut("the head"));
    };
    let mut response = Response {
        status: head.code.unwrap_or_default(),
        headers: head
            .headers
            .iter()
            .map(|field| {
                let value = String::from_utf8_lossy(field.value).into_owned();
                (field.name.to_ascii_lowercase(), value)
            })
            .collect(),
        body: Vec::new(),
    };
    let rest = &answer[length..];
    let chunked = response.header("transfer-encoding").is_some_and(|coding| coding.to_ascii_lowercase().contains("chunked"));
    let announced = response.header("content-length").and_then(|length| length.parse().ok());
    response.body = match announced {
        // An answer to HEAD announces a body and has none.
        _ if method == "HEAD" => Vec::new(),
        _ if chunked => unchunk(rest).ok_or_else(|| cut("the chunked body"))?,
        Some(length) => rest.get(..length).ok_or_else(|| cut("the body"))?.to_vec(),
        None => rest.to_vec(),
    };
    Ok(response)
}

fn unchunk(mut rest: &[u8]) -> Option<Vec<u8>> {
    let mut body = Vec::new();
    loop {
        let Ok(httparse::Status::Complete((start, size))) = httparse::parse_chunk_size(rest) else {
            return None;
        };
        if size == 0 {
            return Some(body);
        }
        let end = start.checked_add(usize::try_from(size).ok()?)?;
        body.extend_from_slice(rest.get(start..end)?);
        rest = rest.get(end..)?.strip_prefix(b"\r\n")?;
    }
}

#[cfg(test)]
mod tests {
    use std::net::TcpListener;
    use std::thread;

    use super::*;

    /// Serves one connection with fixed bytes; the thread returns what it was asked.
    fn serve(answer: &'static [u8]) -> (SocketAddr, thread::JoinHandle<String>) {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let addr = listener.local_addr().unwrap();
        let server = thread::spawn(move || {
            let mut stream = listener.accept().unwrap().0;
            let mut request = vec![0; 65_536];
            let length = stream.read(&mut request).unwrap();
            stream.write_all(answer).unwrap();
            request.truncate(length);
            String::from_utf8(request).unwrap()
        });
        (addr, server)
    }

    #[test]
    fn a_request_carries_headers_and_body() {
        let (addr, server) = serve(b"HTTP/1.1 201 Created\r\nX-Id: 7\r\nContent-Length: 8\r\n\r\n{\"a\":1} ");
        let response = http("POST", addr, "/api/publish", &[("authorization", "Bearer t")], b"{}");
        assert_eq!((response.status, response.header("x-id")), (201, Some("7")));
        assert_eq!(response.json(), serde_json::json!({"a": 1}));
        let request = server.join().unwrap();
        assert!(request.starts_with("POST /api/publish HTTP/1.1\r\n"), "{request}");
        assert!(request.contains("\r\nauthorization: Bearer t\r\n"), "{request}");
        assert!(request.ends_with("content-length: 2\r\n\r\n{}"), "{request}");
    }

    #[test]
    fn chunks_are_joined() {
        let (addr, _server) =
            serve(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nabc\r\na\r\n0123456789\r\n0\r\n\r\n");
        assert_eq!(http("GET", addr, "/", &[], b"").text(), "abc0123456789");
    }

    #[test]
    fn a_body_may_end_with_the_connection() {
        let (addr, _server) = serve(b"HTTP/1.1 200 OK\r\n\r\nuntil the end");
        assert_eq!(http("GET", addr, "/", &[], b"").text(), "until the end");
    }

    #[test]
    fn a_cut_answer_is_an_error() {
        let (addr, _server) = serve(b"HTTP/1.1 200 OK\r\nContent-Length: 10\r\n\r\nshort");
        let error = try_http("GET", addr, "/", &[], b"").unwrap_err();
        assert!(error.contains("incomplete"), "{error}");
    }
}
