//! The scripts in `tests/e2e`: publishers in Python, pages in Node, real browsers, and the publishers of the README.

use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use super::PATIENCE;
use super::process::Process;

/// How long the browser may take to start and to draw: far longer than a server to answer.
pub const BROWSER_PATIENCE: Duration = Duration::from_secs(60);

/// Publishes file events to Redis as system A's own manual test does and returns the ids of the entries.
///
/// The options are those of `publish_file_event.py`, such as `&["--url", url, "--broken", "bomb"]`.
///
/// # Panics
///
/// When the script fails.
pub fn publish_file_event(options: &[&str]) -> Vec<String> {
    run_to_end("publish_file_event.py", python(&directory().join("publish_file_event.py")).args(options))
}

/// Publishes on a Pub/Sub channel as systems C and E do, and returns the payload of system C's message.
///
/// The options are those of `publish_channels.py`, such as `&["--url", url, "task", "12", "{}"]`.
///
/// # Panics
///
/// When the script fails.
pub fn publish_on_channel(options: &[&str]) -> Vec<String> {
    run_to_end("publish_channels.py", python(&directory().join("publish_channels.py")).args(options))
}

/// Runs the publisher that the README has in a language, `python` or `js`, on a Redis, and returns what it printed.
///
/// # Panics
///
/// When there is none, or it fails.
pub fn run_readme_publisher(language: &str, redis: &str) -> Vec<String> {
    let code = readme_code("Publish from a worker", language);
    let mut command = match language {
        "python" => python(Path::new("-c")),
        _ => {
            let mut command = node("redis");
            command.args(["--input-type=module", "--eval"]);
            command
        }
    };
    run_to_end(language, command.arg(&code).env("REDIS_URL", redis))
}

/// Runs the Socket.IO client of the README at a gateway, with a token. It prints what its subscription is answered, and the data of
/// each `project.updated`.
///
/// # Panics
///
/// When it cannot be started.
#[must_use]
pub fn run_readme_socketio(url: &str, token: &str) -> Process {
    let code = readme_code("Socket.IO", "js").replace("http://127.0.0.1:8098", url);
    let code = format!("{code}\nconst token = process.env.TOKEN;\n");
    let mut command = node("socket.io-client");
    Process::spawn("the client of the README", command.args(["--input-type=module", "--eval", &code]).env("TOKEN", token))
}

/// The first code in a language that a section of the README has.
fn readme_code(section: &str, language: &str) -> String {
    let readme = std::fs::read_to_string(directory().join("../../README.md")).expect("the README can be read");
    let (_, section) = readme.split_once(&format!("\n## {section}\n")).expect("the README has the section");
    let (_, code) = section.split_once(&format!("```{language}\n")).unwrap_or_else(|| panic!("no {language} in the README"));
    code.split_once("```").expect("the code ends").0.to_owned()
}

/// Opens a page of system B or C, `system_b.mjs` or `system_c.mjs`, with the arguments that stand at its beginning.
///
/// # Panics
///
/// When it cannot be started.
#[must_use]
pub fn open_page(script: &str, arguments: &[&str]) -> Process {
    Process::spawn(script, node("ws").arg(script).args(arguments))
}

/// Starts a server on the npm package `socket.io` that accepts tokens of this secret. It prints where it listens.
///
/// # Panics
///
/// When it cannot be started.
#[must_use]
pub fn serve_socketio(secret: &str) -> Process {
    let mut command = node("socket.io");
    command.args(["--expose-gc", "socketio_server.mjs"]).env("SECRET", secret);
    Process::spawn("socketio_server.mjs", &mut command)
}

/// A command that runs a script with the Python packages of the tests, redis-py among them.
///
/// # Panics
///
/// When they are not installed.
#[must_use]
pub fn python(script: &Path) -> Command {
    python_of(".venv", script)
}

fn python_of(environment: &str, script: &Path) -> Command {
    let mut command = Command::new(installed(&directory().join(environment).join("bin/python")));
    command.arg(script);
    command
}

/// Starts a script of clients of Socket.IO that obey what they are told: `socketio.mjs`, or one in Python with the packages of an
/// environment, `.venv` or `.venv-2023`.
///
/// # Panics
///
/// When it cannot be started.
#[must_use]
pub fn start_socketio(environment: Option<&str>, arguments: &[&str]) -> Process {
    let Some(environment) = environment else {
        return Process::spawn_listening("socketio.mjs", node("socket.io-client").arg("socketio.mjs").args(arguments));
    };
    let mut command = python_of(environment, &directory().join("socketio_client.py"));
    Process::spawn_listening("socketio_client.py", command.args(arguments))
}

/// Opens the console in a browser and lets it subscribe to `workspace:test-workspace`.
///
/// The process prints `READY` once it has subscribed, then the raw text of the first `file.changed` event as one line of
/// JSON, and exits with 0 after it has saved a screenshot.
///
/// # Panics
///
/// When the script cannot be started.
#[must_use]
pub fn open_console(url: &str, screenshot: &Path) -> Process {
    Process::spawn("console.mjs", node("playwright-core").arg("console.mjs").arg(url).arg(screenshot))
}

/// Runs the client of the README in a browser and lets it follow a room.
///
/// The process prints `SUBSCRIBED` for each answer to a subscription, the data of each message as a line, `GAP` where messages may
/// have been missed, and exits with 0 after a message of type `end`.
///
/// # Panics
///
/// When the script cannot be started.
#[must_use]
pub fn follow_room(url: &str, token: &str, room: &str) -> Process {
    Process::spawn("follow.mjs", node("playwright-core").arg("follow.mjs").args([url, token, room]))
}

/// Opens pages of two origins in a browser, `http://127.0.0.1:*` and `http://localhost:*`, that connect to a gateway's Socket.IO.
///
/// What the process prints stands at the beginning of `socketio_page.mjs`.
///
/// # Panics
///
/// When the script cannot be started.
#[must_use]
pub fn open_socketio_pages(url: &str, token: &str, room: &str) -> Process {
    Process::spawn("socketio_page.mjs", node("playwright-core").arg("socketio_page.mjs").args([url, token, room]))
}

/// A command that runs Node where the packages of the tests are, this one among them.
fn node(package: &str) -> Command {
    installed(&directory().join("node_modules").join(package));
    let mut command = Command::new("node");
    command.current_dir(directory());
    command
}

/// What a script printed that has ended well.
fn run_to_end(name: &str, command: &mut Command) -> Vec<String> {
    let mut process = Process::spawn(name, command);
    let status = process.wait(PATIENCE);
    process.wait_for_end_of_output(PATIENCE);
    assert!(status.success(), "{name} failed:\n{}", process.tail());
    process.log_lines()
}

fn directory() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("e2e")
}

fn installed(path: &Path) -> &Path {
    assert!(path.exists(), "{} is absent; run `tests/run`, which installs it", path.display());
    path
}

#[cfg(test)]
mod tests {
    use std::collections::HashMap;
    use std::env;
    use std::fs;
    use std::io::{Read as _, Write as _};
    use std::net::TcpListener;
    use std::thread;

    use super::*;
    use crate::real::redis::RedisServer;

    type Entry = (String, HashMap<String, Vec<u8>>);

    /// Publishes into database 2, where system A publishes, and reads the entries back.
    fn publish(redis: &RedisServer, options: &[&str]) -> Vec<Entry> {
        let url = redis.url_of_database(2);
        let ids = publish_file_event(&[&["--url", &url], options].concat());
        let mut connection = redis.connect(2).unwrap();
        let entries: Vec<Entry> =
            ::redis::cmd("XRANGE").arg(&["stream:file-events", &ids[0], &ids[ids.len() - 1]]).query(&mut connection).unwrap();
        assert!(entries.iter().map(|(id, _)| id).eq(&ids));
        entries
    }

    #[test]
    fn the_plain_entry_is_that_of_the_manual_test() {
        let redis = RedisServer::start();
        let [(_, fields)] = &publish(&redis, &[])[..] else {
            panic!("one entry is published");
        };
        let data = r#"{"batch_id": "test-batch", "timestamp": "2025-10-06T01:00:00Z", "batch_count": 1, "events": [{"event_id": "test-event", "timestamp": "2025-10-06T01:00:00Z", "workspace": {"id": "test-workspace"}, "file": {"path": "test.py", "event_type": "create"}, "change": {"type": "full_content", "content": "print('test')"}}]}"#;
        let expected = [("data", data), ("compressed", "false"), ("batch_id", "test-batch")];
        let expected = expected.map(|(name, value)| (name.to_owned(), value.as_bytes().to_vec()));
        assert_eq!(*fields, HashMap::from(expected));
    }

    #[test]
    fn entries_are_compressed_numbered_and_broken_as_asked() {
        let redis = RedisServer::start();
        let entries = publish(&redis, &["--gzip", "--hint", "absent", "--entries", "2"]);
        assert_eq!(entries[1].1["batch_id"], b"test-batch-1");
        assert!(!entries[1].1.contains_key("compressed"));
        // Base64 of the magic number of gzip.
        assert!(entries[1].1["data"].starts_with(b"H4sI"));

        let bomb = &publish(&redis, &["--broken", "bomb"])[0].1["data"];
        assert!((13_000..=10_240_usize.div_ceil(3) * 4).contains(&bomb.len()), "{}", bomb.len());
        assert!(!publish(&redis, &["--broken", "missing-data"])[0].1.contains_key("data"));
        let deep = &publish(&redis, &["--broken", "deep-nesting"])[0].1["data"];
        assert_eq!(deep.iter().filter(|&&byte| byte == b'[').count(), 100_001);
    }

    #[test]
    #[should_panic(expected = "invalid choice")]
    fn a_failing_script_tells_why() {
        publish_file_event(&["--broken", "nothing"]);
    }

    /// A page with the console's landmarks, which "receives" an event as soon as it is subscribed; its policy allows no style.
    const PAGE: &str = r##"<!doctype html><title>stub</title>
<input id="room"><button id="subscribe">Subscribe</button><ul id="rooms"></ul><ol id="events"></ol>
<script>
document.querySelector("#subscribe").onclick = () => {
  const room = document.createElement("li");
  room.dataset.room = document.querySelector("#room").value;
  room.dataset.state = "joining";
  document.querySelector("#rooms").append(room);
  setTimeout(() => {
    room.dataset.state = "joined";
    const event = document.createElement("li");
    event.className = "event";
    event.dataset.type = "file.changed";
    const raw = document.createElement("pre");
    raw.className = "raw";
    raw.textContent = JSON.stringify({type: "file.changed", token: location.hash, room: room.dataset.room, state: room.dataset.state}, null, 2);
    event.append(raw);
    document.querySelector("#events").append(event);
  });
};
</script>"##;

    #[test]
    fn a_browser_subscribes_and_reports_the_event() {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let url = format!("http://{}/#token=t", listener.local_addr().unwrap());
        // The thread ends with the test process.
        thread::spawn(move || {
            for stream in listener.incoming() {
                let mut stream = stream.unwrap();
                let _ = stream.read(&mut [0; 4096]);
                let head = "HTTP/1.1 200 OK\r\ncontent-type: text/html\r\ncontent-security-policy: style-src 'none'\r\nconnection: close\r\n";
                let _ = write!(stream, "{head}content-length: {}\r\n\r\n{PAGE}", PAGE.len());
            }
        });
        let screenshot = env::temp_dir().join(format!("roomcast-console-{}.png", std::process::id()));
        let mut console = open_console(&url, &screenshot);
        console.wait_for_log("READY", BROWSER_PATIENCE);
        let frame = console.wait_for_log(r#""type""#, BROWSER_PATIENCE);
        assert!(console.wait(BROWSER_PATIENCE).success(), "{}", console.tail());
        let expected = serde_json::json!({"type": "file.changed", "token": "#token=t", "room": "workspace:test-workspace", "state": "joined"});
        assert_eq!(serde_json::from_str::<serde_json::Value>(&frame).unwrap(), expected);
        assert!(fs::read(&screenshot).unwrap().starts_with(b"\x89PNG"));
        fs::remove_file(&screenshot).unwrap();
    }
}
