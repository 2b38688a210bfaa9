//! The `roomcast-smol` binary: the command line, on smol.

use std::future::pending;
use std::process::ExitCode;
use std::sync::Arc;
use std::thread;

use roomcast_cli::{Outcome, Runtime, Service, Work};
use roomcast_smol::{start, worker};
use smol::future::{or, yield_now};
use smol::{Executor, block_on};

fn main() -> ExitCode {
    roomcast_cli::main("roomcast-smol", Runtime { serve, work })
}

fn serve(service: Service) -> Outcome {
    let executor = Arc::new(Executor::new());
    // This thread works as well.
    for number in 1..service.options.shards {
        let executor = executor.clone();
        thread::Builder::new().name(format!("shards-{number}")).spawn(move || run(&executor, pending::<()>()))?;
    }
    run(&executor, async {
        let running = start(&executor, service.options).await?;
        service.reload.watch(&running.gateway)?;
        service.welcome.print(running.address)?;
        service.stop.await;
        running.stop().await;
        Ok(())
    })
}

/// Runs tasks until a future is done. A turn of a shard may be long, and it goes on at once while somebody floods it: after each, smol is
/// to look who else has sent something. By itself it does after 200.
fn run<T>(executor: &Executor<'_>, future: impl Future<Output = T>) -> T {
    let turns = async {
        loop {
            executor.tick().await;
            yield_now().await;
        }
    };
    block_on(or(future, turns))
}

fn work(Work { options, job }: Work) -> Outcome {
    let executor = Executor::new();
    block_on(executor.run(async {
        let worker = worker(&executor, options).await?;
        let outcome = job.run(&worker.gateway).await;
        worker.stop().await;
        outcome
    }))
}
