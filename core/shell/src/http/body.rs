//! The body of a request, as it arrives (RFC 9112, sections 6 and 7).

use bytes::Bytes;
use http::{Request, StatusCode, Version, header};
use httparse::Status;
use roomcast_core::http::MOST_BODY;

use super::head::Fault;
use crate::handshake::{MAX_HEAD, only};

/// The longest chunk size, which httparse bounds: 16 digits, and the line break.
const SIZE_LINE: usize = 18;

/// The end of a line. A line feed alone is none here: whoever takes it for one sees other chunks than whoever does not.
const LINE_BREAK: &[u8] = b"\r\n";

const MALFORMED: Fault = Fault::bad("malformed chunks");

/// Collects a body. Every byte is looked at once, however the pieces are cut.
#[derive(Debug)]
pub(super) struct Body {
    bytes: Vec<u8>,
    due: Due,
    /// The beginning of a line between chunks.
    line: Vec<u8>,
    /// How many bytes of chunk extensions and trailers are still suffered. They are not used, but have to be read.
    spare: usize,
}

/// What comes next.
#[derive(Clone, Copy, Debug)]
enum Due {
    Bytes { left: usize, chunked: bool },
    Line(Line),
    Nothing,
}

/// A line between chunks.
#[derive(Clone, Copy, Debug)]
enum Line {
    /// The size of a chunk, perhaps with extensions.
    Size,
    /// The empty line behind the data of a chunk.
    Break,
    /// A trailer field, or the empty line behind them all.
    Trailer,
}

impl Body {
    /// The body that a head announces, whatever the method: one that is not read would be taken for the next request.
    pub(super) fn of(request: &Request<()>) -> Result<Body, Fault> {
        let headers = request.headers();
        let due = if headers.contains_key(header::TRANSFER_ENCODING) {
            if request.version() < Version::HTTP_11 || headers.contains_key(header::CONTENT_LENGTH) {
                return Err(Fault::bad("Transfer-Encoding goes with neither Content-Length nor HTTP/1.0"));
            }
            let coding = only(headers, header::TRANSFER_ENCODING);
            if !coding.is_some_and(|coding| coding.eq_ignore_ascii_case(b"chunked")) {
                return Err(Fault::new(StatusCode::NOT_IMPLEMENTED, "Transfer-Encoding must be chunked"));
            }
            Due::Line(Line::Size)
        } else if headers.contains_key(header::CONTENT_LENGTH) {
            let length = only(headers, header::CONTENT_LENGTH).and_then(content_length);
            match length.ok_or(Fault::bad("Content-Length must be one number"))? {
                0 => Due::Nothing,
                left if left <= MOST_BODY => Due::Bytes { left, chunked: false },
                _ => return Err(too_long()),
            }
        } else {
            Due::Nothing
        };
        Ok(Body { bytes: Vec::new(), due, line: Vec::new(), spare: MAX_HEAD })
    }

    /// Takes what belongs to the body from the beginning of `input`, and says how much that is: all, until the body is whole.
    pub(super) fn feed(&mut self, input: &[u8]) -> Result<usize, Fault> {
        let mut rest = input;
        while !rest.is_empty() {
            let taken = match self.due {
                Due::Bytes { left, chunked } => {
                    let taken = left.min(rest.len());
                    self.bytes.extend_from_slice(&rest[..taken]);
                    self.due = match left - taken {
                        0 if chunked => Due::Line(Line::Break),
                        0 => Due::Nothing,
                        left => Due::Bytes { left, chunked },
                    };
                    taken
                }
                Due::Line(line) => self.feed_line(line, rest)?,
                Due::Nothing => break,
            };
            rest = &rest[taken..];
        }
        Ok(input.len() - rest.len())
    }

    fn feed_line(&mut self, line: Line, input: &[u8]) -> Result<usize, Fault> {
        let most = match line {
            Line::Size => SIZE_LINE + self.spare,
            Line::Break => LINE_BREAK.len(),
            Line::Trailer => LINE_BREAK.len() + self.spare,
        };
        let end = input.iter().position(|&byte| byte == b'\n').map(|at| at + 1);
        let taken = end.unwrap_or(input.len());
        if self.line.len() + taken > most {
            return Err(MALFORMED);
        }
        self.line.extend_from_slice(&input[..taken]);
        if end.is_some() {
            self.due = match line {
                Line::Size => self.size()?,
                Line::Break if self.line == LINE_BREAK => Due::Line(Line::Size),
                Line::Break => return Err(MALFORMED),
                Line::Trailer if self.line == LINE_BREAK => Due::Nothing,
                Line::Trailer => self.trailer()?,
            };
            self.line.clear();
        }
        Ok(taken)
    }

    /// Reads the size of a chunk. Zero is the last.
    fn size(&mut self) -> Result<Due, Fault> {
        // httparse takes no digit at all for zero. It lets an extension go on behind a lone line feed, and then finds no end:
        // the line does not go on.
        let size = match httparse::parse_chunk_size(&self.line) {
            Ok(Status::Complete((_, size))) if self.line[0].is_ascii_hexdigit() => size,
            _ => return Err(MALFORMED),
        };
        self.spare = self.spare.saturating_sub(self.line.len().saturating_sub(SIZE_LINE));
        match usize::try_from(size) {
            Ok(0) => Ok(Due::Line(Line::Trailer)),
            Ok(left) if left <= MOST_BODY - self.bytes.len() => Ok(Due::Bytes { left, chunked: true }),
            _ => Err(too_long()),
        }
    }

    /// Reads a trailer field and drops it, as is allowed (RFC 9112, section 7.1.2).
    fn trailer(&mut self) -> Result<Due, Fault> {
        let mut field = [httparse::EMPTY_HEADER; 1];
        let parsed = httparse::parse_headers(&self.line, &mut field);
        if parsed.is_err() || !self.line.ends_with(LINE_BREAK) {
            return Err(MALFORMED);
        }
        self.spare = self.spare.saturating_sub(self.line.len());
        Ok(Due::Line(Line::Trailer))
    }

    pub(super) fn is_whole(&self) -> bool {
        matches!(self.due, Due::Nothing)
    }

    pub(super) fn into_bytes(self) -> Bytes {
        self.bytes.into()
    }

    #[cfg(test)]
    pub(super) fn held(&self) -> usize {
        self.bytes.len() + self.line.len()
    }
}

/// Digits and nothing else; Rust would take a sign as well. What does not fit is too long in any case.
fn content_length(value: &[u8]) -> Option<usize> {
    let digits =
        str::from_utf8(value).ok().filter(|value| !value.is_empty() && value.bytes().all(|byte| byte.is_ascii_digit()))?;
    Some(digits.parse().unwrap_or(usize::MAX))
}

fn too_long() -> Fault {
    Fault::new(StatusCode::PAYLOAD_TOO_LARGE, "the body is too long")
}
