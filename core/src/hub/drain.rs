//! Draining: a hub is emptied before its node ends, so slowly that the other nodes bear those who come back.
//!
//! Each connection is told when to come back, and is closed. The order is drawn by lot: those who came together, or are in one
//! room, do not all go together.

use core::time::Duration;

use http::StatusCode;
use rand_chacha::rand_core::Rng as _;

use super::{Hub, Refused, Wake};
use crate::config::DrainStyle;
use crate::dialect::json::Object;
use crate::id::ConnId;
use crate::time::Time;

/// A host that was held up makes up for so much of it at the most: the other nodes would see more as a stampede. What is left is
/// spread over the time that remains.
const LATE: Duration = Duration::from_millis(500);

/// The fraction of the golden ratio, of 2 to the power of 64.
const GOLDEN_RATIO: u64 = 0x9e37_79b9_7f4a_7c15;

/// A drain under way.
#[derive(Debug)]
pub(super) struct Drain {
    /// The connections in the order in which they are closed, the next one last. Some may have gone by themselves.
    left: Vec<ConnId>,
    /// When the next one is closed.
    next_at: Time,
    /// The time from one to the next at the configured rate.
    pace: Duration,
    /// By when all have been closed: where the rate is too slow for that, it is exceeded.
    closed_by: Time,
    /// When those are dropped that are still there.
    dropped_at: Time,
    /// From which follows when the next one is to come back. A step of the golden ratio each time spreads them more evenly than
    /// dice would, so that those who come back are no more in any second than those who were closed.
    turn: u64,
}

/// The time from one close to the next, a little more than the rate says: clocks and networks are not exact, and the rate shall not
/// be exceeded.
fn pace(rate: u32) -> Duration {
    Duration::from_secs(1) / (rate - rate / 16).max(1)
}

impl Hub {
    /// Begins to close every connection, as [`config::Drain`](crate::config::Drain) says, and opens no more. `hubs` is among
    /// how many the node's rate is shared, this one included. The hub's timers do the rest, which is over when it
    /// [`is_drained`](Hub::is_drained). Once begun, nothing changes it.
    pub fn drain(&mut self, now: Time, hubs: u8) {
        if self.drain.is_some() {
            return;
        }
        // Namespaces go with their sessions.
        let transports = self.conns.iter().map(|(_, conn)| conn).filter(|conn| conn.carrier().is_none());
        let mut left: Vec<ConnId> = transports.map(|conn| conn.id).collect();
        // Fisher and Yates; the bias of the remainder is of no account.
        for at in (1..left.len()).rev() {
            left.swap(at, (self.dice.next_u64() % (at as u64 + 1)) as usize);
        }
        let (config, hubs) = (&self.config.drain, hubs.max(1));
        let one = pace(config.rate);
        // The hubs take turns.
        let next_at = now + one * u32::from(self.shard.0 % hubs);
        let (closed_by, dropped_at) = (now + config.closing(), now + config.dropping());
        self.drain =
            Some(Drain { left, next_at, pace: one * u32::from(hubs), closed_by, dropped_at, turn: self.dice.next_u64() });
        self.timers.arm(next_at, Wake::Drain);
        self.timers.arm(dropped_at, Wake::Drain);
    }

    /// Whether the hub was told to drain, and no connection is left.
    pub fn is_drained(&self) -> bool {
        self.drain.is_some() && self.conns.is_empty()
    }

    /// Closes those whose turn it is, and drops all once the time is up.
    pub(super) fn drain_on(&mut self, now: Time) {
        let Some(drain) = &mut self.drain else { return };
        if drain.dropped_at <= now {
            let ids: Vec<ConnId> = self.conns.iter().map(|(_, conn)| conn.id).collect();
            return ids.into_iter().for_each(|id| self.remove(id, "the time to drain was over", true));
        }
        let earliest = now.as_micros().saturating_sub(LATE.as_micros() as u64);
        drain.next_at = drain.next_at.max(Time::from_micros(earliest));
        while let Some(drain) = &mut self.drain
            && drain.next_at <= now
            && let Some(id) = drain.left.pop()
        {
            let hurry = (drain.closed_by - now) / (drain.left.len() as u32).saturating_add(1);
            let next_at = drain.next_at + drain.pace.min(hurry);
            if self.send_away(now, id)
                && let Some(drain) = &mut self.drain
            {
                drain.next_at = next_at;
            }
        }
        if let Some(drain) = &self.drain
            && !drain.left.is_empty()
        {
            self.timers.arm(drain.next_at, Wake::Drain);
        }
    }

    /// Tells a client when to come back, and closes its connection. Whether there was anything to close.
    fn send_away(&mut self, now: Time, id: ConnId) -> bool {
        let Some(conn) = self.peek(id).filter(|conn| !conn.is_closing()) else { return false };
        let style = self.config.routes.get(usize::from(conn.route)).map(|route| route.drain).unwrap_or_default();
        let spread = u64::try_from(self.config.drain.spread.as_millis()).unwrap_or(u64::MAX);
        let turn = self.drain.as_mut().map_or(0, |drain| {
            drain.turn = drain.turn.wrapping_add(GOLDEN_RATIO);
            drain.turn
        });
        let after = ((u128::from(turn) * u128::from(spread)) >> 64) as u64;
        let data = Object::new().number("after_ms", after).finish();
        let sockets = self.sockets_of(id);
        let clients = if sockets.is_empty() { vec![id] } else { sockets };
        clients.into_iter().for_each(|client| self.notice(now, client, "reconnect", Some(data.clone()), None));
        match style {
            DrainStyle::Close => self.close(now, id, 1001, "the server is going away"),
            DrainStyle::Abort => self.abort(now, id, "the server is going away"),
        }
        true
    }

    /// Ends a connection without a close frame, once what is queued for it is written.
    pub(super) fn abort(&mut self, now: Time, id: ConnId, cause: &'static str) {
        // The notice may have been too much for it.
        if self.peek(id).is_some_and(|conn| !conn.is_closing()) {
            self.leave_all(id);
            self.begin_closing(now, id, cause, true);
            self.drop_if_written(id);
        }
    }

    pub(super) fn refuse_while_draining(&self) -> Result<(), Refused> {
        if self.drain.is_none() {
            return Ok(());
        }
        // Others have room at once; they are only not to be asked by all in the same moment.
        let retry_after = Some(self.config.drain.spread.as_secs().max(1));
        Err(Refused { status: StatusCode::SERVICE_UNAVAILABLE, message: "The server is going away", retry_after })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::{AuthMode, Config, Route};
    use crate::frame::Message;
    use crate::hub::HubAction;
    use crate::id::ShardId;
    use std::sync::Arc;

    const NOW: Time = Time::from_micros(7_000_000);

    /// With a rate of 106 a connection is closed every 10 ms.
    fn config(rate: u32) -> Config {
        let aborting = Route { drain: DrainStyle::Abort, ..Route::json("/abort", AuthMode::Optional) };
        let mut config = Config { routes: vec![Route::json("/", AuthMode::Optional), aborting], ..Config::default() };
        (config.drain.rate, config.drain.deadline) = (rate, Duration::from_secs(12));
        config
    }

    fn hub(config: Config, seed: u8, count: usize) -> (Hub, Vec<ConnId>) {
        let mut hub = Hub::new(Arc::new(config), ShardId(0), [seed; 32]).unwrap();
        let conns = (0..count).map(|_| open(&mut hub, "/").unwrap()).collect();
        (hub, conns)
    }

    fn open(hub: &mut Hub, path: &str) -> Result<ConnId, Refused> {
        hub.open(NOW, &http::Request::get(path).body(()).unwrap()).map(|opened| opened.conn)
    }

    /// Lets the hub's timers go off until nothing is left to be closed: who was closed, and when. Everybody answers.
    fn closes(hub: &mut Hub) -> Vec<(Duration, ConnId)> {
        let mut closed = Vec::new();
        while !hub.is_drained() {
            let now = hub.next_deadline().expect("a drain comes to its end");
            hub.tick(now);
            closed.extend(flush(hub, now).into_iter().map(|id| (now - NOW, id)));
        }
        closed
    }

    fn flush(hub: &mut Hub, now: Time) -> Vec<ConnId> {
        let mut flushed = Vec::new();
        while let Some(id) = hub.poll_flush() {
            if let Some(bytes) = hub.outbox(id).map(|outbox| outbox.bytes()) {
                hub.written(id, bytes);
            }
            hub.receive(now, id, Message::Close(Some(1001)));
            flushed.push(id);
        }
        flushed
    }

    fn drops(hub: &mut Hub) -> usize {
        core::iter::from_fn(|| hub.poll_action()).filter(|action| matches!(action, HubAction::Drop(_))).count()
    }

    #[test]
    fn connections_are_closed_one_after_the_other_in_an_order_drawn_by_lot() {
        let order = |seed| {
            let (mut hub, conns) = hub(config(106), seed, 50);
            hub.drain(NOW, 1);
            let closed = closes(&mut hub);
            for (at, (when, _)) in closed.iter().enumerate() {
                assert_eq!(*when, Duration::from_millis(10) * at as u32);
            }
            let mut order: Vec<usize> = closed.iter().map(|(_, id)| conns.iter().position(|conn| conn == id).unwrap()).collect();
            let drawn = order.clone();
            order.sort_unstable();
            assert_eq!(order, (0..50).collect::<Vec<_>>(), "each once");
            drawn
        };
        assert_eq!(order(1), order(1));
        assert_ne!(order(1), order(2));
        assert_ne!(order(1), (0..50).collect::<Vec<_>>());
    }

    #[test]
    fn hubs_share_the_rate_and_take_turns() {
        let mut all = Vec::new();
        for shard in 0..4 {
            let mut hub = Hub::new(Arc::new(config(106)), ShardId(shard), [1; 32]).unwrap();
            (0..10).for_each(|_| assert!(open(&mut hub, "/").is_ok()));
            hub.drain(NOW, 4);
            all.extend(closes(&mut hub).into_iter().map(|(when, _)| when));
        }
        all.sort_unstable();
        assert_eq!(all, (0..40).map(|at| Duration::from_millis(10) * at).collect::<Vec<_>>());
    }

    #[test]
    fn a_client_is_told_when_to_come_back_right_before_it_is_closed() {
        let (mut hub, conns) = hub(config(1_000), 3, 200);
        hub.drain(NOW, 1);
        hub.tick(NOW + hub.config.drain.closing());
        let mut told = Vec::new();
        for id in conns {
            let outbox = hub.outbox(id).unwrap();
            let frames: Vec<String> =
                outbox.frames().map(|frame| String::from_utf8_lossy(frame.payload()).into_owned()).collect();
            assert_eq!(frames.len(), 2, "{frames:?}");
            assert!(frames[1].starts_with("\u{3}\u{FFFD}the server is going away"), "{frames:?}");
            let notice: serde_json::Value = serde_json::from_str(&frames[0]).unwrap();
            assert_eq!(notice["type"], "reconnect");
            told.push(notice["data"]["after_ms"].as_u64().unwrap());
        }
        assert!(told.iter().all(|after| *after < 2_000));
        for quarter in 0..4 {
            let within = told.iter().filter(|after| **after / 500 == quarter).count();
            assert!((25..75).contains(&within), "{within} of 200 in quarter {quarter}");
        }
    }

    #[test]
    fn the_rate_is_exceeded_only_where_the_deadline_demands_it() {
        let (mut hub, _) = hub(config(1), 4, 700);
        hub.drain(NOW, 1);
        let closed = closes(&mut hub);
        assert_eq!(closed.len(), 700);
        let most = closed.windows(2).map(|pair| pair[1].0 - pair[0].0).max().unwrap();
        assert!(most <= Duration::from_millis(11), "spread evenly, and not with a rush at the end: {most:?}");
        assert!(closed[699].0 <= Duration::from_secs(7), "{:?}", closed[699]);
    }

    #[test]
    fn a_host_that_was_held_up_makes_up_for_little_of_it() {
        let (mut hub, _) = hub(config(106), 5, 300);
        hub.drain(NOW, 1);
        hub.tick(NOW);
        assert_eq!(flush(&mut hub, NOW).len(), 1);
        let late = NOW + Duration::from_secs(2);
        hub.tick(late);
        assert_eq!(flush(&mut hub, late).len(), 51, "half a second");
        let now = late + Duration::from_millis(30);
        hub.tick(now);
        assert_eq!(flush(&mut hub, now).len(), 3);
    }

    #[test]
    fn who_goes_by_itself_costs_no_time() {
        let (mut hub, conns) = hub(config(106), 6, 100);
        hub.drain(NOW, 1);
        conns.iter().take(90).for_each(|id| hub.closed(NOW, *id, crate::hub::CloseCause::Gone));
        let closed = closes(&mut hub);
        assert_eq!((closed.len(), closed[9].0), (10, Duration::from_millis(90)));
    }

    #[test]
    fn nothing_is_opened_any_more_and_a_hub_without_connections_is_drained_at_once() {
        let (mut hub, _) = hub(config(106), 7, 0);
        assert!(!hub.is_drained());
        hub.drain(NOW, 1);
        assert!(hub.is_drained());
        let refused = open(&mut hub, "/").unwrap_err();
        assert_eq!((refused.status.as_u16(), refused.retry_after), (503, Some(2)));
        assert_eq!(open(&mut hub, "/nowhere").unwrap_err().status, 404);
    }

    #[test]
    fn those_who_do_not_answer_are_dropped_when_the_time_is_up() {
        let mut config = config(10);
        config.limits.close_timeout = Duration::from_secs(60);
        let (mut hub, _) = hub(config, 8, 20);
        hub.drain(NOW, 1);
        hub.tick(NOW + hub.config.drain.closing());
        assert_eq!((drops(&mut hub), hub.is_drained()), (0, false));
        hub.tick(NOW + hub.config.drain.dropping());
        assert_eq!((drops(&mut hub), hub.is_drained()), (20, true));
    }

    #[test]
    fn a_route_may_end_its_connections_without_a_close_frame_once_what_is_queued_is_written() {
        let (mut hub, _) = hub(config(106), 9, 0);
        let id = open(&mut hub, "/abort").unwrap();
        hub.drain(NOW, 1);
        hub.tick(NOW);
        let outbox = hub.outbox(id).unwrap();
        assert_eq!(outbox.len(), 1, "the notice and nothing else");
        let bytes = outbox.bytes();
        hub.written(id, bytes - 1);
        assert_eq!((drops(&mut hub), hub.is_drained()), (0, false));
        hub.written(id, 1);
        assert_eq!((drops(&mut hub), hub.is_drained()), (1, true));
    }
}
