//! Redis lanes: a blocking read that is ended early takes no entry with it.
//!
//! An entry that the server delivers to a reader who is gone is pending for a consumer that has never seen it. So a read that
//! is given up has to end at the server: by its own connection, or by being unblocked.

use super::desk::Desk;
use super::lanes::{FOR_EVER, READER, add, assert_disconnected, blocked, entries, group, nothing, read, with_group};
use super::patience::soon;
use super::server::Server;
use super::{Subject, Surroundings};
use crate::transport::Timer;

cases!("redis":
    a_read_given_up_by_a_reset_leaves_nothing_pending,
    an_interrupted_read_is_answered_and_leaves_nothing_pending,
    a_read_interrupted_before_it_has_a_connection_is_answered,
    an_interrupt_that_meets_an_entry_loses_nothing,
);

fn a_read_given_up_by_a_reset_leaves_nothing_pending<S: Subject>(subject: &S, surroundings: &Surroundings) {
    let server = Server::new(&surroundings.redis);
    subject.block_on(soon("what comes after a reset", async {
        let mut desk = with_group(subject, &server).await;
        for round in 0..5 {
            let given_up = blocked(&mut desk, &server).await;
            desk.reset(READER);
            assert_disconnected(&desk.answer(given_up).await);
            // What is added before the server knows would be delivered to nobody: the core reads it again as its own.
            server.wait_until_nobody_blocks();
            the_next_read_gets_the_next_entry(&mut desk, &server, round).await;
        }
    }));
}

fn an_interrupted_read_is_answered_and_leaves_nothing_pending<S: Subject>(subject: &S, surroundings: &Surroundings) {
    let server = Server::new(&surroundings.redis);
    subject.block_on(soon("what comes after an interrupt", async {
        let mut desk = with_group(subject, &server).await;
        for round in 0..20 {
            let given_up = blocked(&mut desk, &server).await;
            desk.interrupt(READER);
            assert_eq!(desk.answer(given_up).await, nothing());
            the_next_read_gets_the_next_entry(&mut desk, &server, round).await;
        }
    }));
}

fn a_read_interrupted_before_it_has_a_connection_is_answered<S: Subject>(subject: &S, surroundings: &Surroundings) {
    let server = Server::new(&surroundings.redis);
    subject.block_on(soon("what comes after an interrupt", async {
        with_group(subject, &server).await;
        for round in 0..20 {
            let mut desk = Desk::new(subject, server.info(), &server.key(""));
            let given_up = desk.submit(READER, read(&server, FOR_EVER));
            desk.interrupt(READER);
            assert_eq!(desk.answer(given_up).await, nothing());
            the_next_read_gets_the_next_entry(&mut desk, &server, round).await;
        }
    }));
}

fn an_interrupt_that_meets_an_entry_loses_nothing<S: Subject>(subject: &S, surroundings: &Surroundings) {
    const ROUNDS: usize = 200;
    let server = Server::new(&surroundings.redis);
    subject.block_on(soon("the answer to a read", async {
        let mut desk = with_group(subject, &server).await;
        let (mut added, mut got) = (Vec::new(), Vec::new());
        for _ in 0..ROUNDS {
            let ticket = desk.submit(READER, read(&server, FOR_EVER));
            desk.interrupt(READER);
            let publisher = server.clone();
            added.push(desk.meanwhile("a publisher", move || add(&publisher)).await);
            got.extend(entries(desk.answer(ticket).await));
        }
        // The last ones may have come after the interrupt of the last read.
        if got.len() < added.len() {
            got.extend(entries(desk.ask(READER, read(&server, FOR_EVER)).await));
        }
        assert_eq!(got, added, "each entry is delivered once, in order");
        assert_eq!(server.pending(&group(&server).stream, &group(&server).group), added.len());
    }));
}

/// An entry that is added now is delivered to nobody but the next read, which is submitted later.
async fn the_next_read_gets_the_next_entry(desk: &mut Desk<impl Timer>, server: &Server, before: usize) {
    let pending = || server.pending(&group(server).stream, &group(server).group);
    let added = add(server);
    assert_eq!(pending(), before, "a read that was given up has taken an entry with it");
    assert_eq!(entries(desk.ask(READER, read(server, FOR_EVER)).await), [added]);
    assert_eq!(pending(), before + 1);
}
