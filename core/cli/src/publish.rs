//! The command `publish`: one message, through a gateway that runs.

use std::time::Duration;

use clap::Args;
use serde::Serialize;
use serde_json::value::RawValue;

use crate::Outcome;
use crate::token::Claims;

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
    /// The gateway.
    #[arg(long, env = "ROOMCAST_URL", default_value = "http://127.0.0.1:8098")]
    url: String,
    /// A token with the role admin.
    #[arg(long, env = "ROOMCAST_TOKEN", hide_env_values = true)]
    token: Option<String>,
    /// Instead of a token, the gateway's secret: a token is made with it.
    #[arg(long, env = "JWT_SECRET_KEY", hide_env_values = true, value_name = "SECRET")]
    jwt_secret: Option<String>,
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
        let token = match (self.token, &self.jwt_secret) {
            (Some(token), _) => token,
            (None, Some(secret)) => {
                let claims = Claims { sub: "roomcast-publish", role: Some("admin"), ..Claims::default() };
                claims.sign(secret, Duration::from_secs(60))?
            }
            (None, None) => return Err("give --token or --jwt-secret (or ROOMCAST_TOKEN or JWT_SECRET_KEY)".into()),
        };
        let body = serde_json::to_string(&Body { room: &self.room, r#type: &self.kind, data })?;
        let agent: ureq::Agent = ureq::Agent::config_builder()
            .timeout_global(Some(Duration::from_secs(30)))
            // The body of a refusal says more than its status.
            .http_status_as_error(false)
            .build()
            .into();
        let mut response = agent
            .post(format!("{}/api/publish", self.url.trim_end_matches('/')))
            .header("authorization", format!("Bearer {token}"))
            .header("content-type", "application/json")
            .send(body)?;
        let answer = response.body_mut().read_to_string()?;
        if !response.status().is_success() {
            return Err(format!("the gateway answered {}: {answer}", response.status()).into());
        }
        println!("{answer}");
        Ok(())
    }
}
