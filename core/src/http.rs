//! The HTTP side, purely: what a request asks for and what is answered, on `http` types. Runtimes carry the bytes.

use std::sync::Arc;

use bytes::Bytes;
use http::header::{ALLOW, CACHE_CONTROL, CONTENT_TYPE, UPGRADE, X_CONTENT_TYPE_OPTIONS};
use http::{Method, Request, Response, StatusCode};
use serde::Deserialize;
use serde_json::value::RawValue;

use crate::config::{Config, Route};
use crate::dead_letter;
use crate::dialect::json::{Object, identifier};
use crate::door::Published;
use crate::health::SourceHealth;
use crate::history::Reading;
use crate::hub::EVERYBODY;
use crate::message::{Json, Outgoing};
use crate::stats::{Measure, Stats};
use crate::survey::Question;
use crate::time::UnixMillis;
use crate::token::{Keys, Revoked, Subject};

mod authorize;
mod console;
pub mod dead_letters;
mod query;
pub mod rooms;
mod sources;
pub mod surveys;
pub mod users;

use authorize::Authorizer;
pub use authorize::{Access, Caller};
use console::Console;

/// Longest body of a request that is read, in bytes.
pub const MOST_BODY: usize = 1 << 20;

/// What the answers need to know of the node at the moment.
#[derive(Clone, Debug, Default)]
pub struct View {
    /// The counters of all its parts.
    pub stats: Stats,
    /// Why it is not ready; empty when it is.
    pub unready: Vec<String>,
    /// How its sources are doing.
    pub sources: Arc<[SourceHealth]>,
}

/// What is to be done about a request, and for whom.
#[derive(Debug)]
pub struct Planned<'a> {
    /// What is to be done.
    pub plan: Plan<'a>,
    /// What it takes, where not everybody may ask for it.
    pub access: Option<Access>,
}

/// What is to be done about a request.
#[derive(Debug)]
pub enum Plan<'a> {
    /// Answer it.
    Respond(Response<Bytes>),
    /// Publish a message to a room, then answer with [`published`].
    Publish {
        /// The room.
        room: String,
        /// The message.
        message: Message<'a>,
    },
    /// Have something done with dead letters, then answer with [`dead_letters::answer`].
    Operate {
        /// The source, by its index in the configuration.
        source: usize,
        /// What is wanted.
        request: dead_letter::Request,
    },
    /// Close every connection of a user, on all nodes, then answer with [`users::answer`].
    Disconnect {
        /// The user.
        user: String,
    },
    /// Revoke tokens, on all nodes, then answer with [`users::revoked`].
    Revoke(Subject),
    /// Ask all nodes, then answer with [`surveys::answer`].
    Survey(Question),
    /// Ask all nodes about a room with [`surveys::room`], and the store where it stands; then answer with [`surveys::room_answer`].
    Room(String),
    /// Read part of a room's history, then answer with [`rooms::answer`].
    Read(Reading),
    /// Have the hub of its session answer it, see [`Hub::exchange`](crate::hub::Hub::exchange).
    Exchange,
}

/// A message of the API.
#[derive(Debug, Deserialize)]
pub struct Message<'a> {
    #[serde(borrow)]
    r#type: std::borrow::Cow<'a, str>,
    #[serde(borrow)]
    data: &'a RawValue,
    #[serde(borrow, default)]
    message_id: Option<std::borrow::Cow<'a, str>>,
    #[serde(default)]
    room: Option<String>,
    #[serde(borrow, default)]
    user_id: Option<&'a RawValue>,
    #[serde(borrow, default)]
    project_id: Option<&'a RawValue>,
    #[serde(default)]
    broadcast: bool,
}

impl Message<'_> {
    /// The message, to be encoded.
    pub fn outgoing(&self) -> Outgoing<'_> {
        Outgoing { kind: &self.r#type, data: Json::from(self.data), timestamp: None, message_id: self.message_id.as_deref() }
    }

    /// The room of the one target it names; nothing where it names none, or several.
    pub fn target(&self) -> Option<String> {
        let mut targets = [
            self.room.clone(),
            self.user_id.map(|id| format!("user:{}", identifier(id).unwrap_or_default())),
            self.project_id.map(|id| format!("project:{}", identifier(id).unwrap_or_default())),
            self.broadcast.then(|| EVERYBODY.to_owned()),
        ]
        .into_iter()
        .flatten();
        let first = targets.next().filter(|room| !room.ends_with(':'));
        if targets.next().is_some() { None } else { first }
    }
}

/// Answers requests for one node.
///
/// ```
/// use std::sync::Arc;
/// use bytes::Bytes;
/// use roomcast_core::config::Config;
/// use roomcast_core::http::{Api, Plan, View};
/// use roomcast_core::time::UnixMillis;
///
/// let api = Api::new(Arc::new(Config::default()));
/// let request = http::Request::get("/healthz").body(Bytes::new()).unwrap();
/// let Plan::Respond(response) = api.plan(&request, UnixMillis(0), &View::default()).plan else { panic!() };
/// assert_eq!(response.status(), 200);
/// ```
#[derive(Clone, Debug)]
pub struct Api {
    config: Arc<Config>,
    authorizer: Authorizer,
    console: Console,
}

impl Api {
    /// The API of a node with this configuration.
    pub fn new(config: Arc<Config>) -> Api {
        Api { authorizer: Authorizer::new(config.clone()), console: Console::new(), config }
    }

    /// Checks tokens by these keys from now on.
    pub fn set_keys(&mut self, keys: Arc<Keys>) {
        self.authorizer.verifier().set_keys(keys);
    }

    /// Refuses what is revoked by these from now on.
    pub fn set_revoked(&mut self, revoked: Arc<Revoked>) {
        self.authorizer.verifier().set_revoked(revoked);
    }

    /// Decides about a request. Its body is whole, and no longer than [`MOST_BODY`].
    pub fn plan<'a>(&self, request: &'a Request<Bytes>, now: UnixMillis, view: &View) -> Planned<'a> {
        let Some(scope) = self.authorizer.scope_of(request.uri().path()) else {
            return Planned { plan: self.open(request, view), access: None };
        };
        // Who may not is told nothing else, such as what there is.
        let (plan, caller) = match self.authorizer.authorize(request, scope, now) {
            Ok(caller) => (refused_or(self.guarded(request, view)), Some(caller)),
            Err(refused) => (Plan::Respond(refused.answer), refused.caller),
        };
        Planned { plan, access: Some(Access { scope, caller }) }
    }

    /// A path that is open to everybody.
    fn open(&self, request: &Request<Bytes>, view: &View) -> Plan<'static> {
        let path = request.uri().path();
        let reads = reads(request);
        let plan = match path {
            "/" if reads && self.config.api.console => self.console.answer(),
            "/healthz" if reads => json(StatusCode::OK, Object::new().string("status", "ok").finish()),
            "/readyz" if reads => readiness(view),
            "/metrics" if reads => metrics(view),
            "/" if self.config.api.console => not_allowed("GET, HEAD"),
            "/healthz" | "/readyz" | "/metrics" => not_allowed("GET, HEAD"),
            _ if self.has_sessions(path) => return Plan::Exchange,
            _ if Route::find(&self.config.routes, path).is_some() => upgrade_required(),
            _ => error(StatusCode::NOT_FOUND, "not_found", "Nothing is served on this path"),
        };
        Plan::Respond(plan)
    }

    /// A path that takes a scope, which the caller has.
    fn guarded<'a>(&self, request: &'a Request<Bytes>, view: &View) -> Result<Plan<'a>, Refusal> {
        let path = request.uri().path();
        let reads = reads(request);
        match path {
            "/metrics" if reads => Ok(Plan::Respond(metrics(view))),
            "/api/connections" if reads => surveys::connections(request),
            "/api/rooms" if reads => surveys::rooms(request),
            "/api/sources" if reads => Ok(Plan::Respond(json(StatusCode::OK, sources::json(&view.sources)))),
            "/api/publish" if request.method() == Method::POST => self.publish(request),
            "/api/publish" => Ok(Plan::Respond(not_allowed("POST"))),
            _ if let Some(rest) = path.strip_prefix(dead_letters::PATH) => dead_letters::plan(&self.config, rest, request),
            _ if let Some(rest) = path.strip_prefix(rooms::PATH) => rooms::plan(&self.config, rest, request),
            _ if let Some(rest) = path.strip_prefix(users::PATH) => users::plan(rest, request),
            _ if let Some(rest) = path.strip_prefix(users::TOKENS) => users::plan_token(rest, request),
            _ => Ok(Plan::Respond(not_allowed("GET, HEAD"))),
        }
    }

    /// Whether requests to this path belong to sessions of Engine.IO.
    pub fn has_sessions(&self, path: &str) -> bool {
        let route = Route::find(&self.config.routes, path).and_then(|(route, _)| self.config.routes.get(route));
        route.is_some_and(|route| route.dialect.is_engine())
    }

    fn publish<'a>(&self, request: &'a Request<Bytes>) -> Result<Plan<'a>, Refusal> {
        let bad = |message: String| Refusal(StatusCode::BAD_REQUEST, "invalid_message", message);
        let message: Message<'a> = serde_json::from_slice(request.body())
            .map_err(|why| bad(format!("The body must be a JSON object with a target, type and data: {why}")))?;
        let room = message.target().ok_or_else(|| bad("Name one target: room, user_id, project_id or broadcast".into()))?;
        if !self.config.limits.allows_room_name(&room) {
            return Err(bad("The room name is empty, too long or has control characters".into()));
        }
        Ok(Plan::Publish { room, message })
    }
}

fn reads(request: &Request<Bytes>) -> bool {
    request.method() == Method::GET || request.method() == Method::HEAD
}

/// A request that is refused: status, code and message.
struct Refusal(StatusCode, &'static str, String);

fn refused_or(plan: Result<Plan<'_>, Refusal>) -> Plan<'_> {
    plan.unwrap_or_else(|Refusal(status, code, message)| Plan::Respond(error(status, code, &message)))
}

/// The answer to a publish, once the store has answered.
pub fn published(message_id: &str, result: Published) -> Response<Bytes> {
    match result {
        Ok(position) => json(StatusCode::OK, Object::new().string("message_id", message_id).position(position).finish()),
        Err(why) => error(StatusCode::SERVICE_UNAVAILABLE, "unavailable", why.message()),
    }
}

/// An error answer, in the form of the whole API: `{"error":{"code","message"}}`.
pub fn error(status: StatusCode, code: &str, message: &str) -> Response<Bytes> {
    let inner = Object::new().string("code", code).string("message", message).finish();
    json(status, format!("{{\"error\":{inner}}}"))
}

fn readiness(view: &View) -> Response<Bytes> {
    if view.unready.is_empty() {
        return json(StatusCode::OK, Object::new().string("status", "ok").finish());
    }
    let reasons = view.unready.iter().map(String::as_str);
    let body = Object::new().string("status", "unavailable").strings("reasons", reasons).finish();
    json(StatusCode::SERVICE_UNAVAILABLE, body)
}

/// The Prometheus text format, version 0.0.4.
fn metrics(view: &View) -> Response<Bytes> {
    let mut text = String::new();
    for (name, help, measure, value) in view.stats.figures() {
        let kind = match measure {
            Measure::Counter => "counter",
            Measure::Gauge => "gauge",
        };
        text.push_str(&format!("# HELP {name}{help}\n# TYPE {name} {kind}\n{name} {value}\n"));
    }
    sources::metrics(&view.sources, &mut text);
    answer(StatusCode::OK, "text/plain; version=0.0.4; charset=utf-8", text.into())
}

fn upgrade_required() -> Response<Bytes> {
    let message = "This path is served over WebSocket";
    let mut response = error(StatusCode::UPGRADE_REQUIRED, "upgrade_required", message);
    response.headers_mut().insert(UPGRADE, http::HeaderValue::from_static("websocket"));
    response
}

fn not_allowed(allowed: &'static str) -> Response<Bytes> {
    let mut response = error(StatusCode::METHOD_NOT_ALLOWED, "method_not_allowed", "This method is not served on this path");
    response.headers_mut().insert(ALLOW, http::HeaderValue::from_static(allowed));
    response
}

fn json(status: StatusCode, body: String) -> Response<Bytes> {
    answer(status, "application/json", body.into())
}

fn answer(status: StatusCode, content_type: &'static str, body: Bytes) -> Response<Bytes> {
    let mut response = Response::new(body);
    *response.status_mut() = status;
    let headers = response.headers_mut();
    headers.insert(CONTENT_TYPE, http::HeaderValue::from_static(content_type));
    headers.insert(CACHE_CONTROL, http::HeaderValue::from_static("no-store"));
    headers.insert(X_CONTENT_TYPE_OPTIONS, http::HeaderValue::from_static("nosniff"));
    response
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::Auth;
    use crate::store::GroupHealth;
    use core::time::Duration;
    use jsonwebtoken::{EncodingKey, Header, encode};
    use serde_json::json;

    fn token(role: &str) -> String {
        let claims = json!({"sub": "7", "role": role});
        encode(&Header::default(), &claims, &EncodingKey::from_secret(b"s")).unwrap()
    }

    fn respond(request: Request<Bytes>, view: &View) -> (u16, String) {
        let config = Config { auth: Auth::secret("s"), ..Config::default() };
        match Api::new(Arc::new(config)).plan(&request, UnixMillis(0), view).plan {
            Plan::Respond(response) => (response.status().as_u16(), String::from_utf8(response.body().to_vec()).unwrap()),
            Plan::Publish { room, message } => (0, format!("{room} {:?}", message.outgoing().data)),
            Plan::Operate { source, request } => (0, format!("{source} {request:?}")),
            Plan::Disconnect { user } => (0, user),
            Plan::Survey(question) => (0, format!("{question:?}")),
            Plan::Revoke(subject) => (0, format!("{subject:?}")),
            Plan::Room(room) => (0, room),
            Plan::Read(reading) => (0, format!("{} {:?}", reading.room, reading.query)),
            Plan::Exchange => (0, "exchange".into()),
        }
    }

    fn publish(authorization: &str, body: &'static str) -> (u16, String) {
        let request = Request::post("/api/publish").header("authorization", authorization);
        respond(request.body(Bytes::from(body)).unwrap(), &View::default())
    }

    #[test]
    fn only_an_administrator_publishes() {
        let body = r#"{"room":"r","type":"t","data":1.0}"#;
        assert_eq!(publish("", body).0, 401);
        assert_eq!(publish("Bearer nonsense", body).0, 401);
        assert_eq!(publish(&format!("Bearer {}", token("user")), body).0, 403);
        for scheme in ["Bearer", "bearer"] {
            assert_eq!(publish(&format!("{scheme} {}", token("admin")), body), (0, "r Json(\"1.0\")".into()));
        }
    }

    #[test]
    fn only_an_administrator_works_on_dead_letters() {
        let list = |authorization: &str, source: &str| {
            let request = Request::get(format!("/api/dlq/{source}")).header("authorization", authorization);
            respond(request.body(Bytes::new()).unwrap(), &View::default())
        };
        // Who may not work on them is not told either which sources there are.
        for source in ["stream:file-events", "stream:none", "%"] {
            assert_eq!(list("", source).0, 401);
            assert_eq!(list("Bearer nonsense", source).0, 401);
            assert_eq!(list(&format!("Bearer {}", token("user")), source).0, 403);
        }
        let admin = format!("Bearer {}", token("admin"));
        assert_eq!(list(&admin, "stream:ai-commands"), (0, "1 List { count: 20, before: None }".into()));
        assert_eq!(list(&admin, "stream:none").0, 404);
        assert_eq!(list(&admin, "%").0, 400);
    }

    #[test]
    fn only_an_administrator_reads_what_was_said_in_a_room() {
        let read = |authorization: &str, room: &str| {
            let request = Request::get(format!("/api/rooms/{room}/history?reverse=true")).header("authorization", authorization);
            respond(request.body(Bytes::new()).unwrap(), &View::default())
        };
        // Who may not read is not told either which rooms keep a history.
        for room in ["project:1", "user:7", "%"] {
            assert_eq!(read("", room).0, 401);
            assert_eq!(read(&format!("Bearer {}", token("user")), room).0, 403);
        }
        let admin = format!("Bearer {}", token("admin"));
        assert_eq!(read(&admin, "project:1"), (0, "project:1 Newest".into()));
        assert_eq!(read(&admin, "user:7").0, 404);
        assert_eq!(read(&admin, "%").0, 400);
    }

    #[test]
    fn a_publish_names_exactly_one_target() {
        let bearer = format!("Bearer {}", token("admin"));
        for (body, outcome) in [
            (r#"{"type":"t","data":1}"#, "400"),
            (r#"{"room":"r","user_id":"7","type":"t","data":1}"#, "400"),
            (r#"{"room":"","type":"t","data":1}"#, "400"),
            (r#"{"user_id":"7","type":"t","data":1}"#, "user:7"),
            (r#"{"user_id":7,"type":"t","data":1}"#, "user:7"),
            (r#"{"user_id":"","type":"t","data":1}"#, "400"),
            (r#"{"user_id":{},"type":"t","data":1}"#, "400"),
            (r#"{"room":"a\nb","type":"t","data":1}"#, "400"),
            (r#"{"project_id":"7","type":"t","data":1}"#, "project:7"),
            (r#"{"broadcast":true,"type":"t","data":1}"#, "* "),
            ("nonsense", "400"),
        ] {
            let (status, text) = publish(&bearer, body);
            let found = if status == 0 { text } else { status.to_string() };
            assert!(found.starts_with(outcome), "{body}: {found}");
        }
    }

    #[test]
    fn readiness_gives_its_reasons() {
        let ready = || Request::get("/readyz").body(Bytes::new()).unwrap();
        assert_eq!(respond(ready(), &View::default()).0, 200);
        let view = View { unready: vec!["no store".into()], ..View::default() };
        assert_eq!(respond(ready(), &view), (503, r#"{"status":"unavailable","reasons":["no store"]}"#.into()));
    }

    #[test]
    fn metrics_carry_help_type_and_value() {
        let view = View { stats: Stats { opened: 3, ..Stats::default() }, ..View::default() };
        let (_, text) = respond(Request::get("/metrics").body(Bytes::new()).unwrap(), &view);
        let expected = "# HELP roomcast_connections_opened_total Connections accepted.\n# TYPE roomcast_connections_opened_total counter\nroomcast_connections_opened_total 3\n";
        assert!(text.contains(expected), "{text}");
    }

    #[test]
    fn sources_are_told_to_administrators_and_to_prometheus() {
        let health =
            GroupHealth { lag: 3, lag_exact: true, oldest_pending: Some(Duration::from_millis(1500)), ..Default::default() };
        let source = SourceHealth {
            stream: "a \"b\"".into(),
            group: "g".into(),
            dead_letter: "d".into(),
            in_hand: 2,
            unready: None,
            last_error: Some((UnixMillis(0), "OOM".into())),
            measured: Some((UnixMillis(1000), health)),
        };
        let unseen = SourceHealth { measured: None, unready: Some("is being opened".into()), ..source.clone() };
        let view = View { sources: [source, unseen].into(), ..View::default() };
        let sources = |authorization: &str| {
            let request = Request::get("/api/sources").header("authorization", authorization);
            respond(request.body(Bytes::new()).unwrap(), &view)
        };
        assert_eq!((sources("").0, sources(&format!("Bearer {}", token("user"))).0), (401, 403));
        let (status, body) = sources(&format!("Bearer {}", token("admin")));
        assert_eq!(status, 200);
        let body: serde_json::Value = serde_json::from_str(&body).unwrap();
        let [first, second] = &body["sources"].as_array().unwrap()[..] else { panic!("{body}") };
        assert_eq!((&first["lag"], &first["oldest_pending_ms"], &first["ready"]), (&json!(3), &json!(1500), &json!(true)));
        assert_eq!(first["last_error"], json!({"error": "OOM", "timestamp": "1970-01-01T00:00:00.000Z"}));
        assert_eq!((&second["as_of"], &second["reason"], second.get("lag")), (&json!(null), &json!("is being opened"), None));

        let (_, metrics) = respond(Request::get("/metrics").body(Bytes::new()).unwrap(), &view);
        assert!(
            metrics.contains("\n# TYPE roomcast_source_lag gauge\nroomcast_source_lag{stream=\"a \\\"b\\\"\",group=\"g\"} 3\n")
        );
        assert!(metrics.contains("roomcast_source_oldest_pending_seconds{stream=\"a \\\"b\\\"\",group=\"g\"} 1.5\n"));
    }

    #[test]
    fn other_methods_and_paths_are_refused() {
        assert_eq!(respond(Request::post("/healthz").body(Bytes::new()).unwrap(), &View::default()).0, 405);
        let admin = Request::get("/api/publish").header("authorization", format!("Bearer {}", token("admin")));
        assert_eq!(respond(admin.body(Bytes::new()).unwrap(), &View::default()).0, 405);
        assert_eq!(respond(Request::get("/nowhere").body(Bytes::new()).unwrap(), &View::default()).0, 404);
        for path in ["/ws", "/ws/jobs/42"] {
            assert_eq!(respond(Request::get(path).body(Bytes::new()).unwrap(), &View::default()).0, 426);
        }
    }
}
