//! The command line of every Roomcast binary: runs a gateway, makes tokens, publishes messages, works on dead letters.
//!
//! A binary gives its name and a function that runs a gateway on its runtime; everything else is the same for all.
#![forbid(unsafe_code)]

mod client;
mod disconnect;
mod dlq;
mod file;
mod publish;
mod redis;
mod serve;
mod stop;
mod token;
mod welcome;

use std::error::Error;
use std::process::ExitCode;

use clap::{CommandFactory as _, FromArgMatches as _, Parser, Subcommand};

pub use serve::Service;
pub use stop::Stop;
pub use welcome::Welcome;

/// What a command ends with.
pub type Outcome = Result<(), Box<dyn Error>>;

/// Runs the command line of the binary of this name.
///
/// `serve` runs a gateway, on the calling thread: it starts it, prints the welcome, waits for the stop, and returns when the
/// gateway has stopped.
pub fn main(name: &'static str, serve: fn(Service) -> Outcome) -> ExitCode {
    let matches = Arguments::command().name(name).get_matches();
    let arguments = Arguments::from_arg_matches(&matches).unwrap_or_else(|error| error.exit());
    let outcome = match arguments.command {
        Command::Serve(command) => command.run(name, serve),
        Command::Token(command) => command.run(),
        Command::Publish(command) => command.run(),
        Command::Disconnect(command) => command.run(),
        Command::Dlq(command) => command.run(),
    };
    match outcome {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("{name}: {error}");
            ExitCode::FAILURE
        }
    }
}

/// A real-time gateway between Redis and browsers.
#[derive(Debug, Parser)]
#[command(version)]
struct Arguments {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Run a gateway.
    Serve(serve::Serve),
    /// Print a token for a user.
    Token(token::Token),
    /// Publish a message through a gateway that runs.
    Publish(publish::Publish),
    /// Close every connection of a user, through a gateway that runs.
    Disconnect(disconnect::Disconnect),
    /// List, show, replay or purge the dead letters of a source.
    Dlq(dlq::Dlq),
}
