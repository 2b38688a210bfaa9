//! What an address says: parameters and parts of a path, percent-decoded.

use std::borrow::Cow;

use bytes::Bytes;
use http::{Request, StatusCode};
use percent_encoding::percent_decode_str;

use super::Refusal;

/// The values of these parameters. Any other is refused, and so is one that is given twice.
pub(super) fn parameters<'a, const N: usize>(
    request: &'a Request<Bytes>,
    names: [&str; N],
) -> Result<[Option<Cow<'a, str>>; N], Refusal> {
    let mut values = [const { None }; N];
    for pair in request.uri().query().unwrap_or_default().split('&').filter(|pair| !pair.is_empty()) {
        let (name, value) = pair.split_once('=').unwrap_or((pair, ""));
        let slot = values.iter_mut().zip(names).find(|(_, known)| *known == name).map(|(slot, _)| slot);
        let slot = slot.ok_or_else(|| bad(format!("This path takes no parameter {name:?}")))?;
        if slot.replace(decode(value)?).is_some() {
            return Err(bad(format!("The parameter {name} is given twice")));
        }
    }
    Ok(values)
}

/// Percent-decodes what must be text. What only looks as if it were encoded is refused, not guessed at.
pub(super) fn decode(text: &str) -> Result<Cow<'_, str>, Refusal> {
    let whole = text.split('%').skip(1).all(|rest| rest.bytes().take(2).filter(u8::is_ascii_hexdigit).count() == 2);
    let decoded = percent_decode_str(text).decode_utf8();
    decoded.ok().filter(|_| whole).ok_or_else(|| bad("The address is not percent-encoded UTF-8".into()))
}

/// A request that makes no sense.
pub(super) fn bad(message: String) -> Refusal {
    Refusal(StatusCode::BAD_REQUEST, "invalid_request", message)
}
