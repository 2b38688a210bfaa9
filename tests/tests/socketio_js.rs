//! The unmodified `socket.io-client` on the gateway and a real Redis, in all three ways it can be carried.

use std::path::Path;

use roomcast_tests::gateway_tests;
use roomcast_tests::real::client::access_token;
use roomcast_tests::real::e2e::{BROWSER_PATIENCE, open_socketio_pages, run_readme_socketio};
use roomcast_tests::real::poll_until;
use roomcast_tests::real::proxy::Proxy;
use roomcast_tests::real::redis::RedisServer;
use roomcast_tests::real::setup::{SECRET, Setup};
use roomcast_tests::real::socketio::scenarios::{self, crowd, nodes, start};
use roomcast_tests::real::socketio::{Clients, Library, Mode};
use roomcast_tests::socketio_tests;
use serde_json::{Value, json};

socketio_tests!(
    &[Library::JavaScript] =>
    tokens_are_taken_from_anywhere_and_refusals_told,
    commands_are_acknowledged,
    events_of_every_source_reach_all_members,
    nothing_is_lost_under_load_and_while_transports_change,
    two_namespaces_share_a_connection,
    clients_come_back_after_a_restart_and_miss_nothing,
    an_expired_token_is_told_and_replaced,
    clients_that_are_cut_off_come_back,
);

#[test]
fn binary_data_go_both_ways() {
    scenarios::binary_data_go_both_ways(&[Library::JavaScript]);
}

mod alone {
    use super::*;

    gateway_tests!(
        the_client_of_the_readme_does_what_it_says,
        one_of_two_namespaces_is_left,
        polling_is_told_that_it_needs_sticky_sessions_and_websockets_do_not,
        pages_of_allowed_origins_connect_and_others_do_not,
    );

    fn the_client_of_the_readme_does_what_it_says(binary: &Path) {
        let gateway = Setup::new(binary).start();
        let claims = json!({"email": "a@example.org", "role": "user", "token_type": "access"});
        let token = access_token(SECRET, "a", &claims);
        let client = run_readme_socketio(&format!("http://{}", gateway.addr()), &token);
        client.wait_for_log("status: 'success'", BROWSER_PATIENCE);
        gateway.publish("project:1", "project.updated", &json!({"name": "apollo"}));
        client.wait_for_log("{ name: 'apollo' }", BROWSER_PATIENCE);
    }

    fn one_of_two_namespaces_is_left(binary: &Path) {
        let gateway = Setup::new(binary).shards(2).start();
        let clients = start(&[Library::JavaScript]);
        let mut crowd = crowd(&clients, |_| gateway.addr(), &json!({"namespaces": ["/", "/ws"]}));
        for client in &mut crowd {
            client.wait_event("connection_established");
            for namespace in ["/", "/ws"] {
                client.call_in(namespace, "subscribe", &json!([{"room": "agent:1"}]));
            }
            client.command(&json!({"do": "leave", "ns": "/"}));
            assert_eq!(client.wait("disconnect")["reason"], "io client disconnect");
            // It is answered after what was said before.
            client.call("ping", &json!([]));
        }
        gateway.publish("agent:1", "agent.connected", &json!({}));
        gateway.publish("global", "last", &json!({}));
        for client in &mut crowd {
            client.wait_event("last");
            let heard: Vec<Value> = client.all("event").iter().map(|said| json!([said["ns"], said["event"]])).collect();
            assert_eq!(heard[2..], [json!(["/ws", "agent.connected"]), json!(["/ws", "last"])], "{:?}", client.mode());
        }
    }

    fn polling_is_told_that_it_needs_sticky_sessions_and_websockets_do_not(binary: &Path) {
        let redis = RedisServer::start();
        let [a, b] = nodes(binary, &redis, "");
        let proxy = Proxy::to(a.addr());
        let process = Clients::start(Library::JavaScript);
        // Each request has a connection of its own, as far as the balancer is concerned.
        let options = json!({
            "tokens": [access_token(SECRET, "alice", &json!({}))],
            "headers": {"Connection": "close"},
            "reconnect": false,
        });
        let mut websocket = process.open(proxy.addr(), Mode::WebSocket, &options);
        let mut polling = process.open(proxy.addr(), Mode::Polling, &options);
        [&mut websocket, &mut polling].iter_mut().for_each(|client| drop(client.wait("connect")));
        proxy.lead_to(b.addr());
        polling.emit("ping", &json!([]));
        let failed = polling.wait("failed");
        let body = failed["body"].as_str().unwrap_or_default();
        assert_eq!(failed["status"], 400, "{failed}");
        assert!(body.contains("another node") && body.contains("sticky sessions"), "{body}");
        assert_eq!(polling.wait("disconnect")["reason"], "transport error");
        assert_eq!(websocket.call("ping", &json!([])), json!([{"status": "pong"}]));
    }

    fn pages_of_allowed_origins_connect_and_others_do_not(binary: &Path) {
        let gateway = Setup::new(binary).shards(2).config("origins = [\"http://127.0.0.1:*\"]\n").start();
        let token = access_token(SECRET, "alice", &json!({}));
        let pages = open_socketio_pages(&format!("http://{}", gateway.addr()), &token, "agent:1");
        // What is said of each page and way, in the order in which it is said.
        let said = |what: &str, times: usize| {
            let fits = |line: &String| line.starts_with('{') && line.contains(&format!("\"say\":\"{what}\""));
            let lines = || pages.log_lines().into_iter().filter(fits).collect::<Vec<_>>();
            let found = poll_until(BROWSER_PATIENCE, || (lines().len() >= times).then(lines));
            let lines = found.unwrap_or_else(|| panic!("{what} is not said {times} times:\n{}", pages.tail()));
            let parse = |line: &String| serde_json::from_str::<Value>(line).expect("it is JSON");
            let mut said: Vec<Value> = lines.iter().map(parse).collect();
            said.sort_by_key(|said| said["way"].to_string());
            said
        };
        let ways = ["polling", "polling+websocket", "websocket"];
        for (what, host) in [("SUBSCRIBED", "127.0.0.1"), ("FAILED", "localhost")] {
            let found = said(what, 3);
            assert!(found.iter().map(|said| &said["way"]).eq(&ways.map(Value::from)), "{found:?}");
            assert!(found.iter().all(|said| said["host"] == host), "{found:?}");
        }
        gateway.publish("agent:1", "tick", &json!({"n": 1}));
        let ticks = said("tick", 3);
        for (tick, transport) in ticks.iter().zip(["polling", "websocket", "websocket"]) {
            assert_eq!((&tick["data"], &tick["transport"]), (&json!({"n": 1}), &json!(transport)), "{tick}");
        }
    }
}
