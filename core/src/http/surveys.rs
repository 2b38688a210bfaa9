//! The part of the API that asks all nodes what they have: connections and rooms (PROTOCOL section 6).

use bytes::Bytes;
use http::{Request, Response, StatusCode};
use serde_json::{Value, json};

use super::query::{bad, parameters};
use super::{Plan, Refusal};
use crate::position::Position;
use crate::survey::{MOST, Question, Survey, Surveyed};

/// Entries of a page of which nothing else is said.
const USUAL: usize = 100;

/// Decides about a request for connections.
pub(super) fn connections<'a>(request: &Request<Bytes>) -> Result<Plan<'a>, Refusal> {
    let [user, after, limit] = parameters(request, ["user", "after", "limit"])?;
    let after = after.map(|after| {
        let parts = after.rsplit_once(':').and_then(|(node, id)| Some((Box::from(node), id.parse().ok()?)));
        parts.ok_or_else(|| bad(format!("after must be the next of an earlier answer, not {after:?}")))
    });
    let user = user.map(|user| Box::from(&*user));
    Ok(Plan::Survey(Question::Connections { user, after: after.transpose()?, limit: read_limit(limit.as_deref())? }))
}

/// Decides about a request for rooms.
pub(super) fn rooms<'a>(request: &Request<Bytes>) -> Result<Plan<'a>, Refusal> {
    let [prefix, after, limit] = parameters(request, ["prefix", "after", "limit"])?;
    let (prefix, after) = (Box::from(&*prefix.unwrap_or_default()), after.map(|after| Box::from(&*after)));
    Ok(Plan::Survey(Question::Rooms { prefix, exact: false, after, limit: read_limit(limit.as_deref())? }))
}

/// The question about one room.
pub fn room(name: &str) -> Question {
    Question::Rooms { prefix: name.into(), exact: true, after: None, limit: 1 }
}

/// The answer, once the nodes have given theirs.
pub fn answer(question: &Question, surveyed: &Surveyed) -> Response<Bytes> {
    answer_of(surveyed, question.limit())
}

/// The same of a page of so many entries.
pub(super) fn answer_of(surveyed: &Surveyed, limit: usize) -> Response<Bytes> {
    let mut body = match &surveyed.survey {
        Survey::Connections { total, connections } => {
            let entry = |entry: &crate::survey::ConnectionEntry| {
                // Greater than what every reader of JSON keeps whole.
                let id = entry.id.to_string();
                json!({"id": id, "node": entry.node, "user_id": entry.user_id, "path": entry.path, "rooms": entry.rooms})
            };
            let last = connections.last().filter(|_| connections.len() >= limit);
            let next = last.map(|last| format!("{}:{}", last.node, last.id));
            json!({"connections": connections.iter().map(entry).collect::<Vec<_>>(), "total": total, "next": next})
        }
        Survey::Rooms { rooms } => {
            let next = rooms.last().filter(|_| rooms.len() >= limit).map(|last| &last.room);
            json!({"rooms": rooms, "next": next})
        }
        Survey::Revoked { connections } => json!({"connections": connections}),
        Survey::Acks { clients, answers } => json!({"clients": clients, "answers": answers.len()}),
    };
    put_nodes(&mut body, surveyed);
    super::json(StatusCode::OK, body.to_string())
}

/// The answer about one room. A room in which nobody is has no members.
pub fn room_answer(name: &str, surveyed: &Surveyed, position: Option<Position>) -> Response<Bytes> {
    let members = match &surveyed.survey {
        Survey::Rooms { rooms } => rooms.first().map_or(0, |room| room.members),
        Survey::Connections { .. } | Survey::Acks { .. } | Survey::Revoked { .. } => 0,
    };
    let mut body = json!({"room": name, "members": members});
    if let (Some(position), Some(body)) = (position, body.as_object_mut()) {
        body.insert("position".into(), position.to_string().into());
    }
    put_nodes(&mut body, surveyed);
    super::json(StatusCode::OK, body.to_string())
}

/// Which nodes it is the answer of.
fn put_nodes(body: &mut Value, Surveyed { answered, asked, .. }: &Surveyed) {
    if let Some(body) = body.as_object_mut() {
        body.insert("nodes".into(), json!({"answered": answered, "asked": asked}));
    }
}

fn read_limit(limit: Option<&str>) -> Result<usize, Refusal> {
    match limit.map(str::parse) {
        None => Ok(USUAL),
        Some(Ok(limit @ 1..=MOST)) => Ok(limit),
        Some(_) => Err(bad(format!("limit must be a number from 1 to {MOST}"))),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::survey::{ConnectionEntry, RoomEntry};

    fn question(plan: Result<Plan<'_>, Refusal>) -> Result<Question, u16> {
        match plan {
            Ok(Plan::Survey(question)) => Ok(question),
            Ok(other) => panic!("{other:?}"),
            Err(Refusal(status, ..)) => Err(status.as_u16()),
        }
    }

    fn request(query: &str) -> Request<Bytes> {
        Request::get(format!("/api/x?{query}")).body(Bytes::new()).unwrap()
    }

    #[test]
    fn requests_become_questions() {
        let all = Question::Connections { user: None, after: None, limit: 100 };
        assert_eq!(question(connections(&request(""))), Ok(all));
        let page = Question::Connections { user: Some("7".into()), after: Some(("a:b".into(), 12)), limit: 5 };
        assert_eq!(question(connections(&request("user=7&after=a%3Ab:12&limit=5"))), Ok(page));
        let page = Question::Rooms { prefix: "project:".into(), exact: false, after: Some("project:7".into()), limit: 1000 };
        assert_eq!(question(rooms(&request("prefix=project%3A&after=project:7&limit=1000"))), Ok(page));
        for wrong in ["limit=0", "limit=1001", "limit=x", "after=x", "after=a:x", "other=1"] {
            assert_eq!(question(connections(&request(wrong))), Err(400), "{wrong}");
        }
    }

    #[test]
    fn an_answer_says_where_to_go_on_and_who_has_answered() {
        let entry = ConnectionEntry { node: "a".into(), id: 1 << 60, user_id: Some("7".into()), path: "/ws".into(), rooms: 2 };
        let survey = Survey::Connections { total: 9, connections: vec![entry] };
        let surveyed = Surveyed { survey, answered: 2, asked: Some(3) };
        let body = |response: Response<Bytes>| String::from_utf8(response.into_body().to_vec()).unwrap();
        let question = Question::Connections { user: None, after: None, limit: 1 };
        assert_eq!(
            serde_json::from_str::<Value>(&body(answer(&question, &surveyed))).unwrap(),
            json!({
                "connections": [{"id": "1152921504606846976", "node": "a", "user_id": "7", "path": "/ws", "rooms": 2}],
                "total": 9, "next": "a:1152921504606846976", "nodes": {"answered": 2, "asked": 3},
            })
        );
        let survey = Survey::Rooms { rooms: vec![RoomEntry { room: "r".into(), members: 3 }] };
        let surveyed = Surveyed { survey, answered: 1, asked: None };
        let expected = json!({"rooms": [{"room": "r", "members": 3}], "next": null, "nodes": {"answered": 1, "asked": null}});
        let question = Question::Rooms { prefix: "".into(), exact: false, after: None, limit: 2 };
        assert_eq!(serde_json::from_str::<Value>(&body(answer(&question, &surveyed))).unwrap(), expected);
        let expected = json!({"room": "r", "members": 3, "position": "1.2.3", "nodes": {"answered": 1, "asked": null}});
        let position = Some(Position { epoch: 1, offset: 2, tag: 3 });
        assert_eq!(serde_json::from_str::<Value>(&body(room_answer("r", &surveyed, position))).unwrap(), expected);
    }
}
