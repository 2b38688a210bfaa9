//! Replays what fuzzing has found worth keeping.

use std::fs;
use std::panic::catch_unwind;
use std::path::Path;

use roomcast_fuzz::{TARGETS, seeds};

#[test]
fn batch() {
    replay("batch");
}

#[test]
fn channel() {
    replay("channel");
}

#[test]
fn json_frame() {
    replay("json_frame");
}

#[test]
fn engine_io() {
    replay("engine_io");
}

#[test]
fn socket_io() {
    replay("socket_io");
}

#[test]
fn ws_wire() {
    replay("ws_wire");
}

#[test]
fn handshake() {
    replay("handshake");
}

#[test]
fn http_wire() {
    replay("http_wire");
}

#[test]
fn hub_ops() {
    replay("hub_ops");
}

#[test]
fn every_corpus_belongs_to_a_target() {
    let corpora = fs::read_dir(Path::new(env!("CARGO_MANIFEST_DIR")).join("corpus")).expect("there are corpora");
    for corpus in corpora {
        let name = corpus.expect("the directory can be read").file_name();
        // Whoever has just run the canary has one for it, too; it is not kept.
        assert!(name == "canary" || TARGETS.iter().any(|(target, _)| name == **target), "{name:?} is nobody's corpus");
    }
}

#[test]
#[should_panic(expected = "the canary is dead")]
fn a_target_that_panics_is_noticed() {
    roomcast_fuzz::canary::run(b"bird");
}

/// Runs a target on its corpus and its seeds.
fn replay(name: &str) {
    let (_, target) = TARGETS.into_iter().find(|(target, _)| *target == name).expect("there is such a target");
    let corpus = Path::new(env!("CARGO_MANIFEST_DIR")).join("corpus").join(name);
    let files = fs::read_dir(&corpus).unwrap_or_else(|error| panic!("{}: {error}", corpus.display()));
    let mut inputs: Vec<_> = files
        .map(|file| {
            let path = file.expect("the directory can be read").path();
            let data = fs::read(&path).unwrap_or_else(|error| panic!("{}: {error}", path.display()));
            (path.display().to_string(), data)
        })
        .collect();
    assert!(!inputs.is_empty(), "the corpus {name} is empty");
    inputs.extend(seeds::all().filter(|(target, _)| *target == name).map(|(_, seed)| (format!("a seed: {seed:?}"), seed)));
    for (which, data) in inputs {
        assert!(catch_unwind(|| target(&data)).is_ok(), "{name} panics on {which}");
    }
}
