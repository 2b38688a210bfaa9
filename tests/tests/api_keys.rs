//! The HTTP API: who may use which part of it, by keys that the binary makes and by the scopes of tokens.

use std::path::Path;
use std::process::Output;

use roomcast_tests::gateway_tests;
use roomcast_tests::real::PATIENCE;
use roomcast_tests::real::client::access_token;
use roomcast_tests::real::gateway::Gateway;
use roomcast_tests::real::process::run;
use roomcast_tests::real::setup::{SECRET, Setup, clean_command};
use serde_json::{Value, json};

gateway_tests!(
    a_key_that_was_made_opens_what_it_is_for,
    a_token_opens_the_scopes_it_names,
    the_commands_take_a_key,
    metrics_and_the_console_can_be_kept_back,
    the_console_is_shown_by_no_other_page,
);

/// Everything that takes a scope, and answers without a Redis.
const PATHS: [(&str, &str, &str); 6] = [
    ("POST", "/api/publish", "publish"),
    ("GET", "/api/connections", "inspect"),
    ("GET", "/api/rooms/project:1/history", "history"),
    ("GET", "/api/dlq/stream:file-events", "dead_letters"),
    ("POST", "/api/users/nobody/disconnect", "users"),
    ("GET", "/metrics", "inspect"),
];

/// A key and the table of the configuration that knows it, from the command that makes them.
fn make(binary: &Path, name: &str, scopes: &str) -> (String, String) {
    let output = run(clean_command(binary).args(["api-key", "--name", name, "--scopes", scopes]));
    assert!(output.status.success(), "{}", said(&output));
    let key = String::from_utf8(output.stderr).expect("a key is text");
    let table = String::from_utf8(output.stdout).expect("a table is text");
    let key = key.trim();
    assert!(key.len() >= 64 && key.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'_'), "{key:?}");
    assert!(table.starts_with("[[api.keys]]\n") && !table.contains(key), "{table}");
    (key.into(), table)
}

fn status(gateway: &Gateway, method: &str, path: &str, bearer: &str) -> u16 {
    let body = json!({"room": "project:1", "type": "t", "data": 1}).to_string();
    let body = if path == "/api/publish" { body.as_bytes() } else { b"" };
    gateway.http(method, path, &[("authorization", &format!("Bearer {bearer}"))], body).status
}

fn a_key_that_was_made_opens_what_it_is_for(binary: &Path) {
    let (deploy, first) = make(binary, "deploy", "publish,users");
    let (other, _) = make(binary, "other", "publish");
    assert_ne!(deploy, other, "no two are the same");
    let (watch, second) = make(binary, "watch", "inspect");
    let config = format!("{first}{second}[api]\nmetrics = \"protected\"\n");
    let gateway = Setup::new(binary).config(&config).start();
    for (method, path, scope) in PATHS {
        for (key, opens) in [(&deploy, &["publish", "users"][..]), (&watch, &["inspect"])] {
            let expected = if opens.contains(&scope) { 200 } else { 403 };
            assert_eq!(status(&gateway, method, path, key), expected, "{method} {path} with a key for {opens:?}");
        }
        assert_eq!(status(&gateway, method, path, &other), 401, "{method} {path} with a key of somewhere else");
        assert_eq!(gateway.http(method, path, &[], b"").status, 401, "{method} {path}");
    }
    // A key is no token of a user.
    let answer = gateway.http("GET", "/api/connections", &[("authorization", &format!("Bearer {watch}"))], b"");
    assert_eq!(answer.json()["total"], 0);
}

fn a_token_opens_the_scopes_it_names(binary: &Path) {
    let gateway = Setup::new(binary).config("[api]\nmetrics = \"protected\"\n").start();
    for (method, path, scope) in PATHS {
        for opened in ["publish", "inspect", "history", "dead_letters", "users"] {
            let token = access_token(SECRET, "7", &json!({"scope": format!("openid roomcast:{opened}")}));
            let expected = if opened == scope { 200 } else { 403 };
            assert_eq!(status(&gateway, method, path, &token), expected, "{method} {path} with {opened}");
        }
    }
}

fn the_commands_take_a_key(binary: &Path) {
    let (key, table) = make(binary, "deploy", "publish");
    let gateway = Setup::new(binary).config(&table).start();
    let mut member = gateway.member("7", "project:1");
    let url = format!("http://{}", gateway.addr());
    let publish = ["publish", "--url", &url, "--room", "project:1", "--type", "note", "--data", "1"];
    let output = run(clean_command(binary).args(publish).args(["--key", &key]));
    assert!(output.status.success(), "{}", said(&output));
    let output = run(clean_command(binary).args(publish).env("ROOMCAST_API_KEY", &key));
    assert!(output.status.success(), "{}", said(&output));
    for _ in 0..2 {
        assert_eq!(member.wait_for_type("note", PATIENCE)["data"], 1);
    }
    let output = run(clean_command(binary).args(["disconnect", "--url", &url, "--user", "7", "--key", &key]));
    assert!(!output.status.success() && said(&output).contains("403"), "{}", said(&output));
    assert!(!said(&output).contains(&key));
    let output = run(clean_command(binary).args(["api-key", "--name", "a b", "--scopes", "publish"]));
    assert!(!output.status.success() && said(&output).contains("api.keys[0].name"), "{}", said(&output));
    let output = run(clean_command(binary).args(["api-key", "--name", "a", "--scopes", "everything"]));
    assert!(!output.status.success() && said(&output).contains("dead_letters"), "{}", said(&output));
}

fn metrics_and_the_console_can_be_kept_back(binary: &Path) {
    let gateway = Setup::new(binary).config("[api]\nmetrics = \"protected\"\nconsole = false\n").start();
    let get = |path: &str| gateway.http("GET", path, &[], b"");
    assert_eq!(get("/metrics").header("www-authenticate"), Some("Bearer realm=\"roomcast\""));
    assert_eq!([get("/").status, get("/metrics").status, get("/healthz").status, get("/readyz").status], [404, 401, 200, 200]);
    let admin = access_token(SECRET, "operator", &json!({"role": "admin"}));
    assert_eq!(status(&gateway, "GET", "/metrics", &admin), 200);
    let bearer = format!("Bearer {admin}");
    let answer = gateway.http("GET", "/metrics", &[("authorization", &*bearer); 2], b"");
    assert_eq!((answer.status, &answer.json()["error"]["code"]), (400, &Value::from("invalid_request")));
}

fn the_console_is_shown_by_no_other_page(binary: &Path) {
    let gateway = Setup::new(binary).start();
    let console = gateway.http("GET", "/", &[], b"");
    let policy = console.header("content-security-policy").unwrap_or_default();
    for part in ["default-src 'none'", "frame-ancestors 'none'", "base-uri 'none'", "form-action 'none'", "script-src 'sha256-"] {
        assert!(policy.contains(part), "{policy}");
    }
    assert!(policy.contains("require-trusted-types-for 'script'") && !policy.contains("unsafe"), "{policy}");
    assert_eq!(console.header("referrer-policy"), Some("no-referrer"));
    for path in ["/", "/healthz", "/metrics", "/api/publish", "/nowhere"] {
        assert_eq!(gateway.http("GET", path, &[], b"").header("x-content-type-options"), Some("nosniff"), "{path}");
    }
    // What others have published becomes text of the page, never markup.
    let page = console.text();
    for sink in ["innerHTML", "outerHTML", "insertAdjacentHTML", "document.write", "eval(", "new Function", "setHTML"] {
        assert!(!page.contains(sink), "the console has {sink}");
    }
}

fn said(output: &Output) -> String {
    String::from_utf8_lossy(&output.stderr).into_owned()
}
