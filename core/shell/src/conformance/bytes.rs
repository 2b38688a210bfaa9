//! A gateway and the bytes of single clients.

use std::io::{Read as _, Write as _};

use super::client::{Client, connect, frame, request};
use super::rooms::{config, start, stop};
use super::{Subject, Surroundings};

cases!("gateway":
    the_first_frame_may_come_together_with_the_request,
    a_request_and_a_frame_may_come_in_single_bytes,
    a_message_as_long_as_the_limit_comes_back,
    a_request_for_no_websocket_is_answered,
);

fn the_first_frame_may_come_together_with_the_request<S: Subject>(subject: &S, _: &Surroundings) {
    let gateway = start(subject, config());
    let mut stream = connect(gateway.address);
    stream.write_all(&[request("/echo"), frame("hello"), frame("again")].concat()).expect("a request can be sent");
    let mut client = Client::upgrade(stream);
    assert_eq!((client.text(), client.text()), ("hello".into(), "again".into()));
    drop(client);
    stop(gateway);
}

fn a_request_and_a_frame_may_come_in_single_bytes<S: Subject>(subject: &S, _: &Surroundings) {
    let gateway = start(subject, config());
    let mut stream = connect(gateway.address);
    for byte in [request("/echo"), frame("hello")].concat() {
        stream.write_all(&[byte]).expect("a byte can be sent");
    }
    assert_eq!(Client::upgrade(stream).text(), "hello");
    stop(gateway);
}

fn a_message_as_long_as_the_limit_comes_back<S: Subject>(subject: &S, _: &Surroundings) {
    let config = config();
    let long: String = ('a'..='z').cycle().take(config.limits.message_bytes).collect();
    let gateway = start(subject, config);
    let mut client = Client::connect(gateway.address, "/echo");
    client.send(&long);
    assert!(client.text() == long, "it is not what was sent");
    client.send("short");
    assert_eq!(client.text(), "short");
    drop(client);
    stop(gateway);
}

fn a_request_for_no_websocket_is_answered<S: Subject>(subject: &S, _: &Surroundings) {
    let gateway = start(subject, config());
    let mut stream = connect(gateway.address);
    stream.write_all(b"GET /healthz HTTP/1.1\r\nHost: roomcast\r\nConnection: close\r\n\r\n").expect("a request can be sent");
    let mut answer = String::new();
    stream.read_to_string(&mut answer).expect("the request is answered, and the connection closed");
    assert!(answer.starts_with("HTTP/1.1 200 "), "{answer:?}");
    stop(gateway);
}
