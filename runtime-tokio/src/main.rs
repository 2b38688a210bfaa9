//! The `roomcast` binary: the command line, on tokio.

use std::process::ExitCode;

use roomcast_cli::{Outcome, Service};
use roomcast_tokio::start;
use tokio::runtime::Builder;

fn main() -> ExitCode {
    roomcast_cli::main("roomcast", serve)
}

fn serve(service: Service) -> Outcome {
    let shards = service.options.shards;
    let mut builder = match shards {
        1 => Builder::new_current_thread(),
        _ => Builder::new_multi_thread(),
    };
    let runtime = builder.worker_threads(usize::from(shards)).enable_all().build()?;
    runtime.block_on(async {
        let running = start(service.options).await?;
        service.welcome.print(running.address)?;
        service.stop.await;
        running.stop().await;
        Ok(())
    })
}
