//! Timers: one alarm that moves.

use std::future::poll_fn;
use std::task::{Context, Poll, Waker};
use std::time::{Duration, Instant};

use super::patience::soon;
use super::{Subject, Surroundings};
use crate::transport::Timer;

/// How late an alarm may be where the machine has other things to do.
const LATE: Duration = Duration::from_secs(2);
/// Far beyond everything that a test waits for.
const YEARS: Duration = Duration::from_secs(10 * 365 * 24 * 3600);

cases!("timer":
    it_rings_soon_after_its_moment_and_never_before,
    a_moment_in_the_past_has_come,
    a_moment_that_has_come_is_ready_however_often_it_is_asked_for,
    it_can_be_moved_to_an_earlier_moment,
    it_can_be_moved_to_a_later_moment,
    it_can_be_used_again_and_again,
    the_last_waker_is_the_one_that_is_woken,
);

fn it_rings_soon_after_its_moment_and_never_before<S: Subject>(subject: &S, _: &Surroundings) {
    subject.block_on(soon("the alarm", async {
        for millis in [0, 1, 2, 7, 20, 70] {
            rings(&mut subject.timer(), Instant::now() + Duration::from_millis(millis)).await;
        }
    }));
}

fn a_moment_in_the_past_has_come<S: Subject>(subject: &S, _: &Surroundings) {
    // A runtime that keeps its own time must not have stopped while nothing happened.
    std::thread::sleep(Duration::from_millis(1_500));
    subject.block_on(soon("the alarm", async {
        for past in [1, 10, 1_000].map(Duration::from_millis) {
            let at = Instant::now().checked_sub(past).expect("the machine has run for a second");
            assert!(asked(&mut subject.timer(), at).await.is_ready(), "it came {past:?} ago");
        }
    }));
}

fn a_moment_that_has_come_is_ready_however_often_it_is_asked_for<S: Subject>(subject: &S, _: &Surroundings) {
    subject.block_on(soon("the alarm", async {
        let mut timer = subject.timer();
        let at = Instant::now() + Duration::from_millis(5);
        rings(&mut timer, at).await;
        assert!(asked(&mut timer, at).await.is_ready(), "it has rung already");
        assert!(asked(&mut timer, at).await.is_ready(), "it has rung already");
    }));
}

fn it_can_be_moved_to_an_earlier_moment<S: Subject>(subject: &S, _: &Surroundings) {
    subject.block_on(soon("the alarm", async {
        let mut timer = subject.timer();
        assert!(asked(&mut timer, Instant::now() + YEARS).await.is_pending(), "it rings years early");
        rings(&mut timer, Instant::now() + Duration::from_millis(20)).await;
    }));
}

fn it_can_be_moved_to_a_later_moment<S: Subject>(subject: &S, _: &Surroundings) {
    subject.block_on(soon("the alarm", async {
        let mut timer = subject.timer();
        let now = Instant::now();
        // Where the machine was busy for so long that this one has rung, it is moved all the same.
        let _ = asked(&mut timer, now + Duration::from_millis(30)).await;
        rings(&mut timer, now + Duration::from_millis(150)).await;
    }));
}

fn it_can_be_used_again_and_again<S: Subject>(subject: &S, _: &Surroundings) {
    subject.block_on(soon("the alarm", async {
        let mut timer = subject.timer();
        for _ in 0..100 {
            rings(&mut timer, Instant::now() + Duration::from_millis(1)).await;
            assert!(asked(&mut timer, Instant::now() + YEARS).await.is_pending(), "it rings years early");
        }
    }));
}

fn the_last_waker_is_the_one_that_is_woken<S: Subject>(subject: &S, _: &Surroundings) {
    subject.block_on(soon("the wake-up of the last waker", async {
        let mut timer = subject.timer();
        let at = Instant::now() + Duration::from_millis(50);
        let _ = timer.poll_at(&mut Context::from_waker(Waker::noop()), at);
        rings(&mut timer, at).await;
    }));
}

/// Waits for the alarm, and checks that it comes neither early nor very late.
async fn rings(timer: &mut impl Timer, at: Instant) {
    let asked = Instant::now();
    poll_fn(|cx| timer.poll_at(cx, at)).await;
    let rung = Instant::now();
    assert!(rung >= at, "it rang {:?} early", at - rung);
    let late = rung - at.max(asked);
    assert!(late < LATE, "it rang {late:?} late");
}

/// Asks once.
async fn asked(timer: &mut impl Timer, at: Instant) -> Poll<()> {
    poll_fn(|cx| Poll::Ready(timer.poll_at(cx, at))).await
}
