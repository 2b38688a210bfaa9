//! The command `revoke`: tokens, on all nodes, through a gateway that runs.

use clap::Args;

use crate::Outcome;
use crate::client::{Client, PATIENCE, Request, encode};

/// Revokes tokens on all nodes, and closes every connection that has shown one.
#[derive(Debug, Args)]
#[command(group(clap::ArgGroup::new("subject").required(true).args(["user", "token_id"])))]
pub(crate) struct Revoke {
    /// All tokens of this user that were issued until now.
    #[arg(long)]
    user: Option<String>,
    /// The token of this name, its `jti`.
    #[arg(long, value_name = "JTI")]
    token_id: Option<String>,
    #[command(flatten)]
    client: Client,
}

impl Revoke {
    pub(crate) fn run(self) -> Outcome {
        let (kind, name) = match (&self.user, &self.token_id) {
            (Some(user), _) => ("users", user),
            (None, jti) => ("tokens", jti.as_ref().ok_or("name a user or a token")?),
        };
        let path = format!("/api/{kind}/{}/revoke", encode(name));
        println!("{}", self.client.call(Request::Post(String::new()), &path, PATIENCE)?);
        Ok(())
    }
}
