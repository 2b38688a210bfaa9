//! Redis lanes: pipelining, blocking reads, and connections that break.

use std::time::{Duration, Instant};

use roomcast_core::id::{StreamId, Ticket};
use roomcast_core::store::{Answer, GroupRef, Lane, Posting, StoreError, StoreOp};

use super::desk::{Answered, Desk};
use super::patience::soon;
use super::server::Server;
use super::{Subject, Surroundings};
use crate::transport::Timer;

/// The lane of a blocking read.
pub(super) const READER: Lane = Lane::Source(0);
/// Longer than anything is waited for: such a read ends by itself in no case.
pub(super) const FOR_EVER: Duration = Duration::from_secs(3_600);

cases!("redis":
    a_thousand_appends_are_answered_in_order,
    many_megabytes_go_there_and_come_back,
    a_blocking_read_ends_with_its_time,
    a_blocking_read_ends_with_an_entry,
    a_blocking_read_holds_up_no_other_lane,
    lanes_that_are_dropped_leave_no_reader_behind,
    a_connection_that_is_killed_is_an_answer_and_the_next_operation_makes_another,
    a_connection_that_is_killed_while_nothing_is_asked_is_replaced,
);

fn a_thousand_appends_are_answered_in_order<S: Subject>(subject: &S, surroundings: &Surroundings) {
    const APPENDS: usize = 1_000;
    let server = Server::new(&surroundings.redis);
    subject.block_on(soon("a thousand answers", async {
        let mut desk = Desk::new(subject, server.info(), &server.key(""));
        let tip = || StoreOp::RelayTip { partition: 0 };
        let mut submit = || (desk.submit(Lane::Command, append(10)), desk.submit(Lane::Command, tip()));
        let tickets: Vec<(Ticket, Ticket)> = (0..APPENDS).map(|_| submit()).collect();
        let mut last = StreamId::ZERO;
        for (append, tip) in tickets {
            assert_eq!(desk.answer(append).await, Ok(Answer::Appended(vec![None])));
            let Ok(Answer::Id(id)) = desk.answer(tip).await else { panic!("the log has a last entry") };
            assert!(id > last, "{id} after {last}");
            last = id;
        }
        assert_eq!(desk.ask(Lane::Command, tip()).await, Ok(Answer::Id(last)));
    }));
    assert_eq!(server.query::<usize>(&["XLEN", &server.key("relay:{0}")]), APPENDS);
}

fn many_megabytes_go_there_and_come_back<S: Subject>(subject: &S, surroundings: &Surroundings) {
    const APPENDS: usize = 3;
    const BYTES: usize = 8 << 20;
    let server = Server::new(&surroundings.redis);
    subject.block_on(soon("many megabytes", async {
        let mut desk = Desk::new(subject, server.info(), &server.key(""));
        for _ in 0..APPENDS {
            // One at a time: nothing comes back before everything is there, so only the room in the socket wakes the task.
            assert!(desk.ask(Lane::Command, append(BYTES)).await.is_ok());
        }
        let read = StoreOp::RelayRead { cursors: vec![(0, StreamId::ZERO)], count: APPENDS, block: FOR_EVER };
        let Ok(Answer::Relayed(entries)) = desk.ask(Lane::Relay, read).await else { panic!("the log can be read") };
        assert_eq!(entries.len(), APPENDS);
        assert!(entries.iter().all(|entry| entry.messages.iter().map(|message| message.payload.len()).eq([BYTES])));
    }));
}

fn a_blocking_read_ends_with_its_time<S: Subject>(subject: &S, surroundings: &Surroundings) {
    const BLOCK: Duration = Duration::from_millis(50);
    let server = Server::new(&surroundings.redis);
    subject.block_on(soon("the end of a read", async {
        let mut desk = with_group(subject, &server).await;
        let began = Instant::now();
        assert_eq!(desk.ask(READER, read(&server, BLOCK)).await, nothing());
        // The server's clock is a coarse one.
        assert!(began.elapsed() > BLOCK / 2, "it was answered after {:?}", began.elapsed());
    }));
}

fn a_blocking_read_ends_with_an_entry<S: Subject>(subject: &S, surroundings: &Surroundings) {
    let server = Server::new(&surroundings.redis);
    subject.block_on(soon("the entry", async {
        let mut desk = with_group(subject, &server).await;
        let ticket = desk.submit(READER, read(&server, FOR_EVER));
        let publisher = server.clone();
        let added = desk.meanwhile("a publisher", move || {
            publisher.wait_until_somebody_blocks();
            add(&publisher)
        });
        let added = added.await;
        assert_eq!(entries(desk.answer(ticket).await), [added]);
    }));
}

fn a_blocking_read_holds_up_no_other_lane<S: Subject>(subject: &S, surroundings: &Surroundings) {
    let server = Server::new(&surroundings.redis);
    subject.block_on(soon("the answers of another lane", async {
        let mut desk = with_group(subject, &server).await;
        let read = blocked(&mut desk, &server).await;
        for _ in 0..100 {
            assert_eq!(desk.ask(Lane::Command, StoreOp::Ping).await, Ok(Answer::Done));
        }
        let added = add(&server);
        assert_eq!(entries(desk.answer(read).await), [added]);
    }));
}

fn lanes_that_are_dropped_leave_no_reader_behind<S: Subject>(subject: &S, surroundings: &Surroundings) {
    let server = Server::new(&surroundings.redis);
    subject.block_on(soon("a blocking read", async {
        let mut desk = with_group(subject, &server).await;
        blocked(&mut desk, &server).await;
    }));
    server.wait_until_nobody_blocks();
}

fn a_connection_that_is_killed_is_an_answer_and_the_next_operation_makes_another<S: Subject>(
    subject: &S,
    surroundings: &Surroundings,
) {
    let server = Server::new(&surroundings.redis);
    subject.block_on(soon("the answer to a read on a connection that was killed", async {
        let mut desk = with_group(subject, &server).await;
        for _ in 0..10 {
            let read = blocked(&mut desk, &server).await;
            let client = server.blocked().pop().expect("the reader still waits");
            assert_eq!(server.query::<usize>(&["CLIENT", "KILL", "ID", &client]), 1);
            assert_disconnected(&desk.answer(read).await);
            assert_eq!(desk.ask(READER, StoreOp::Ping).await, Ok(Answer::Done));
        }
    }));
}

fn a_connection_that_is_killed_while_nothing_is_asked_is_replaced<S: Subject>(subject: &S, surroundings: &Surroundings) {
    let server = Server::new(&surroundings.redis);
    subject.block_on(soon("the answer to a ping", async {
        let mut desk = Desk::new(subject, server.info(), &server.key(""));
        for _ in 0..10 {
            assert_eq!(desk.ask(Lane::Command, StoreOp::Ping).await, Ok(Answer::Done));
            // All but the connection that says so.
            assert!(server.query::<usize>(&["CLIENT", "KILL", "TYPE", "normal", "SKIPME", "yes"]) > 0);
            let mut answer = desk.ask(Lane::Command, StoreOp::Ping).await;
            if answer.is_err() {
                // It was asked before the news had come.
                assert_disconnected(&answer);
                answer = desk.ask(Lane::Command, StoreOp::Ping).await;
            }
            assert_eq!(answer, Ok(Answer::Done));
        }
    }));
}

/// Lanes, and a group to be read on one of them.
pub(super) async fn with_group<S: Subject>(subject: &S, server: &Server) -> Desk<S::Timer> {
    let mut desk = Desk::new(subject, server.info(), &server.key(""));
    assert_eq!(desk.ask(READER, StoreOp::GroupOpen(group(server))).await, Ok(Answer::Opened(Some(StreamId::ZERO))));
    desk
}

/// Submits a read and waits until the server waits for entries.
pub(super) async fn blocked(desk: &mut Desk<impl Timer>, server: &Server) -> Ticket {
    let ticket = desk.submit(READER, read(server, FOR_EVER));
    let server = server.clone();
    desk.meanwhile("the server", move || server.wait_until_somebody_blocks()).await;
    ticket
}

pub(super) fn group(server: &Server) -> GroupRef {
    GroupRef { stream: server.key("source").into(), group: "readers".into() }
}

pub(super) fn read(server: &Server, block: Duration) -> StoreOp {
    StoreOp::GroupRead { group: group(server), count: 1_000, block }
}

/// Adds an entry as any publisher would.
pub(super) fn add(server: &Server) -> StreamId {
    let id: String = server.query(&["XADD", &group(server).stream, "*", "field", "value"]);
    id.parse().expect("the identifier of an entry")
}

/// The answer to a read that has waited in vain.
pub(super) fn nothing() -> Answered {
    Ok(Answer::Entries(Vec::new()))
}

/// The entries that a read has got.
pub(super) fn entries(answer: Answered) -> Vec<StreamId> {
    match answer {
        Ok(Answer::Entries(entries)) => entries.iter().map(|entry| entry.id).collect(),
        other => panic!("not entries: {other:?}"),
    }
}

pub(super) fn assert_disconnected(answer: &Answered) {
    assert!(matches!(answer, Err(StoreError::Disconnected(_))), "{answer:?}");
}

pub(super) fn append(bytes: usize) -> StoreOp {
    StoreOp::Append { partition: 0, messages: vec![Posting::plain("room".into(), vec![b'x'; bytes].into())] }
}
