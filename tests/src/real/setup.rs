//! How integration tests start a gateway, and what most of them do with it.
//!
//! [`gateway_tests!`](crate::gateway_tests) is the one place that names the binaries: every test runs with each of them.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::{env, process};

use serde_json::{Value, json};

use super::PATIENCE;
use super::client::{Credential, JsonClient, access_token};
use super::gateway::Gateway;
use super::http::Response;

/// The secret of every gateway that is started here.
pub const SECRET: &str = "the secret of the integration tests";

/// Makes a test of each function, once for each binary, in a module named after the binary.
///
/// The functions take the binary's path:
///
/// ```
/// # use std::path::Path;
/// fn a_gateway_starts(binary: &Path) {
///     // …
/// }
///
/// roomcast_tests::gateway_tests!(a_gateway_starts);
/// ```
#[macro_export]
macro_rules! gateway_tests {
    ($($test:ident),+ $(,)?) => {
        $crate::gateway_tests!(@ roomcast, "roomcast": $($test),+);
        $crate::gateway_tests!(@ roomcast_smol, "roomcast-smol": $($test),+);
    };
    (@ $module:ident, $binary:literal: $($test:ident),+) => {
        mod $module {
            $(
                #[test]
                fn $test() {
                    super::$test(&$crate::real::gateway::binary($binary));
                }
            )+
        }
    };
}

/// A gateway's command line and configuration, before it starts.
#[derive(Debug)]
pub struct Setup {
    binary: PathBuf,
    shards: u8,
    options: Vec<String>,
    config: Option<ConfigFile>,
}

impl Setup {
    /// `serve` with [`SECRET`], the embedded store and one shard.
    #[must_use]
    pub fn new(binary: &Path) -> Self {
        Self { binary: binary.into(), shards: 1, options: Vec::new(), config: None }
    }

    /// So many shards.
    #[must_use]
    pub fn shards(self, shards: u8) -> Self {
        Self { shards, ..self }
    }

    /// One more option with its value.
    #[must_use]
    pub fn option(mut self, name: &str, value: &str) -> Self {
        self.options.extend([name.to_owned(), value.to_owned()]);
        self
    }

    /// A configuration file with this text.
    #[must_use]
    pub fn config(mut self, toml: &str) -> Self {
        let file = ConfigFile::new(toml);
        self = self.option("--config", file.path());
        self.config = Some(file);
        self
    }

    /// Starts the gateway and waits until it is ready.
    ///
    /// # Panics
    ///
    /// When it does not become ready.
    #[must_use]
    pub fn start(&self) -> Gateway {
        let mut gateway = self.launch();
        gateway.wait_ready(PATIENCE);
        gateway
    }

    /// Starts the gateway and waits until it listens.
    ///
    /// # Panics
    ///
    /// When it does not start.
    #[must_use]
    pub fn launch(&self) -> Gateway {
        let shards = self.shards.to_string();
        let mut arguments = vec!["serve", "--jwt-secret", SECRET, "--shards", &shards];
        arguments.extend(self.options.iter().map(String::as_str));
        Gateway::launch(&self.binary, &arguments, &[])
    }
}

impl Gateway {
    /// A client of `/ws` that is authenticated as a user.
    ///
    /// # Panics
    ///
    /// When the gateway refuses it.
    #[must_use]
    pub fn client(&self, user: &str) -> JsonClient {
        let token = access_token(SECRET, user, &json!({}));
        let mut client = JsonClient::connect(self.addr(), "/ws", Credential::Header(&token));
        assert_eq!(client.expect_type("auth_success")["data"]["user_id"], user);
        client
    }

    /// The same, and it is in a room.
    ///
    /// # Panics
    ///
    /// When the gateway refuses it.
    #[must_use]
    pub fn member(&self, user: &str, room: &str) -> JsonClient {
        let mut client = self.client(user);
        assert_eq!(client.subscribe(room)["room"], room);
        client
    }

    /// Publishes to a room by `POST /api/publish`.
    ///
    /// # Panics
    ///
    /// When the gateway does not accept it.
    pub fn publish(&self, room: &str, kind: &str, data: &Value) {
        let answer = self.post(&json!({"room": room, "type": kind, "data": data}));
        assert_eq!(answer.status, 200, "{}", answer.text());
    }

    /// Sends a body to `POST /api/publish`, as an administrator.
    ///
    /// # Panics
    ///
    /// When there is no answer.
    pub fn post(&self, body: &Value) -> Response {
        let bearer = format!("Bearer {}", access_token(SECRET, "operator", &json!({"role": "admin"})));
        self.http("POST", "/api/publish", &[("authorization", &bearer)], body.to_string().as_bytes())
    }

    /// What `GET /api/sources` tells an administrator of each source.
    ///
    /// # Panics
    ///
    /// When it tells nothing.
    #[must_use]
    pub fn sources(&self) -> Value {
        let bearer = format!("Bearer {}", access_token(SECRET, "operator", &json!({"role": "admin"})));
        self.http("GET", "/api/sources", &[("authorization", &bearer)], b"").json()["sources"].take()
    }

    /// The value of a metric that has no labels.
    ///
    /// # Panics
    ///
    /// When there is none of that name.
    #[must_use]
    pub fn metric(&self, name: &str) -> u64 {
        let text = self.http("GET", "/metrics", &[], b"").text();
        let value = text.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(' ')?.parse().ok());
        value.unwrap_or_else(|| panic!("no metric {name} in:\n{text}"))
    }
}

/// A configuration file that is gone with its owner.
#[derive(Debug)]
pub struct ConfigFile(PathBuf);

impl ConfigFile {
    /// A file with this text.
    ///
    /// # Panics
    ///
    /// When it cannot be written.
    #[must_use]
    pub fn new(toml: &str) -> Self {
        static NEXT: AtomicUsize = AtomicUsize::new(0);
        let number = NEXT.fetch_add(1, Ordering::Relaxed);
        let path = env::temp_dir().join(format!("roomcast-config-{}-{number}.toml", process::id()));
        fs::write(&path, toml).unwrap_or_else(|error| panic!("cannot write {}: {error}", path.display()));
        Self(path)
    }

    /// Where it is.
    ///
    /// # Panics
    ///
    /// When the system's directory for temporary files has a name that is not UTF-8.
    #[must_use]
    pub fn path(&self) -> &str {
        self.0.to_str().expect("the path is UTF-8")
    }
}

impl Drop for ConfigFile {
    fn drop(&mut self) {
        let _ = fs::remove_file(&self.0);
    }
}

/// A command without the configuration that the surroundings may hold.
#[must_use]
pub fn clean_command(binary: &Path) -> Command {
    let mut command = Command::new(binary);
    for (name, _) in env::vars_os() {
        if name.to_str().is_some_and(super::gateway::is_configuration) {
            command.env_remove(name);
        }
    }
    command.env("NO_COLOR", "1");
    command
}
