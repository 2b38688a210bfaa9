//! What an address says: parameters and parts of a path, percent-decoded.

use std::borrow::Cow;

use bytes::Bytes;
use http::{Request, StatusCode};

use super::Refusal;
use crate::config::percent_decoded;

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

/// Percent-decodes part of an address.
pub(super) fn decode(text: &str) -> Result<Cow<'_, str>, Refusal> {
    percent_decoded(text).ok_or_else(|| bad("The address is not percent-encoded UTF-8".into()))
}

/// A request that makes no sense.
pub(super) fn bad(message: String) -> Refusal {
    Refusal(StatusCode::BAD_REQUEST, "invalid_request", message)
}
