//! What rooms remember, over HTTP and on real Redis.

use std::path::Path;

use roomcast_tests::gateway_tests;
use roomcast_tests::real::PATIENCE;
use roomcast_tests::real::client::access_token;
use roomcast_tests::real::gateway::Gateway;
use roomcast_tests::real::http::Response;
use roomcast_tests::real::proxy::Proxy;
use roomcast_tests::real::redis::RedisServer;
use roomcast_tests::real::setup::{SECRET, Setup};
use serde_json::{Value, json};

const ROOM: &str = "project:a/b ü";
const PATH: &str = "/api/rooms/project%3Aa%2Fb%20%C3%BC/history";

gateway_tests!(
    a_history_is_read_page_by_page_on_any_node,
    it_is_the_same_as_what_a_client_is_sent,
    a_position_of_a_room_that_was_flushed_is_not_recovered,
    only_an_administrator_reads_it_and_only_where_there_is_one,
    while_the_store_is_away_nothing_is_made_up,
);

fn a_history_is_read_page_by_page_on_any_node(binary: &Path) {
    let redis = RedisServer::start();
    let (a, b) = (node(binary, &redis.url(), "a"), node(binary, &redis.url(), "b"));
    (0..10).for_each(|number| a.publish(ROOM, "note", &json!(number)));

    let first = page(&b, "?limit=4");
    assert_eq!((numbers(&first), &first["room"], first.get("recovered")), (vec![0, 1, 2, 3], &json!(ROOM), None));
    let next = page(&a, &format!("?limit=4&since={}", last(&first)));
    assert_eq!((numbers(&next), &next["recovered"]), (vec![4, 5, 6, 7], &json!(true)));
    let end = page(&b, &format!("?limit=4&since={}", last(&next)));
    assert_eq!((numbers(&end), last(&end)), (vec![8, 9], text(&end["position"])));
    let nothing = page(&b, &format!("?since={}", last(&end)));
    assert_eq!((numbers(&nothing), &nothing["recovered"]), (vec![], &json!(true)));

    let newest = page(&a, "?limit=3&reverse=true");
    assert_eq!(numbers(&newest), [9, 8, 7]);
    assert_eq!(numbers(&page(&a, &format!("?limit=3&reverse=true&since={}", last(&newest)))), [6, 5, 4]);
    let head = b.http("HEAD", PATH, &[("authorization", &admin())], b"");
    assert_eq!((head.status, head.body.len()), (200, 0));
}

fn it_is_the_same_as_what_a_client_is_sent(binary: &Path) {
    let redis = RedisServer::start();
    let a = node(binary, &redis.url(), "a");
    let mut member = a.member("alice", ROOM);
    (0..3).for_each(|number| a.publish(ROOM, "note", &json!({"b": number, "a": null})));
    let live: Vec<Value> = (0..3).map(|_| member.expect_type("note")).collect();
    let page = page(&a, "");
    assert_eq!(page["messages"], json!(live));
    member.send(&json!({"type": "history", "data": {"room": ROOM}}));
    assert_eq!(member.expect_type("history")["data"], page);
}

fn a_position_of_a_room_that_was_flushed_is_not_recovered(binary: &Path) {
    let redis = RedisServer::start();
    let a = node(binary, &redis.url(), "a");
    (0..3).for_each(|number| a.publish(ROOM, "note", &json!(number)));
    let before = last(&page(&a, ""));
    redis.command(&["FLUSHALL"]);
    let empty = page(&a, &format!("?since={before}"));
    assert_eq!((numbers(&empty), &empty["recovered"]), (vec![], &json!(false)));
    a.publish(ROOM, "note", &json!(3));
    let after = page(&a, &format!("?since={before}"));
    assert_eq!((after["recovered"].clone(), after["position"] != empty["position"]), (json!(false), true));
    assert_eq!(numbers(&page(&a, "")), [3], "whoever is told so reads it from its beginning");
}

fn only_an_administrator_reads_it_and_only_where_there_is_one(binary: &Path) {
    let redis = RedisServer::start();
    let a = node(binary, &redis.url(), "a");
    let user = format!("Bearer {}", access_token(SECRET, "alice", &json!({})));
    assert_eq!(refusal(&a.http("GET", PATH, &[], b"")), (401, "unauthorized".into()));
    assert_eq!(refusal(&a.http("GET", PATH, &[("authorization", &user)], b"")), (403, "forbidden".into()));
    for (path, expected) in [
        ("/api/rooms/workspace%3Aw/history", (404, "not_found")),
        ("/api/rooms/user%3A7/history", (404, "not_found")),
        ("/api/rooms/project%3A1/histories", (404, "not_found")),
        ("/api/rooms/project%zz/history", (400, "invalid_request")),
        ("/api/rooms/project%3A1/history?limit=none", (400, "invalid_request")),
    ] {
        let (status, code) = refusal(&a.http("GET", path, &[("authorization", &admin())], b""));
        assert_eq!((status, code.as_str()), expected, "{path}");
    }
    let post = a.http("POST", PATH, &[("authorization", &admin())], b"");
    assert_eq!((post.status, post.header("allow")), (405, Some("GET, HEAD")));
    // A room in which nothing was ever said has a history without messages.
    assert_eq!(page(&a, "")["messages"], json!([]));
}

fn while_the_store_is_away_nothing_is_made_up(binary: &Path) {
    let redis = RedisServer::start();
    let proxy = Proxy::to(([127, 0, 0, 1], redis.port()).into());
    let mut a = node(binary, &format!("redis://{}", proxy.addr()), "a");
    a.publish(ROOM, "note", &json!(1));
    proxy.lead_to(([127, 0, 0, 1], 1).into());
    proxy.cut();
    a.wait_unready(PATIENCE);
    assert_eq!(refusal(&get(&a, "")), (503, "unavailable".into()));
    proxy.lead_to(([127, 0, 0, 1], redis.port()).into());
    a.wait_ready(PATIENCE);
    assert_eq!(numbers(&page(&a, "")), [1]);
}

/// Projects keep a history by default.
fn node(binary: &Path, redis: &str, name: &str) -> Gateway {
    Setup::new(binary).option("--redis", redis).option("--node", name).start()
}

fn admin() -> String {
    format!("Bearer {}", access_token(SECRET, "operator", &json!({"role": "admin"})))
}

fn get(gateway: &Gateway, query: &str) -> Response {
    gateway.http("GET", &format!("{PATH}{query}"), &[("authorization", &admin())], b"")
}

fn page(gateway: &Gateway, query: &str) -> Value {
    let answer = get(gateway, query);
    assert_eq!(answer.status, 200, "{}", answer.text());
    answer.json()
}

fn refusal(answer: &Response) -> (u16, String) {
    (answer.status, text(&answer.json()["error"]["code"]))
}

fn numbers(page: &Value) -> Vec<u64> {
    let messages = page["messages"].as_array().expect("a list");
    messages.iter().map(|message| message["data"].as_u64().expect("a number")).collect()
}

/// The position of the last message of a page.
fn last(page: &Value) -> String {
    let messages = page["messages"].as_array().expect("a list");
    text(&messages.last().expect("one at least")["position"])
}

fn text(value: &Value) -> String {
    value.as_str().expect("it is a string").to_owned()
}
