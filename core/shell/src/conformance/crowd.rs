//! A gateway and many clients at once, and its end among them.

use std::net::{SocketAddr, TcpStream};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Barrier};

use super::client::Client;
use super::patience::Job;
use super::rooms::{config, long, number_of, publish, start, stop};
use super::{Subject, Surroundings};

cases!("gateway":
    a_storm_of_connections_is_answered,
    a_message_reaches_each_of_very_many_members,
    a_stop_writes_what_waits_and_closes_with_1001,
    a_stop_ends_when_the_address_is_closed,
);

fn a_storm_of_connections_is_answered<S: Subject>(subject: &S, _: &Surroundings) {
    const THREADS: usize = 20;
    const CONNECTIONS: usize = 50;
    let gateway = start(subject, config());
    let (address, begin) = (gateway.address, Arc::new(Barrier::new(THREADS)));
    let threads: Vec<Job<Vec<Client>>> = (0..THREADS)
        .map(|_| {
            let begin = begin.clone();
            Job::start(move || {
                begin.wait();
                let one = |number: usize| {
                    let mut client = Client::connect(address, "/echo");
                    client.send(&number.to_string());
                    assert_eq!(client.text(), number.to_string());
                    client
                };
                (0..CONNECTIONS).map(one).collect()
            })
        })
        .collect();
    let clients: Vec<Client> = threads.into_iter().flat_map(|thread| thread.end("a thread that connects")).collect();
    assert_eq!(gateway.gateway.view().stats.connections, clients.len() as u64);
    drop(clients);
    stop(gateway);
}

fn a_message_reaches_each_of_very_many_members<S: Subject>(subject: &S, surroundings: &Surroundings) {
    const THREADS: usize = 8;
    const MESSAGES: usize = 3;
    let gateway = start(subject, config());
    let connecting: Vec<Job<Vec<Client>>> = (0..THREADS)
        .map(|thread| {
            let (address, count) = (gateway.address, (surroundings.recipients + thread) / THREADS);
            Job::start(move || members(address, count))
        })
        .collect();
    let members: Vec<Vec<Client>> = connecting.into_iter().map(|thread| thread.end("a thread that connects")).collect();
    assert_eq!(members.iter().map(Vec::len).sum::<usize>(), surroundings.recipients);
    for number in 0..MESSAGES {
        publish(&gateway.gateway, "room", &number.to_string());
    }
    let reading: Vec<Job<()>> = members
        .into_iter()
        .map(|members| {
            Job::start(move || {
                for mut member in members {
                    (0..MESSAGES).for_each(|number| assert_eq!(member.data(), number));
                }
            })
        })
        .collect();
    reading.into_iter().for_each(|thread| thread.end("a thread that reads"));
    stop(gateway);
}

fn a_stop_writes_what_waits_and_closes_with_1001<S: Subject>(subject: &S, _: &Surroundings) {
    const WAITING: usize = 64;
    const MORE: usize = 5_000;
    let gateway = start(subject, config());
    // Connections are dealt to the shards in turn, so there is one of these on each of the two.
    let mut witnesses = members(gateway.address, 2);
    let others = members(gateway.address, 6);
    others.iter().for_each(Client::leave_it_to_the_gateway);
    for number in 0..WAITING {
        publish(&gateway.gateway, "room", &long(number));
    }
    for witness in &mut witnesses {
        (0..WAITING).for_each(|number| assert_eq!(number_of(&witness.data()), number));
    }
    // Now each shard has a megabyte for every other member, and most of it cannot have been written. More comes meanwhile.
    let (handle, stopped) = (gateway.gateway.clone(), Arc::new(AtomicBool::new(false)));
    let publishing = Job::start({
        let stopped = stopped.clone();
        move || {
            let numbers = (WAITING..WAITING + MORE).take_while(|_| !stopped.load(Ordering::Relaxed));
            numbers.for_each(|number| publish(&handle, "room", &number.to_string()));
        }
    });
    let reading: Vec<Job<()>> = others
        .into_iter()
        .map(|member| {
            Job::start(move || {
                let (mut messages, code) = member.into_end();
                assert_eq!(code, 1001);
                let hint = messages.pop().expect("the last message says when to come back");
                assert!(hint["after_ms"].is_u64(), "{hint}");
                assert!(messages.len() >= WAITING, "only {} of {WAITING} messages have come", messages.len());
                assert!(messages.iter().map(number_of).eq(0..messages.len()), "they are in order");
            })
        })
        .collect();
    drop(witnesses);
    stop(gateway);
    stopped.store(true, Ordering::Relaxed);
    publishing.end("the thread that publishes");
    reading.into_iter().for_each(|thread| thread.end("a thread that reads"));
}

fn a_stop_ends_when_the_address_is_closed<S: Subject>(subject: &S, _: &Surroundings) {
    for _ in 0..20 {
        let gateway = start(subject, config());
        let address = gateway.address;
        stop(gateway);
        assert!(TcpStream::connect(address).is_err(), "somebody still listens");
    }
}

fn members(address: SocketAddr, count: usize) -> Vec<Client> {
    (0..count).map(|_| Client::member(address, "/ws", "room")).collect()
}
