//! The `roomcast` binary: the command line, on tokio.

use std::process::ExitCode;

use roomcast_cli::{Outcome, Runtime, Service, Work};
use roomcast_tokio::{start, worker};
use tokio::runtime::Builder;

fn main() -> ExitCode {
    roomcast_cli::main("roomcast", Runtime { serve, work })
}

fn serve(service: Service) -> Outcome {
    let shards = service.options.shards;
    let mut builder = match shards {
        1 => Builder::new_current_thread(),
        _ => Builder::new_multi_thread(),
    };
    // A turn of a shard may be long, and it goes on at once while somebody floods it: after each, tokio is to look who else has sent
    // something. By default it does after 61.
    let runtime = builder.worker_threads(usize::from(shards)).event_interval(1).enable_all().build()?;
    runtime.block_on(async {
        let running = start(service.options).await?;
        service.reload.watch(&running.gateway)?;
        service.welcome.print(running.address)?;
        service.stop.await;
        running.stop().await;
        Ok(())
    })
}

fn work(Work { options, job }: Work) -> Outcome {
    let runtime = Builder::new_current_thread().enable_all().build()?;
    runtime.block_on(async {
        let worker = worker(options).await?;
        let outcome = job.run(&worker.gateway).await;
        worker.stop().await;
        outcome
    })
}
