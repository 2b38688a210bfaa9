//! The suite that every runtime has to pass, on smol.

use std::future::{Future, pending};
use std::io;
use std::net::TcpStream;
use std::sync::Arc;
use std::thread;

use redis::IntoConnectionInfo as _;
use roomcast_shell::conformance::{Started, Subject, Surroundings, run};
use roomcast_shell::lanes::Connect;
use roomcast_shell::tls::Stream;
use roomcast_smol::transport::{Socket, Timer};
use roomcast_smol::{Options, StartError, start};
use roomcast_tests::real::raise_open_files;
use roomcast_tests::real::redis::RedisServer;
use roomcast_tests::real::tls::Authority;
use smol::{Async, Executor, block_on};

struct Smol(Arc<Executor<'static>>);

impl Subject for Smol {
    type Socket = Socket<TcpStream>;
    type Timer = Timer;

    fn block_on<F: Future>(&self, future: F) -> F::Output {
        block_on(future)
    }

    fn timer(&self) -> Timer {
        Timer::default()
    }

    fn socket(&self, stream: TcpStream) -> io::Result<Self::Socket> {
        Async::new(stream).map(Socket)
    }

    fn connect(&self) -> Connect {
        roomcast_smol::redis::connect
    }

    fn start(&self, options: Options) -> Result<Started<Stream<Self::Socket>>, StartError> {
        let running = block_on(start(&self.0, options))?;
        let (address, gateway) = (running.address, running.gateway.clone());
        Ok(Started { address, gateway, stop: Box::new(move || block_on(running.stop())) })
    }
}

#[test]
fn smol_does_what_the_shell_expects_of_a_runtime() {
    let executor = Arc::new(Executor::new());
    for _ in 0..2 {
        let executor = executor.clone();
        thread::spawn(move || block_on(executor.run(pending::<()>())));
    }
    let server = RedisServer::start();
    let redis = server.url().into_connection_info().expect("the address of the server");
    // Two file descriptors for each, and some for everything else.
    let recipients = ((raise_open_files() - 500) / 2).min(10_000);
    println!("{recipients} recipients");
    run(&Smol(executor), &Surroundings { redis, recipients, tls: Authority::new().both_ends() });
}
