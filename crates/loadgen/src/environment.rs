//! The machine, as far as it bears on the figures: its clock, its CPUs, and what others take of
//! them.
//!
//! Linux tells most; elsewhere a field is absent. Invariant: nothing here runs on a thread that
//! measures.

use std::fs;
use std::time::Instant;

use serde::{Deserialize, Serialize};

use crate::marks::{Between, Marks};

/// What is known of the machine.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct Environment {
    /// Kernel's name and release.
    pub kernel: Option<String>,
    /// As the CPU calls itself.
    pub cpu: Option<String>,
    /// CPUs that this process may use.
    pub cpus_count: usize,
    /// The frequency governor of the first CPU.
    pub governor: Option<String>,
    /// Where the kernel's clock comes from, before and after the run.
    pub clock_source: Option<String>,
    /// The same after the run.
    pub clock_source_after: Option<String>,
    /// Median of back-to-back reads of the clock, in nanoseconds.
    pub clock_cost_ns: u64,
    /// The smallest difference above 0 between two reads, in nanoseconds.
    pub clock_resolution_ns: u64,
    /// What became of the machine during the run.
    pub during: Between,
}

impl Environment {
    /// Looks around.
    pub fn look() -> Environment {
        let (clock_cost_ns, clock_resolution_ns) = clock();
        let release = read("/proc/sys/kernel/osrelease");
        let source = clock_source();
        Environment {
            kernel: release.map(|release| format!("{} {release}", std::env::consts::OS)),
            cpu: fs::read_to_string("/proc/cpuinfo").ok().and_then(|text| {
                let line = text.lines().find(|line| line.starts_with("model name"))?;
                Some(line.split_once(':')?.1.trim().to_owned())
            }),
            cpus_count: std::thread::available_parallelism().map_or(1, std::num::NonZero::get),
            governor: read("/sys/devices/system/cpu/cpu0/cpufreq/scaling_governor"),
            clock_source_after: source.clone(),
            clock_source: source,
            clock_cost_ns,
            clock_resolution_ns,
            during: Between::default(),
        }
    }

    /// Takes down what may have changed during a run that began with `before` and has taken so many
    /// seconds.
    pub fn look_again(&mut self, before: &Marks, seconds: f64) {
        self.clock_source_after = clock_source();
        self.during.end(before, &Marks::now(), seconds);
    }
}

fn read(path: &str) -> Option<String> {
    fs::read_to_string(path).ok().map(|text| text.trim().to_owned())
}

fn clock_source() -> Option<String> {
    read("/sys/devices/system/clocksource/clocksource0/current_clocksource")
}

/// What a read of the clock costs and what it can tell apart, in nanoseconds.
fn clock() -> (u64, u64) {
    const READS: usize = 10_000;
    let reads: Vec<Instant> = (0..READS).map(|_| Instant::now()).collect();
    let mut gaps: Vec<u64> =
        reads.windows(2).map(|pair| (pair[1] - pair[0]).as_nanos() as u64).collect();
    gaps.sort_unstable();
    let resolution = gaps.iter().copied().find(|&gap| gap > 0).unwrap_or(1);
    (gaps[gaps.len() / 2], resolution)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_clock_has_a_resolution_and_there_is_a_cpu() {
        let environment = Environment::look();
        assert!(environment.clock_resolution_ns > 0);
        assert!(environment.cpus_count > 0);
        assert_eq!(environment.clock_source, environment.clock_source_after);
    }
}
