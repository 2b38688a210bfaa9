//! The host's own code that decides who may do what, in embedded gateways on both runtimes, with real clients.

use std::net::SocketAddr;
use std::sync::{Arc, Mutex};
use std::thread;

use roomcast_core::config::{AccessRule, Auth, Config, Who};
use roomcast_core::hub::Intent;
use roomcast_shell::authorizer::{Authorizer, Question};
use roomcast_shell::gateway::Gateway;
use roomcast_shell::options::Options;
use roomcast_shell::transport::Transport;
use roomcast_tests::real::PATIENCE;
use roomcast_tests::real::client::{Credential, JsonClient, access_token};
use roomcast_tests::real::embedded;
use serde_json::json;

const SECRET: &str = "the secret of the host";

#[test]
fn on_tokio_the_host_decides() {
    let embedded = embedded::on_tokio(options());
    ask_and_judge(&embedded.gateway, embedded.address);
    embedded.stop();
}

#[test]
fn on_smol_the_host_decides() {
    let embedded = embedded::on_smol(options());
    ask_and_judge(&embedded.gateway, embedded.address);
    embedded.stop();
}

/// The host lets users into the teams of which it knows that they are members, takes its time in some, says nothing in others, and
/// fails in one.
fn options() -> Options {
    let members = Arc::new(Mutex::new(vec![("7", "team:1"), ("7", "team:slow")]));
    let authorizer = Authorizer::new(move |question: Question| {
        assert_ne!(question.room(), "team:panic", "the host fails");
        let members = members.clone();
        let decide = move |question: Question| {
            let is_member = |(user, team): &(&str, &str)| question.user() == Some(*user) && question.room() == *team;
            match question.intent() {
                Intent::Subscribe if members.lock().expect("no panic").iter().any(is_member) => question.allow(),
                _ => question.deny(),
            }
        };
        match question.room() {
            "team:slow" => drop(thread::spawn(move || decide(question))),
            _ => decide(question),
        }
    });
    let mut config = Config { auth: Auth::secret(SECRET), ..Config::default() };
    config.access.push(AccessRule::new("team:*", Who::Host, Who::Host));
    Options { config, authorizer, listen: SocketAddr::from(([127, 0, 0, 1], 0)), shards: 2, ..Options::default() }
}

fn ask_and_judge<T: Transport>(gateway: &Gateway<T>, address: SocketAddr) {
    let connect = |user: &str| {
        let token = access_token(SECRET, user, &json!({}));
        let mut client = JsonClient::connect(address, "/ws", Credential::Header(&token));
        client.expect_type("auth_success");
        client
    };
    let (mut member, mut other) = (connect("7"), connect("8"));
    for room in ["team:1", "team:slow"] {
        member.subscribe(room);
        other.send(&json!({"type": "subscribe", "room": room}));
        assert_eq!(other.expect_type("error")["data"]["code"], "forbidden", "{room}");
    }
    for room in ["team:2", "team:panic"] {
        member.send(&json!({"type": "subscribe", "room": room}));
        assert_eq!(member.expect_type("error")["data"]["code"], "forbidden", "{room}");
    }
    member.send(&json!({"type": "publish", "data": {"room": "team:1", "type": "note", "data": 1}}));
    assert_eq!(member.expect_type("error")["data"]["code"], "forbidden");

    // Rules that change while it runs: a walk over every connection of every shard.
    let rules = [AccessRule::new("team:slow", Who::Authenticated, Who::Authenticated)];
    gateway.set_access(rules.to_vec());
    let left = member.wait_for_type("unsubscribed", PATIENCE);
    assert_eq!(left["data"], json!({"room": "team:1", "reason": "forbidden"}));
    other.subscribe("team:slow");
    member.send(&json!({"type": "publish", "data": {"room": "team:slow", "type": "note", "data": 1}}));
    assert_eq!(other.wait_for_type("note", PATIENCE)["room"], "team:slow");
}
