//! What all nodes have, asked of one over HTTP.

use std::path::Path;

use roomcast_tests::gateway_tests;
use roomcast_tests::real::client::access_token;
use roomcast_tests::real::gateway::Gateway;
use roomcast_tests::real::http::Response;
use roomcast_tests::real::redis::RedisServer;
use roomcast_tests::real::setup::{SECRET, Setup};
use roomcast_tests::real::{PATIENCE, poll_until};
use serde_json::{Value, json};

gateway_tests!(connections_and_rooms_of_all_nodes_are_listed, a_node_alone_answers_for_itself, only_administrators_may_ask);

fn ask(node: &Gateway, path: &str, role: &str) -> Response {
    let bearer = format!("Bearer {}", access_token(SECRET, "operator", &json!({"role": role})));
    node.http("GET", path, &[("authorization", &bearer)], b"")
}

fn get(node: &Gateway, path: &str) -> Value {
    let answer = ask(node, path, "admin");
    assert_eq!(answer.status, 200, "{}", answer.text());
    answer.json()
}

fn connections_and_rooms_of_all_nodes_are_listed(binary: &Path) {
    let redis = RedisServer::start();
    let nodes =
        ["a", "b"].map(|name| Setup::new(binary).shards(2).option("--redis", &redis.url()).option("--node", name).start());
    let _clients: Vec<_> = nodes.iter().flat_map(|node| ["7", "8"].map(|user| node.member(user, "project:1"))).collect();
    // The other node may not have begun to listen.
    let all = poll_until(PATIENCE, || {
        let all = get(&nodes[0], "/api/connections");
        (all["nodes"] == json!({"answered": 2, "asked": 2})).then_some(all)
    });
    let all = all.expect("both nodes answer");
    assert_eq!((&all["total"], &all["next"]), (&json!(4), &Value::Null));
    let of = |entry: &Value| (entry["node"].clone(), entry["user_id"].clone(), entry["path"].clone());
    let mut found: Vec<_> = all["connections"].as_array().expect("it is a list").iter().map(of).collect();
    found.sort_by_key(|entry| format!("{entry:?}"));
    let expected = [("a", "7"), ("a", "8"), ("b", "7"), ("b", "8")];
    assert_eq!(found, expected.map(|(node, user)| (json!(node), json!(user), json!("/ws"))));
    let seven = get(&nodes[1], "/api/connections?user=7&limit=1");
    assert_eq!((&seven["total"], seven["connections"].as_array().map(Vec::len)), (&json!(2), Some(1)));
    let next = seven["next"].as_str().expect("there is more");
    let rest = get(&nodes[1], &format!("/api/connections?user=7&limit=1&after={next}"));
    assert_eq!(rest["connections"][0]["node"], "b");

    let rooms = get(&nodes[0], "/api/rooms?prefix=project:");
    assert_eq!(rooms["rooms"], json!([{"room": "project:1", "members": 4}]));
    nodes[0].publish("project:1", "note", &json!(1));
    let room = get(&nodes[1], "/api/rooms/project%3A1");
    assert_eq!((&room["room"], &room["members"]), (&json!("project:1"), &json!(4)));
    assert!(room["position"].is_string(), "{room}");
    assert_eq!(get(&nodes[1], "/api/rooms/nobody")["members"], 0);
}

fn a_node_alone_answers_for_itself(binary: &Path) {
    let node = Setup::new(binary).start();
    let _client = node.member("7", "task:1");
    let answer = poll_until(PATIENCE, || {
        let answer = get(&node, "/api/rooms?prefix=task:");
        (answer["nodes"] == json!({"answered": 1, "asked": 1})).then_some(answer)
    });
    assert_eq!(answer.expect("it listens to itself")["rooms"], json!([{"room": "task:1", "members": 1}]));
}

fn only_administrators_may_ask(binary: &Path) {
    let node = Setup::new(binary).start();
    for path in ["/api/connections", "/api/rooms", "/api/rooms/r"] {
        assert_eq!(ask(&node, path, "user").status, 403, "{path}");
        assert_eq!(node.http("GET", path, &[], b"").status, 401, "{path}");
    }
    assert_eq!(ask(&node, "/api/rooms?limit=0", "admin").status, 400);
}
