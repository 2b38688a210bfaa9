//! The command `listen`: what is said in a room or on a channel, one message a line.

use std::io::Write as _;
use std::path::PathBuf;

use clap::Args;
use roomcast_shell::gateway::Gateway;
use roomcast_shell::subscription::{Item, Subscription};
use roomcast_shell::transport::Transport;
use serde_json::value::RawValue;

use crate::dlq::printable;
use crate::redis::{RedisOptions, TrustOptions};
use crate::work::{self, Job, Kind, Work};
use crate::{Outcome, Stop};

/// Prints what is said in a room or on a channel from now on, until SIGINT or SIGTERM.
#[derive(Debug, Args)]
pub(crate) struct Listen {
    #[command(flatten)]
    target: Target,
    /// End after so many messages.
    #[arg(long, value_name = "N")]
    count: Option<u64>,
    /// The configuration file of the gateways (TOML): the prefix, the partitions and the rules of rooms are theirs.
    #[arg(long, env = "ROOMCAST_CONFIG", value_name = "FILE")]
    config: Option<PathBuf>,
    #[command(flatten)]
    redis: RedisOptions,
    #[command(flatten)]
    redis_trust: TrustOptions,
}

#[derive(Debug, Args)]
#[group(required = true, multiple = false)]
struct Target {
    /// A room.
    #[arg(long)]
    room: Option<String>,
    /// A user, whose inbox stays as it is.
    #[arg(long, value_name = "ID")]
    user: Option<String>,
    /// A Pub/Sub channel.
    #[arg(long, value_name = "NAME")]
    channel: Option<String>,
    /// All channels that a pattern of Redis fits; each line begins with the channel.
    #[arg(long)]
    pattern: Option<String>,
}

/// A listener at work.
#[derive(Debug)]
pub(crate) struct Listening {
    target: Target,
    count: Option<u64>,
    stop: Stop,
}

impl Listen {
    pub(crate) fn run(self, work: fn(Work) -> Outcome) -> Outcome {
        let file = work::read(self.config.as_deref())?;
        let address = self.redis.address(file.server.redis.as_deref())?;
        let address = address.ok_or("name Redis by --redis, REDIS_URL or server.redis of the configuration file")?;
        let options = work::options(file, address, &self.redis_trust);
        let job = Job(Kind::Listen(Listening { target: self.target, count: self.count, stop: Stop::at_signals()? }));
        work(Work { options, job })
    }
}

impl Listening {
    pub(crate) async fn run<T: Transport>(self, gateway: &Gateway<T>) -> Outcome {
        let Listening { target, count, mut stop } = self;
        let mut subscription = target.subscribe(gateway);
        if stop.or(subscription.ready()).await.is_some() {
            eprintln!("listening");
        }
        let mut left = count.unwrap_or(u64::MAX);
        while left > 0
            && let Some(Some(item)) = stop.or(subscription.next()).await
        {
            match item {
                Item::Message(message) => {
                    let name = if target.pattern.is_some() { format!("{} ", printable(&message.name)) } else { String::new() };
                    writeln!(std::io::stdout(), "{name}{}", line(&message.payload))?;
                    left -= 1;
                }
                Item::Missed(count) => eprintln!("{count} messages were left out"),
                Item::Lost => eprintln!("messages may have been lost"),
            }
        }
        Ok(())
    }
}

impl Target {
    fn subscribe<T: Transport>(&self, gateway: &Gateway<T>) -> Subscription {
        let Target { room, user, channel, pattern } = self;
        match (room, user, channel, pattern) {
            (Some(room), ..) => gateway.subscribe(room),
            (_, Some(user), ..) => gateway.subscribe_user(user),
            (_, _, Some(channel), _) => gateway.subscribe_channel(channel),
            (.., pattern) => gateway.subscribe_pattern(pattern.as_deref().unwrap_or_default()),
        }
    }
}

/// A message as one line: JSON stays JSON, and nothing else may speak to the terminal.
fn line(payload: &[u8]) -> String {
    let text = String::from_utf8_lossy(payload);
    match serde_json::from_str::<&RawValue>(&text) {
        // Only white space between values can be a control character.
        Ok(_) => text.trim().replace(char::is_control, " "),
        Err(_) => printable(&text),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_message_is_one_line_and_cannot_speak_to_the_terminal() {
        assert_eq!(line(b"{\"a\":\n\t[1.50,\r\n\"\\u001b\"]}\n"), "{\"a\":  [1.50,  \"\\u001b\"]}");
        assert_eq!(line(b"two\nlines \x1b[2J \xff"), "two\\nlines \\u{1b}[2J \u{fffd}");
    }
}
