//! How fast clients connect: until each of them is in its namespace with a token, and in a room.

use std::time::{Duration, Instant};

use socket2::SockRef;

use crate::Options;
use crate::client::{Client, enter_room, tokens};
use crate::machine::cpu_time;
use crate::server::{Server, Stable};
use crate::statistics::{grouped, median, median_ratio, print_aligned, spread};

/// Prints a table of all servers.
pub(crate) fn measure<C: Client>(stable: &Stable, options: &Options) {
    let tokens = tokens(0..options.clients);
    let mut servers: Vec<Server> = stable.start_each().collect();
    // The first clients only warm up.
    for server in &mut servers {
        measure_one::<C>(server, &tokens);
    }
    let rounds: Vec<Vec<Connects>> =
        (0..options.rounds).map(|_| servers.iter_mut().map(|server| measure_one::<C>(server, &tokens)).collect()).collect();

    let clients = options.clients;
    println!("\n{clients} clients connect over {}, {} rounds\n", C::TRANSPORT, options.rounds);
    let head = ["server", "connects/s", "spread", "x first", "CPU µs each", "x first"];
    let mut lines = vec![head.map(str::to_owned).to_vec()];
    for (index, server) in servers.iter().enumerate() {
        let of = |value: fn(&Connects) -> f64| -> Vec<f64> { rounds.iter().map(|round| value(&round[index])).collect() };
        let ratio =
            |value: fn(&Connects) -> f64| median_ratio(rounds.iter().map(|round| Some(value(&round[index]) / value(&round[0]))));
        lines.push(vec![
            server.name().to_owned(),
            grouped((clients as f64 * median(of(Connects::speed))) as u64),
            format!("{:.0} %", spread(&of(Connects::speed)) * 100.0),
            ratio(Connects::speed),
            format!("{:.1}", median(of(Connects::cpu)) * 1e6 / clients as f64),
            ratio(Connects::cpu),
        ]);
    }
    print_aligned(&lines);
}

/// What it took that all have connected.
struct Connects {
    took: Duration,
    server_cpu: Duration,
}

impl Connects {
    fn speed(&self) -> f64 {
        1.0 / self.took.as_secs_f64()
    }

    fn cpu(&self) -> f64 {
        self.server_cpu.as_secs_f64()
    }
}

fn measure_one<C: Client>(server: &mut Server, tokens: &[String]) -> Connects {
    // What the clients before have left behind is not theirs.
    server.come_to_rest();
    let (started, before) = (Instant::now(), cpu_time(server.pid()));
    let clients: Vec<C> = enter_room(server.addr(), tokens);
    let connects = Connects { took: started.elapsed(), server_cpu: cpu_time(server.pid()) - before };
    for client in &clients {
        // They are cut, or the ends that linger in TIME_WAIT would use up the ports.
        let socket = SockRef::from(&client.line().stream);
        socket.set_linger(Some(Duration::ZERO)).expect("a TCP socket can be cut");
    }
    connects
}
