//! What a handshake offers as credentials.

use http::header::SEC_WEBSOCKET_PROTOCOL;

use crate::token::{AMBIGUOUS, bearer};

/// Text that is never shown.
#[derive(Clone, PartialEq, Eq)]
pub(super) struct Hidden(pub(super) Box<str>);

impl core::fmt::Debug for Hidden {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        f.write_str("Hidden(…)")
    }
}

/// What a handshake offers as credentials.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct Credentials<'a> {
    pub(super) token: Option<&'a str>,
    /// The subprotocol that carries a token, to be echoed: a browser closes the connection otherwise.
    pub(super) protocol: Option<&'a str>,
}

impl<'a> Credentials<'a> {
    /// `Authorization: Bearer`, then `?token=`, then the subprotocol (PROTOCOL section 1). The first place that has any counts, good or
    /// not.
    pub(super) fn of<B>(request: &'a http::Request<B>) -> Credentials<'a> {
        let header = bearer(request.headers());
        let mut query = request.uri().query().unwrap_or_default().split('&').filter_map(|pair| pair.strip_prefix("token="));
        let query = query.next().map(|token| if query.next().is_some() { AMBIGUOUS } else { token });
        let offered = request.headers().get_all(SEC_WEBSOCKET_PROTOCOL).into_iter();
        let mut offered = offered.filter_map(|value| value.to_str().ok()).flat_map(|value| value.split(',')).map(str::trim);
        let (protocol, by_protocol) = offered
            .find_map(|name| {
                let token = name.strip_prefix("auth-").or_else(|| name.strip_prefix("access_token."))?;
                Some((name, token))
            })
            .unzip();
        Credentials { token: header.or(query).or(by_protocol), protocol }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn credentials_are_found_in_the_documented_order() {
        let request = |headers: &[(&str, &str)], uri: &str| {
            let builder =
                headers.iter().fold(http::Request::builder().uri(uri), |builder, (name, value)| builder.header(*name, *value));
            builder.body(()).unwrap()
        };
        let all =
            request(&[("authorization", "bearer h"), ("sec-websocket-protocol", "chat, access_token.p")], "/ws?x=1&token=q");
        assert_eq!(Credentials::of(&all), Credentials { token: Some("h"), protocol: Some("access_token.p") });
        let query = request(&[("sec-websocket-protocol", "auth-p")], "/ws?token=q");
        assert_eq!(Credentials::of(&query).token, Some("q"));
        let protocol = request(&[("sec-websocket-protocol", "auth-p")], "/ws");
        assert_eq!(Credentials::of(&protocol), Credentials { token: Some("p"), protocol: Some("auth-p") });
        assert_eq!(Credentials::of(&request(&[("authorization", "Basic x")], "/ws")), Credentials::default());
        for (headers, uri) in [
            (&[("authorization", "Bearer a"), ("authorization", "Bearer b")][..], "/ws?token=c"),
            (&[("authorization", "Bearer a"), ("authorization", "Basic b")], "/ws"),
            (&[("authorization", "Bearer")], "/ws?token=c"),
            (&[("authorization", "Bearer ")], "/ws?token=c"),
            (&[("authorization", "Bearer \u{fc}")], "/ws?token=c"),
            (&[("sec-websocket-protocol", "auth-p")], "/ws?token=c&token=c"),
            (&[], "/ws?token="),
            (&[("sec-websocket-protocol", "auth-")], "/ws"),
        ] {
            assert_eq!(Credentials::of(&request(headers, uri)).token, Some(AMBIGUOUS), "{headers:?} {uri}");
        }
    }
}
