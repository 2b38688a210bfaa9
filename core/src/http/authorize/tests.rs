use jsonwebtoken::{EncodingKey, Header, encode};
use serde_json::{Value, json};

use super::*;
use crate::http::{Api, Plan, Planned, View};

/// A key and a scope each, in the order of [`Scope::ALL`].
fn key(scope: Scope) -> String {
    format!("{:.<32}", scope.name())
}

fn config(more: Value) -> Arc<Config> {
    let keys: Vec<Value> =
        Scope::ALL.iter().map(|scope| json!({"name": scope.name(), "key": key(*scope), "scopes": [scope.name()]})).collect();
    let mut api = json!({"keys": keys});
    api.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
    let config: Config = serde_json::from_value(json!({"api": api, "auth": {"secret": "s"}})).unwrap();
    config.validate().unwrap();
    Arc::new(config)
}

fn token(claims: Value) -> String {
    let mut all = json!({"sub": "7"});
    all.as_object_mut().unwrap().extend(claims.as_object().unwrap().clone());
    encode(&Header::default(), &all, &EncodingKey::from_secret(b"s")).unwrap()
}

fn ask(config: &Arc<Config>, method: &str, path: &str, credentials: &[&str]) -> (Option<Response<Bytes>>, Option<Access>) {
    let request = Request::builder().method(method).uri(path);
    let request = credentials.iter().fold(request, |request, given| request.header("authorization", *given));
    let body = if path == "/api/publish" { r#"{"room":"r","type":"t","data":1}"# } else { "" };
    let request = request.body(Bytes::from(body)).unwrap();
    let Planned { plan, access } = Api::new(config.clone()).plan(&request, UnixMillis(0), &View::default());
    let answer = match plan {
        Plan::Respond(response) => Some(response),
        _ => None,
    };
    (answer, access)
}

/// The status, or 200 where more is to be done before there is one.
fn status(config: &Arc<Config>, method: &str, path: &str, credentials: &[&str]) -> u16 {
    ask(config, method, path, credentials).0.map_or(200, |answer| answer.status().as_u16())
}

/// What each path takes.
const PATHS: [(&str, &str, Scope); 15] = [
    ("POST", "/api/publish", Scope::Publish),
    ("GET", "/api/connections", Scope::Inspect),
    ("GET", "/api/rooms", Scope::Inspect),
    ("GET", "/api/rooms/project:1", Scope::Inspect),
    ("GET", "/api/sources", Scope::Inspect),
    ("GET", "/metrics", Scope::Inspect),
    ("HEAD", "/metrics", Scope::Inspect),
    ("GET", "/api/rooms/project:1/history", Scope::History),
    ("GET", "/api/dlq/stream:ai-commands", Scope::DeadLetters),
    ("GET", "/api/dlq/stream:ai-commands/1-1", Scope::DeadLetters),
    ("POST", "/api/dlq/stream:ai-commands/replay", Scope::DeadLetters),
    ("DELETE", "/api/dlq/stream:ai-commands", Scope::DeadLetters),
    ("POST", "/api/users/7/disconnect", Scope::Users),
    ("POST", "/api/users/7/revoke", Scope::Users),
    ("POST", "/api/tokens/t-1/revoke", Scope::Users),
];

#[test]
fn each_path_takes_its_scope_and_no_other_opens_it() {
    let config = config(json!({"metrics": "protected"}));
    for (method, path, needed) in PATHS {
        let may = |given: String| ![401, 403].contains(&status(&config, method, path, &[&format!("Bearer {given}")]));
        for scope in Scope::ALL {
            assert_eq!(may(key(scope)), scope == needed, "{method} {path} with a key for {scope:?}");
            let named = format!("roomcast:{}", scope.name());
            for claims in [
                json!({"scope": format!("openid {named}")}),
                json!({"scopes": [named, "other"]}),
                json!({"scp": [named]}),
                json!({"scp": named, "role": "user"}),
            ] {
                assert_eq!(may(token(claims.clone())), scope == needed, "{method} {path} with {claims}");
            }
            for claims in [
                json!({"scope": scope.name()}),
                json!({"scope": format!("ROOMCAST:{}", scope.name())}),
                json!({"scope": format!("{named}2")}),
                json!({"scope": {named.as_str(): true}}),
                json!({"scopes": [[named]]}),
                json!({"role": ["admin"]}),
            ] {
                assert!(!may(token(claims.clone())), "{method} {path} with {claims}");
            }
        }
        assert!(may(token(json!({"role": "admin"}))), "{method} {path}");
        assert_eq!(status(&config, method, path, &[]), 401, "{method} {path}");
    }
}

#[test]
fn who_may_not_is_told_what_it_takes_and_nothing_else() {
    let config = config(json!({}));
    let (users, admin) = (format!("Bearer {}", key(Scope::Users)), format!("Bearer {}", token(json!({"role": "admin"}))));
    let challenge = "Bearer realm=\"roomcast\"";
    let invalid = &format!("{challenge}, error=\"invalid_token\"");
    let insufficient = &format!("{challenge}, error=\"insufficient_scope\", scope=\"roomcast:dead_letters\"");
    for (credentials, status, code, told) in [
        (&[][..], 401, "unauthorized", Some(challenge)),
        (&[""], 401, "unauthorized", Some(challenge)),
        (&["Basic dXNlcjpwYXNz"], 401, "unauthorized", Some(challenge)),
        (&["Bearer"], 401, "token_invalid", Some(invalid)),
        (&["Bearer "], 401, "token_invalid", Some(invalid)),
        (&["Bearer nonsense"], 401, "token_invalid", Some(invalid)),
        (&[&users[..users.len() - 1]], 401, "token_invalid", Some(invalid)),
        (&[&format!("{users}.")], 401, "token_invalid", Some(invalid)),
        (&[&users], 403, "forbidden", Some(insufficient)),
        (&[&admin, &admin], 400, "invalid_request", None),
        (&[&users, &admin], 400, "invalid_request", None),
        (&["", &admin], 400, "invalid_request", None),
    ] {
        // Whether there is such a source is told to nobody else.
        for path in ["/api/dlq/stream:ai-commands", "/api/dlq/none", "/api/dlq/%"] {
            let (answer, _) = ask(&config, "GET", path, credentials);
            let answer = answer.unwrap();
            let body: Value = serde_json::from_slice(answer.body()).unwrap();
            assert_eq!((answer.status().as_u16(), &body["error"]["code"]), (status, &json!(code)), "{credentials:?}");
            let header = answer.headers().get(WWW_AUTHENTICATE).map(|value| value.to_str().unwrap());
            assert_eq!(header, told.map(|told| told as &str), "{credentials:?}");
        }
    }
}

#[test]
fn it_is_known_who_asks_for_what() {
    let config = config(json!({}));
    let history = "/api/rooms/project:1/history";
    let access = |scope, caller| Some(Access { scope, caller });
    let key_of = |scope: Scope| Some(Caller::Key(scope.name().into()));
    for (path, given, expected) in [
        (history, key(Scope::History), access(Scope::History, key_of(Scope::History))),
        (history, key(Scope::Users), access(Scope::History, key_of(Scope::Users))),
        (history, token(json!({"role": "admin"})), access(Scope::History, Some(Caller::User("7".into())))),
        (history, token(json!({})), access(Scope::History, Some(Caller::User("7".into())))),
        (history, "nonsense".into(), access(Scope::History, None)),
        ("/metrics", key(Scope::History), None),
        ("/healthz", key(Scope::History), None),
    ] {
        assert_eq!(ask(&config, "GET", path, &[&format!("Bearer {given}")]).1, expected, "{path}");
    }
    assert!(!format!("{:?}", Api::new(config)).contains(&key(Scope::Users)));
}

#[test]
fn what_is_open_is_configured() {
    let (open, closed) = (config(json!({})), config(json!({"metrics": "protected", "console": false})));
    let inspect = format!("Bearer {}", key(Scope::Inspect));
    for (config, metrics, with_key, console) in [(&open, 200, 200, 200), (&closed, 401, 200, 404)] {
        assert_eq!(status(config, "GET", "/metrics", &[]), metrics);
        assert_eq!(status(config, "GET", "/metrics", &[&inspect]), with_key);
        assert_eq!(status(config, "POST", "/metrics", &[&inspect]), 405);
        assert_eq!(status(config, "GET", "/", &[]), console);
        for path in ["/healthz", "/readyz"] {
            assert_eq!(status(config, "GET", path, &[]), 200, "{path} is for balancers, which have no key");
        }
    }
}
