//! A few hundred fresh seeds, and what every seed must have in common.

use sim::{Plan, RunOptions, run_plan, run_seed};

const SEEDS_COUNT: u64 = 400;

/// The first seed: `WEIR_SIM_SEED`, a number or the name of a commit, so that each commit is tested
/// with seeds that no other has seen.
fn first_seed() -> u64 {
    let Ok(text) = std::env::var("WEIR_SIM_SEED") else { return 1_000_000 };
    text.trim().parse().unwrap_or_else(|_| {
        // FNV-1a.
        text.bytes().fold(0xcbf2_9ce4_8422_2325u64, |hash, byte| {
            (hash ^ u64::from(byte)).wrapping_mul(0x100_0000_01b3)
        }) >> 16
    })
}

#[test]
fn every_reply_is_right_and_everything_comes_to_rest() {
    let first = first_seed();
    let mut replies_count = 0;
    for seed in first..first + SEEDS_COUNT {
        let verdict = std::panic::catch_unwind(|| run_seed(seed))
            .unwrap_or_else(|_| panic!("seed {seed} panics"));
        assert_eq!(verdict.failure, None, "cargo run -p sim -- --seed {seed} --trace");
        replies_count += verdict.replies_count;
    }
    // Some seeds drain at once, but most have hundreds.
    assert!(replies_count > SEEDS_COUNT * 50, "only {replies_count} replies");
}

#[test]
fn the_same_seed_gives_the_same_trace() {
    let first = first_seed();
    for seed in first..first + 20 {
        assert_eq!(run_seed(seed).hash, run_seed(seed).hash, "seed {seed}");
    }
    assert_ne!(run_seed(first).hash, run_seed(first + 1).hash);
}

#[test]
fn without_faults_no_request_fails() {
    for seed in (0..200).step_by(10) {
        let verdict = run_plan(Plan::draw(seed), RunOptions::default());
        assert_eq!((verdict.failure, verdict.errors_count), (None, 0), "seed {seed}");
    }
}
