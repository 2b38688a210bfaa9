//! What only a hub by itself can show: the door with answers that come late, repeated or for something else.

use super::*;
use crate::config::Route;
use crate::door::PublishError;
use core::time::Duration;

const NOW: Time = Time::from_micros(1_000_000);

fn hub(config: Config) -> Hub {
    Hub::new(Arc::new(config), ShardId(0), [1; 32]).unwrap()
}

fn open(hub: &mut Hub, path: &str) -> ConnId {
    let request = http::Request::get(path).body(()).unwrap();
    hub.open(NOW, &request).unwrap().conn
}

/// Everything that waits for a connection, written now.
fn texts(hub: &mut Hub, conn: ConnId) -> Vec<String> {
    let Some(outbox) = hub.outbox(conn) else { return Vec::new() };
    let texts = outbox.frames().map(|frame| String::from_utf8_lossy(frame.payload()).into_owned()).collect();
    let bytes = outbox.bytes();
    hub.written(conn, bytes);
    texts
}

fn asks(hub: &mut Hub) -> Vec<Ask> {
    let mut asks = Vec::new();
    while let Some(action) = hub.poll_action() {
        if let HubAction::Ask(ask) = action {
            asks.push(ask);
        }
    }
    asks
}

fn joins(hub: &mut Hub, name: &str) -> Vec<u64> {
    let asks = asks(hub).into_iter();
    asks.filter_map(|ask| match ask {
        Ask::Join { room, join } if *room == *name => Some(join),
        _ => None,
    })
    .collect()
}

fn say(hub: &mut Hub, conn: ConnId, text: &str) {
    hub.receive(NOW, conn, Message::Text(text));
}

#[test]
fn the_answer_to_an_earlier_joining_lets_nobody_in() {
    let mut hub = hub(Config::default());
    let conn = open(&mut hub, "/ws/tasks");
    say(&mut hub, conn, r#"{"type":"subscribe","task_id":1}"#);
    let first = joins(&mut hub, "task:1");
    say(&mut hub, conn, r#"{"type":"unsubscribe","task_id":1}"#);
    say(&mut hub, conn, r#"{"type":"subscribe","task_id":1}"#);
    let second = joins(&mut hub, "task:1");
    assert_ne!(first, second);

    hub.tell(NOW, Tell::Joined { room: "task:1".into(), join: first[0], position: None });
    hub.tell(NOW, Tell::Messages { room: "task:1".into(), payloads: vec!["{}".into()], positions: vec![] });
    assert!(!texts(&mut hub, conn).concat().contains("\"subscribed\""), "messages may be missing between the two");

    hub.tell(NOW, Tell::Joined { room: "task:1".into(), join: second[0], position: None });
    assert!(texts(&mut hub, conn).concat().contains(r#"{"type":"subscribed","task_id":1,"data":{"room":"task:1"}"#));
}

#[test]
fn answers_for_what_does_not_exist_are_harmless() {
    let mut hub = hub(Config::default());
    let conn = open(&mut hub, "/ws/tasks");
    hub.tell(NOW, Tell::Joined { room: "nowhere".into(), join: 1, position: None });
    hub.tell(NOW, Tell::Messages { room: "nowhere".into(), payloads: vec!["{}".into()], positions: vec![] });
    hub.tell(NOW, Tell::Published { id: PublishId(7), result: Err(PublishError::Unavailable) });
    hub.written(conn, 1_000);
    hub.closed(NOW, conn, CloseCause::Gone);
    hub.closed(NOW, conn, CloseCause::Gone);
    hub.receive(NOW, conn, Message::Pong);
    assert_eq!(hub.stats().connections, 0);
}

#[test]
fn the_last_member_out_tells_the_backplane() {
    let routes = vec![Route::json("/ws/tasks", AuthMode::Optional)];
    let mut hub = hub(Config { routes, ..Config::default() });
    let conns = [open(&mut hub, "/ws/tasks"), open(&mut hub, "/ws/tasks")];
    for conn in conns {
        say(&mut hub, conn, r#"{"type":"subscribe","task_id":1}"#);
    }
    let join = joins(&mut hub, "task:1");
    assert_eq!(join.len(), 1, "the room is asked for once");
    hub.tell(NOW, Tell::Joined { room: "task:1".into(), join: join[0], position: None });
    hub.closed(NOW, conns[0], CloseCause::Gone);
    assert_eq!(asks(&mut hub), []);
    hub.closed(NOW, conns[1], CloseCause::Gone);
    assert_eq!(asks(&mut hub), [Ask::Leave { room: "task:1".into() }]);
    assert_eq!((hub.stats().rooms, hub.stats().memberships), (0, 0));
}

#[test]
fn a_connection_without_a_token_has_until_its_deadline() {
    let mut hub = hub(Config::default());
    let conn = open(&mut hub, "/ws");
    assert!(texts(&mut hub, conn).concat().contains("auth_required"));
    say(&mut hub, conn, r#"{"type":"subscribe","task_id":1}"#);
    assert!(texts(&mut hub, conn).concat().contains("unauthorized"));

    assert_eq!(hub.next_deadline(), Some(NOW + Duration::from_secs(10)));
    hub.tick(NOW + Duration::from_secs(10));
    let outbox = hub.outbox(conn).unwrap();
    assert_eq!(outbox.frames().last().unwrap(), &Frame::close(Some(4001), "authentication timeout"));
}

#[test]
fn the_idle_tick_costs_the_same_however_many_connections_there_are() {
    let config = Config { routes: vec![Route::json("/open", AuthMode::Optional)], ..Config::default() };
    let mut hub = hub(config);
    for _ in 0..1_000 {
        open(&mut hub, "/open");
    }
    let armed = hub.timers.len();
    for micros in 0..10_000 {
        hub.tick(NOW + Duration::from_micros(micros));
    }
    assert_eq!(hub.timers.len(), armed, "one deadline stands for each connection, and none was touched");
    assert_eq!(armed, 1_000);
}

#[test]
fn a_host_that_was_stopped_does_not_take_its_own_silence_for_the_clients() {
    let config = Config { routes: vec![Route::json("/open", AuthMode::Optional)], ..Config::default() };
    let mut hub = hub(config);
    let conn = open(&mut hub, "/open");
    // The ping was due after 54 s, and the answer by 60 s; but nothing ran until 61 s.
    let late = NOW + Duration::from_secs(61);
    hub.tick(late);
    assert_eq!(hub.outbox(conn).unwrap().frames().last().unwrap(), &Frame::ping());
    hub.tick(late + Duration::from_secs(5));
    assert_eq!(hub.stats().connections, 1);
    hub.tick(late + Duration::from_secs(6));
    assert_eq!((hub.stats().connections, hub.stats().silent), (0, 1));
}

fn hub_with_tokens() -> Hub {
    let mut hub = hub(Config { auth: crate::config::Auth::secret("s"), ..Config::default() });
    hub.set_wall_clock(NOW, UnixMillis(1_000));
    hub
}

fn auth(hub: &mut Hub, conn: ConnId, claims: &serde_json::Value) {
    let key = jsonwebtoken::EncodingKey::from_secret(b"s");
    let token = jsonwebtoken::encode(&jsonwebtoken::Header::default(), claims, &key).unwrap();
    say(hub, conn, &format!(r#"{{"type":"auth","data":{{"token":"{token}"}}}}"#));
}

#[test]
fn what_many_tokens_grant_alike_is_kept_once() {
    let mut hub = hub_with_tokens();
    let grants = ["user", "user", "admin"].map(|role| {
        let conn = open(&mut hub, "/ws");
        auth(&mut hub, conn, &serde_json::json!({"sub": format!("{conn:?}"), "role": role}));
        hub.peek(conn).unwrap().identity.as_ref().unwrap().grants.clone().unwrap()
    });
    assert!(Arc::ptr_eq(&grants[0], &grants[1]));
    assert_eq!([&*grants[0].roles[0], &*grants[2].roles[0]], ["user", "admin"]);
}

#[test]
fn who_waits_for_a_room_with_a_token_that_is_renewed_is_judged_by_the_new_one() {
    let mut hub = hub_with_tokens();
    let conn = open(&mut hub, "/ws");
    auth(&mut hub, conn, &serde_json::json!({"sub": "7", "rooms": ["project:*"]}));
    say(&mut hub, conn, r#"{"type":"subscribe","project_id":"1"}"#);
    let join = joins(&mut hub, "project:1");
    auth(&mut hub, conn, &serde_json::json!({"sub": "7", "rooms": ["task:*"]}));
    assert!(texts(&mut hub, conn).concat().contains("forbidden"));
    hub.tell(NOW, Tell::Joined { room: "project:1".into(), join: join[0], position: None });
    hub.tell(NOW, Tell::Messages { room: "project:1".into(), payloads: vec!["{}".into()], positions: vec![] });
    assert!(hub.outbox(conn).is_none());
}

#[test]
fn no_two_parts_of_a_node_give_the_same_identifiers() {
    let mut firsts: Vec<Vec<u8>> = (0..ShardId::MOST)
        .map(|shard| {
            let mut hub = Hub::new(Arc::new(Config::default()), ShardId(shard), [1; 32]).unwrap();
            hub.composer.notice("x", None, None, UnixMillis(0))
        })
        .collect();
    firsts.push(Composer::new(derive([1; 32], b'c')).notice("x", None, None, UnixMillis(0)));
    firsts.push(Composer::new(derive([1; 32], b'n')).notice("x", None, None, UnixMillis(0)));
    let all = firsts.len();
    firsts.sort();
    firsts.dedup();
    assert_eq!(firsts.len(), all);
}

#[test]
fn a_protocol_error_takes_no_close_frame_away_that_is_still_to_be_written() {
    for first_fault in [None, Some(1002)] {
        let mut hub = hub(Config { routes: vec![Route::echo("/")], ..Config::default() });
        let conn = open(&mut hub, "/");
        match first_fault {
            None => hub.close(NOW, conn, 1001, "going away"),
            Some(code) => hub.fail(NOW, conn, code, "protocol error"),
        }
        hub.fail(NOW, conn, 1007, "another one");
        let code = first_fault.unwrap_or(1001_u16);
        let dropped = |hub: &mut Hub| std::iter::from_fn(|| hub.poll_action()).any(|action| action == HubAction::Drop(conn));
        assert!(!dropped(&mut hub), "it waits to be written");
        let outbox = hub.outbox(conn).expect("the close frame is there");
        assert_eq!(outbox.frames().last().map(|frame| frame.payload()[..2].to_vec()), Some(code.to_be_bytes().to_vec()));
        let bytes = outbox.bytes();
        hub.written(conn, bytes);
        assert!(dropped(&mut hub), "nothing more is waited for");
    }
}

#[test]
fn a_flood_of_refusals_is_counted_and_not_told_to_the_last() {
    let mut hub = hub(Config::default());
    hub.set_reporting(true);
    let request = http::Request::get("/nowhere").body(()).unwrap();
    let mut told = |at: u64| {
        assert!((0..1000).all(|_| hub.open(Time::from_micros(at), &request).is_err()));
        let actions = std::iter::from_fn(|| hub.poll_action());
        actions.filter(|action| matches!(action, HubAction::Report(Report::Refused { .. }))).count()
    };
    assert_eq!([told(1), told(1), told(500_001), told(10_000_000)], [100, 0, 50, 100]);
    assert_eq!(hub.stats().refused, 4000);
}
