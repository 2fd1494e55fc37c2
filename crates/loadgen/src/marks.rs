//! What the machine tells of itself before and after a run, and what became of it between the two:
//! time that the host took, the drift of the clock, frequencies, the network.
//!
//! It judges nothing. Invariant: a figure that the machine does not tell is absent, never 0.

use std::fs;

use rustix::time::{ClockId, clock_gettime};
use serde::{Deserialize, Serialize};

/// Counters and clocks at one moment.
#[derive(Debug, Clone, Default)]
pub struct Marks {
    /// Stolen ticks and all ticks of all CPUs since boot.
    steal: Option<(u64, u64)>,
    /// The steered and the raw clock, in nanoseconds.
    clocks: Option<(u64, u64)>,
    tcp: Option<Tcp>,
    /// Bytes and the speed in bytes a second of each link that has one.
    links: Vec<(String, u64, u64)>,
}

/// The system's own counts of TCP.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Tcp {
    sent: u64,
    repeated: u64,
    listen_drops: u64,
}

/// What happened between two marks.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct Between {
    /// Part of the CPUs' time that the host took.
    pub steal_share: Option<f64>,
    /// How far the clock was steered away from the raw one, in millionths.
    pub clock_drift_ppm: Option<f64>,
    /// Lowest and highest frequency of the fastest CPU at each look, in kHz.
    pub frequency_khz: Option<(u64, u64)>,
    /// Part of the machine's TCP segments that were sent again.
    pub retransmitted_share: Option<f64>,
    /// Connections that the machine's listeners dropped.
    pub listen_drops: Option<u64>,
    /// The busiest link's load, as a part of its speed.
    pub link_share: Option<f64>,
}

impl Between {
    /// How far frequencies are apart, as a part of the highest.
    pub fn frequency_spread(&self) -> Option<f64> {
        let (low, high) = self.frequency_khz?;
        Some(1.0 - low as f64 / high.max(1) as f64)
    }

    /// A look at the frequencies, now and then during a run.
    pub fn look_at_frequency(&mut self) {
        if let Some(now) = frequency_khz() {
            let (low, high) = self.frequency_khz.unwrap_or((now, now));
            self.frequency_khz = Some((low.min(now), high.max(now)));
        }
    }

    /// Takes down what happened between two marks, so many seconds apart.
    pub fn end(&mut self, before: &Marks, after: &Marks, seconds: f64) {
        self.steal_share = before.steal.zip(after.steal).map(|(before, after)| {
            let all = after.1.saturating_sub(before.1).max(1);
            after.0.saturating_sub(before.0) as f64 / all as f64
        });
        self.clock_drift_ppm = before.clocks.zip(after.clocks).map(|(before, after)| {
            let (steered, raw) = (after.0 - before.0, after.1 - before.1);
            (steered as f64 / raw.max(1) as f64 - 1.0) * 1e6
        });
        if let Some((before, after)) = before.tcp.zip(after.tcp) {
            let sent = after.sent.saturating_sub(before.sent).max(1);
            let repeated = after.repeated.saturating_sub(before.repeated);
            self.retransmitted_share = Some(repeated as f64 / sent as f64);
            self.listen_drops = Some(after.listen_drops.saturating_sub(before.listen_drops));
        }
        let share = |(name, bytes, speed): &(String, u64, u64)| {
            let old = before.links.iter().find(|link| link.0 == *name)?.1;
            Some(bytes.saturating_sub(old) as f64 / (*speed as f64 * seconds.max(1e-9)))
        };
        self.link_share = after.links.iter().filter_map(share).max_by(f64::total_cmp);
    }
}

impl Marks {
    /// Now.
    pub fn now() -> Marks {
        let read = |path| fs::read_to_string(path).ok();
        Marks {
            steal: read("/proc/stat").as_deref().and_then(steal),
            clocks: clocks(),
            tcp: read("/proc/net/snmp").zip(read("/proc/net/netstat")).and_then(tcp),
            links: links(),
        }
    }
}

/// Both clocks at the same moment: the try that took the shortest time, for a thread may be kept
/// from running between two reads.
#[cfg(target_os = "linux")]
fn clocks() -> Option<(u64, u64)> {
    let read = |clock| {
        let time = clock_gettime(clock);
        time.tv_sec as u64 * 1_000_000_000 + time.tv_nsec as u64
    };
    let tries = (0..16).map(|_| {
        let (first, raw) = (read(ClockId::Monotonic), read(ClockId::MonotonicRaw));
        let second = read(ClockId::Monotonic);
        (second - first, (first + (second - first) / 2, raw))
    });
    tries.min_by_key(|one| one.0).map(|one| one.1)
}

#[cfg(not(target_os = "linux"))]
fn clocks() -> Option<(u64, u64)> {
    None
}

fn steal(stat: &str) -> Option<(u64, u64)> {
    let first = stat.lines().next()?;
    let fields: Vec<u64> =
        first.split_whitespace().skip(1).filter_map(|field| field.parse().ok()).collect();
    // user, nice, system, idle, iowait, irq, softirq, steal; guests are in user already.
    Some((*fields.get(7)?, fields.iter().take(8).sum()))
}

fn tcp((snmp, netstat): (String, String)) -> Option<Tcp> {
    Some(Tcp {
        sent: field(&snmp, "Tcp:", "OutSegs")?,
        repeated: field(&snmp, "Tcp:", "RetransSegs")?,
        listen_drops: field(&netstat, "TcpExt:", "ListenDrops")?,
    })
}

/// A number of the kernel's two-line tables: a line of names, and one of numbers.
fn field(text: &str, table: &str, name: &str) -> Option<u64> {
    let mut lines = text.lines().filter(|line| line.split(' ').next() == Some(table));
    let (names, numbers) = (lines.next()?, lines.next()?);
    let place = names.split(' ').position(|one| one == name)?;
    numbers.split(' ').nth(place)?.parse().ok()
}

fn links() -> Vec<(String, u64, u64)> {
    let Ok(folder) = fs::read_dir("/sys/class/net") else { return Vec::new() };
    let number = |path: std::path::PathBuf| -> Option<u64> {
        fs::read_to_string(path).ok()?.trim().parse().ok()
    };
    folder
        .filter_map(Result::ok)
        .filter_map(|entry| {
            // Links that are virtual, or down, have no speed.
            let megabits = number(entry.path().join("speed")).filter(|&speed| speed > 0)?;
            let count = |name: &str| number(entry.path().join("statistics").join(name));
            let bytes = count("tx_bytes")?.max(count("rx_bytes")?);
            Some((entry.file_name().to_string_lossy().into_owned(), bytes, megabits * 125_000))
        })
        .collect()
}

/// The frequency of the CPU that is fastest now; idle ones are slow and say nothing.
fn frequency_khz() -> Option<u64> {
    let folder = fs::read_dir("/sys/devices/system/cpu").ok()?;
    let frequencies = folder.filter_map(Result::ok).filter_map(|entry| {
        fs::read_to_string(entry.path().join("cpufreq/scaling_cur_freq")).ok()?.trim().parse().ok()
    });
    frequencies.max()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_happened_is_the_difference() {
        let snmp = "Tcp: RtoMin OutSegs RetransSegs\nTcp: 200 1000 3\n";
        let netstat = "TcpExt: SyncookiesSent ListenDrops\nTcpExt: 0 7\n";
        let tcp = tcp((snmp.to_owned(), netstat.to_owned())).expect("both are there");
        let stat = "cpu  10 0 10 70 0 0 0 10 0 0\ncpu0 1 1 1 1 1 1 1 1\n";
        let before = Marks {
            steal: steal(stat),
            clocks: Some((1_000, 5_000)),
            tcp: Some(tcp),
            links: vec![("eth0".to_owned(), 500, 1000)],
        };
        let after = Marks {
            steal: Some((30, 200)),
            clocks: Some((1_000 + 1_000_050, 5_000 + 1_000_000)),
            tcp: Some(Tcp { sent: 2000, repeated: 4, listen_drops: 9 }),
            links: vec![("eth0".to_owned(), 2_500, 1000)],
        };
        let mut between = Between::default();
        between.end(&before, &after, 4.0);
        assert_eq!(between.steal_share, Some(0.2));
        assert!((between.clock_drift_ppm.expect("told") - 50.0).abs() < 1e-6);
        assert_eq!(between.retransmitted_share, Some(0.001));
        assert_eq!(between.listen_drops, Some(2));
        assert_eq!(between.link_share, Some(0.5));
        between.frequency_khz = Some((1_800_000, 2_000_000));
        assert!((between.frequency_spread().expect("told") - 0.1).abs() < 1e-9);
    }

    #[test]
    fn what_is_not_told_is_absent() {
        let mut between = Between::default();
        between.end(&Marks::default(), &Marks::default(), 1.0);
        assert_eq!(between, Between::default());
        assert_eq!(field("Tcp: A\nTcp: x\n", "Tcp:", "A"), None);
        assert_eq!(field("Udp: A\nUdp: 1\n", "Tcp:", "A"), None);
    }

    #[test]
    #[cfg(target_os = "linux")]
    fn this_machine_tells_something() {
        let before = Marks::now();
        let mut between = Between::default();
        between.end(&before, &Marks::now(), 0.001);
        assert!(between.steal_share.is_some() && between.clock_drift_ppm.is_some());
        assert!(between.retransmitted_share.is_some());
    }
}
