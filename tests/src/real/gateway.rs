//! The real gateway binary, run as its own process.

use std::env;
use std::net::SocketAddr;
use std::ops::{Deref, DerefMut};
use std::path::{Path, PathBuf};
use std::process::{Command, ExitStatus};
use std::time::Duration;

use super::http::{Response, http, try_http};
use super::process::Process;
use super::setup::clean_command;
use super::{PATIENCE, poll_until};

/// A running gateway on a loopback port of its own. Dropping it kills it.
///
/// It is a [`Process`] too: its log and its signals are there.
#[derive(Debug)]
pub struct Gateway {
    process: Process,
    addr: SocketAddr,
}

impl Gateway {
    /// Runs `binary arguments… --listen 127.0.0.1:0` and waits until `GET /readyz` says 200.
    ///
    /// The configuration that the test's own environment may hold does not reach the gateway; `envs` does.
    ///
    /// # Panics
    ///
    /// When it does not start or does not become ready.
    pub fn start(binary: &Path, arguments: &[&str], envs: &[(&str, &str)]) -> Self {
        let mut gateway = Self::launch(binary, arguments, envs);
        gateway.wait_ready(PATIENCE);
        gateway
    }

    /// Runs the binary and waits only until it listens: it may be unready, for example without Redis.
    ///
    /// # Panics
    ///
    /// When it does not start.
    pub fn launch(binary: &Path, arguments: &[&str], envs: &[(&str, &str)]) -> Self {
        let mut command = clean_command(binary);
        command.args(arguments).args(["--listen", "127.0.0.1:0"]).envs(envs.iter().copied());
        Self::spawn(&mut command)
    }

    /// Runs a command that is all of its own, and waits until it listens.
    ///
    /// # Panics
    ///
    /// When it does not start.
    pub fn spawn(command: &mut Command) -> Self {
        let process = Process::spawn("the gateway", command);
        let addr = wait_for_address(&process, PATIENCE);
        Self { process, addr }
    }

    /// Where it listens.
    #[must_use]
    pub fn addr(&self) -> SocketAddr {
        self.addr
    }

    /// Waits until `GET /readyz` says 200.
    ///
    /// # Panics
    ///
    /// When it does not within the time; the message has the reasons that it gave.
    pub fn wait_ready(&mut self, within: Duration) {
        self.wait_readiness(200, within);
    }

    /// Waits until `GET /readyz` says 503 and returns that answer.
    ///
    /// # Panics
    ///
    /// When it does not within the time.
    pub fn wait_unready(&mut self, within: Duration) -> Response {
        self.wait_readiness(503, within)
    }

    /// Sends a request to the gateway, as `http::http` does.
    ///
    /// # Panics
    ///
    /// When there is no answer.
    pub fn http(&self, method: &str, path: &str, headers: &[(&str, &str)], body: &[u8]) -> Response {
        http(method, self.addr, path, headers, body)
    }

    /// Sends SIGTERM and waits for the exit status.
    ///
    /// # Panics
    ///
    /// When it still runs after `within`.
    pub fn terminate(mut self, within: Duration) -> ExitStatus {
        self.process.terminate(within)
    }

    fn wait_readiness(&mut self, status: u16, within: Duration) -> Response {
        let mut last = "no answer yet".to_owned();
        let answer = poll_until(within, || {
            if let Some(exit) = self.process.exited() {
                panic!("the gateway ended ({exit}); its output:\n{}", self.process.tail());
            }
            match try_http("GET", self.addr, "/readyz", &[], b"") {
                Ok(answer) if answer.status == status => return Some(answer),
                Ok(answer) => last = format!("{} {}", answer.status, answer.text()),
                Err(error) => last = error,
            }
            None
        });
        answer.unwrap_or_else(|| {
            panic!("/readyz did not answer {status} within {within:?} but: {last}\nits output:\n{}", self.process.tail())
        })
    }
}

impl Deref for Gateway {
    type Target = Process;

    fn deref(&self) -> &Process {
        &self.process
    }
}

impl DerefMut for Gateway {
    fn deref_mut(&mut self) -> &mut Process {
        &mut self.process
    }
}

/// The path of a binary of this workspace, built in the profile and target directory of the running test.
///
/// # Panics
///
/// When it is not built; the message has the command that builds it.
#[must_use]
pub fn binary(name: &str) -> PathBuf {
    let test = env::current_exe().expect("a running program has a path");
    // Tests and benchmarks lie in target/<profile>/deps, binaries in target/<profile>.
    let profile =
        test.parent().and_then(Path::parent).unwrap_or_else(|| panic!("{} is not in a target directory", test.display()));
    let path = profile.join(name);
    let release = if profile.ends_with("release") { " --release" } else { "" };
    assert!(path.is_file(), "{} is not built; run `cargo build{release} --workspace --bins`", path.display());
    path
}

/// Waits for the line with which a server names its address, and returns the address.
///
/// # Panics
///
/// When no such line comes.
#[must_use]
pub fn wait_for_address(process: &Process, within: Duration) -> SocketAddr {
    let line = process.wait_for_log("listening on http", within);
    parse_address(&line, "://").unwrap_or_else(|| panic!("no address in the line {line:?}"))
}

fn parse_address(line: &str, mark: &str) -> Option<SocketAddr> {
    let (_, rest) = line.split_once(mark)?;
    // The line may go on, or be a string in a JSON log line.
    let end = rest.find(|letter: char| !(letter.is_ascii_hexdigit() || ".:[]".contains(letter))).unwrap_or(rest.len());
    rest[..end].trim_end_matches(['.', ':']).parse().ok()
}

/// Whether the gateway would read this environment variable.
pub(super) fn is_configuration(name: &str) -> bool {
    ["ROOMCAST_", "REDIS_", "JWT_", "CORS_"].iter().any(|prefix| name.starts_with(prefix))
}

#[cfg(test)]
mod tests {
    use std::io::{BufRead as _, BufReader, Write as _};
    use std::net::TcpListener;
    use std::os::unix::process::ExitStatusExt as _;

    use super::*;

    const FAKE: &str = "FAKE_GATEWAY_READY_AFTER";

    type Launch = fn(&Path, &[&str], &[(&str, &str)]) -> Gateway;

    /// Not a test by itself: started by the others in a process of its own, it is a server whose
    /// readiness comes after some requests, and which prints its requests and its environment.
    #[test]
    fn fake_gateway() {
        let Ok(ready_after) = env::var(FAKE) else {
            return;
        };
        let ready_after: usize = ready_after.parse().unwrap();
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        println!("REDIS_URL is {:?}", env::var("REDIS_URL"));
        println!("{{\"message\":\"listening on http://{}\"}}", listener.local_addr().unwrap());
        for (number, stream) in listener.incoming().enumerate() {
            let mut stream = stream.unwrap();
            let mut request = BufReader::new(stream.try_clone().unwrap()).lines();
            println!("asked {}", request.next().unwrap().unwrap());
            let ready = number >= ready_after;
            let status = if ready { "200 OK" } else { "503 Service Unavailable" };
            let answer = format!("HTTP/1.1 {status}\r\ncontent-length: 5\r\n\r\nredis");
            stream.write_all(answer.as_bytes()).unwrap();
        }
    }

    /// The test program takes what follows `--` for names of tests, so `--listen` does not disturb it.
    fn fake(ready_after: &str, launch: Launch) -> Gateway {
        let name = "real::gateway::tests::fake_gateway";
        let arguments = ["--exact", "--nocapture", "--", name];
        launch(&env::current_exe().unwrap(), &arguments, &[(FAKE, ready_after)])
    }

    #[test]
    fn a_gateway_is_started_asked_and_terminated() {
        let gateway = fake("2", Gateway::start);
        gateway.wait_for_log("asked GET /readyz HTTP/1.1", PATIENCE);
        assert_eq!(gateway.http("GET", "/metrics", &[], b"").status, 200);
        gateway.wait_for_log("asked GET /metrics", PATIENCE);
        assert_eq!(gateway.terminate(PATIENCE).signal(), Some(15));
    }

    #[test]
    fn an_unready_gateway_tells_why() {
        let mut gateway = fake("1000000", Gateway::launch);
        assert_eq!(gateway.wait_unready(PATIENCE).text(), "redis");
    }

    #[test]
    #[should_panic(expected = "but: 503 redis")]
    fn waiting_for_readiness_ends_with_the_reason() {
        fake("1000000", Gateway::launch).wait_ready(Duration::from_millis(30));
    }

    #[test]
    fn addresses_are_found_in_plain_and_in_json_lines() {
        let at = |line| parse_address(line, "://").map(|addr| addr.to_string());
        let address = Some("127.0.0.1:8098".to_owned());
        assert_eq!(at("INFO listening on http://127.0.0.1:8098"), address);
        assert_eq!(at(r#"{"message":"listening on http://127.0.0.1:8098","x":1}"#), address);
        assert_eq!(at("listening on https://127.0.0.1:8098. Ready."), address);
        assert_eq!(at("listening on http://[::1]:80/"), Some("[::1]:80".to_owned()));
        assert_eq!(at("listening on http://nowhere"), None);
    }

    #[test]
    fn the_configuration_of_the_surroundings_is_recognised() {
        assert!(is_configuration("REDIS_URL") && is_configuration("JWT_SECRET_KEY"));
        assert!(!is_configuration("PATH") && !is_configuration("RUST_LOG"));
    }

    #[test]
    #[should_panic(expected = "cargo build")]
    fn an_absent_binary_comes_with_the_command_that_builds_it() {
        let _ = binary("no-such-binary");
    }
}
