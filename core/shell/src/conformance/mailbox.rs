//! The mailbox: whatever thread posts, the task that sleeps on the runtime is woken.

use std::future::{Future as _, poll_fn};
use std::pin::pin;
use std::sync::{Arc, mpsc};
use std::task::{Poll, Waker};

use super::patience::{Job, PATIENCE, soon};
use super::{Subject, Surroundings};
use crate::mailbox::Mailbox;

cases!("mailbox":
    posts_of_many_threads_all_arrive_in_the_order_of_each,
    no_wake_up_is_lost,
    the_last_waker_is_the_one_that_is_woken,
);

fn posts_of_many_threads_all_arrive_in_the_order_of_each<S: Subject>(subject: &S, _: &Surroundings) {
    const THREADS: usize = 4;
    const POSTS: usize = 20_000;
    let mailbox = Arc::new(Mailbox::new());
    let threads: Vec<Job<()>> = (0..THREADS)
        .map(|thread| {
            let mailbox = mailbox.clone();
            Job::start(move || (0..POSTS).for_each(|number| mailbox.post((thread, number))))
        })
        .collect();
    let mut next = [0; THREADS];
    subject.block_on(soon("every post", async {
        while next != [POSTS; THREADS] {
            for (thread, number) in taken(&mailbox).await {
                assert_eq!(number, next[thread], "the next post of thread {thread}");
                next[thread] += 1;
            }
        }
    }));
    threads.into_iter().for_each(|thread| thread.end("a thread that posts"));
}

fn no_wake_up_is_lost<S: Subject>(subject: &S, _: &Surroundings) {
    // Each post comes while the task is about to sleep, sleeps, or has just been woken.
    const ROUNDS: u32 = 5_000;
    let mailbox = Arc::new(Mailbox::new());
    let (say, heard) = mpsc::channel();
    let posting = mailbox.clone();
    let thread = Job::start(move || {
        for round in 0..ROUNDS {
            posting.post(round);
            assert_eq!(heard.recv_timeout(PATIENCE), Ok(round), "the task answers");
        }
    });
    subject.block_on(soon("the wake-up of each post", async {
        for round in 0..ROUNDS {
            assert_eq!(taken(&mailbox).await, [round]);
            say.send(round).expect("the thread waits for it");
        }
    }));
    thread.end("the thread that posts");
}

fn the_last_waker_is_the_one_that_is_woken<S: Subject>(subject: &S, _: &Surroundings) {
    let mailbox = Arc::new(Mailbox::new());
    mailbox.take(Waker::noop(), &mut Vec::new());
    let (ask, asked) = mpsc::channel();
    let posting = mailbox.clone();
    let thread = Job::start(move || {
        asked.recv_timeout(PATIENCE).expect("the task waits");
        posting.post(());
    });
    subject.block_on(soon("the wake-up of the last waker", async {
        let mut taken = pin!(taken(&mailbox));
        poll_fn(|cx| {
            let taken = taken.as_mut().poll(cx);
            let _ = ask.send(());
            taken
        })
        .await;
    }));
    thread.end("the thread that posts");
}

/// Sleeps until there is something, and takes it.
async fn taken<I>(mailbox: &Mailbox<I>) -> Vec<I> {
    poll_fn(|cx| {
        let mut taken = Vec::new();
        mailbox.take(cx.waker(), &mut taken);
        if taken.is_empty() { Poll::Pending } else { Poll::Ready(taken) }
    })
    .await
}
