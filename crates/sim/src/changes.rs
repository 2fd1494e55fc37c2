//! Changes of a plan by name, so that a failing seed can be made simpler and still be replayed.
//!
//! Invariant: a change makes the plan smaller or switches a fault off; it adds nothing.

use crate::plan::Plan;

type Rate = fn(&mut Plan) -> &mut u32;

/// Faults that can be switched off.
pub const FAULTS: &[(&str, Rate)] = &[
    ("reset", |plan| &mut plan.network.reset_pm),
    ("reset_on_connect", |plan| &mut plan.network.reset_on_connect_pm),
    ("reset_on_close", |plan| &mut plan.network.reset_on_close_pm),
    ("refuse", |plan| &mut plan.network.refuse_pm),
    ("silent_connect", |plan| &mut plan.network.silent_connect_pm),
    ("stall", |plan| &mut plan.network.stall_pm),
    ("adopt_fails", |plan| &mut plan.network.adopt_fails_pm),
    ("accept_fails", |plan| &mut plan.network.accept_fails_pm),
    ("pause", |plan| &mut plan.network.pause_pm),
    ("cut", |plan| &mut plan.network.cut_pm),
    ("starve", |plan| &mut plan.network.starve_pm),
    ("spurious_wake", |plan| &mut plan.network.spurious_wake_pm),
    ("server_pause", |plan| &mut plan.server.pause_pm),
    ("restart", |plan| &mut plan.server.restart_pm),
    ("garbage", |plan| &mut plan.server.garbage_pm),
    ("extra", |plan| &mut plan.server.extra_pm),
    ("half", |plan| &mut plan.server.half_pm),
    ("hang", |plan| &mut plan.server.hang_pm),
    ("huge", |plan| &mut plan.server.huge_pm),
    ("wrong_key", |plan| &mut plan.server.wrong_key_pm),
    ("half_close_server", |plan| &mut plan.server.half_close_pm),
    ("close", |plan| &mut plan.server.close_pm),
    ("unresolved", |plan| &mut plan.server.unresolved_pm),
    ("vanish", |plan| &mut plan.client.vanish_pm),
    ("deaf", |plan| &mut plan.client.deaf_pm),
    ("malformed", |plan| &mut plan.client.malformed_pm),
    ("half_close", |plan| &mut plan.client.half_close_pm),
    ("multi", |plan| &mut plan.client.multi_pm),
    ("quiet", |plan| &mut plan.client.quiet_pm),
    ("own connections", |plan| &mut plan.client.own_connection_pm),
    ("shared", |plan| &mut plan.client.shared_pm),
    ("quit", |plan| &mut plan.client.quit_pm),
    ("slow", |plan| &mut plan.client.slow_pm),
];

/// Applies `clients=2`, `requests=10`, `workers=1`, `depth=1` or `no=reset`. `false` when it is
/// none of these.
pub fn apply(plan: &mut Plan, change: &str) -> bool {
    let Some((name, value)) = change.split_once('=') else { return false };
    if name == "no" {
        let Some((_, rate)) = FAULTS.iter().find(|(fault, _)| *fault == value) else {
            return false;
        };
        *rate(plan) = 0;
        return true;
    }
    let Ok(number) = value.parse::<usize>() else { return false };
    let place = match name {
        "clients" => &mut plan.client.count,
        "requests" => &mut plan.client.requests_count,
        "workers" => &mut plan.workers_count,
        "depth" => &mut plan.client.depth_max,
        _ => return false,
    };
    *place = (*place).min(number.max(1));
    true
}

/// Changes worth trying on this plan, the most effective first.
pub fn candidates(plan: &Plan) -> Vec<String> {
    let mut changes = Vec::new();
    let halves = |name: &str, from: usize, changes: &mut Vec<String>| {
        let mut number = 1;
        while number < from {
            changes.push(format!("{name}={number}"));
            number *= 2;
        }
    };
    halves("clients", plan.client.count, &mut changes);
    halves("requests", plan.client.requests_count, &mut changes);
    halves("workers", plan.workers_count, &mut changes);
    halves("depth", plan.client.depth_max, &mut changes);
    let mut copy = plan.clone();
    for (name, rate) in FAULTS {
        if *rate(&mut copy) > 0 {
            changes.push(format!("no={name}"));
        }
    }
    changes
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_candidate_can_be_applied() {
        for seed in 0..50 {
            let mut plan = Plan::draw(seed);
            for change in candidates(&plan) {
                assert!(apply(&mut plan, &change), "{change}");
            }
            assert!(FAULTS.iter().all(|(_, rate)| *rate(&mut plan) == 0));
            assert_eq!((plan.client.count, plan.workers_count), (1, 1));
        }
        assert!(!apply(&mut Plan::draw(1), "no=nothing"));
        assert!(!apply(&mut Plan::draw(1), "clients"));
    }
}
