//! Tokens in the World: what ends, ends to the microsecond, for every dialect and on every node (contract C7).

use std::time::Duration;

use roomcast_core::config::{Auth, Away, Inbox, Keep, RoomRule};
use roomcast_core::survey::Survey;
use roomcast_core::time::{Time, UnixMillis};
use roomcast_core::token::Subject;
use roomcast_tests::world::{Transport, WALL_START, World};
use serde_json::json;

const ROOM: &str = "chat:1";
const MICROSECOND: Duration = Duration::from_micros(1);

fn before(at: Time, time: Duration) -> Time {
    Time::from_micros(at.as_micros() - time.as_micros() as u64)
}

#[test]
fn an_expired_connection_is_sent_what_was_published_a_microsecond_earlier_and_nothing_later() {
    for seed in 0..20 {
        let mut world = World::new(seed, 2);
        let exp = WALL_START.0 / 1000 + 60;
        let alice = world.connect_as(0, "alice", &json!({ "exp": exp }));
        let bob = world.connect(1, "bob");
        world.subscribe(alice, ROOM);
        world.subscribe(bob, ROOM);
        world.settle();
        let end = world.virtual_time(UnixMillis(exp * 1000) + Auth::default().leeway);
        world.run_until(before(end, Duration::from_millis(800)));
        let early = world.publish(1, ROOM);
        world.run_until(before(end, MICROSECOND));
        assert_eq!(world.seen(alice, ROOM), [early], "seed {seed}");
        assert!(world.is_connected(alice) && world.close_code(alice).is_none());
        // Said while the token is good, it may arrive too late.
        world.publish(0, ROOM);
        world.run_until(end);
        world.publish(0, ROOM);
        world.publish(1, ROOM);
        world.settle();
        assert_eq!(world.close_code(alice), Some(4001), "seed {seed}");
        assert_eq!(world.notices(alice).iter().filter(|kind| **kind == "auth_required").count(), 1, "it was told in time");
        assert_eq!(world.stats().expired, 1);
        assert_eq!(world.seen(bob, ROOM).len(), 4);
        world.converge();
    }
}

#[test]
fn a_message_that_comes_at_the_very_moment_comes_too_late() {
    // Without any other node, and with the store answering at once, nothing is due at the end but the end itself.
    for late in [Duration::ZERO, MICROSECOND, Duration::from_secs(5)] {
        let mut config = World::usual();
        config
            .rooms
            .insert(0, RoomRule { away: Away::Local, keep: None, ..RoomRule::keep("chat", Keep::Inbox(Inbox::default())) });
        let mut world = World::with(1, 1, config);
        let exp = WALL_START.0 / 1000 + 60;
        let alice = world.connect_as(0, "alice", &json!({ "exp": exp }));
        world.subscribe(alice, "chat");
        world.settle();
        world.cut_store(0);
        world.run(Duration::from_secs(20));
        let end = world.virtual_time(UnixMillis((exp + 30) * 1000));
        world.run_until(before(end, MICROSECOND));
        let last = world.publish(0, "chat");
        assert_eq!(world.seen(alice, "chat"), [last], "said on the node itself, it is there at once");
        world.jump(end + late);
        world.publish(0, "chat");
        assert_eq!(world.seen(alice, "chat"), [last], "{late:?} after the end, though no tick has come");
        assert_eq!(world.close_code(alice), Some(4001));
        world.heal_store(0);
        world.converge();
    }
}

#[test]
fn a_token_that_is_renewed_in_place_counts_from_then_on() {
    let mut world = World::new(3, 1);
    let exp = |secs: u64| json!({ "exp": WALL_START.0 / 1000 + secs });
    let alice = world.connect_as(0, "alice", &exp(60));
    world.subscribe(alice, ROOM);
    world.run(Duration::from_secs(62));
    world.renew(alice, "alice", &exp(600));
    world.run(Duration::from_secs(60));
    assert!(world.close_code(alice).is_none());
    // A shorter one counts as well.
    world.renew(alice, "alice", &exp(200));
    world.run(Duration::from_secs(200 + 30 - 122 - 3));
    assert!(world.close_code(alice).is_none());
    world.run(Duration::from_secs(3));
    assert_eq!(world.close_code(alice), Some(4001));
}

#[test]
fn a_clock_that_is_set_moves_the_end() {
    for (jump, stays) in [(100, false), (20, true)] {
        let mut world = World::new(3, 1);
        let alice = world.connect_as(0, "alice", &json!({ "exp": WALL_START.0 / 1000 + 60 }));
        world.settle();
        world.step_wall_clock(0, WALL_START + Duration::from_secs(jump));
        world.settle();
        assert_eq!(world.close_code(alice).is_none(), stays, "{jump}");
        world.run(Duration::from_secs(75));
        assert_eq!(world.close_code(alice), Some(4001));
    }
}

#[test]
fn a_token_ends_when_the_wall_clock_says_so_however_little_that_is_set_at_a_time() {
    for (seed, step) in [1_i64, -1, 400, -400, 999, -999].into_iter().enumerate() {
        let mut world = World::new(seed as u64, 2);
        // In the midst of a millisecond.
        world.run(Duration::from_micros(1_234_567));
        let exp = WALL_START + Duration::from_secs(60);
        let alice = world.connect_as(0, "alice", &json!({ "exp": exp.as_secs() }));
        world.subscribe(alice, ROOM);
        let mut end = Time::NEVER;
        for round in 1..=20 {
            world.run(Duration::from_secs(1));
            let shown = UnixMillis((WALL_START + (world.now() - Time::ZERO)).0.saturating_add_signed(round * step));
            world.step_wall_clock(0, shown);
            end = world.now() + Duration::from_millis((exp + Auth::default().leeway).0 - shown.0);
        }
        world.run_until(before(end, Duration::from_millis(800)));
        let early = world.publish(1, ROOM);
        world.run_until(before(end, MICROSECOND));
        assert!(world.is_connected(alice) && world.close_code(alice).is_none(), "{step} ms at a time");
        world.run_until(end);
        world.publish(0, ROOM);
        world.settle();
        assert_eq!((world.close_code(alice), world.seen(alice, ROOM)), (Some(4001), &[early][..]), "{step} ms at a time");
        world.converge();
    }
}

#[test]
fn a_revoked_token_is_closed_on_every_node_and_opens_nothing_any_more() {
    for seed in 0..20 {
        let mut world = World::new(seed, 3);
        let claims = |jti: &str| json!({ "jti": jti, "iat": WALL_START.0 / 1000 - 5 });
        let lost: Vec<_> = (0..3).map(|node| world.connect_as(node, "alice", &claims("lost"))).collect();
        let kept = world.connect_as(1, "alice", &claims("kept"));
        let other = world.connect_as(2, "bob", &claims("lost's"));
        let clients: Vec<_> = lost.iter().copied().chain([kept, other]).collect();
        clients.iter().for_each(|client| world.subscribe(*client, ROOM));
        world.settle();
        let surveyed = world.revoke(1, Subject::Token("lost".into()));
        assert_eq!((surveyed.survey, surveyed.answered, surveyed.asked), (Survey::Revoked { connections: 3 }, 3, Some(3)));
        for node in 0..3 {
            world.publish(node, ROOM);
        }
        world.settle();
        assert_eq!(lost.iter().map(|client| world.close_code(*client)).collect::<Vec<_>>(), [Some(4001); 3]);
        assert!([kept, other].iter().all(|client| world.seen(*client, ROOM).len() == 3 && world.is_connected(*client)));
        lost.iter().for_each(|client| world.reopen(*client, 0));
        world.settle();
        assert!(lost.iter().all(|client| world.close_code(*client) == Some(4001)), "seed {seed}");
        assert_eq!(world.last_notice(lost[0], "auth_failed").unwrap()["data"]["code"], "token_revoked");
        assert_eq!(world.stats().revoked, 3);
        world.converge();
    }
}

#[test]
fn all_tokens_of_a_user_are_revoked_but_those_that_are_issued_later() {
    for transport in [Transport::WebSocket, Transport::Polling] {
        let mut world = World::new(5, 2);
        let iat = |secs: u64| json!({ "iat": WALL_START.0 / 1000 + secs, "exp": WALL_START.0 / 1000 + 10_000 });
        let plain = world.connect(0, "alice");
        let socket = world.connect_socket(1, "alice", transport);
        let bob = world.connect_socket(1, "bob", transport);
        world.run(Duration::from_secs(10));
        let surveyed = world.revoke(0, Subject::User("alice".into()));
        assert_eq!(surveyed.survey, Survey::Revoked { connections: 2 });
        world.run(Duration::from_secs(5));
        assert!(!world.is_connected(plain) && !world.is_connected(socket) && world.is_connected(bob), "{transport:?}");
        let error = world.last_notice(socket, "connection_error").expect("it is told why");
        assert!(error.to_string().contains("AUTH_REVOKED"), "{error}");
        let old = world.connect_as(1, "alice", &iat(9));
        let new = world.connect_as(1, "alice", &iat(14));
        world.settle();
        assert_eq!((world.close_code(old), world.close_code(new)), (Some(4001), None));
        world.converge();
    }
}

#[test]
fn a_node_that_starts_later_or_was_cut_off_learns_what_is_revoked() {
    for seed in 0..20 {
        let mut world = World::new(seed, 3);
        let claims = json!({ "jti": "lost" });
        let [near, far] = [0, 1].map(|node| world.connect_as(node, "alice", &claims));
        world.settle();
        world.crash(2);
        world.cut_store(1);
        world.run(Duration::from_secs(20));
        world.revoke(0, Subject::Token("lost".into()));
        world.settle();
        assert_eq!((world.close_code(near), world.close_code(far)), (Some(4001), None), "seed {seed}");
        world.heal_store(1);
        world.restart(2);
        world.run(Duration::from_secs(20));
        assert_eq!(world.close_code(far), Some(4001), "seed {seed}");
        let again = world.connect_as(2, "alice", &claims);
        world.settle();
        assert_eq!(world.close_code(again), Some(4001), "seed {seed}");
        world.converge();
    }
}

#[test]
fn what_is_revoked_while_the_store_is_away_holds_here_at_once_and_elsewhere_when_it_is_back() {
    for seed in 0..10 {
        let mut world = World::new(seed, 2);
        let claims = json!({ "jti": "lost" });
        let [near, far] = [0, 1].map(|node| world.connect_as(node, "alice", &claims));
        world.settle();
        world.cut_store(0);
        world.run(Duration::from_secs(20));
        let surveyed = world.revoke(0, Subject::Token("lost".into()));
        assert_eq!(surveyed.asked, None, "it is not known of how many nodes");
        world.settle();
        assert_eq!((world.close_code(near), world.close_code(far)), (Some(4001), None), "seed {seed}");
        world.heal_store(0);
        world.run(Duration::from_secs(60));
        assert_eq!(world.close_code(far), Some(4001), "seed {seed}");
        world.converge();
    }
}

#[test]
fn a_revocation_is_forgotten_when_no_token_can_be_left() {
    let mut config = World::usual();
    config.auth.revoked_for = Duration::from_secs(120);
    let mut world = World::with(1, 2, config);
    world.revoke(0, Subject::User("alice".into()));
    let before = world.connect(1, "alice");
    world.settle();
    assert_eq!(world.close_code(before), Some(4001));
    world.run(Duration::from_secs(180));
    let after = world.connect(1, "alice");
    world.settle();
    assert_eq!(world.close_code(after), None);
}
