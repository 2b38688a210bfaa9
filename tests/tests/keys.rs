//! Keys and rules that change while a gateway runs, with both binaries: sets of keys in files and behind URLs, and SIGHUP.

use std::fs;
use std::io::{Read as _, Write as _};
use std::net::TcpListener;
use std::path::Path;
use std::sync::{Arc, Mutex};
use std::thread;

use jsonwebtoken::{Algorithm, EncodingKey, Header, encode};
use nix::sys::signal::Signal;
use roomcast_tests::gateway_tests;
use roomcast_tests::real::client::{Credential, JsonClient, access_token, unix_time};
use roomcast_tests::real::gateway::Gateway;
use roomcast_tests::real::process::run;
use roomcast_tests::real::setup::{ConfigFile, SECRET, Setup, clean_command};
use roomcast_tests::real::{PATIENCE, poll_until};
use serde_json::{Value, json};

gateway_tests!(
    keys_in_a_file_are_read_anew,
    keys_behind_a_url_are_read_when_they_can_be_and_kept_when_they_cannot,
    a_file_that_is_no_set_of_keys_is_told_at_the_start,
    a_hangup_reads_rules_and_keys_anew,
);

const EC: &str = include_str!("../../core/src/token/tests/ec.pem");
const ED: &str = include_str!("../../core/src/token/tests/ed.pem");

/// The keys of the set that the core is tested with, those of these names.
fn set(names: &[&str]) -> String {
    let all: Value = serde_json::from_str(include_str!("../../core/src/token/tests/jwks.json")).expect("a set");
    let keys = all["keys"].as_array().expect("keys").iter();
    let keys: Vec<&Value> = keys.filter(|key| names.iter().any(|name| key["kid"] == *name)).collect();
    json!({ "keys": keys }).to_string()
}

fn token(kid: &str) -> String {
    let (algorithm, key) = match kid {
        "ec" => (Algorithm::ES256, EncodingKey::from_ec_pem(EC.as_bytes())),
        _ => (Algorithm::EdDSA, EncodingKey::from_ed_pem(ED.as_bytes())),
    };
    let header = Header { kid: Some(kid.into()), ..Header::new(algorithm) };
    let claims = json!({"sub": "alice", "exp": unix_time() + 600});
    encode(&header, &claims, &key.expect("a key")).expect("claims can be signed")
}

fn is_good(gateway: &Gateway, token: &str) -> bool {
    let mut client = JsonClient::connect(gateway.addr(), "/ws", Credential::Header(token));
    client.next(PATIENCE)["type"] == "auth_success"
}

fn becomes_good(gateway: &Gateway, token: &str) -> bool {
    poll_until(PATIENCE, || is_good(gateway, token).then_some(())).is_some()
}

fn keys_in_a_file_are_read_anew(binary: &Path) {
    let keys = ConfigFile::new(&set(&["ec"]));
    let config = format!("[auth.jwks]\nfile = {:?}\nrefresh = \"1s\"\n", keys.path());
    let gateway = Setup::new(binary).config(&config).start();
    assert!(is_good(&gateway, &token("ec")), "the file is read before anything is served");
    assert!(!is_good(&gateway, &token("ed")));
    assert!(is_good(&gateway, &access_token(SECRET, "alice", &json!({}))), "the secret is a key beside them");
    let mut stays = JsonClient::connect(gateway.addr(), "/ws", Credential::Header(&token("ec")));
    stays.expect_type("auth_success");

    fs::write(keys.path(), set(&["ed"])).expect("it can be written");
    assert!(becomes_good(&gateway, &token("ed")));
    assert!(!is_good(&gateway, &token("ec")), "a key that is gone opens nothing");
    stays.send(&json!({"type": "ping"}));
    stays.expect_type("pong");

    // What is no set leaves the keys as they are, and is told once.
    let mark = gateway.log_mark();
    fs::write(keys.path(), "{").expect("it can be written");
    gateway.wait_for_log_since(mark, "cannot be read", PATIENCE);
    assert!(is_good(&gateway, &token("ed")));
    fs::write(keys.path(), set(&["ec", "ed"])).expect("it can be written");
    assert!(becomes_good(&gateway, &token("ec")) && is_good(&gateway, &token("ed")));
}

/// A server of keys: what it answers can be changed, and how often it was asked is known.
struct KeyServer {
    url: String,
    shared: Arc<Mutex<(u16, String, u32)>>,
}

impl KeyServer {
    fn start() -> KeyServer {
        let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
        let url = format!("http://{}/keys", listener.local_addr().expect("an address"));
        let shared = Arc::new(Mutex::new((503, String::new(), 0)));
        let answers = shared.clone();
        thread::spawn(move || {
            for socket in listener.incoming() {
                let Ok(mut socket) = socket else { return };
                let mut head = [0; 4096];
                let _ = socket.read(&mut head);
                let mut answer = answers.lock().expect("no panic");
                answer.2 += 1;
                let (status, body) = (answer.0, &answer.1);
                let length = body.len();
                let _ = write!(socket, "HTTP/1.1 {status} x\r\ncontent-length: {length}\r\nconnection: close\r\n\r\n{body}");
            }
        });
        KeyServer { url, shared }
    }

    fn answer(&self, status: u16, body: &str) {
        let mut shared = self.shared.lock().expect("no panic");
        (shared.0, shared.1) = (status, body.to_owned());
    }

    fn asked(&self) -> u32 {
        self.shared.lock().expect("no panic").2
    }
}

fn keys_behind_a_url_are_read_when_they_can_be_and_kept_when_they_cannot(binary: &Path) {
    let server = KeyServer::start();
    let config = format!("[auth.jwks]\nurl = {:?}\nalgorithms = [\"ES256\", \"EdDSA\"]\nrefresh = \"1h\"\n", server.url);
    let mut gateway = Setup::new(binary).config(&config).launch();
    let unready = gateway.wait_unready(PATIENCE);
    assert!(unready.text().contains("auth.jwks"), "{}", unready.text());
    gateway.wait_for_log("answered 503", PATIENCE);
    assert!(!is_good(&gateway, &token("ec")));

    server.answer(200, &set(&["ec"]));
    gateway.wait_ready(PATIENCE);
    assert!(is_good(&gateway, &token("ec")));
    assert!(!is_good(&gateway, &token("ed")));

    // A token that names a key which is not known has the set read again, though it is not time to; and no more often than every
    // ten seconds, however many such tokens come.
    server.answer(200, &set(&["ec", "ed"]));
    let before = server.asked();
    assert!(becomes_good(&gateway, &token("ed")));
    for _ in 0..50 {
        assert!(!is_good(&gateway, &{
            let header = Header { kid: Some("unheard of".into()), ..Header::new(Algorithm::ES256) };
            encode(&header, &json!({"sub": "x"}), &EncodingKey::from_ec_pem(EC.as_bytes()).expect("a key")).expect("signed")
        }));
    }
    assert!(server.asked() - before <= 3, "asked {} times", server.asked() - before);
    // A server that has lost its keys takes none from us.
    server.answer(500, "");
    gateway.signal(Signal::SIGHUP);
    gateway.wait_for_log("answered 500", PATIENCE);
    assert!(is_good(&gateway, &token("ed")));
}

fn a_file_that_is_no_set_of_keys_is_told_at_the_start(binary: &Path) {
    let broken = ConfigFile::new("{\"keys\": 1}");
    for (path, told) in [(broken.path(), "set of keys"), ("/nowhere/keys.json", "/nowhere/keys.json")] {
        let config = ConfigFile::new(&format!("[auth.jwks]\nfile = {path:?}\n"));
        let output = run(clean_command(binary).args(["serve", "--listen", "127.0.0.1:0", "--config", config.path()]));
        let error = String::from_utf8_lossy(&output.stderr);
        assert!(!output.status.success() && error.contains("auth.jwks") && error.contains(told), "{error}");
    }
}

fn a_hangup_reads_rules_and_keys_anew(binary: &Path) {
    let rules = |subscribe: &str| format!("[[access]]\nrooms = \"team:*\"\nsubscribe = \"{subscribe}\"\n");
    let keys = |secret: &str| format!("[[auth.keys]]\nalgorithm = \"HS512\"\nsecret = \"{secret}\"\n");
    let config = ConfigFile::new(&(rules("authenticated") + &keys("old")));
    let mut gateway = Setup::new(binary).option("--config", config.path()).start();
    let signed = |secret: &str| {
        let claims = json!({"sub": "alice", "roles": ["boss"]});
        encode(&Header::new(Algorithm::HS512), &claims, &EncodingKey::from_secret(secret.as_bytes())).expect("signed")
    };
    let (mut alice, mut boss) =
        (gateway.member("alice", "team:1"), JsonClient::connect(gateway.addr(), "/ws", Credential::Header(&signed("old"))));
    boss.expect_type("auth_success");
    boss.subscribe("team:1");
    assert!(!is_good(&gateway, &signed("new")));

    fs::write(config.path(), rules("role:boss") + &keys("new")).expect("it can be written");
    gateway.signal(Signal::SIGHUP);
    let left = alice.expect_type("unsubscribed");
    assert_eq!(left["data"], json!({"room": "team:1", "reason": "forbidden"}));
    gateway.publish("team:1", "note", &json!(1));
    boss.expect_type("note");
    assert!(becomes_good(&gateway, &signed("new")) && !is_good(&gateway, &signed("old")));

    // A file that cannot be read changes nothing.
    fs::write(config.path(), "[[access]]\nrooms = \"*\"\nsubscribe = \"everyone\"\n").expect("it can be written");
    let mark = gateway.log_mark();
    gateway.signal(Signal::SIGHUP);
    gateway.wait_for_log_since(mark, "stays as it was", PATIENCE);
    gateway.publish("team:1", "note", &json!(2));
    boss.expect_type("note");
    alice.send(&json!({"type": "subscribe", "room": "team:1"}));
    assert_eq!(alice.expect_type("error")["data"]["code"], "forbidden");
}
