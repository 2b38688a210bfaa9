//! The WebSocket wire: any split of the same bytes gives the same messages and the same result.

use std::ops::ControlFlow;

use roomcast_core::frame::Message;
use roomcast_shell::wire::{Limit, Wire, WireError};

use crate::input::{Cut, Input};

/// More fragments than a message has that a fuzzer comes by without meaning to.
const FRAGMENTS: usize = 8;

/// Input: the limit of a message in two bytes, after how many messages the hearer has enough (zero: never), then bytes with
/// the places to cut them at.
///
/// # Panics
///
/// When the pieces matter, when a message is longer than its limit, or when something follows an end.
pub fn run(data: &[u8]) {
    let mut input = Input::new(data);
    let (limit, enough) = (usize::from(input.short()), input.below(256));
    let cut = Cut::read(input);

    let limit = Limit { bytes: limit, fragments: FRAGMENTS };
    let whole = hear([cut.bytes], limit, enough);
    assert_eq!(hear(cut.pieces(), limit, enough), whole, "cut at some places");
    assert_eq!(hear(cut.bytes.chunks(1), limit, enough), whole, "cut everywhere");
}

/// The messages of some pieces, printed, and how they end.
fn hear<'a>(pieces: impl IntoIterator<Item = &'a [u8]>, limit: Limit, enough: usize) -> (Vec<String>, Result<(), WireError>) {
    let (mut wire, mut heard, mut result) = (Wire::new(), Vec::new(), Ok(()));
    // The hearer has enough, or was told of a close.
    let mut over = false;
    for piece in pieces {
        let before = result;
        result = wire.feed(&mut piece.to_vec(), limit, &mut |message| {
            assert!(!over && before.is_ok(), "{message:?} after the end");
            check(&message, limit.bytes);
            heard.push(format!("{message:?}"));
            let enough = heard.len() == enough;
            over = enough || matches!(message, Message::Close(_));
            if enough { ControlFlow::Break(()) } else { ControlFlow::Continue(()) }
        });
        assert!(before.is_ok() || before == result, "{before:?} became {result:?}");
        assert!(!over || result.is_ok(), "{result:?} after the end");
    }
    (heard, result)
}

fn check(message: &Message<'_>, limit: usize) {
    let (length, most) = match message {
        Message::Text(text) => (text.len(), limit),
        Message::Binary(data) => (data.len(), limit),
        Message::Ping(data) => (data.len(), 125),
        Message::Close(code) => {
            let legal = |code: &u16| matches!(code, 1000..=1003 | 1007..=1013 | 3000..=4999);
            return assert!(code.as_ref().is_none_or(legal), "close code {code:?}");
        }
        Message::Pong => return,
    };
    assert!(length <= most, "{length} bytes, the limit is {most}");
}
