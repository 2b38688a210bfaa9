//! Clients of Socket.IO: the unmodified libraries, in processes of their own that obey a test.

pub mod scenarios;

use std::cell::RefCell;
use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::ops::Range;

use serde_json::{Value, json};

use super::e2e::start_socketio;
use super::process::Process;
use super::{PATIENCE, poll_until};

/// A library, and how it is used.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Library {
    /// `socket.io-client` in Node.
    JavaScript,
    /// The asynchronous client of python-socketio, as it is now.
    Python,
    /// Its other client, which has a thread for each connection.
    PythonSync,
    /// As it was in 2023.
    Python2023,
    /// As it was in 2023.
    Python2023Sync,
}

impl Library {
    /// Those in Python.
    pub const PYTHON: [Self; 4] = [Self::Python, Self::PythonSync, Self::Python2023, Self::Python2023Sync];

    /// Whether events come to their handlers in the order they came from the server: not where each has a thread of its own.
    fn keeps_order(self) -> bool {
        !matches!(self, Self::PythonSync | Self::Python2023Sync)
    }
}

/// What a client is carried by.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Mode {
    /// A WebSocket from the start.
    WebSocket,
    /// Requests alone.
    Polling,
    /// Requests at first, and a WebSocket as soon as that has been tried.
    Upgrade,
}

impl Mode {
    /// All of them.
    pub const ALL: [Self; 3] = [Self::WebSocket, Self::Polling, Self::Upgrade];

    fn transports(self) -> &'static [&'static str] {
        match self {
            Self::WebSocket => &["websocket"],
            Self::Polling => &["polling"],
            Self::Upgrade => &["polling", "websocket"],
        }
    }
}

/// A process with clients of one library.
#[derive(Debug)]
pub struct Clients {
    library: Library,
    process: Process,
    /// What they said and nobody has read, by their names.
    unread: RefCell<BTreeMap<String, Vec<Value>>>,
    mark: RefCell<usize>,
}

impl Clients {
    /// Starts the process.
    ///
    /// # Panics
    ///
    /// When it cannot be started.
    #[must_use]
    pub fn start(library: Library) -> Self {
        let (environment, arguments): (_, &[&str]) = match library {
            Library::JavaScript => (None, &[]),
            Library::Python => (Some(".venv"), &[]),
            Library::PythonSync => (Some(".venv"), &["--sync"]),
            Library::Python2023 => (Some(".venv-2023"), &[]),
            Library::Python2023Sync => (Some(".venv-2023"), &["--sync"]),
        };
        Self { library, process: start_socketio(environment, arguments), unread: RefCell::default(), mark: RefCell::default() }
    }

    /// A client that connects to the namespace `/ws` in this way, with more options laid over: those of the script's command.
    ///
    /// # Panics
    ///
    /// When the process has ended, or the options are no object.
    pub fn open(&self, server: SocketAddr, mode: Mode, more: &Value) -> SocketClient<'_> {
        let name = format!("{}", self.unread.borrow().len());
        self.unread.borrow_mut().insert(name.clone(), Vec::new());
        let mut command = json!({
            "do": "open",
            "at": name,
            "url": format!("http://{server}"),
            "namespaces": ["/ws"],
            "transports": mode.transports(),
        });
        for (name, value) in more.as_object().expect("options are an object") {
            command[name] = value.clone();
        }
        self.process.tell(&command.to_string());
        SocketClient { clients: self, name, mode, said: Vec::new(), waited: Vec::new(), acks: 0 }
    }

    /// Waits until the process obeys.
    ///
    /// # Panics
    ///
    /// When it does not for long.
    pub fn wait_until_ready(&self) {
        self.process.wait_for_log("READY", PATIENCE);
    }

    fn read(&self, name: &str) -> Vec<Value> {
        let mut unread = self.unread.borrow_mut();
        let lines = self.process.log_lines_since(*self.mark.borrow());
        *self.mark.borrow_mut() += lines.len();
        // The rest is for whoever reads why a test has failed.
        for said in lines.iter().filter_map(|line| serde_json::from_str::<Value>(line).ok()) {
            if let Some(said_by) = said["at"].as_str().and_then(|name| unread.get_mut(name)) {
                said_by.push(said);
            }
        }
        unread.get_mut(name).map(std::mem::take).unwrap_or_default()
    }
}

/// One client.
#[derive(Debug)]
pub struct SocketClient<'a> {
    clients: &'a Clients,
    name: String,
    mode: Mode,
    /// All that it has said, and what of that has been waited for or passed over.
    said: Vec<Value>,
    waited: Vec<bool>,
    acks: u64,
}

impl SocketClient<'_> {
    /// How it was told to be carried.
    #[must_use]
    pub fn mode(&self) -> Mode {
        self.mode
    }

    /// Waits for the next thing of this kind that it says, passing over all before it; where the library keeps no order, over nothing.
    ///
    /// # Panics
    ///
    /// When it does not come.
    pub fn wait(&mut self, kind: &str) -> Value {
        self.wait_for(kind, |said| said["say"] == kind)
    }

    /// Waits for the next event of this name, passing over all else, and returns its first argument.
    ///
    /// # Panics
    ///
    /// When it does not come.
    pub fn wait_event(&mut self, event: &str) -> Value {
        self.wait_for(event, |said| said["say"] == "event" && said["event"] == event)["args"][0].take()
    }

    /// Waits until it has said something that fits, from where the last wait ended.
    ///
    /// # Panics
    ///
    /// When it does not come.
    pub fn wait_for(&mut self, what: &str, fits: impl Fn(&Value) -> bool) -> Value {
        let found = self.find(what, fits);
        let first = if self.clients.library.keeps_order() { 0 } else { found };
        self.waited[first..=found].fill(true);
        self.said[found].clone()
    }

    /// Where the first thing stands that fits, of those that have not been waited for.
    fn find(&mut self, what: &str, fits: impl Fn(&Value) -> bool) -> usize {
        let found = poll_until(PATIENCE, || {
            self.read();
            self.said.iter().zip(&self.waited).position(|(said, waited)| !waited && fits(said))
        });
        found.unwrap_or_else(|| {
            let said: Vec<String> = self.said.iter().rev().take(12).rev().map(Value::to_string).collect();
            let Self { clients: Clients { library, process, .. }, mode, .. } = self;
            panic!(
                "no {what} from {library:?} over {mode:?}, which said last:\n{}\nIts process:\n{}",
                said.join("\n"),
                process.tail()
            )
        })
    }

    fn read(&mut self) {
        self.said.extend(self.clients.read(&self.name));
        self.waited.resize(self.said.len(), false);
    }

    /// Waits until it has said something of a kind so often, since the beginning.
    ///
    /// # Panics
    ///
    /// When it does not.
    pub fn wait_until_said(&mut self, kind: &str, times: usize) {
        let said = poll_until(PATIENCE, || (self.all(kind).len() >= times).then_some(()));
        assert!(
            said.is_some(),
            "{kind} was said {} times in {:?}:\n{}",
            self.all(kind).len(),
            self.mode,
            self.clients.process.tail()
        );
    }

    /// Emits an event in `/ws`.
    ///
    /// # Panics
    ///
    /// When the process has ended.
    pub fn emit(&self, event: &str, args: &Value) {
        self.command(&json!({"do": "emit", "ns": "/ws", "event": event, "args": args}));
    }

    /// The same, and waits for the acknowledgement: its arguments.
    ///
    /// # Panics
    ///
    /// When there is none.
    pub fn call(&mut self, event: &str, args: &Value) -> Value {
        self.call_in("/ws", event, args)
    }

    /// The same in another namespace.
    ///
    /// # Panics
    ///
    /// When there is no answer.
    pub fn call_in(&mut self, namespace: &str, event: &str, args: &Value) -> Value {
        self.acks += 1;
        let ack = self.acks;
        self.command(&json!({"do": "emit", "ns": namespace, "event": event, "args": args, "ack": ack}));
        // What comes meanwhile may be waited for afterwards.
        let found = self.find(event, |said| said["say"] == "ack" && said["ack"] == ack);
        self.said[found]["args"].clone()
    }

    /// Subscribes to a room, and returns what it was told.
    ///
    /// # Panics
    ///
    /// When it may not.
    pub fn subscribe(&mut self, room: &str) -> Value {
        let mut answer = self.call("subscribe", &json!([{"room": room}]));
        assert_eq!((&answer[0]["status"], &answer[0]["room"]), (&json!("success"), &json!(room)), "{answer}");
        answer[0].take()
    }

    /// Waits until it has had the events `tick` with these numbers, and asserts that it has had no others, and these once and in order.
    ///
    /// # Panics
    ///
    /// When that is not so.
    pub fn expect_numbers(&mut self, numbers: Range<u64>) {
        let expected: Vec<u64> = numbers.collect();
        // What is missing may still come.
        let _ = poll_until(PATIENCE, || (self.numbers().len() >= expected.len()).then_some(()));
        assert_eq!(self.numbers(), expected, "by {:?} over {:?}", self.clients.library, self.mode);
    }

    /// Gives another command of the script.
    ///
    /// # Panics
    ///
    /// When the process has ended.
    pub fn command(&self, command: &Value) {
        let mut command = command.clone();
        command["at"] = self.name.as_str().into();
        self.clients.process.tell(&command.to_string());
    }

    /// The numbers `n` of all events `tick` so far, in the order they came; sorted where the library keeps no order.
    pub fn numbers(&mut self) -> Vec<u64> {
        self.numbers_of(None)
    }

    /// The same of one room.
    pub fn numbers_in(&mut self, room: &str) -> Vec<u64> {
        self.numbers_of(Some(room))
    }

    fn numbers_of(&mut self, room: Option<&str>) -> Vec<u64> {
        let is_tick = |said: &Value| said["event"] == "tick" && room.is_none_or(|room| said["args"][0]["room"] == room);
        let ticks = self.all("event").into_iter().filter(is_tick);
        let mut numbers: Vec<u64> = ticks.filter_map(|said| said["args"][0]["data"]["n"].as_u64()).collect();
        if !self.clients.library.keeps_order() {
            numbers.sort_unstable();
        }
        numbers
    }

    /// All that it has said of a kind so far.
    pub fn all(&mut self, kind: &str) -> Vec<Value> {
        self.read();
        self.said.iter().filter(|said| said["say"] == kind).cloned().collect()
    }
}
