//! The part of the API that is about dead letters: what a request wants, and what is answered (PROTOCOL section 6).

use std::borrow::Cow;

use bytes::Bytes;
use http::{Method, Request, Response, StatusCode};
use serde::{Deserialize, Serialize};

use super::query::{bad, decode, parameters};
use super::{Plan, Refusal, error, json, not_allowed};
use crate::config::Config;
use crate::dead_letter::{self, Interrupted, MOST_IDS, Outcome, Selection, Summary};
use crate::id::StreamId;
use crate::store::StoreError;

/// Where the paths begin.
pub(super) const PATH: &str = "/api/dlq/";

/// Letters that are listed where it is not said how many.
const USUAL_COUNT: usize = 20;

/// What stands behind [`PATH`].
enum Place<'a> {
    Source(&'a str),
    Letter(&'a str, &'a str),
    Replay(&'a str),
}

/// Decides about an administrator's request. `path` is what follows [`PATH`].
pub(super) fn plan<'a>(config: &Config, path: &str, request: &Request<Bytes>) -> Result<Plan<'a>, Refusal> {
    let place = match path.split_once('/') {
        None => Place::Source(path),
        Some((source, "replay")) => Place::Replay(source),
        Some((source, letter)) => Place::Letter(source, letter),
    };
    let reads = request.method() == Method::GET || request.method() == Method::HEAD;
    let group_of = |request| parameters(request, ["group"]).map(|[group]| group);
    let (source, group, request) = match place {
        Place::Source(source) if reads => {
            let [group, count, before] = parameters(request, ["group", "count", "before"])?;
            (source, group, list(count.as_deref(), before.as_deref())?)
        }
        Place::Source(source) if request.method() == Method::DELETE => {
            (source, group_of(request)?, dead_letter::Request::Purge(selection(request.body())?))
        }
        Place::Letter(source, letter) if reads => {
            let id = stream_id(&decode(letter)?)?;
            (source, group_of(request)?, dead_letter::Request::Show(id))
        }
        Place::Replay(source) if request.method() == Method::POST => {
            (source, group_of(request)?, dead_letter::Request::Replay(selection(request.body())?))
        }
        Place::Source(_) => return Ok(Plan::Respond(not_allowed("GET, HEAD, DELETE"))),
        Place::Letter(..) => return Ok(Plan::Respond(not_allowed("GET, HEAD"))),
        Place::Replay(_) => return Ok(Plan::Respond(not_allowed("POST"))),
    };
    let source = match config.source_of(&decode(source)?, group.as_deref()) {
        Ok(Some(source)) => source,
        Ok(None) => {
            let message = "No source of this node reads that stream, in that group if one is named";
            return Err(Refusal(StatusCode::NOT_FOUND, "unknown_source", message.into()));
        }
        Err(groups) => {
            let message = format!("Several sources read this stream; say which with ?group=: {}", groups.join(", "));
            return Err(Refusal(StatusCode::BAD_REQUEST, "ambiguous_source", message));
        }
    };
    Ok(Plan::Operate { source, request })
}

/// The answer to an operation, once the store has answered.
pub fn answer(outcome: Result<Outcome, Interrupted>) -> Response<Bytes> {
    #[derive(Serialize)]
    struct Listed {
        letters: Vec<Summary>,
        next: Option<StreamId>,
        depth: u64,
    }
    #[derive(Serialize)]
    struct Purged {
        purged: u64,
    }
    match outcome {
        Ok(Outcome::Listed { letters, next, depth }) => written(&Listed { letters, next, depth }),
        Ok(Outcome::Shown(Some(letter))) => written(&letter),
        Ok(Outcome::Shown(None)) => error(StatusCode::NOT_FOUND, "unknown_letter", "There is no dead letter of this identifier"),
        Ok(Outcome::Replayed(replay)) => written(&replay),
        Ok(Outcome::Purged(purged)) => written(&Purged { purged }),
        Err(Interrupted { replayed, error: why }) => {
            let (status, code) = match why {
                StoreError::Disconnected(_) | StoreError::Timeout | StoreError::Busy(_) => {
                    (StatusCode::SERVICE_UNAVAILABLE, "unavailable")
                }
                StoreError::NoGroup | StoreError::Refused(_) | StoreError::Unexpected(_) => {
                    (StatusCode::BAD_GATEWAY, "store_refused")
                }
            };
            let before = if replayed > 0 { format!("; {replayed} letters had been replayed") } else { String::new() };
            error(status, code, &format!("The store failed: {why}{before}"))
        }
    }
}

fn written(body: &impl Serialize) -> Response<Bytes> {
    match serde_json::to_string(body) {
        Ok(body) => json(StatusCode::OK, body),
        Err(why) => error(StatusCode::INTERNAL_SERVER_ERROR, "internal", &why.to_string()),
    }
}

fn list(count: Option<&str>, before: Option<&str>) -> Result<dead_letter::Request, Refusal> {
    let count = match count {
        Some(count) => count.parse().ok().filter(|count| (1..=MOST_IDS).contains(count)),
        None => Some(USUAL_COUNT),
    };
    let count = count.ok_or_else(|| bad(format!("count must be a number from 1 to {MOST_IDS}")))?;
    let before = before.map(stream_id).transpose()?;
    Ok(dead_letter::Request::List { count, before })
}

/// `{"ids":[…]}` or `{"all":true}`.
fn selection(body: &[u8]) -> Result<Selection, Refusal> {
    #[derive(Deserialize)]
    #[serde(deny_unknown_fields)]
    struct Body<'a> {
        #[serde(borrow, default)]
        ids: Option<Vec<Cow<'a, str>>>,
        #[serde(default)]
        all: Option<bool>,
    }
    let body: Body<'_> = serde_json::from_slice(body).map_err(|why| bad(format!("The body must be a JSON object: {why}")))?;
    match body {
        Body { ids: Some(ids), all: None } if (1..=MOST_IDS).contains(&ids.len()) => {
            ids.iter().map(|id| stream_id(id)).collect::<Result<_, _>>().map(Selection::Ids)
        }
        Body { ids: Some(_), all: None } => Err(bad(format!("ids must name from 1 to {MOST_IDS} letters"))),
        Body { ids: None, all: Some(true) } => Ok(Selection::All),
        _ => Err(bad("The body must have either ids, a list of identifiers, or all, which must be true".into())),
    }
}

fn stream_id(text: &str) -> Result<StreamId, Refusal> {
    text.parse().map_err(|why| bad(format!("{why}, as in 1728177601000-0")))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::{Commands, Destination, Source};
    use crate::dead_letter::{DeadLetter, Replay};
    use crate::store::Entry;

    fn config() -> Config {
        let source = |stream, group| Source::new(stream, group, "d", Destination::Commands(Commands::default()));
        Config {
            sources: vec![source("one", "g"), source("two", "g"), source("two", "h&ü"), source("a/b c", "g")],
            ..Config::default()
        }
    }

    /// The source and the request, or the status and the code.
    fn plan_of(method: &str, path: &str, body: &str) -> Result<(usize, dead_letter::Request), (u16, String)> {
        let request = Request::builder().method(method).uri(format!("{PATH}{path}"));
        let request = request.body(Bytes::copy_from_slice(body.as_bytes())).unwrap();
        let path = request.uri().path().strip_prefix(PATH).unwrap();
        match plan(&config(), path, &request) {
            Ok(Plan::Operate { source, request }) => Ok((source, request)),
            Ok(Plan::Respond(response)) => Err((response.status().as_u16(), String::new())),
            Ok(other) => panic!("{path}: {other:?}"),
            Err(Refusal(status, code, message)) => {
                assert!(message.len() > 10, "{message}");
                Err((status.as_u16(), code.into()))
            }
        }
    }

    fn ids<const N: usize>(ids: [&str; N]) -> Selection {
        Selection::Ids(ids.into_iter().map(|id| id.parse().unwrap()).collect())
    }

    #[test]
    fn what_is_wanted_is_understood() {
        use dead_letter::Request::{List, Purge, Replay, Show};
        let id = "5-6".parse().unwrap();
        let usual = List { count: 20, before: None };
        for (method, path, body, expected) in [
            ("GET", "one", "", (0, usual.clone())),
            ("HEAD", "one?", "", (0, usual.clone())),
            ("GET", "one?count=1000&before=5-6", "", (0, List { count: 1_000, before: Some(id) })),
            ("GET", "%6fne?count=%31", "", (0, List { count: 1, before: None })),
            ("GET", "two?group=g", "", (1, usual.clone())),
            ("GET", "two?group=h%26%C3%BC", "", (2, usual.clone())),
            ("GET", "a%2Fb%20c", "", (3, usual)),
            ("GET", "one/5-6", "", (0, Show(id))),
            ("GET", "a%2fb%20c/5-6?group=g", "", (3, Show(id))),
            ("POST", "one/replay", r#"{"all":true}"#, (0, Replay(Selection::All))),
            ("POST", "two/replay?group=g", r#"{"ids":["5-6","1-0","5-6"]}"#, (1, Replay(ids(["1-0", "5-6"])))),
            ("DELETE", "one", r#" { "ids" : [ "1\u002d0" ] } "#, (0, Purge(ids(["1-0"])))),
            ("DELETE", "one", r#"{"all":true}"#, (0, Purge(Selection::All))),
        ] {
            assert_eq!(plan_of(method, path, body), Ok(expected), "{method} {path} {body}");
        }
    }

    #[test]
    fn what_is_wrong_is_refused() {
        let many: Vec<String> = (0..=MOST_IDS).map(|number| format!("\"1-{number}\"")).collect();
        let many = format!("{{\"ids\":[{}]}}", many.join(","));
        let invalid = (400, "invalid_request");
        for (method, path, body, expected) in [
            ("GET", "", "", (404, "unknown_source")),
            ("GET", "three", "", (404, "unknown_source")),
            ("GET", "One", "", (404, "unknown_source")),
            ("GET", "one?group=h", "", (404, "unknown_source")),
            ("GET", "two", "", (400, "ambiguous_source")),
            ("DELETE", "two", r#"{"all":true}"#, (400, "ambiguous_source")),
            ("POST", "two/replay", r#"{"all":true}"#, (400, "ambiguous_source")),
            ("GET", "two/5-6", "", (400, "ambiguous_source")),
            ("GET", "%zz", "", invalid),
            ("GET", "one%", "", invalid),
            ("GET", "one%2", "", invalid),
            ("GET", "%FF", "", invalid),
            ("GET", "one?group=%", "", invalid),
            ("GET", "one?count=0", "", invalid),
            ("GET", "one?count=1001", "", invalid),
            ("GET", "one?count=-1", "", invalid),
            ("GET", "one?count=", "", invalid),
            ("GET", "one?count=many", "", invalid),
            ("GET", "one?count=1&count=2", "", invalid),
            ("GET", "one?before=5", "", invalid),
            ("GET", "one?before=5-x", "", invalid),
            ("GET", "one?after=5-6", "", invalid),
            ("GET", "one/5-6?count=1", "", invalid),
            ("GET", "one/", "", invalid),
            ("GET", "one/5", "", invalid),
            ("GET", "one/5-6/7", "", invalid),
            ("GET", "one/18446744073709551616-0", "", invalid),
            ("GET", "one/replay", "", (405, "")),
            ("POST", "one", r#"{"all":true}"#, (405, "")),
            ("PUT", "one/5-6", "", (405, "")),
            ("DELETE", "one/5-6", "", (405, "")),
            ("POST", "one/replay", "", invalid),
            ("POST", "one/replay", "nonsense", invalid),
            ("POST", "one/replay", "[]", invalid),
            ("POST", "one/replay", "{}", invalid),
            ("POST", "one/replay", r#"{"all":false}"#, invalid),
            ("POST", "one/replay", r#"{"all":"true"}"#, invalid),
            ("POST", "one/replay", r#"{"all":true,"ids":["1-0"]}"#, invalid),
            ("POST", "one/replay", r#"{"all":true,"also":1}"#, invalid),
            ("POST", "one/replay", r#"{"ids":[]}"#, invalid),
            ("POST", "one/replay", r#"{"ids":[1]}"#, invalid),
            ("POST", "one/replay", r#"{"ids":["1-0","x"]}"#, invalid),
            ("POST", "one/replay", &many, invalid),
            ("DELETE", "one", "", invalid),
            ("DELETE", "one", r#"{"ids":"1-0"}"#, invalid),
            ("DELETE", "one", &many, invalid),
        ] {
            assert_eq!(plan_of(method, path, body), Err((expected.0, expected.1.into())), "{method} {path} {body:.40}");
        }
    }

    #[test]
    fn each_outcome_has_its_form() {
        let (id, entry) = ("5-6".parse().unwrap(), "7-0".parse().unwrap());
        let letter = DeadLetter::read(Entry { id, fields: vec![("code".into(), "c".into()), ("a".into(), "b".into())] });
        let header = r#""msg_id":null,"error":null,"code":"c","timestamp":null,"source":null,"added":null,"deliveries":null,"trail":[],"complete":true"#;
        let mut replay = Replay::default();
        replay.added(id, entry);
        replay.gone(entry);
        replay.failed(id, StoreError::Refused("no".into()));
        let interrupted = |replayed, error| Err(Interrupted { replayed, error });
        for (outcome, status, body) in [
            (
                Ok(Outcome::Listed { letters: vec![letter.clone().summary()], next: Some(id), depth: 9 }),
                200,
                format!(r#"{{"letters":[{{"id":"5-6",{header},"field_count":1,"bytes":2}}],"next":"5-6","depth":9}}"#),
            ),
            (Ok(Outcome::Listed { letters: vec![], next: None, depth: 0 }), 200, r#"{"letters":[],"next":null,"depth":0}"#.into()),
            (
                Ok(Outcome::Shown(Some(Box::new(letter)))),
                200,
                format!(r#"{{"id":"5-6",{header},"fields":[["a","b"]]}}"#),
            ),
            (
                Ok(Outcome::Shown(None)),
                404,
                r#"{"error":{"code":"unknown_letter","message":"There is no dead letter of this identifier"}}"#.into(),
            ),
            (
                Ok(Outcome::Replayed(replay)),
                200,
                r#"{"replayed":1,"failures":1,"entries":[{"id":"5-6","entry":"7-0"}],"gone":["7-0"],"failed":[{"id":"5-6","error":"refused: no"}]}"#.into(),
            ),
            (Ok(Outcome::Purged(3)), 200, r#"{"purged":3}"#.into()),
            (
                interrupted(7, StoreError::Timeout),
                503,
                r#"{"error":{"code":"unavailable","message":"The store failed: no answer in time; 7 letters had been replayed"}}"#.into(),
            ),
            (
                interrupted(0, StoreError::Refused("WRONGTYPE".into())),
                502,
                r#"{"error":{"code":"store_refused","message":"The store failed: refused: WRONGTYPE"}}"#.into(),
            ),
        ] {
            let response = answer(outcome);
            assert_eq!((response.status().as_u16(), str::from_utf8(response.body()).unwrap()), (status, body.as_str()));
        }
    }
}
