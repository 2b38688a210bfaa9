//! Redis lanes: servers that are not there, say nothing, or hear things in another order.

use roomcast_core::store::{Answer, GroupRef, Lane, StoreOp};

use super::desk::Desk;
use super::impostor::Impostor;
use super::lanes::{FOR_EVER, READER, append, assert_disconnected, nothing};
use super::patience::soon;
use super::{Subject, Surroundings};

/// A reply to the greeting of a connection: its identifier.
const GREETING: &str = ":1\r\n";

cases!("redis":
    a_server_that_is_not_there_is_an_answer,
    a_silent_server_is_given_up_by_a_reset,
    an_interrupt_that_overtakes_its_read_is_repeated,
    an_interrupt_reaches_a_server_that_was_silent_once,
);

fn a_server_that_is_not_there_is_an_answer<S: Subject>(subject: &S, _: &Surroundings) {
    // It has an address, at which nobody listens any more.
    let info = Impostor::new().info();
    subject.block_on(soon("the answer that there is no server", async {
        let mut desk = Desk::new(subject, &info, "");
        for lane in [Lane::Command, READER, Lane::Command] {
            assert_disconnected(&desk.ask(lane, StoreOp::Ping).await);
        }
    }));
}

fn a_silent_server_is_given_up_by_a_reset<S: Subject>(subject: &S, _: &Surroundings) {
    let server = Impostor::new();
    subject.block_on(soon("the end of the silence", async {
        let mut desk = Desk::new(subject, &server.info(), "");
        let at_once = desk.submit(Lane::Command, StoreOp::Ping);
        desk.reset(Lane::Command);
        assert_disconnected(&desk.answer(at_once).await);

        let unanswered = [desk.submit(Lane::Command, StoreOp::Ping), desk.submit(Lane::Command, append(10))];
        let heard = desk.meanwhile("a server that says nothing", move || {
            let line = server.accept("XADD");
            (server, line)
        });
        let (server, mut silent) = heard.await;
        desk.reset(Lane::Command);
        for ticket in unanswered {
            assert_disconnected(&desk.answer(ticket).await);
        }
        silent.expect_end();

        // The lane is free: the next operation has a connection of its own.
        let ticket = desk.submit(Lane::Command, StoreOp::Ping);
        let answered = desk.meanwhile("a server that answers", move || {
            let mut line = server.accept("PING");
            line.say(&[GREETING, "+PONG\r\n"].concat());
            line
        });
        let _line = answered.await;
        assert_eq!(desk.answer(ticket).await, Ok(Answer::Done));
    }));
}

fn an_interrupt_that_overtakes_its_read_is_repeated<S: Subject>(subject: &S, _: &Surroundings) {
    let server = Impostor::new();
    subject.block_on(soon("the answer to an interrupted read", async {
        let mut desk = Desk::new(subject, &server.info(), "");
        let ticket = desk.submit(READER, read());
        let connected = desk.meanwhile("a server that is read from", move || {
            let mut reader = server.accept("XREADGROUP");
            reader.say(GREETING);
            (server, reader)
        });
        let (server, mut reader) = connected.await;
        desk.interrupt(READER);
        let interrupted = desk.meanwhile("a server that is interrupted", move || {
            let mut other = server.accept("UNBLOCK");
            // It has not seen the read yet, so there was nothing to end.
            other.say(&[GREETING, ":0\r\n"].concat());
            other.expect("UNBLOCK");
            other.say(":1\r\n");
            reader.say("*-1\r\n");
            (reader, other)
        });
        let _lines = interrupted.await;
        assert_eq!(desk.answer(ticket).await, nothing());
    }));
}

fn an_interrupt_reaches_a_server_that_was_silent_once<S: Subject>(subject: &S, _: &Surroundings) {
    let server = Impostor::new();
    subject.block_on(soon("the second interrupt", async {
        let mut desk = Desk::new(subject, &server.info(), "");
        let (mut server, mut silent) = (server, Vec::new());
        for _ in 0..2 {
            let ticket = desk.submit(READER, read());
            let connected = desk.meanwhile("a server that is read from", move || {
                let mut reader = server.accept("XREADGROUP");
                reader.say(GREETING);
                (server, reader)
            });
            let (listening, reader) = connected.await;
            desk.interrupt(READER);
            // What ends the read comes on another connection, to which nothing is said: the second time on a fresh one.
            let interrupted = desk.meanwhile("a server that is interrupted", move || {
                let other = listening.accept("UNBLOCK");
                (listening, other)
            });
            let (listening, other) = interrupted.await;
            silent.extend([reader, other]);
            desk.reset(READER);
            assert_disconnected(&desk.answer(ticket).await);
            server = listening;
        }
    }));
}

fn read() -> StoreOp {
    let group = GroupRef { stream: "stream".into(), group: "group".into() };
    StoreOp::GroupRead { group, count: 1, block: FOR_EVER }
}
