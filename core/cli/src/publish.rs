//! The command `publish`: one message, through a gateway that runs or through Redis.

use clap::Args;
use roomcast_core::http::{self, Message};
use roomcast_shell::gateway::Gateway;
use roomcast_shell::transport::Transport;
use serde::Serialize;
use serde_json::value::RawValue;

use crate::Outcome;
use crate::client::{Client, PATIENCE, Request};
use crate::work::{Direct, Job, Kind, Work};

/// Publishes a message to a room, a user, a project or everybody.
#[derive(Debug, Args)]
pub(crate) struct Publish {
    #[command(flatten)]
    target: Target,
    /// The message's type.
    #[arg(long = "type", value_name = "TYPE")]
    kind: String,
    /// The message's data, which reaches the clients byte for byte.
    #[arg(long, value_name = "JSON")]
    data: String,
    /// Its identifier: published once more under the same, it is not sent again. A fresh UUID without it.
    #[arg(long, value_name = "ID")]
    message_id: Option<String>,
    #[command(flatten)]
    client: Client,
    #[command(flatten)]
    direct: Direct,
}

/// Where a message goes.
#[derive(Debug, Args, Serialize)]
#[group(required = true, multiple = false)]
struct Target {
    /// To a room.
    #[arg(long)]
    #[serde(skip_serializing_if = "Option::is_none")]
    room: Option<String>,
    /// To all connections of a user; it is kept for them while they are away.
    #[arg(long, value_name = "ID")]
    #[serde(rename = "user_id", skip_serializing_if = "Option::is_none")]
    user: Option<String>,
    /// To a project.
    #[arg(long, value_name = "ID")]
    #[serde(rename = "project_id", skip_serializing_if = "Option::is_none")]
    project: Option<String>,
    /// To everybody who is connected.
    #[arg(long)]
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    broadcast: bool,
}

/// The body of a request to the API.
#[derive(Serialize)]
struct Body<'a> {
    #[serde(flatten)]
    target: &'a Target,
    r#type: &'a str,
    data: &'a RawValue,
    #[serde(skip_serializing_if = "Option::is_none")]
    message_id: Option<&'a str>,
}

/// A message on its way through a worker.
#[derive(Debug)]
pub(crate) struct Publishing {
    room: String,
    body: String,
}

impl Publish {
    pub(crate) fn run(self, work: fn(Work) -> Outcome) -> Outcome {
        let data: &RawValue = serde_json::from_str(&self.data).map_err(|error| format!("--data is not JSON: {error}"))?;
        let body = Body { target: &self.target, r#type: &self.kind, data, message_id: self.message_id.as_deref() };
        let body = serde_json::to_string(&body)?;
        let Some((_, options)) = self.direct.options()? else {
            println!("{}", self.client.call(Request::Post(body), "/api/publish", PATIENCE)?);
            return Ok(());
        };
        let room = serde_json::from_str::<Message<'_>>(&body)?.target().unwrap_or_default();
        if !options.config.limits.allows_room_name(&room) {
            return Err("the name of the room is empty, too long or has control characters".into());
        }
        work(Work { options, job: Job(Kind::Publish(Publishing { room, body })) })
    }
}

impl Publishing {
    pub(crate) async fn run<T: Transport>(self, gateway: &Gateway<T>) -> Outcome {
        let message: Message<'_> = serde_json::from_str(&self.body)?;
        let (message_id, stored) = gateway.publish(&self.room, &message.outgoing());
        let position = stored.await?;
        println!("{}", String::from_utf8_lossy(http::published(&message_id, Ok(position)).body()));
        Ok(())
    }
}
