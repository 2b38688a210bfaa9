//! Commands on their way to the streams of their services.

use std::collections::BTreeMap;
use std::sync::Arc;

use super::Broken;
use crate::command;
use crate::config::Commands;
use crate::store::{Entry, MOST_FIELDS, NewEntry};

/// Finds the stream of each command's service.
#[derive(Debug)]
pub(super) struct CommandRouter {
    /// The services there are, each with its stream. What a command says is looked up here and never becomes part of a key.
    targets: BTreeMap<Box<[u8]>, Arc<str>>,
    length: u32,
}

impl CommandRouter {
    pub(super) fn new(commands: &Commands) -> CommandRouter {
        let targets = commands.targets().map(|(service, stream)| (service.as_bytes().into(), stream.into())).collect();
        CommandRouter { targets, length: commands.length }
    }

    /// The entry as it is, for the stream of its service.
    pub(super) fn route(&self, entry: &Entry) -> Result<NewEntry, Broken> {
        let service = command::service(&entry.fields).map_err(|error| (error.code(), error.to_string()))?;
        let stream = self.targets.get(service.as_ref()).ok_or_else(|| unknown(&service))?;
        if entry.fields.len() > MOST_FIELDS {
            return Err(("too_many_fields", format!("the entry has {} fields, the limit is {MOST_FIELDS}", entry.fields.len())));
        }
        Ok(NewEntry { stream: stream.clone(), length: self.length, fields: entry.fields.clone() })
    }
}

/// The name goes to a log: it is shortened and escaped.
fn unknown(service: &[u8]) -> Broken {
    let name: String = String::from_utf8_lossy(service).chars().take(40).collect();
    ("unknown_service", format!("there is no service {name:?}"))
}
