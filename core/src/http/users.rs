//! The part of the API that is about users: what a request wants, and what is answered (PROTOCOL section 6).

use bytes::Bytes;
use http::{Method, Request, Response, StatusCode};

use super::query::{bad, decode};
use super::{Plan, Refusal, error, json, not_allowed, surveys};
use crate::dialect::json::Object;
use crate::door::Published;
use crate::survey::Surveyed;
use crate::token::Subject;

/// Where the paths begin.
pub(super) const PATH: &str = "/api/users/";
/// Where those about single tokens begin.
pub(super) const TOKENS: &str = "/api/tokens/";

/// Decides about an administrator's request. `path` is what follows [`PATH`].
pub(super) fn plan<'a>(path: &str, request: &Request<Bytes>) -> Result<Plan<'a>, Refusal> {
    let plan: fn(String) -> Plan<'a> = match path.split_once('/') {
        Some((_, "disconnect")) => |user| Plan::Disconnect { user },
        Some((_, "revoke")) => |user| Plan::Revoke(Subject::User(user.into())),
        _ => return Err(not_found()),
    };
    named(path, request, "Name the user").map(|user| user.map_or_else(Plan::Respond, plan))
}

/// Decides about an administrator's request for one token. `path` is what follows [`TOKENS`].
pub(super) fn plan_token<'a>(path: &str, request: &Request<Bytes>) -> Result<Plan<'a>, Refusal> {
    let Some((_, "revoke")) = path.split_once('/') else { return Err(not_found()) };
    let named = named(path, request, "Name the token, by its jti")?;
    Ok(named.map_or_else(Plan::Respond, |jti| Plan::Revoke(Subject::Token(jti.into()))))
}

/// Who is named at the beginning of a path, or the answer to a request that is no POST.
fn named(path: &str, request: &Request<Bytes>, missing: &str) -> Result<Result<String, Response<Bytes>>, Refusal> {
    if request.method() != Method::POST {
        return Ok(Err(not_allowed("POST")));
    }
    let name = path.split_once('/').map_or(path, |(name, _)| name);
    match decode(name)?.into_owned() {
        name if name.is_empty() => Err(bad(missing.into())),
        name => Ok(Ok(name)),
    }
}

fn not_found() -> Refusal {
    Refusal(StatusCode::NOT_FOUND, "not_found", "Nothing is served on this path".into())
}

/// The answer to a request to revoke tokens, once the nodes have given theirs.
pub fn revoked(surveyed: &Surveyed) -> Response<Bytes> {
    if surveyed.asked.is_none() {
        let message = "It holds on this node; the store is away, and other nodes learn of it when it is back";
        return error(StatusCode::SERVICE_UNAVAILABLE, "unavailable", message);
    }
    surveys::answer_of(surveyed, usize::MAX)
}

/// The answer to a request to disconnect a user, once the store has answered.
pub fn answer(user: &str, result: Published) -> Response<Bytes> {
    match result {
        Ok(_) => json(StatusCode::OK, Object::new().string("user_id", user).finish()),
        Err(_) => {
            let message = "It could not be stored; the user may or may not be disconnected";
            error(StatusCode::SERVICE_UNAVAILABLE, "unavailable", message)
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::door::PublishError;

    #[test]
    fn a_user_is_named_in_the_path() {
        for (method, path, expected) in [
            ("POST", "7/disconnect", Ok("7")),
            ("POST", "a%2Fb%20%C3%BC/disconnect", Ok("a/b \u{fc}")),
            ("GET", "7/disconnect", Err(405)),
            ("POST", "/disconnect", Err(400)),
            ("POST", "%FF/disconnect", Err(400)),
            ("POST", "7", Err(404)),
            ("POST", "7/disconnect/", Err(404)),
            ("POST", "", Err(404)),
        ] {
            let request = Request::builder().method(method).uri(format!("{PATH}{path}")).body(Bytes::new()).unwrap();
            let found = match plan(path, &request) {
                Ok(Plan::Disconnect { user }) => Ok(user),
                Ok(Plan::Respond(response)) => Err(response.status().as_u16()),
                Ok(other) => panic!("{other:?}"),
                Err(Refusal(status, ..)) => Err(status.as_u16()),
            };
            assert_eq!(found.as_deref().map_err(|status| *status), expected, "{method} {path}");
        }
    }

    #[test]
    fn it_is_done_once_the_store_has_it() {
        let response = answer("7", Ok(None));
        assert_eq!((response.status().as_u16(), &response.body()[..]), (200, &br#"{"user_id":"7"}"#[..]));
        assert_eq!(answer("7", Err(PublishError::Unavailable)).status().as_u16(), 503);
    }
}
