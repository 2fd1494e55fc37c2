//! Which CPUs the process may use, and how many workers they are good for.
//!
//! Invariant: a worker is pinned to a CPU of the process's affinity mask, and there are no more
//! workers than the cgroup's quota pays for, unless the user says so.

use core_affinity::CoreId;

/// What the user wants.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct CpuOptions {
    /// How many workers, 1 to 1024; `None` for one a CPU.
    pub workers: Option<usize>,
    /// Which CPUs, by number; `None` for those of the affinity mask.
    pub cpus: Option<Vec<usize>>,
}

/// The most workers that a process may have.
pub const WORKERS_MAX: usize = 1024;

/// The CPU of each worker. More workers than CPUs share them, in turn.
pub fn plan(options: &CpuOptions) -> Result<Vec<usize>, String> {
    let allowed: Vec<usize> =
        core_affinity::get_core_ids().unwrap_or_default().into_iter().map(|core| core.id).collect();
    // Counts the affinity mask and the cgroup's quota.
    let paid_count = std::thread::available_parallelism().map_or(1, std::num::NonZero::get);
    plan_for(options, &allowed, paid_count)
}

fn plan_for(
    options: &CpuOptions,
    allowed: &[usize],
    paid_count: usize,
) -> Result<Vec<usize>, String> {
    let cpus = options.cpus.as_deref().unwrap_or(allowed);
    if let Some(cpu) = cpus.iter().find(|cpu| !allowed.contains(cpu)) {
        return Err(format!("CPU {cpu} may not be used by this process: use some of {allowed:?}"));
    }
    if cpus.is_empty() {
        return Err("no CPU was named: name at least one".to_owned());
    }
    let count = match (options.workers, &options.cpus) {
        (Some(count), _) => count,
        (None, Some(cpus)) => cpus.len(),
        (None, None) => paid_count.min(cpus.len()),
    };
    if !(1..=WORKERS_MAX).contains(&count) {
        return Err(format!("{count} workers: must be 1 to {WORKERS_MAX}"));
    }
    Ok((0..count).map(|worker| cpus[worker % cpus.len()]).collect())
}

/// Pins the calling thread. `false` when the system refuses.
pub fn pin(cpu: usize) -> bool {
    core_affinity::set_for_current(CoreId { id: cpu })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn options(workers: Option<usize>, cpus: Option<&[usize]>) -> CpuOptions {
        CpuOptions { workers, cpus: cpus.map(<[usize]>::to_vec) }
    }

    #[test]
    fn one_worker_for_each_cpu_that_is_paid_for() {
        let cases: [(CpuOptions, &[usize], usize, &[usize]); 6] = [
            (options(None, None), &[0, 1, 2, 3], 4, &[0, 1, 2, 3]),
            (options(None, None), &[0, 1, 2, 3], 2, &[0, 1]),
            (options(None, None), &[5, 7], 2, &[5, 7]),
            (options(Some(3), None), &[0, 1], 2, &[0, 1, 0]),
            (options(None, Some(&[3])), &[0, 1, 2, 3], 4, &[3]),
            (options(Some(2), Some(&[3])), &[0, 1, 2, 3], 4, &[3, 3]),
        ];
        for (options, allowed, paid_count, expected) in cases {
            assert_eq!(plan_for(&options, allowed, paid_count).as_deref(), Ok(expected));
        }
    }

    #[test]
    fn what_can_not_be_is_refused() {
        assert!(plan_for(&options(None, Some(&[9])), &[0, 1], 2).is_err());
        assert!(plan_for(&options(None, Some(&[])), &[0, 1], 2).is_err());
        assert!(plan_for(&options(Some(0), None), &[0, 1], 2).is_err());
        assert!(plan_for(&options(Some(WORKERS_MAX + 1), None), &[0, 1], 2).is_err());
    }
}
