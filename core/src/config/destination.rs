//! Destinations: what the entries of a source are, and where they go.

use core::time::Duration;
use std::collections::BTreeMap;

use serde::Deserialize;

use super::{ConfigError, Source, check};

/// What the entries of a source are, and where they go.
///
/// ```
/// use roomcast_core::config::{Destination, Events};
///
/// let json = r#"{"events": {"room": "project:{id}", "type": "project.changed"}}"#;
/// let Ok(Destination::Events(Events { room, .. })) = serde_json::from_str(json) else { panic!() };
/// assert_eq!(room, "project:{id}");
/// ```
#[derive(Clone, Debug, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Destination {
    /// Batches of events, which go to rooms: they reach the clients of all nodes.
    Events(Events),
    /// Commands, which go to the streams of the services they name.
    Commands(Commands),
    /// Whatever the host's own code can deal with.
    Host(Host),
}

/// Where the events of a batch go.
#[derive(Clone, Debug, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Events {
    /// Room of an event; `{id}` stands for its `workspace.id`.
    pub room: String,
    /// Type under which clients receive an event.
    #[serde(rename = "type")]
    pub kind: String,
    /// Limits of one batch.
    pub limits: BatchLimits,
}

/// What one batch may cost. Beyond a limit it is dead-lettered, before memory beyond the limit is taken.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct BatchLimits {
    /// Bytes of a compressed field, as it came (base64 or gzip). 4 MiB.
    pub compressed: usize,
    /// Bytes of the JSON text, whether it came plain or compressed. 16 MiB.
    pub inflated: usize,
    /// Events in one batch. 10,000.
    pub events: usize,
    /// Nested objects and arrays, the batch itself included; an event starts at 3. 64.
    pub depth: usize,
}

/// Where commands go.
#[derive(Clone, Debug, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Commands {
    /// The services there are. A command for any other is dead-lettered.
    pub services: Vec<String>,
    /// Stream of a service; `{service}` stands for its name.
    pub target: String,
    /// Services with a stream of another name, whether they are among `services` or not.
    pub streams: BTreeMap<String, String>,
    /// About how many commands such a stream keeps.
    pub length: u32,
}

/// Code of the host that deals with entries; see [`crate::processor`].
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Host {
    /// The name under which the host has registered it.
    pub processor: String,
    /// How long it may take for one entry.
    #[serde(default = "Host::default_deadline", with = "humantime_serde")]
    pub deadline: Duration,
    /// Entries that it has at once at the most.
    #[serde(default = "Host::default_at_once")]
    pub at_once: usize,
}

impl Destination {
    pub(super) fn validate(&self, path: &str, source: &Source) -> Result<(), ConfigError> {
        match self {
            Destination::Events(events) => events.validate(&format!("{path}.events")),
            Destination::Commands(commands) => commands.validate(&format!("{path}.commands"), source),
            Destination::Host(host) => host.validate(&format!("{path}.host")),
        }
    }
}

impl Events {
    fn validate(&self, path: &str) -> Result<(), ConfigError> {
        check(!self.room.is_empty(), &format!("{path}.room"), "must not be empty")?;
        check(!self.kind.is_empty(), &format!("{path}.type"), "must not be empty")
    }
}

impl Commands {
    /// Each service with its stream.
    pub fn targets(&self) -> impl Iterator<Item = (&str, String)> {
        let usual = self.services.iter().filter(|service| !self.streams.contains_key(*service));
        let usual = usual.map(|service| (service.as_str(), self.target.replace("{service}", service)));
        usual.chain(self.streams.iter().map(|(service, stream)| (service.as_str(), stream.clone())))
    }

    fn validate(&self, path: &str, source: &Source) -> Result<(), ConfigError> {
        let services = format!("{path}.services");
        check(self.targets().next().is_some(), &services, "must name at least one service")?;
        check(self.targets().all(|(service, _)| !service.is_empty()), &services, "must not have empty names")?;
        check(self.target.contains("{service}"), &format!("{path}.target"), "must contain {service}")?;
        check(self.streams.values().all(|stream| !stream.is_empty()), &format!("{path}.streams"), "must not have empty streams")?;
        check(self.length > 0, &format!("{path}.length"), "must be greater than 0")?;
        for (service, stream) in self.targets() {
            check(stream != source.stream, path, &format!("would route {service} back to the source"))?;
            check(stream != source.dead_letter, path, &format!("would route {service} to the dead letters"))?;
        }
        Ok(())
    }
}

impl Host {
    /// A processor with the usual numbers and times.
    pub fn new(processor: &str) -> Host {
        Host { processor: processor.into(), deadline: Host::default_deadline(), at_once: Host::default_at_once() }
    }

    fn validate(&self, path: &str) -> Result<(), ConfigError> {
        check(!self.processor.is_empty(), &format!("{path}.processor"), "must not be empty")?;
        check(!self.deadline.is_zero(), &format!("{path}.deadline"), "must not be zero")?;
        check(self.at_once > 0, &format!("{path}.at_once"), "must be greater than 0")
    }

    fn default_deadline() -> Duration {
        Duration::from_secs(30)
    }

    fn default_at_once() -> usize {
        16
    }
}

impl Default for Events {
    /// System A's file events.
    fn default() -> Events {
        Events { room: "workspace:{id}".into(), kind: "file.changed".into(), limits: BatchLimits::default() }
    }
}

impl Default for BatchLimits {
    fn default() -> BatchLimits {
        BatchLimits { compressed: 4 << 20, inflated: 16 << 20, events: 10_000, depth: 64 }
    }
}

impl Default for Commands {
    /// System A's services.
    fn default() -> Commands {
        Commands {
            services: ["claude", "cursor", "mcp"].map(String::from).into(),
            target: "stream:{service}-commands".into(),
            streams: BTreeMap::new(),
            length: 10_000,
        }
    }
}
