//! A checked plan: settings that can be carried out, with the laws made ready.
//!
//! It opens no connection and no file but that of a replay. Invariant: a [`Plan`] has passed every
//! check, so the driver does not check again.

use std::sync::Arc;
use std::time::Duration;

use super::alias::Alias;
use super::file::{Mode, Op, Settings, Verify, Wire};
use super::keys::{KEYS_MAX, KeySpace};
use super::law::Sampler;
use super::schedule::{Arrival, Schedule, read_replay};
use super::value::Values;

/// memcached's default limit of an item, less what it needs itself.
pub const VALUE_SIZE_MAX: u64 = (1 << 20) - 512;
/// Keys of one multi-get.
pub const MULTI_MAX: u64 = 1000;
/// Connections of one run.
pub const CONNECTIONS_MAX: u32 = 60_000;
/// Threads of one generator.
pub const THREADS_MAX: u32 = 256;
/// In flight on one connection.
pub const DEPTH_MAX: u32 = 1 << 20;
/// Events that one turn may wait for.
pub const GATHER_MAX: u32 = 1024;
/// And when nothing is said.
const GATHER_CHOSEN_MAX: u32 = 16;

/// The part of the whole load that one thread makes: `index` of `count`, over all machines.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Part {
    /// 0 to `count - 1`.
    pub index: u64,
    /// 1 or more.
    pub count: u64,
}

impl Part {
    /// All of it.
    pub const WHOLE: Part = Part { index: 0, count: 1 };

    /// Whether a key belongs to this part. Each key has one writer, which is what makes stale reads
    /// visible.
    #[inline]
    pub fn owns(self, key: u64) -> bool {
        self.count == 1 || key % self.count == self.index
    }
}

/// See the module's text.
#[derive(Debug, Clone)]
pub struct Plan {
    /// What was asked for.
    pub settings: Settings,
    /// The commands that have a weight, in order.
    pub ops: Vec<Op>,
    /// Chooses among `ops`.
    pub mix: Alias,
    /// The keys.
    pub keys: KeySpace,
    /// Bytes of a value.
    pub value_size: Sampler,
    /// Seconds to live.
    pub ttl_s: Option<Sampler>,
    /// Keys of a multi-get.
    pub multi: Sampler,
    /// Makes and checks values.
    pub values: Values,
    /// Requests in flight a connection.
    pub depth: usize,
    /// Events that a turn may wait for; 1 but for a closed loop.
    pub gather: usize,
    /// See [`Settings::timeout_ms`].
    pub timeout: Duration,
    /// See [`Settings::warmup_s`].
    pub warmup: Duration,
    /// See [`Settings::duration_s`].
    pub duration: Duration,
    replay: Arc<[f64]>,
}

impl Plan {
    /// Checks settings. `run` tells this run's values from others'. The error lists all faults.
    pub fn new(settings: &Settings, run: u32) -> Result<Plan, String> {
        let mut faults = faults(settings);
        let replay = match load_replay(settings) {
            Ok(times) => times,
            Err(fault) => {
                faults.push(fault);
                Vec::new()
            }
        };
        if !faults.is_empty() {
            return Err(faults.join("\n"));
        }
        let used: Vec<(Op, f64)> =
            settings.commands.iter().map(|(&op, &w)| (op, w)).filter(|one| one.1 > 0.0).collect();
        let keys = &settings.keys;
        let depth = match (settings.depth, settings.mode) {
            (0, Mode::Closed) => 1,
            (0, _) => 256,
            (depth, _) => depth as usize,
        };
        Ok(Plan {
            ops: used.iter().map(|one| one.0).collect(),
            mix: Alias::new(&used.iter().map(|one| one.1).collect::<Vec<_>>()),
            keys: KeySpace::new(keys.count, &keys.prefix, &keys.size, &keys.popularity),
            value_size: Sampler::new(&settings.values.size, VALUE_SIZE_MAX),
            ttl_s: settings.values.ttl_s.as_ref().map(|law| Sampler::new(law, u64::from(u32::MAX))),
            multi: Sampler::new(&settings.multi, MULTI_MAX),
            values: Values::new(run),
            depth,
            gather: gather(settings),
            timeout: Duration::from_secs_f64(settings.timeout_ms / 1e3),
            warmup: Duration::from_secs_f64(settings.warmup_s),
            duration: Duration::from_secs_f64(settings.duration_s),
            replay: replay.into(),
            settings: settings.clone(),
        })
    }

    /// When requests (or sessions) begin. `None` for a closed loop.
    pub fn schedule(&self) -> Option<Schedule> {
        let settings = &self.settings;
        let rate = match settings.mode {
            Mode::Open => settings.rate,
            Mode::Closed => return None,
            Mode::PartlyOpen { requests, .. } => settings.rate / requests,
        };
        Some(Schedule::new(&settings.arrival, rate, settings.seed, self.replay.clone()))
    }

    /// Bytes of a key's value.
    #[inline]
    pub fn size_of(&self, key: u64) -> usize {
        match self.value_size.constant() {
            Some(size) => size as usize,
            None => self.value_size.draw(&mut crate::rng::Rng::new(0x7661_6c75, key)) as usize,
        }
    }

    /// Whether counters are used, and whether values are.
    pub fn uses(&self) -> (bool, bool) {
        let counters = self.ops.contains(&Op::Incr);
        (counters, self.ops.iter().any(|op| !matches!(op, Op::Incr | Op::Ping)))
    }

    /// Whether nothing is written but before the measurement.
    pub fn only_reads(&self) -> bool {
        let reads =
            |op: &Op| matches!(op, Op::Get | Op::Gets | Op::Mget | Op::Scan | Op::Touch | Op::Ping);
        self.ops.iter().all(reads)
    }

    /// How much is checked.
    pub fn verify(&self) -> Verify {
        self.settings.verify
    }

    /// Which protocol.
    pub fn wire(&self) -> Wire {
        self.settings.protocol
    }
}

/// Never more than a thread's connections, each of which has at least one reply to come.
fn gather(settings: &Settings) -> usize {
    let connections = settings.connections / settings.threads;
    let most = match (settings.mode, settings.gather) {
        (Mode::Open | Mode::PartlyOpen { .. }, _) => 1,
        (Mode::Closed, 0) => (connections / 8).min(GATHER_CHOSEN_MAX),
        (Mode::Closed, asked) => asked.min(connections),
    };
    most.max(1) as usize
}

fn load_replay(settings: &Settings) -> Result<Vec<f64>, String> {
    let Arrival::Replay { file, .. } = &settings.arrival else {
        return Ok(Vec::new());
    };
    let text = std::fs::read_to_string(file).map_err(|error| format!("{file}: {error}"))?;
    read_replay(&text, settings.seed).map_err(|error| format!("{file}: {error}"))
}

/// Everything that is wrong with settings.
fn faults(settings: &Settings) -> Vec<String> {
    let mut faults = Vec::new();
    let mut must = |good: bool, text: String| {
        if !good {
            faults.push(text);
        }
    };
    let weights: Vec<f64> = settings.commands.values().copied().collect();
    must(
        weights.iter().all(|w| w.is_finite() && *w >= 0.0) && weights.iter().any(|w| *w > 0.0),
        "commands: weights must not be negative, and one must be above 0".to_owned(),
    );
    let count = settings.keys.count;
    must((1..=KEYS_MAX).contains(&count), format!("keys.count = {count}: must be 1 to 2^39"));
    let prefix = &settings.keys.prefix;
    let printable = prefix.bytes().all(|byte| byte.is_ascii_graphic());
    must(
        printable && prefix.len() <= 200,
        format!("keys.prefix = {prefix:?}: at most 200 visible ASCII characters"),
    );
    let timed = settings.mode != Mode::Closed;
    let rate = settings.rate;
    must(
        !timed || (rate > 0.0 && rate <= 1e9),
        format!("rate = {rate}: must be above 0 and at most 1e9 a second"),
    );
    if let Mode::PartlyOpen { requests, think_ms } = settings.mode {
        must(
            requests >= 1.0 && requests.is_finite() && (0.0..=1e7).contains(&think_ms),
            "mode: partly-open needs requests >= 1 and think_ms >= 0".to_owned(),
        );
    }
    let ranges = [
        ("connections", settings.connections, 1, CONNECTIONS_MAX),
        ("threads", settings.threads, 1, THREADS_MAX),
        ("depth", settings.depth, 0, DEPTH_MAX),
        ("gather", settings.gather, 0, GATHER_MAX),
    ];
    for (name, value, low, high) in ranges {
        must((low..=high).contains(&value), format!("{name} = {value}: must be {low} to {high}"));
    }
    must(
        settings.threads <= settings.connections,
        format!(
            "threads = {}, connections = {}: each thread needs a connection",
            settings.threads, settings.connections
        ),
    );
    must(
        u64::from(settings.threads) <= count,
        format!("threads = {}: each needs a key, and there are {count}", settings.threads),
    );
    must(
        settings.duration_s > 0.0 && settings.duration_s <= 1e6,
        format!("duration_s = {}: must be above 0 and at most 1e6", settings.duration_s),
    );
    must(
        (0.0..=1e6).contains(&settings.warmup_s),
        format!("warmup_s = {}: must be 0 to 1e6", settings.warmup_s),
    );
    must(
        (1.0..=3.6e6).contains(&settings.timeout_ms),
        format!("timeout_ms = {}: must be 1 to 3600000", settings.timeout_ms),
    );
    faults.extend(command_faults(settings));
    faults.extend(law_faults(settings));
    faults
}

/// Commands that the protocol lacks.
fn command_faults(settings: &Settings) -> Vec<String> {
    let uses = |op: &Op| settings.commands.get(op).is_some_and(|weight| *weight > 0.0);
    let redis = matches!(settings.protocol, Wire::Redis | Wire::Redis3);
    let lacking = [Op::Gets, Op::Cas, Op::Prepend].into_iter().filter(|op| redis && uses(op));
    let text = "Redis has no such command; protocol must be memcache or meta";
    lacking.map(|op| format!("commands.{}: {text}", op.name())).collect()
}

/// What is wrong with the laws.
fn law_faults(settings: &Settings) -> Vec<String> {
    let ttl = settings.values.ttl_s.as_ref();
    let checks = [
        settings.keys.size.check("keys.size"),
        settings.keys.popularity.check().map_err(|fault| format!("keys.popularity: {fault}")),
        settings.values.size.check("values.size"),
        settings.multi.check("multi"),
        ttl.map_or(Ok(()), |law| law.check("values.ttl_s")),
        settings.arrival.check().map_err(|fault| format!("arrival: {fault}")),
    ];
    checks.into_iter().filter_map(Result::err).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::workload::keys::Popularity;

    #[test]
    fn only_a_closed_loop_gathers_and_never_more_than_a_thread_has_connections() {
        let gather = |mode, connections, threads, gather| {
            let settings = Settings { mode, connections, threads, gather, ..Settings::default() };
            Plan::new(&settings, 0).expect("possible").gather
        };
        assert_eq!(gather(Mode::Open, 400, 1, 0), 1);
        assert_eq!(gather(Mode::Open, 400, 1, 9), 1);
        assert_eq!(gather(Mode::Closed, 50, 1, 0), 6);
        assert_eq!(gather(Mode::Closed, 50, 4, 0), 1);
        assert_eq!(gather(Mode::Closed, 1000, 1, 0), 16);
        assert_eq!(gather(Mode::Closed, 4, 1, 100), 4);
    }

    #[test]
    fn impossible_settings_are_told_all_at_once() {
        let mut settings = Settings { rate: 0.0, connections: 0, ..Settings::default() };
        settings.keys.popularity = Popularity::Zipf(-1.0);
        settings.timeout_ms = f64::NAN;
        let error = Plan::new(&settings, 0).expect_err("impossible");
        for word in ["rate = 0", "connections = 0", "zipf", "timeout_ms = NaN"] {
            assert!(error.to_lowercase().contains(&word.to_lowercase()), "{word} in {error}");
        }
        let cas = Settings { commands: [(Op::Cas, 1.0)].into(), ..Settings::default() };
        assert!(Plan::new(&cas, 0).expect_err("Redis has none").contains("commands.cas"));
        let many = Settings { threads: 8, connections: 4, ..Settings::default() };
        assert!(Plan::new(&many, 0).is_err());
        let missing = Arrival::Replay { file: "/no/such/file".to_owned(), speed: 1.0 };
        let error = Plan::new(&Settings { arrival: missing, ..Settings::default() }, 0);
        assert!(error.expect_err("no file").contains("/no/such/file"));
    }
}
