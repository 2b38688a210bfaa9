//! The part of the API that is about rooms: what a request wants, and what is answered (PROTOCOL section 6).

use bytes::Bytes;
use http::{Method, Request, Response, StatusCode};

use super::query::{bad, decode, parameters};
use super::{Plan, Refusal, error, json, not_allowed};
use crate::config::Config;
use crate::door::Unavailable;
use crate::history::Reading;
use crate::store::Page;

/// Where the paths begin.
pub(super) const PATH: &str = "/api/rooms/";

/// Decides about an administrator's request. `path` is what follows [`PATH`].
pub(super) fn plan<'a>(config: &Config, path: &str, request: &Request<Bytes>) -> Result<Plan<'a>, Refusal> {
    let not_found = |message: &str| Refusal(StatusCode::NOT_FOUND, "not_found", message.into());
    let (room, is_history) = match path.split_once('/') {
        None if !path.is_empty() => (path, false),
        Some((room, "history")) => (room, true),
        _ => return Err(not_found("Nothing is served on this path")),
    };
    if request.method() != Method::GET && request.method() != Method::HEAD {
        return Ok(Plan::Respond(not_allowed("GET, HEAD")));
    }
    let room = decode(room)?;
    if !is_history {
        let [] = parameters(request, [])?;
        return Ok(Plan::Room(room.into_owned()));
    }
    let [limit, since, reverse] = parameters(request, ["limit", "since", "reverse"])?;
    let limit = limit.map(|limit| limit.parse().ok().filter(|limit| *limit > 0).ok_or(limit)).transpose();
    let limit = limit.map_err(|limit| bad(format!("limit must be a number greater than 0, not {limit:?}")))?;
    let reverse = match reverse.as_deref() {
        None | Some("false") => false,
        Some("true") => true,
        Some(other) => return Err(bad(format!("reverse must be true or false, not {other:?}"))),
    };
    let reading = Reading::new(config, &room, limit, since.as_deref(), reverse);
    reading.map(Plan::Read).ok_or_else(|| not_found("The room keeps no history"))
}

/// The answer to a reading, once the store has answered.
pub fn answer(reading: &Reading, result: Result<Page, Unavailable>) -> Response<Bytes> {
    match result {
        Ok(page) => json(StatusCode::OK, reading.answer(&page)),
        Err(Unavailable) => {
            let message = "What the room remembers cannot be read at the moment";
            error(StatusCode::SERVICE_UNAVAILABLE, "unavailable", message)
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::position::Position;
    use crate::store::Query;

    /// The room, the query and the count, or the status and the code.
    fn plan_of(method: &str, path: &str) -> Result<(String, Query, usize), (u16, String)> {
        let request = Request::builder().method(method).uri(format!("{PATH}{path}")).body(Bytes::new()).unwrap();
        let path = request.uri().path().strip_prefix(PATH).unwrap();
        match plan(&Config::default(), path, &request) {
            Ok(Plan::Read(Reading { room, query, count, .. })) => Ok((room.into(), query, count)),
            Ok(Plan::Respond(response)) => Err((response.status().as_u16(), String::new())),
            Ok(other) => panic!("{other:?}"),
            Err(Refusal(status, code, _)) => Err((status.as_u16(), code.into())),
        }
    }

    #[test]
    fn each_request_asks_for_its_messages() {
        let at = Position { epoch: 1, offset: 2, tag: 3 };
        for (method, path, room, query, count) in [
            ("GET", "project:1/history", "project:1", Query::After(Position::default()), 100),
            ("HEAD", "project%3A1/history?limit=5", "project:1", Query::After(Position::default()), 5),
            ("GET", "project:a%2Fb%20%C3%BC/history?reverse=true", "project:a/b ü", Query::Newest, 100),
            ("GET", "project:1/history?since=1.2.3&reverse=false&limit=5000", "project:1", Query::After(at), 1_000),
            ("GET", "project:1/history?reverse=true&since=1%2e2.3", "project:1", Query::Before(at), 100),
            ("GET", "job:1/history?since=nonsense", "job:1", Query::After(Position::default()), 100),
        ] {
            assert_eq!(plan_of(method, path), Ok((room.into(), query, count)), "{method} {path}");
        }
    }

    #[test]
    fn what_is_wrong_is_refused() {
        let (missing, invalid) = ((404, "not_found"), (400, "invalid_request"));
        for (method, path, expected) in [
            ("GET", "", missing),
            ("GET", "project:1/", missing),
            ("GET", "project:1/histories", missing),
            ("GET", "project:1/history/", missing),
            ("GET", "project:a/b/history", missing),
            ("GET", "/history", missing),
            ("GET", "user:7/history", missing),
            ("GET", "workspace:1/history", missing),
            ("POST", "project:1/history", (405, "")),
            ("GET", "%zz/history", invalid),
            ("GET", "project:%FF/history", invalid),
            ("GET", "project:1/history?limit=0", invalid),
            ("GET", "project:1/history?limit=-1", invalid),
            ("GET", "project:1/history?limit=", invalid),
            ("GET", "project:1/history?limit=1&limit=1", invalid),
            ("GET", "project:1/history?reverse=yes", invalid),
            ("GET", "project:1/history?since=%", invalid),
            ("GET", "project:1/history?before=1.2.3", invalid),
        ] {
            assert_eq!(plan_of(method, path), Err((expected.0, expected.1.into())), "{method} {path}");
        }
    }

    #[test]
    fn an_answer_is_a_page_or_says_that_the_store_is_away() {
        let reading = Reading::new(&Config::default(), "project:1", None, None, false).unwrap();
        let page = Page { messages: vec![], head: Position::default(), whole: true };
        for (result, status, body) in [
            (Ok(page), 200, r#"{"room":"project:1","messages":[]}"#),
            (
                Err(Unavailable),
                503,
                r#"{"error":{"code":"unavailable","message":"What the room remembers cannot be read at the moment"}}"#,
            ),
        ] {
            let response = answer(&reading, result);
            assert_eq!((response.status().as_u16(), str::from_utf8(response.body()).unwrap()), (status, body));
        }
    }
}
