//! Clients that speak Socket.IO, in the World: they are let in, told and judged as all others are, whatever carries their packets.

use std::time::Duration;

use bytes::Bytes;
use roomcast_core::config::Config;
use roomcast_core::hub::{AckId, Arguments, ClientEvent, NoAck};
use roomcast_tests::world::{ClientNumber, Transport, WALL_START, World};
use serde_json::{Value, json};

const ROOM: &str = "project:1";
const SECOND: Duration = Duration::from_secs(1);
const TRANSPORTS: [Transport; 3] = [Transport::WebSocket, Transport::Polling, Transport::Upgrading];

/// The last of a client's notices of a type.
fn last(world: &World, client: ClientNumber, kind: &str) -> Value {
    world.last_notice(client, kind).unwrap_or_else(|| panic!("{kind} in {:?}", world.notices(client))).clone()
}

/// What comes of an event that a client sends: the acknowledgement.
fn ask(world: &mut World, client: ClientNumber, event: &str, args: &str, kind: &str) -> Value {
    world.emit(client, event, args);
    world.settle();
    last(world, client, kind)["data"].clone()
}

fn members(world: &mut World, room: &str) -> Vec<ClientNumber> {
    let clients: Vec<_> =
        (0..).zip(TRANSPORTS).map(|(at, transport)| world.connect_socket(0, &format!("u{at}"), transport)).collect();
    world.settle();
    clients.iter().for_each(|client| world.subscribe(*client, room));
    world.settle();
    clients
}

/// Messages, and not who comes and goes.
fn messages(world: &World, client: ClientNumber, room: &str) -> Vec<u64> {
    world.seen(client, room).iter().copied().filter(|number| *number < 1 << 63).collect()
}

// ---- who is let in ------------------------------------------------------------------------------------------------------

#[test]
fn a_token_is_given_with_the_namespace_or_with_the_first_request() {
    for transport in TRANSPORTS {
        let mut world = World::new(1, 1);
        let token = world.socket_token("alice");
        let (one, other) = (world.open_session(0, transport, None), world.open_session(0, transport, Some(&token)));
        let clients = [
            world.enter(one, "/", Some("alice"), &json!({ "token": token }).to_string()),
            world.enter(other, "/ws", Some("alice"), ""),
        ];
        world.settle();
        for client in clients {
            assert!(world.is_connected(client), "{transport:?}");
            let greeting = last(&world, client, "connection_established");
            assert_eq!((&greeting["data"]["user_id"], &greeting["source"]), (&json!("alice"), &Value::Null));
        }
        world.publish(0, "user:alice");
        world.publish(0, "global");
        world.settle();
        for client in clients {
            assert_eq!((world.seen(client, "user:alice"), world.seen(client, "global")), (&[1][..], &[2][..]));
        }
        world.converge();
    }
}

#[test]
fn who_has_no_good_token_is_told_why_and_may_try_again() {
    let claims = json!({"sub": "a", "email": "a@b", "role": "user", "token_type": "access", "exp": WALL_START.0 / 1000 + 1000});
    let with = |name: &str, value: Value| {
        let mut claims = claims.clone();
        claims[name] = value;
        claims
    };
    let mut without = claims.clone();
    without.as_object_mut().expect("they are an object").remove("email");
    for transport in TRANSPORTS {
        let mut world = World::new(2, 1);
        let auth = |world: &World, claims: &Value| json!({ "token": world.sign(claims) }).to_string();
        for (auth, code, message) in [
            (String::new(), "AUTH_MISSING", "Authentication token required"),
            ("{}".to_owned(), "AUTH_MISSING", "Authentication token required"),
            (r#"{"token":"x"}"#.to_owned(), "AUTH_FAILED", "The token is not valid"),
            (auth(&world, &with("exp", json!(1_000))), "AUTH_FAILED", "The token has expired"),
            (auth(&world, &with("token_type", json!("refresh"))), "AUTH_FAILED", "The token is not an access token"),
            (auth(&world, &without), "AUTH_FAILED", "The token lacks a claim that is required here"),
        ] {
            let session = world.open_session(0, transport, None);
            let client = world.enter(session, "/ws", Some("a"), &auth);
            world.settle();
            assert!(!world.is_connected(client) && world.is_open(session));
            assert_eq!(last(&world, client, "connect_error"), json!({"message": message, "data": {"code": code}}));
            let token = world.socket_token("a");
            let again = world.enter(session, "/ws", Some("a"), &json!({ "token": token }).to_string());
            world.settle();
            assert!(world.is_connected(again));
        }
        world.converge();
    }
}

#[test]
fn a_namespace_that_does_not_exist_is_refused_and_the_others_go_on() {
    for transport in TRANSPORTS {
        let mut world = World::new(3, 1);
        let clients = world.connect_namespaces(0, "a", transport, &["/", "/random"]);
        world.settle();
        assert_eq!(clients.iter().map(|client| world.is_connected(*client)).collect::<Vec<_>>(), [true, false]);
        assert_eq!(last(&world, clients[1], "connect_error"), json!({"message": "Invalid namespace"}));
        world.converge();
    }
}

#[test]
fn a_session_that_enters_no_namespace_is_closed_in_time() {
    for transport in TRANSPORTS {
        let mut world = World::new(4, 1);
        let session = world.open_session(0, transport, None);
        world.run(44 * SECOND);
        assert!(world.is_open(session), "{transport:?}");
        world.run(2 * SECOND);
        assert!(!world.is_open(session), "{transport:?}");
        assert_eq!(world.stats().connections, 0);
    }
}

// ---- what they may ask for ----------------------------------------------------------------------------------------------

#[test]
fn every_event_that_wants_an_acknowledgement_gets_one() {
    for transport in TRANSPORTS {
        let mut world = World::new(5, 1);
        let client = world.connect_socket(0, "a", transport);
        let subscribed = ask(&mut world, client, "subscribe", r#"{"room":"task:1"}"#, "subscribed");
        assert_eq!(subscribed, json!({"status": "success", "room": "task:1"}));
        let subscribed = ask(&mut world, client, "subscribe", r#"{"room":"project:1"}"#, "subscribed");
        assert!(subscribed["position"].is_string(), "{subscribed}");
        assert_eq!(ask(&mut world, client, "ping", "", "pong"), json!({"status": "pong"}));
        let rooms = ask(&mut world, client, "debug:rooms", "{}", "rooms");
        let mut names: Vec<&str> = rooms["rooms"].as_array().expect("a list").iter().filter_map(Value::as_str).collect();
        names.sort_unstable();
        assert_eq!((&rooms["status"], &names[..]), (&json!("success"), &["global", "project:1", "task:1", "user:a"][..]));
        let unsubscribed = ask(&mut world, client, "unsubscribe", r#"{"room":"task:1"}"#, "unsubscribed");
        assert_eq!(unsubscribed, json!({"status": "success", "room": "task:1"}));
        for (event, args, code, message) in [
            ("subscribe", "{}", "invalid_message", "Room not specified"),
            ("subscribe", r#"{"room":"user:b"}"#, "forbidden", "Access denied"),
            ("dance", r#"1,{"a":[2]}"#, "unsupported_message", "Message type not supported"),
        ] {
            let error = ask(&mut world, client, event, args, "error");
            assert_eq!(error, json!({"status": "error", "code": code, "message": message}), "{event} {args}");
        }
        assert!(world.is_connected(client));
        world.converge();
    }
}

#[test]
fn an_error_that_answers_nothing_is_an_event_and_too_many_of_them_end_the_session() {
    for transport in TRANSPORTS {
        let mut world = World::new(6, 1);
        let client = world.connect_socket(0, "a", transport);
        world.settle();
        let session = world.session_of(client);
        world.send_packet(session, r#"42["subscribe",{"room":"user:b"}]"#);
        world.settle();
        let error = last(&world, client, "connection_error");
        assert_eq!(error["data"]["error_code"], "ROOM_ACCESS_DENIED");
        for _ in 0..5 {
            assert!(world.is_open(session));
            world.send_packet(session, r#"42["dance"]"#);
            world.settle();
        }
        assert!(!world.is_open(session), "{transport:?}");
        world.converge();
    }
}

#[test]
fn what_is_no_packet_ends_the_session_alone() {
    for transport in TRANSPORTS {
        for packet in ["4abc", "42{}", "42abc[\"x\"]", "2", "9", "42[\"connect\"]"] {
            let mut world = World::new(7, 1);
            let (client, other) = (world.connect_socket(0, "a", transport), world.connect_socket(0, "b", transport));
            world.settle();
            world.send_packet(world.session_of(client), packet);
            world.settle();
            assert!(!world.is_connected(client) && world.is_connected(other), "{transport:?} {packet}");
            world.converge();
        }
    }
}

// ---- what they are told -------------------------------------------------------------------------------------------------

#[test]
fn what_is_said_in_a_room_reaches_the_clients_of_all_dialects_in_one_order() {
    for seed in 0..20 {
        let mut world = World::new(seed, 2);
        let mut clients = members(&mut world, ROOM);
        let elsewhere = world.connect_socket(1, "c", Transport::Polling);
        clients.extend([elsewhere, world.connect(1, "j")]);
        world.settle();
        clients[3..].iter().for_each(|client| world.subscribe(*client, ROOM));
        world.settle();
        for _ in 0..40 {
            world.publish(seed as usize % 2, ROOM);
            world.broadcast(r#""project_id":"1""#, ROOM);
            world.run(Duration::from_micros(500));
        }
        world.settle();
        let seen = messages(&world, clients[4], ROOM);
        assert_eq!(seen.len(), 80);
        for client in &clients {
            assert_eq!(messages(&world, *client, ROOM), seen, "seed {seed}: {client:?}");
        }
        world.converge();
    }
}

#[test]
fn every_publisher_reaches_clients_under_the_name_of_its_type() {
    let mut world = World::new(9, 1);
    let clients = members(&mut world, "workspace:w");
    clients.iter().for_each(|client| world.subscribe(*client, "task:7"));
    world.settle();
    world.file_event("w");
    world.say("task_updates", r#"{"type":"task_update","task_id":7,"data":{"status":"done"},"timestamp":1752508496.5}"#);
    world.publish(0, "*");
    world.settle();
    for client in clients {
        // The World reads an event only where its name is its type, and where a message has a source.
        assert_eq!((world.seen(client, "workspace:w"), world.seen(client, "*")), (&[1][..], &[2][..]));
        let update = last(&world, client, "task_update");
        assert_eq!((&update["data"]["status"], update.get("source")), (&json!("done"), Some(&Value::Null)));
    }
    world.converge();
}

#[test]
fn who_comes_and_goes_is_told_alike() {
    let mut world = World::new(10, 2);
    let json = world.connect(1, "json");
    world.subscribe(json, ROOM);
    let polling = world.connect_socket(0, "polling", Transport::Polling);
    world.settle();
    world.subscribe(polling, ROOM);
    world.settle();
    let websocket = world.connect_socket(1, "websocket", Transport::WebSocket);
    world.settle();
    world.subscribe(websocket, ROOM);
    world.settle();
    world.cut(json);
    world.settle();
    assert_eq!(world.told(polling, ROOM), ["+websocket", "-json"]);
    let who = world.who(polling, ROOM);
    assert_eq!(who, json!({"status": "success", "room": ROOM, "users": ["polling", "websocket"], "connections": 2}));
    world.converge();
}

#[test]
fn two_namespaces_of_a_session_are_independent() {
    for transport in TRANSPORTS {
        let mut world = World::new(11, 1);
        let clients = world.connect_namespaces(0, "a", transport, &["/", "/ws"]);
        world.settle();
        world.subscribe(clients[0], ROOM);
        world.subscribe(clients[1], "task:1");
        world.settle();
        assert_eq!(world.stats().connections, 1);
        world.publish(0, ROOM);
        world.publish(0, "task:1");
        world.publish(0, "user:a");
        world.settle();
        let seen =
            |world: &World, at: usize| ["project:1", "task:1", "user:a"].map(|room| world.seen(clients[at], room).to_vec());
        assert_eq!(seen(&world, 0), [vec![1], vec![], vec![3]]);
        assert_eq!(seen(&world, 1), [vec![], vec![2], vec![3]]);
        world.leave(clients[0]);
        world.settle();
        assert!(world.here(ROOM).is_empty());
        world.publish(0, ROOM);
        world.publish(0, "task:1");
        world.settle();
        assert_eq!((seen(&world, 0)[0].len(), seen(&world, 1)[1].len()), (1, 2), "the rest of the session goes on");
        world.reopen(clients[0], 0);
        world.settle();
        assert!(world.is_connected(clients[0]), "and the namespace may be entered again");
        world.converge();
    }
}

#[test]
fn binary_events_and_their_acknowledgements_go_both_ways() {
    for transport in TRANSPORTS {
        let mut world = World::new(12, 1);
        world.set_hosted(0);
        let client = world.connect_namespaces(0, "a", transport, &["/ws"])[0];
        world.settle();
        let heard = world.heard();
        let [ClientEvent::Connected { conn, namespace, user, .. }] = &heard[..] else { panic!("{heard:?}") };
        assert_eq!((&**namespace, user.as_deref()), ("/ws", Some("a")));
        let placeholders = r#"{"b":{"_placeholder":true,"num":1}},{"_placeholder":true,"num":0}"#;
        world.emit_binary(client, "upload", placeholders, &[b"\x01\x02", b""]);
        world.settle();
        let heard = world.heard();
        let [ClientEvent::Said { event, args, ack: Some(ack), .. }] = &heard[..] else { panic!("{heard:?}") };
        assert_eq!((&**event, args.as_str()), ("upload", format!("[{placeholders}]").as_str()));
        assert_eq!(args.attachments(), [Bytes::from_static(b"\x01\x02"), Bytes::new()]);
        let answer = Arguments::new(&("got", json!({"_placeholder": true, "num": 0}))).expect("a list");
        world.acknowledge(0, *conn, *ack, &answer.with_attachments(vec![Bytes::from_static(b"\xff")]).expect("they fit"));
        world.settle();
        assert_eq!(last(&world, client, "upload"), json!(["got", [255]]));

        let question = Arguments::new(&(json!({"_placeholder": true, "num": 0}),)).expect("a list");
        let question = question.with_attachments(vec![Bytes::from_static(b"\x07\x08")]).expect("they fit");
        world.ask_client(0, *conn, "question", &question, SECOND, AckId(1));
        world.settle();
        assert_eq!(last(&world, client, "question"), json!(["question", [7, 8]]));
        assert_eq!(world.acked(AckId(1)).map(|result| result.as_ref().map(Arguments::as_str)), Some(Ok("[[7,8]]")));
        world.fall_silent(client);
        world.ask_client(0, *conn, "question", &question, SECOND, AckId(2));
        world.run(2 * SECOND);
        assert_eq!(world.acked(AckId(2)), Some(&Err(NoAck::Late)));
        world.ask_client(0, *conn, "question", &question, 600 * SECOND, AckId(3));
        world.cut(client);
        world.settle();
        // A request that was under way is not missed at once.
        world.run(90 * SECOND);
        assert_eq!(world.acked(AckId(3)), Some(&Err(NoAck::Gone)));
        assert_eq!(world.heard(), [ClientEvent::Gone { conn: *conn }]);
    }
}

// ---- how they end -------------------------------------------------------------------------------------------------------

#[test]
fn a_client_that_answers_no_ping_is_gone_in_time_and_has_left_its_rooms() {
    for transport in TRANSPORTS {
        let mut world = World::new(13, 2);
        let (silent, alive) = (world.connect_socket(0, "silent", transport), world.connect_socket(1, "alive", transport));
        world.settle();
        for client in [alive, silent] {
            world.subscribe(client, ROOM);
            world.settle();
        }
        world.fall_silent(silent);
        world.run(84 * SECOND);
        assert_eq!(world.told(alive, ROOM), ["+silent"], "{transport:?}");
        world.run(2 * SECOND);
        assert_eq!(world.told(alive, ROOM), ["+silent", "-silent"], "{transport:?}");
        assert_eq!(world.stats().connections, 1);
        assert!(world.is_connected(alive));
        world.converge();
    }
}

#[test]
fn a_client_whose_token_expires_is_told_and_its_session_ends() {
    for transport in TRANSPORTS {
        let mut world = World::new(14, 1);
        let claims = json!({"sub": "a", "email": "a@b", "role": "user", "token_type": "access", "exp": WALL_START.0 / 1000 + 40});
        let auth = json!({ "token": world.sign(&claims) }).to_string();
        let session = world.open_session(0, transport, None);
        let client = world.enter(session, "/", Some("a"), &auth);
        // With 30 seconds of leeway.
        world.run(67 * SECOND);
        assert!(world.is_connected(client));
        assert_eq!(last(&world, client, "auth_required")["data"]["reason"], "token_expiring");
        world.run(5 * SECOND);
        assert_eq!(last(&world, client, "connection_error")["data"]["error_code"], "AUTH_EXPIRED");
        assert!(!world.is_open(session) && world.last_notice(client, "disconnect").is_none(), "or it would not come back");
        world.converge();
    }
}

#[test]
fn a_drain_tells_clients_when_to_come_back_and_they_miss_nothing() {
    for seed in 0..5 {
        let mut config = World::usual();
        config.drain.rate = 10;
        let mut world = World::with(seed, 2, config);
        let clients = members(&mut world, ROOM);
        world.publish(1, ROOM);
        world.settle();
        world.drain(0);
        let mut away = clients.clone();
        while !away.is_empty() {
            world.run(Duration::from_millis(50));
            world.publish(1, ROOM);
            for client in away.extract_if(.., |client| !world.is_connected(*client)).collect::<Vec<_>>() {
                let after = last(&world, client, "reconnect")["data"]["after_ms"].as_u64();
                assert!(after.is_some_and(|after| after < 2_000));
                assert!(world.last_notice(client, "disconnect").is_none(), "or it would not come back");
                world.come_back(client, 1);
            }
        }
        world.run(SECOND);
        world.retire(0);
        world.settle();
        for client in &clients {
            assert_eq!(world.recovered(*client, ROOM), [true], "seed {seed}");
            assert_eq!(messages(&world, *client, ROOM), messages(&world, clients[0], ROOM));
        }
        world.converge();
    }
}

#[test]
fn a_user_who_is_sent_away_leaves_a_namespace_and_the_rest_of_the_session_goes_on() {
    for transport in TRANSPORTS {
        let mut world = World::new(16, 2);
        let session = world.open_session(0, transport, None);
        let auth = |world: &World, user: &str| json!({ "token": world.socket_token(user) }).to_string();
        let (alice, bob) = (auth(&world, "alice"), auth(&world, "bob"));
        let alice = world.enter(session, "/", Some("alice"), &alice);
        let bob = world.enter(session, "/ws", Some("bob"), &bob);
        world.settle();
        world.subscribe(alice, ROOM);
        world.settle();
        world.disconnect(1, "alice");
        world.settle();
        assert!(!world.is_connected(alice) && world.is_connected(bob) && world.is_open(session), "{transport:?}");
        assert_eq!(last(&world, alice, "disconnect"), Value::Null);
        assert!(world.here(ROOM).is_empty());
        world.publish(0, "user:bob");
        world.settle();
        assert_eq!(world.seen(bob, "user:bob").len(), 1);
        world.converge();
    }
}

#[test]
fn a_client_that_reads_too_slowly_is_closed_and_delays_nobody() {
    for transport in TRANSPORTS {
        let mut config = World::usual();
        config.limits.outbox_messages = 20;
        let mut world = World::with(17, 1, Config { ..config });
        let (slow, quick) = (world.connect_socket(0, "slow", transport), world.connect_socket(0, "quick", transport));
        world.settle();
        for client in [slow, quick] {
            world.subscribe(client, "task:1");
        }
        world.settle();
        world.set_reading(slow, false);
        for _ in 0..60 {
            world.publish(0, "task:1");
            world.run(Duration::from_millis(10));
        }
        assert_eq!(world.seen(quick, "task:1").len(), 60);
        assert_eq!(world.stats().slow, 1, "{transport:?}");
        world.set_reading(slow, true);
        world.settle();
        assert!(!world.is_connected(slow));
        world.run(10 * SECOND);
        assert_eq!(world.stats().connections, 1);
        world.converge();
    }
}

#[test]
fn a_client_that_goes_away_in_mid_poll_is_missed_at_once() {
    let mut world = World::new(18, 1);
    let (client, other) = (world.connect_socket(0, "a", Transport::Polling), world.connect(0, "b"));
    world.settle();
    for client in [other, client] {
        world.subscribe(client, ROOM);
        world.settle();
    }
    world.cut(client);
    world.settle();
    assert_eq!(world.told(other, ROOM), ["+a", "-a"]);
    assert_eq!(world.stats().connections, 1);
    world.converge();
}

#[test]
fn a_client_that_goes_away_with_an_answer_is_missed_in_time_and_comes_back_without_a_gap() {
    for seed in 0..20 {
        let mut world = World::new(seed, 2);
        let client = world.connect_socket(0, "a", Transport::Polling);
        world.settle();
        world.subscribe(client, ROOM);
        world.settle();
        let mut numbers = vec![world.publish(1, ROOM)];
        world.settle();
        world.lose_answer(client);
        numbers.push(world.publish(1, ROOM));
        world.settle();
        assert!(!world.is_connected(client));
        assert_eq!(world.stats().connections, 1, "nobody has told the node");
        world.come_back(client, seed as usize % 2);
        world.settle();
        assert_eq!((messages(&world, client, ROOM), world.recovered(client, ROOM)), (numbers, &[true][..]), "seed {seed}");
        assert_eq!(world.stats().connections, 2);
        world.run(86 * SECOND);
        assert_eq!(world.stats().connections, 1, "seed {seed}");
        world.converge();
    }
}

#[test]
fn nothing_of_an_inbox_is_delivered_before_it_is_written() {
    for transport in TRANSPORTS {
        let mut world = World::new(20, 2);
        let dead = world.connect_socket(0, "b", transport);
        world.settle();
        world.set_reading(dead, false);
        // One more poll is under way.
        world.publish(0, "global");
        world.settle();
        for _ in 0..3 {
            world.publish(0, "user:b");
        }
        world.settle();
        world.cut(dead);
        world.settle();
        let alive = world.connect_socket(1, "b", transport);
        world.run(SECOND);
        assert_eq!(world.seen(alive, "user:b"), [2, 3, 4], "{transport:?}");
        world.cut(alive);
        world.settle();
        let last = world.connect(0, "b");
        world.settle();
        assert!(world.seen(last, "user:b").is_empty(), "{transport:?}: everything was delivered");
        world.converge();
    }
}

// ---- from one transport to the other ------------------------------------------------------------------------------------

#[test]
fn an_upgrade_under_traffic_loses_and_repeats_nothing() {
    for seed in 0..200 {
        let mut world = World::new(seed, 2);
        let clients = world.connect_namespaces(0, "a", Transport::Polling, &["/", "/ws"]);
        let plain = world.connect(1, "j");
        world.settle();
        for client in [clients[0], clients[1], plain] {
            world.subscribe(client, "workspace:w");
        }
        world.settle();
        for at in 0..60 {
            world.publish(at % 2, "workspace:w");
            world.run(Duration::from_micros(seed * 37 % 900));
            if at == 20 {
                world.upgrade(clients[0]);
            }
            // What the client says goes on, too.
            if at % 12 == 0 {
                world.emit(clients[at / 12 % 2], "ping", "");
            }
        }
        world.settle();
        let session = world.session_of(clients[0]);
        assert!(world.has_websocket(session), "seed {seed}");
        for client in clients {
            assert_eq!(world.seen(client, "workspace:w"), world.seen(plain, "workspace:w"), "seed {seed}");
        }
        assert_eq!(world.seen(plain, "workspace:w").len(), 60);
        assert_eq!(world.stats().connections, 2);
        world.converge();
    }
}

#[test]
fn a_websocket_that_does_not_work_leaves_the_session_as_it_is() {
    for seed in 0..50 {
        let mut world = World::new(seed, 1);
        let client = world.connect_socket(0, "a", Transport::Polling);
        world.settle();
        world.subscribe(client, "task:1");
        world.settle();
        for at in 0..40 {
            world.publish(0, "task:1");
            world.run(Duration::from_micros(500));
            match at % 10 {
                3 => world.upgrade(client),
                4 if at < 30 => world.break_probe(client),
                _ => {}
            }
        }
        world.settle();
        assert_eq!(world.seen(client, "task:1").len(), 40, "seed {seed}");
        assert!(world.has_websocket(world.session_of(client)), "the last one works");
        world.converge();
    }
}

#[test]
fn a_run_repeats_itself_byte_for_byte() {
    let run = || {
        let mut world = World::new(23, 2);
        let clients = members(&mut world, ROOM);
        for _ in 0..20 {
            world.publish(1, ROOM);
            world.run(Duration::from_millis(1));
        }
        world.cut(clients[1]);
        world.come_back(clients[1], 1);
        world.converge();
        world.digest()
    };
    assert_eq!(run(), run());
}
