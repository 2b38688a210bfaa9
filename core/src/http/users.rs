//! The part of the API that is about users: what a request wants, and what is answered (PROTOCOL section 6).

use bytes::Bytes;
use http::{Method, Request, Response, StatusCode};

use super::query::{bad, decode};
use super::{Plan, Refusal, error, json, not_allowed};
use crate::dialect::json::Object;
use crate::door::Published;

/// Where the paths begin.
pub(super) const PATH: &str = "/api/users/";

/// Decides about an administrator's request. `path` is what follows [`PATH`].
pub(super) fn plan<'a>(path: &str, request: &Request<Bytes>) -> Result<Plan<'a>, Refusal> {
    let Some((user, "disconnect")) = path.split_once('/') else {
        return Err(Refusal(StatusCode::NOT_FOUND, "not_found", "Nothing is served on this path".into()));
    };
    if request.method() != Method::POST {
        return Ok(Plan::Respond(not_allowed("POST")));
    }
    match decode(user)?.into_owned() {
        user if user.is_empty() => Err(bad("Name the user".into())),
        user => Ok(Plan::Disconnect { user }),
    }
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
