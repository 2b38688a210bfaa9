//! The command `publish`: one message, through a gateway that runs.

use clap::Args;
use serde::Serialize;
use serde_json::value::RawValue;

use crate::Outcome;
use crate::client::{Client, PATIENCE, Request};

/// Publishes a message to a room.
#[derive(Debug, Args)]
pub(crate) struct Publish {
    /// The room.
    #[arg(long)]
    room: String,
    /// The message's type.
    #[arg(long = "type", value_name = "TYPE")]
    kind: String,
    /// The message's data, which reaches the clients byte for byte.
    #[arg(long, value_name = "JSON")]
    data: String,
    #[command(flatten)]
    client: Client,
}

#[derive(Serialize)]
struct Body<'a> {
    room: &'a str,
    r#type: &'a str,
    data: &'a RawValue,
}

impl Publish {
    pub(crate) fn run(self) -> Outcome {
        let data: &RawValue = serde_json::from_str(&self.data).map_err(|error| format!("--data is not JSON: {error}"))?;
        let body = serde_json::to_string(&Body { room: &self.room, r#type: &self.kind, data })?;
        println!("{}", self.client.call(Request::Post(body), "/api/publish", PATIENCE)?);
        Ok(())
    }
}
