//! The command `ping`: whether Redis answers, or a gateway is ready.

use std::time::{Duration, Instant};

use clap::Args;
use roomcast_shell::gateway::Gateway;
use roomcast_shell::transport::Transport;

use crate::Outcome;
use crate::client::{self, GatewayUrl};
use crate::work::{Direct, Job, Kind, Work};

/// Says in one line whether Redis answers (`--redis`), or a gateway is ready; the exit status says it too.
#[derive(Debug, Args)]
pub(crate) struct Ping {
    #[command(flatten)]
    gateway: GatewayUrl,
    #[command(flatten)]
    direct: Direct,
}

/// A question to Redis.
#[derive(Debug)]
pub(crate) struct Pinging {
    place: String,
}

impl Ping {
    pub(crate) fn run(self, work: fn(Work) -> Outcome) -> Outcome {
        if let Some((address, options)) = self.direct.options()? {
            let job = Job(Kind::Ping(Pinging { place: address.to_string() }));
            return work(Work { options, job });
        }
        let (url, begin) = (&self.gateway.url, Instant::now());
        client::ready(&self.gateway).map_err(|error| format!("{url}: {error}"))?;
        println!("{url} is ready, and answered in {}", milliseconds(begin.elapsed()));
        Ok(())
    }
}

impl Pinging {
    pub(crate) async fn run<T: Transport>(self, gateway: &Gateway<T>) -> Outcome {
        let took = gateway.ping().await.map_err(|error| format!("{}: {error}", self.place))?;
        println!("{} answered in {}", self.place, milliseconds(took));
        Ok(())
    }
}

fn milliseconds(took: Duration) -> String {
    format!("{:.1} ms", took.as_secs_f64() * 1e3)
}
