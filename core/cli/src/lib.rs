//! The command line of every Roomcast binary: runs a gateway, makes tokens, publishes messages and listens, works on dead letters.
//!
//! A binary gives its name and two functions, which run a gateway and a worker on its runtime; everything else is the same for all.
#![forbid(unsafe_code)]

mod api_key;
mod client;
mod disconnect;
mod dlq;
mod file;
mod hangup;
mod listen;
mod ping;
mod publish;
mod redis;
mod reload;
mod revoke;
mod serve;
mod stop;
mod tls;
mod token;
mod welcome;
mod work;

use std::error::Error;
use std::process::ExitCode;

use clap::{CommandFactory as _, FromArgMatches as _, Parser, Subcommand};

pub use reload::Reload;
pub use serve::Service;
pub use stop::Stop;
pub use welcome::Welcome;
pub use work::{Job, Work};

/// What a command ends with.
pub type Outcome = Result<(), Box<dyn Error>>;

/// What a runtime does for the command line, on the calling thread.
#[derive(Clone, Copy, Debug)]
pub struct Runtime {
    /// Runs a gateway: starts it, prints the welcome, waits for the stop, and returns when the gateway has stopped.
    pub serve: fn(Service) -> Outcome,
    /// Runs a worker: starts it, has the job done with its handle, and returns when the worker has stopped.
    pub work: fn(Work) -> Outcome,
}

/// Runs the command line of the binary of this name.
pub fn main(name: &'static str, runtime: Runtime) -> ExitCode {
    let matches = Arguments::command().name(name).get_matches();
    let arguments = Arguments::from_arg_matches(&matches).unwrap_or_else(|error| error.exit());
    let outcome = match arguments.command {
        Command::Serve(command) => command.run(name, runtime.serve),
        Command::Token(command) => command.run(),
        Command::ApiKey(command) => command.run(),
        Command::Publish(command) => command.run(runtime.work),
        Command::Listen(command) => command.run(runtime.work),
        Command::Ping(command) => command.run(runtime.work),
        Command::Disconnect(command) => command.run(),
        Command::Revoke(command) => command.run(),
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
    /// Make a key of the HTTP API.
    ApiKey(api_key::ApiKey),
    /// Publish a message, through a gateway that runs or through Redis.
    Publish(publish::Publish),
    /// Print what is said in a room or on a channel of Redis.
    Listen(listen::Listen),
    /// Say whether Redis answers, or a gateway is ready.
    Ping(ping::Ping),
    /// Close every connection of a user, through a gateway that runs.
    Disconnect(disconnect::Disconnect),
    /// Revoke the tokens of a user, or one token, through a gateway that runs.
    Revoke(revoke::Revoke),
    /// List, show, replay or purge the dead letters of a source.
    Dlq(dlq::Dlq),
}
