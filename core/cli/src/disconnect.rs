//! The command `disconnect`: a user, on all nodes, through a gateway that runs.

use clap::Args;

use crate::Outcome;
use crate::client::{Client, PATIENCE, Request, encode};

/// Closes every connection of a user, on all nodes. The user's tokens stay valid.
#[derive(Debug, Args)]
pub(crate) struct Disconnect {
    /// The user.
    #[arg(long)]
    user: String,
    #[command(flatten)]
    client: Client,
}

impl Disconnect {
    pub(crate) fn run(self) -> Outcome {
        let path = format!("/api/users/{}/disconnect", encode(&self.user));
        println!("{}", self.client.call(Request::Post(String::new()), &path, PATIENCE)?);
        Ok(())
    }
}
