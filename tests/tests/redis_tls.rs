//! Redis by TLS: one server, behind a sentinel and as a cluster, and what is not believed.

use std::path::Path;

use roomcast_tests::gateway_tests;
use roomcast_tests::real::PATIENCE;
use roomcast_tests::real::gateway::Gateway;
use roomcast_tests::real::process::run;
use roomcast_tests::real::redis::{FREE_PORT, RedisServer, free_port};
use roomcast_tests::real::setup::{SECRET, Setup, clean_command};
use roomcast_tests::real::tls::Authority;
use serde_json::json;

gateway_tests!(
    nodes_reach_one_another_and_come_back_to_a_redis_that_was_killed,
    the_parts_of_an_address_say_it_too,
    a_redis_that_cannot_prove_who_it_is_is_told_apart,
    a_redis_that_asks_for_a_certificate_is_shown_one,
    a_sentinel_and_the_master_that_it_names_are_asked_by_tls,
    a_cluster_is_asked_by_tls,
    commands_speak_tls_as_well,
);

/// A server that can be asked in the clear by the test, and by TLS at another port.
struct Secure {
    redis: RedisServer,
    port: u16,
}

impl Secure {
    fn start(authority: &Authority, more: &[&str]) -> Self {
        let (certificate, key, ca) = (authority.path("cert.pem"), authority.path("key.pem"), authority.path("ca.pem"));
        let tls = ["--tls-port", FREE_PORT, "--tls-cert-file", &certificate, "--tls-key-file", &key];
        let redis = RedisServer::start_with(&[&tls[..], &["--tls-ca-cert-file", &ca], more].concat());
        let [_, port]: [String; 2] = redis.query(&["CONFIG", "GET", "tls-port"]);
        Self { port: port.parse().expect("a port is a number"), redis }
    }

    /// One that believes every client.
    fn open(authority: &Authority) -> Self {
        authority.issue();
        Self::start(authority, &["--tls-auth-clients", "no"])
    }

    fn url(&self) -> String {
        format!("rediss://127.0.0.1:{}", self.port)
    }

    /// Whether there are clients, and all of them by TLS, but the test.
    fn has_only_secure_clients(&self) -> bool {
        let clients: String = self.redis.query(&["CLIENT", "LIST"]);
        let own: i64 = self.redis.query(&["CLIENT", "ID"]);
        let mut others = clients.lines().filter(|line| !line.starts_with(&format!("id={own} "))).peekable();
        others.peek().is_some() && others.all(|line| line.contains(&format!("laddr=127.0.0.1:{} ", self.port)))
    }
}

fn setup(binary: &Path, url: &str, authority: &Authority) -> Setup {
    Setup::new(binary).option("--redis", url).option("--redis-ca", &authority.path("ca.pem"))
}

/// What is published at one node arrives at the other.
fn check(publisher: &Gateway, node: &Gateway) {
    let mut member = node.member("7", "workspace:1");
    publisher.publish("workspace:1", "note", &json!("by TLS"));
    assert_eq!(member.expect_type("note")["data"], "by TLS");
}

fn nodes_reach_one_another_and_come_back_to_a_redis_that_was_killed(binary: &Path) {
    let authority = Authority::new();
    let mut secure = Secure::open(&authority);
    let mut nodes = [(); 2].map(|()| setup(binary, &secure.url(), &authority).start());
    check(&nodes[0], &nodes[1]);
    assert!(secure.has_only_secure_clients());

    secure.redis.kill();
    nodes.iter_mut().for_each(|node| drop(node.wait_unready(PATIENCE)));
    secure.redis.start_again();
    nodes.iter_mut().for_each(|node| node.wait_ready(PATIENCE));
    check(&nodes[1], &nodes[0]);
    assert!(secure.has_only_secure_clients());
}

fn the_parts_of_an_address_say_it_too(binary: &Path) {
    let authority = Authority::new();
    let secure = Secure::open(&authority);
    let (port, ca) = (secure.port.to_string(), authority.path("ca.pem"));
    let envs = [("REDIS_HOST", "localhost"), ("REDIS_PORT", &port), ("REDIS_SSL", "true"), ("REDIS_CA_CERT", &ca)];
    let node = Gateway::start(binary, &["serve", "--jwt-secret", SECRET, "--shards", "1"], &envs);
    check(&node, &node);
    assert!(secure.has_only_secure_clients());
}

fn a_redis_that_cannot_prove_who_it_is_is_told_apart(binary: &Path) {
    let (authority, stranger) = (Authority::new(), Authority::new());
    let secure = Secure::open(&authority);
    let mut node = setup(binary, &secure.url(), &stranger).launch();
    node.wait_for_log("UnknownIssuer", PATIENCE);
    node.wait_unready(PATIENCE);
    // In the clear nothing is understood there, and nothing is said to it.
    let mut plain = setup(binary, &format!("redis://127.0.0.1:{}", secure.port), &authority).launch();
    plain.wait_for_log("the store failed", PATIENCE);
    plain.wait_unready(PATIENCE);

    let output = run(clean_command(binary).args(["serve", "--redis", &secure.url(), "--redis-ca", "/nowhere/ca.pem"]));
    assert!(!output.status.success());
    assert!(String::from_utf8_lossy(&output.stderr).contains("TLS to Redis: /nowhere/ca.pem: "));
}

fn a_redis_that_asks_for_a_certificate_is_shown_one(binary: &Path) {
    let authority = Authority::new();
    authority.issue();
    let secure = Secure::start(&authority, &["--tls-auth-clients", "yes"]);
    let setup = || setup(binary, &secure.url(), &authority);
    setup().launch().wait_for_log("CertificateRequired", PATIENCE);
    let (certificate, key) = (authority.path("cert.pem"), authority.path("key.pem"));
    let node = setup().option("--redis-cert", &certificate).option("--redis-key", &key).start();
    check(&node, &node);
}

fn a_sentinel_and_the_master_that_it_names_are_asked_by_tls(binary: &Path) {
    let authority = Authority::new();
    let secure = Secure::open(&authority);
    let port = free_port();
    let config = format!(
        "tls-port {port}\ntls-cert-file {}\ntls-key-file {}\ntls-ca-cert-file {}\ntls-auth-clients no\ntls-replication yes\n\
         sentinel monitor m 127.0.0.1 {} 1\n",
        authority.path("cert.pem"),
        authority.path("key.pem"),
        authority.path("ca.pem"),
        secure.port
    );
    let _sentinel = RedisServer::start_sentinel(&config);
    let node = setup(binary, &format!("rediss-sentinel://127.0.0.1:{port}#m"), &authority).start();
    check(&node, &node);
    assert!(secure.has_only_secure_clients());
}

fn a_cluster_is_asked_by_tls(binary: &Path) {
    let authority = Authority::new();
    authority.issue();
    let cluster = ["--cluster-enabled", "yes", "--tls-cluster", "yes", "--cluster-port", FREE_PORT];
    let secure = Secure::start(&authority, &[&["--tls-auth-clients", "no"], &cluster[..]].concat());
    secure.redis.command(&["CLUSTER", "ADDSLOTSRANGE", "0", "16383"]);
    let node = setup(binary, &format!("rediss-cluster://localhost:{}", secure.port), &authority).start();
    check(&node, &node);
    assert!(secure.has_only_secure_clients());
}

fn commands_speak_tls_as_well(binary: &Path) {
    let (authority, stranger) = (Authority::new(), Authority::new());
    let secure = Secure::open(&authority);
    let ping = |authority: &Authority| {
        run(clean_command(binary).args(["ping", "--redis", &secure.url(), "--redis-ca", &authority.path("ca.pem")]))
    };
    let output = ping(&authority);
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    assert!(String::from_utf8_lossy(&output.stdout).contains(" by TLS, database 0 answered"));
    let output = ping(&stranger);
    let printed = String::from_utf8_lossy(&output.stderr);
    assert!(!output.status.success() && printed.contains("UnknownIssuer"), "{printed}");
}
