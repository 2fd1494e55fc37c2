//! Placement, held against twemproxy itself: on generated configurations, every key goes to the
//! same server through Weir as through Debian's `nutcracker`.
//!
//! The servers answer every `get` with their own number. Their ports are whatever is free, and part
//! of their names, so a seed repeats a run but for those names; what failed is printed whole.
//! Invariant: no key is left out of the comparison.

#![allow(clippy::unwrap_used)]

mod nutcracker;
mod support;

#[path = "nutcracker/numbered.rs"]
mod numbered;
#[path = "nutcracker/plan.rs"]
mod plan;

use numbered::Servers;
use nutcracker::{Proxy, converse};
use plan::{Plan, Random};

/// Configuration files; a process of either make is started for each.
const FILES_COUNT: u64 = 24;
/// Pools in a file.
const POOLS_COUNT: usize = 10;
/// Keys that are asked for in each pool.
const KEYS_COUNT: usize = 500;

/// The seed of a run; `PLACEMENT_SEED` sets another.
const SEED: u64 = 20_241_121;

/// The number of the server that each key was found on.
fn servers_of(proxy: &Proxy, plan: &Plan, keys: &[Vec<u8>]) -> Vec<usize> {
    let requests: Vec<u8> = keys.iter().flat_map(|key| plan.request(key)).collect();
    let mut found = Vec::with_capacity(keys.len());
    let mut read = 0;
    converse(proxy.connect(&plan.name), &requests, |come| {
        while let Some((number, size)) = plan.number_in(&come[read..]) {
            found.push(number);
            read += size;
        }
        found.len() >= keys.len()
    });
    found
}

#[test]
fn every_key_goes_where_twemproxy_sends_it() {
    let seed = std::env::var("PLACEMENT_SEED").map_or(SEED, |text| text.parse().unwrap());
    let servers = Servers::start();
    let (mut compared_count, mut differing) = (0, Vec::new());
    let mut coverage = plan::Coverage::default();
    for file in 0..FILES_COUNT {
        let file_seed = seed.wrapping_mul(1000) + file;
        let mut random = Random::new(file_seed);
        let plans: Vec<Plan> =
            (0..POOLS_COUNT).map(|pool| Plan::draw(pool, &servers, &mut random)).collect();
        let names: Vec<String> = plans.iter().map(|plan| plan.name.clone()).collect();
        let configuration = |listen: &nutcracker::Listen<'_>| -> String {
            plans.iter().map(|plan| plan.text(&listen.path(&plan.name))).collect()
        };
        let nutcracker = Proxy::nutcracker(&names, &configuration);
        let weir = Proxy::weir(&names, &configuration);
        for plan in &plans {
            let keys: Vec<Vec<u8>> = (0..KEYS_COUNT).map(|_| plan.draw_key(&mut random)).collect();
            let theirs = servers_of(&nutcracker, plan, &keys);
            let ours = servers_of(&weir, plan, &keys);
            coverage.note(plan, &theirs);
            for (key, (their, our)) in keys.iter().zip(theirs.iter().zip(&ours)) {
                let right = if plan.is_random() { plan.has_server(*our) } else { their == our };
                compared_count += usize::from(!plan.is_random());
                if !right {
                    differing.push(format!(
                        "file seed {file_seed}, key {}: twemproxy server {their}, weir {our}\n{}",
                        key.escape_ascii(),
                        plan.text("/somewhere".as_ref())
                    ));
                }
            }
        }
    }
    println!("seed {seed}: {compared_count} keys compared; {coverage}");
    coverage.check();
    let shown = &differing[..differing.len().min(3)];
    assert!(differing.is_empty(), "{} keys differ:\n{}", differing.len(), shown.join("\n"));
}
