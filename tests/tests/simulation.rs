//! The simulated seeds: each is run twice and must do the same byte for byte (contract C12), under all oracles.

use roomcast_tests::world::swarm;

/// Seeds of an ordinary run; `ROOMCAST_SEEDS=from..to` runs others, `ROOMCAST_STEPS` sets how long each is.
const SEEDS: std::ops::Range<u64> = 0..1_200;
const STEPS: usize = 200;

#[test]
fn every_seed_keeps_the_contract_and_repeats_itself() {
    let seeds = range("ROOMCAST_SEEDS").unwrap_or(SEEDS);
    let steps = std::env::var("ROOMCAST_STEPS").map_or(STEPS, |steps| steps.parse().expect("ROOMCAST_STEPS is a number"));
    let threads = std::thread::available_parallelism().map_or(1, |threads| threads.get() as u64);
    let totals: Vec<[usize; 4]> = std::thread::scope(|scope| {
        let workers: Vec<_> = (0..threads)
            .map(|worker| {
                let seeds = seeds.clone().filter(move |seed| seed % threads == worker);
                scope.spawn(move || {
                    seeds.fold([0; 4], |sum, seed| {
                        let run = || {
                            std::panic::catch_unwind(|| swarm::run(seed, steps)).unwrap_or_else(|panic| {
                                eprintln!(
                                    "seed {seed} failed; again: ROOMCAST_SEEDS={seed}..{} cargo test -p roomcast-tests --test simulation",
                                    seed + 1
                                );
                                std::panic::resume_unwind(panic)
                            })
                        };
                        let (first, second) = (run(), run());
                        assert_eq!(first, second, "C12: seed {seed} did not repeat itself");
                        add(sum, [first.entries, first.seen, first.ended, first.forbidden])
                    })
                })
            })
            .collect();
        workers.into_iter().map(|worker| worker.join().expect("no oracle was violated")).collect()
    });
    let totals = totals.into_iter().fold([0; 4], add);
    let [entries, seen, ended, forbidden] = totals;
    println!("{} seeds of {steps} steps: {entries} entries to their end, {seen} messages seen", seeds.end - seeds.start);
    println!("{ended} tokens ended with their connections, {forbidden} times a room was forbidden");
    assert!(seeds.end - seeds.start < 1_000 || totals.iter().all(|one| *one > 1_000), "the simulation does next to nothing");
}

fn add(one: [usize; 4], other: [usize; 4]) -> [usize; 4] {
    std::array::from_fn(|at| one[at] + other[at])
}

fn range(variable: &str) -> Option<std::ops::Range<u64>> {
    let text = std::env::var(variable).ok()?;
    let (from, to) = text.split_once("..").expect("a range is written from..to");
    Some(from.parse().expect("a number")..to.parse().expect("a number"))
}
