//! The suite that every runtime has to pass, on tokio.

use std::future::Future;
use std::io;
use std::net;

use redis::IntoConnectionInfo as _;
use roomcast_shell::conformance::{Started, Subject, Surroundings, run};
use roomcast_shell::lanes::Connect;
use roomcast_shell::tls::Stream;
use roomcast_tests::real::raise_open_files;
use roomcast_tests::real::redis::RedisServer;
use roomcast_tests::real::tls::Authority;
use roomcast_tokio::transport::{Socket, Timer};
use roomcast_tokio::{Options, StartError, start};
use tokio::net::TcpStream;
use tokio::runtime::{Builder, Runtime};
use tokio::task::coop;

struct Tokio(Runtime);

impl Subject for Tokio {
    type Socket = Socket<TcpStream>;
    type Timer = Timer;

    fn block_on<F: Future>(&self, future: F) -> F::Output {
        self.0.block_on(coop::unconstrained(future))
    }

    fn timer(&self) -> Timer {
        Timer::default()
    }

    fn socket(&self, stream: net::TcpStream) -> io::Result<Self::Socket> {
        TcpStream::from_std(stream).map(Socket)
    }

    fn connect(&self) -> Connect {
        roomcast_tokio::redis::connect
    }

    fn start(&self, options: Options) -> Result<Started<Stream<Self::Socket>>, StartError> {
        let running = self.0.block_on(start(options))?;
        let (address, gateway, runtime) = (running.address, running.gateway.clone(), self.0.handle().clone());
        Ok(Started { address, gateway, stop: Box::new(move || runtime.block_on(running.stop())) })
    }
}

#[test]
fn tokio_does_what_the_shell_expects_of_a_runtime() {
    let runtime = Builder::new_multi_thread().worker_threads(2).enable_all().build().expect("a runtime");
    let server = RedisServer::start();
    let redis = server.url().into_connection_info().expect("the address of the server");
    // Two file descriptors for each, and some for everything else.
    let recipients = ((raise_open_files() - 500) / 2).min(10_000);
    println!("{recipients} recipients");
    run(&Tokio(runtime), &Surroundings { redis, recipients, tls: Authority::new().both_ends() });
}
