//! The `roomcast` binary: runs a gateway, makes tokens, publishes messages.

use std::process::ExitCode;

use clap::{Parser, Subcommand};

mod cli;

/// A real-time gateway between Redis and browsers.
#[derive(Debug, Parser)]
#[command(name = "roomcast", version, about)]
struct Arguments {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Run a gateway.
    Serve(cli::serve::Serve),
    /// Print a token for a user.
    Token(cli::token::Token),
    /// Publish a message through a gateway that runs.
    Publish(cli::publish::Publish),
}

fn main() -> ExitCode {
    let outcome = match Arguments::parse().command {
        Command::Serve(serve) => serve.run(),
        Command::Token(token) => token.run(),
        Command::Publish(publish) => publish.run(),
    };
    match outcome {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("roomcast: {error}");
            ExitCode::FAILURE
        }
    }
}
