//! How much memory the process may use, and so how much its workers may hold for clients.
//!
//! Invariant: what all workers may hold together is at most a quarter of the least of the machine's
//! memory, the cgroup's limit and the process's resource limits; the rest is for buffers that grow,
//! the heap's slack and everything else.

use std::path::PathBuf;

use rustix::process::{Resource, getrlimit};

/// The most that one worker holds, however large the machine is. 1 GiB.
const WORKER_MAX: u64 = 1 << 30;
/// The least, however small: enough for a few connections at their limits. 16 MiB.
const WORKER_MIN: u64 = 16 << 20;

/// Bytes that each of so many workers may hold for its clients, when the user does not say.
pub fn budget(workers_count: usize) -> usize {
    budget_for(limits().into_iter().min(), workers_count)
}

/// The share of a worker of what the user says all of them may hold.
pub fn share(total: usize, workers_count: usize) -> usize {
    (total / workers_count.max(1)).max(1)
}

fn budget_for(least: Option<u64>, workers_count: usize) -> usize {
    let least = least.unwrap_or(u64::MAX);
    let share = least / 4 / workers_count.max(1) as u64;
    usize::try_from(share.clamp(WORKER_MIN, WORKER_MAX)).unwrap_or(usize::MAX)
}

/// Every limit that is set, in bytes.
fn limits() -> Vec<u64> {
    let resources = [Resource::As, Resource::Data].map(|resource| getrlimit(resource).current);
    let mut limits: Vec<u64> = resources.into_iter().flatten().collect();
    limits.extend(machine_memory());
    limits.extend(cgroup_files().into_iter().filter_map(|path| {
        // The word `max` is no number, and no limit.
        std::fs::read_to_string(path).ok()?.trim().parse::<u64>().ok()
    }));
    limits
}

fn machine_memory() -> Option<u64> {
    let text = std::fs::read_to_string("/proc/meminfo").ok()?;
    let line = text.lines().find(|line| line.starts_with("MemTotal:"))?;
    let kib: u64 = line.split_whitespace().nth(1)?.parse().ok()?;
    Some(kib * 1024)
}

/// Where the cgroups of this process, and those above them, say their limit.
fn cgroup_files() -> Vec<PathBuf> {
    let mut files = vec![PathBuf::from("/sys/fs/cgroup/memory/memory.limit_in_bytes")];
    let text = std::fs::read_to_string("/proc/self/cgroup").unwrap_or_default();
    let own = text.lines().find_map(|line| line.strip_prefix("0::/")).unwrap_or("");
    let root = PathBuf::from("/sys/fs/cgroup");
    let mut folder = root.join(own);
    while folder.starts_with(&root) {
        files.push(folder.join("memory.max"));
        if !folder.pop() {
            break;
        }
    }
    files
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_quarter_is_shared_out_within_bounds() {
        const GIB: u64 = 1 << 30;
        assert_eq!(budget_for(Some(24 * GIB), 2), 1 << 30);
        assert_eq!(budget_for(Some(GIB), 2), 128 << 20);
        assert_eq!(budget_for(Some(300_000_000), 1), 75_000_000);
        assert_eq!(budget_for(Some(10 << 20), 4), 16 << 20);
        assert_eq!(budget_for(None, 4), 1 << 30);
    }

    #[test]
    fn the_machine_has_a_limit_and_it_is_found() {
        let least = limits().into_iter().min().expect("at least the memory of the machine");
        assert!(least > 1 << 20, "{least}");
    }
}
