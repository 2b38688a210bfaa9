//! Pages of which origins may connect: decided before the upgrade, and the same whatever they speak and over whichever transport.

use std::path::Path;
use std::process::Command;

use roomcast_tests::gateway_tests;
use roomcast_tests::real::PATIENCE;
use roomcast_tests::real::client::access_token;
use roomcast_tests::real::gateway::Gateway;
use roomcast_tests::real::http::Response;
use roomcast_tests::real::process::run;
use roomcast_tests::real::raw::{RawClient, upgrade_request};
use roomcast_tests::real::setup::{SECRET, Setup, clean_command};
use serde_json::json;

gateway_tests!(
    an_origin_that_is_not_allowed_is_refused_before_the_upgrade,
    any_page_may_connect_by_default_but_none_whose_origin_is_none,
    a_page_may_read_the_answers_that_are_meant_for_it,
    what_is_no_origin_is_an_error_at_the_start,
);

const POLL: &str = "/socket.io/?EIO=4&transport=polling";

fn an_origin_that_is_not_allowed_is_refused_before_the_upgrade(binary: &Path) {
    let allowed = "https://app.example,https://*.test:*,http://[::1]:8080,null";
    let gateway = Setup::new(binary).option("--origins", allowed).start();
    for origins in [
        &[][..],
        &["https://app.example"],
        &["HTTPS://APP.example:443"],
        &["https://a.test"],
        &["https://a.b.test:8443"],
        &["http://[::1]:8080"],
        &["null"],
    ] {
        assert_eq!(statuses(&gateway, origins), [101, 101, 200], "{origins:?}");
    }
    let refused = [
        &["https://evil.example"][..],
        &["http://app.example"],
        &["https://app.example:8443"],
        &["https://app.example.evil.example"],
        &["https://www.app.example"],
        &["https://test"],
        &["https://a.test/"],
        &["https://a.test.evil.example"],
        &["https://evil.example/.test"],
        &["https://user@a.test"],
        &["http://[::1]"],
        &["http://[::2]:8080"],
        &["NULL"],
        &["https://b\u{fc}cher.test"],
        &[""],
        // Several are none, whichever comes first.
        &["https://app.example", "https://evil.example"],
        &["https://evil.example", "https://app.example"],
        &["https://app.example", "https://app.example"],
        &["https://app.example https://app.example"],
    ];
    let before = gateway.metric("roomcast_connections_refused_total");
    for origins in refused {
        assert_eq!(statuses(&gateway, origins), [403, 403, 403], "{origins:?}");
    }
    assert_eq!(gateway.metric("roomcast_connections_refused_total") - before, 3 * refused.len() as u64);
}

fn any_page_may_connect_by_default_but_none_whose_origin_is_none(binary: &Path) {
    let gateway = Setup::new(binary).start();
    for origin in ["https://app.example", "http://[::1]:1", "null", "capacitor://localhost", "file://"] {
        assert_eq!(statuses(&gateway, &[origin]), [101, 101, 200], "{origin}");
    }
    for origins in [&["nonsense"][..], &["*"], &["https://app.example", "https://app.example"]] {
        assert_eq!(statuses(&gateway, origins), [403, 403, 403], "{origins:?}");
    }
}

fn a_page_may_read_the_answers_that_are_meant_for_it(binary: &Path) {
    const READABLE: &str = "access-control-allow-origin";
    const CREDENTIALS: &str = "access-control-allow-credentials";
    let (page, evil) = ("https://a.test", "https://evil.example");
    let named = Setup::new(binary).option("--origins", "*, https://*.test").start();
    let any = Setup::new(binary).start();
    for (gateway, origin, credentials) in [(&named, page, Some("true")), (&named, evil, None), (&any, page, None)] {
        for (method, status) in [("GET", 200), ("OPTIONS", 204), ("PUT", 400)] {
            let answer = gateway.http(method, POLL, &[("origin", origin)], b"");
            assert_eq!(answer.status, status, "{method}");
            assert_eq!(answer.header(READABLE), Some(origin));
            assert_eq!((answer.header("vary"), answer.header(CREDENTIALS)), (Some("Origin"), credentials));
        }
        // What belongs to no session is for no other page.
        for path in ["/healthz", "/metrics", "/api/rooms", "/"] {
            assert_eq!(gateway.http("GET", path, &[("origin", origin)], b"").header(READABLE), None, "{path}");
        }
    }
    let only = Setup::new(binary).option("--origins", page).start();
    for method in ["GET", "OPTIONS", "POST"] {
        let answer: Response = only.http(method, POLL, &[("origin", evil)], b"");
        assert_eq!((answer.status, answer.header(READABLE), answer.header(CREDENTIALS)), (403, None, None), "{method}");
    }
    assert_eq!(only.http("GET", POLL, &[], b"").header(READABLE), None, "who sends no origin is no page");
}

fn what_is_no_origin_is_an_error_at_the_start(binary: &Path) {
    let mut command: Command = clean_command(binary);
    let output = run(command.args(["serve", "--origins", "https://app.example,https://*"]));
    let said = String::from_utf8_lossy(&output.stderr);
    assert!(!output.status.success() && said.contains("\"https://*\" is no origin: it may have a * only for"), "{said}");
}

/// What a page is answered that asks for a WebSocket, for one of Socket.IO, and for a session that polls.
fn statuses(gateway: &Gateway, origins: &[&str]) -> [u16; 3] {
    let headers: Vec<_> = origins.iter().map(|origin| ("origin", *origin)).collect();
    let token = access_token(SECRET, "alice", &json!({}));
    let upgrade = |path: &str| {
        let mut client = RawClient::connect(gateway.addr());
        client.send(&upgrade_request(path, &headers));
        let answer = client.response();
        assert!(answer.status == 101 || client.is_closed(PATIENCE));
        answer.status
    };
    let websockets = [format!("/ws?token={token}"), "/socket.io/?EIO=4&transport=websocket".into()].map(|path| upgrade(&path));
    [websockets[0], websockets[1], gateway.http("GET", POLL, &headers, b"").status]
}
