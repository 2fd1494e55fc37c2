//! `weir-bench compare`: is B better than A, worse, or equal?
//!
//! Short trials in pairs, in the order A B B A, so that a drift of the machine hits both alike; the
//! same seed within a pair. Of each pair the logarithm of the ratio counts. Invariant: the metric
//! that decides is named before the first trial.

use std::os::unix::process::CommandExt as _;
use std::process::{Child, Command, Stdio};
use std::sync::Arc;
use std::sync::atomic::AtomicBool;
use std::thread;
use std::time::{Duration, Instant};

use base::Address;
use clap::{Args, ValueEnum};
use serde::Serialize;

use super::Ending;
use super::args::{Form, GeneratorArgs, ReportArgs, WorkloadArgs, resolve};
use super::run::{is_stopped, measure};
use crate::stats::{Estimate, estimate};
use crate::summary::Summary;
use crate::verdict::Grade;
use crate::workload::Settings;

/// Arguments of `compare`.
#[derive(Debug, Clone, Args)]
pub struct CompareArgs {
    /// The server that is known: HOST:PORT or a path.
    pub a: String,
    /// The server that is new: HOST:PORT or a path.
    pub b: String,
    /// A shell command that starts A anew for each of its trials, and is ended after it.
    #[arg(long, value_name = "COMMAND")]
    pub a_start: Option<String>,
    /// The same for B.
    #[arg(long, value_name = "COMMAND")]
    pub b_start: Option<String>,
    /// Pairs of trials, 2 to 1000. --duration is that of one trial.
    #[arg(long, default_value_t = 10)]
    pub pairs: u32,
    /// What decides.
    #[arg(long, value_enum, default_value = "p99")]
    pub metric: Metric,
    /// Differences below so many percent are equal to you, 0 to 100.
    #[arg(long, default_value_t = 2.0)]
    pub band: f64,
    /// The form of the answer.
    #[arg(long, value_enum, default_value = "text")]
    pub form: Form,
    /// What the load is.
    #[command(flatten)]
    pub workload: WorkloadArgs,
    /// How the generator runs.
    #[command(flatten)]
    pub generator: GeneratorArgs,
}

/// An interval needs so many.
const PAIRS_MIN: usize = 2;

/// What may decide.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, ValueEnum)]
#[serde(rename_all = "lowercase")]
pub enum Metric {
    /// Requests a second.
    Rate,
    /// Mean of the response.
    Mean,
    /// Median of the response.
    P50,
    /// 99 % of the response.
    P99,
    /// 99.9 % of the response.
    P999,
}

const METRICS: [Metric; 5] = [Metric::Rate, Metric::Mean, Metric::P50, Metric::P99, Metric::P999];

impl Metric {
    fn of(self, summary: &Summary) -> Option<f64> {
        let response = &summary.response;
        let ns = match self {
            Metric::Rate => return Some(summary.completed_rate),
            Metric::Mean => Some(response.mean_ns),
            Metric::P50 => response.p50_ns,
            Metric::P99 => response.p99_ns,
            Metric::P999 => response.p999_ns,
        };
        ns.map(|ns| ns.max(1) as f64)
    }
}

/// What a comparison comes to.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Decision {
    /// B is better.
    Better,
    /// B is worse.
    Worse,
    /// No difference that is above the band, or none that these pairs can show.
    Equal,
}

/// One metric's result.
#[derive(Debug, Clone, Serialize)]
pub struct Compared {
    /// Which metric.
    pub metric: Metric,
    /// See [`Decision`].
    pub decision: Decision,
    /// Of ln(B / A).
    pub log_ratio: Estimate,
    /// Whether the interval lies within the band: equal is then shown, not merely not refuted.
    pub is_shown: bool,
    /// Pairs that would show a difference as large as the band, with a power of 80 %.
    pub pairs_needed: u32,
}

/// Decides about the logarithms of paired ratios. `band` is a ratio's part, such as 0.02.
pub fn decide(metric: Metric, differences: &[f64], band: f64, seed: u64) -> Compared {
    let log_ratio = estimate(differences, seed);
    let edge = band.ln_1p();
    let apart = log_ratio.low > 0.0 || log_ratio.high < 0.0;
    let higher_is_better = metric == Metric::Rate;
    let decision = if !apart || log_ratio.mean.abs() <= edge {
        Decision::Equal
    } else if (log_ratio.mean > 0.0) == higher_is_better {
        Decision::Better
    } else {
        Decision::Worse
    };
    let needed = 7.85 * (log_ratio.deviation / edge.max(1e-9)).powi(2);
    Compared {
        metric,
        decision,
        log_ratio,
        is_shown: log_ratio.low >= -edge && log_ratio.high <= edge,
        pairs_needed: needed.ceil().clamp(3.0, 1e6) as u32,
    }
}

/// A server that was started for a trial, ended when dropped.
struct Started(Child);

impl Drop for Started {
    fn drop(&mut self) {
        // It may have ended by itself; what it has started goes with it.
        let group = rustix::process::Pid::from_child(&self.0);
        let _ = rustix::process::kill_process_group(group, rustix::process::Signal::KILL);
        let _ = self.0.wait();
    }
}

/// A server must listen, or be gone, within this time.
const START_MAX: Duration = Duration::from_secs(10);

fn is_listening(address: &Address) -> bool {
    match address {
        Address::Inet(inet) => std::net::TcpStream::connect(inet).is_ok(),
        Address::Unix(path) => std::os::unix::net::UnixStream::connect(path).is_ok(),
    }
}

/// Looks until it is so; whether it came to that.
fn until(mut so: impl FnMut() -> Result<bool, String>) -> Result<bool, String> {
    let deadline = Instant::now() + START_MAX;
    while !so()? {
        if Instant::now() >= deadline {
            return Ok(false);
        }
        thread::sleep(Duration::from_millis(20));
    }
    Ok(true)
}

fn start(command: Option<&String>, name: &str) -> Result<Option<Started>, String> {
    let Some(command) = command else { return Ok(None) };
    let address = resolve(name)?;
    // The one of the trial before may not be quite gone; any other would be measured instead.
    if !until(|| Ok(!is_listening(&address)))? {
        return Err(format!("{command}: somebody listens on {name} already"));
    }
    let child = Command::new("sh")
        .args(["-c", command])
        // Of its own, to be ended whole; nor should Ctrl-C end the server before its trial.
        .process_group(0)
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .spawn()
        .map_err(|error| format!("{command}: {error}"))?;
    let mut started = Started(child);
    let is_up = until(|| match started.0.try_wait() {
        Ok(Some(status)) => Err(format!("{command}: ended at once with {status}")),
        _ => Ok(is_listening(&address)),
    })?;
    if is_up { Ok(Some(started)) } else { Err(format!("{command}: nobody listens on {name}")) }
}

/// Carries `compare` out.
pub fn execute(args: &CompareArgs, stop: &Arc<AtomicBool>) -> Result<Ending, String> {
    if !(PAIRS_MIN as u32..=1000).contains(&args.pairs) || !(0.0..=100.0).contains(&args.band) {
        return Err("--pairs must be 2 to 1000, and --band 0 to 100".to_owned());
    }
    let settings = args.workload.settings()?;
    let mut trials = Trials { args, stop, prefilled: [false; 2], invalid: 0 };
    let mut pairs: Vec<[Summary; 2]> = Vec::new();
    let mut partial = None;
    for pair in 0..args.pairs {
        match trials.pair(&settings, pair) {
            Ok(measured) => pairs.push(measured),
            Err(why) => {
                partial = Some(format!("{} of {} pairs were measured: {why}", pair, args.pairs));
                break;
            }
        }
    }
    // Fewer tell nothing.
    if let Some(why) = partial.as_ref().filter(|_| pairs.len() < PAIRS_MIN) {
        return Err(why.clone());
    }
    report(args, &pairs, settings.seed, trials.invalid, partial.as_deref())
}

struct Trials<'a> {
    args: &'a CompareArgs,
    stop: &'a Arc<AtomicBool>,
    prefilled: [bool; 2],
    /// Trials whose verdict was INVALID.
    invalid: u32,
}

impl Trials<'_> {
    /// One trial of each server; an error when one of them can't be compared.
    fn pair(&mut self, settings: &Settings, pair: u32) -> Result<[Summary; 2], String> {
        let args = self.args;
        let seed = settings.seed.wrapping_add(u64::from(pair) * 7919);
        let order = if pair.is_multiple_of(2) { [0, 1] } else { [1, 0] };
        let mut found = [None, None];
        for which in order {
            let (server, command) =
                [(&args.a, args.a_start.as_ref()), (&args.b, args.b_start.as_ref())][which];
            let _started = start(command, server)?;
            let mut settings = Settings { seed, ..settings.clone() };
            settings.prefill &= command.is_some() || !self.prefilled[which];
            self.prefilled[which] = true;
            let options = args.generator.options(server, self.stop)?;
            let generator = GeneratorArgs { quiet: true, ..args.generator.clone() };
            let summary = measure(&settings, &options, &generator, &ReportArgs::default())?.summary;
            if is_stopped(self.stop) {
                return Err("interrupted".to_owned());
            }
            if let Some(fault) = summary.fault() {
                return Err(format!("{} ({server}): {fault}", ["A", "B"][which]));
            }
            self.invalid += u32::from(summary.grade() == Grade::Invalid);
            found[which] = Some(summary);
        }
        let [Some(a), Some(b)] = found else { unreachable!("both were measured") };
        if !args.generator.quiet {
            let ratio = args.metric.of(&b).zip(args.metric.of(&a)).map(|(b, a)| b / a);
            let ratio = ratio.map_or("few".to_owned(), |ratio| format!("{ratio:.4}"));
            eprintln!("pair {} of {}: B / A = {ratio}", pair + 1, args.pairs);
        }
        Ok([a, b])
    }
}

fn report(
    args: &CompareArgs,
    pairs: &[[Summary; 2]],
    seed: u64,
    invalid: u32,
    partial: Option<&str>,
) -> Result<Ending, String> {
    let compared: Vec<Compared> = METRICS
        .iter()
        .filter_map(|&metric| {
            let differences: Option<Vec<f64>> = pairs
                .iter()
                .map(|[a, b]| Some((metric.of(b)? / metric.of(a)?.max(1e-9)).ln()))
                .collect();
            Some(decide(metric, &differences?, args.band / 100.0, seed))
        })
        .collect();
    let primary = compared.iter().find(|one| one.metric == args.metric);
    let primary = primary.ok_or("too few samples for the metric: longer trials are needed")?;
    if args.form == Form::Json {
        let value = serde_json::json!({
            "a": args.a, "b": args.b, "pairs": pairs.len(), "band_percent": args.band,
            "metric": args.metric, "decision": primary.decision, "trials_invalid": invalid,
            "partial": partial,
            "metrics": compared,
        });
        println!("{value:#}");
    } else {
        println!("{:<8}{:>10}{:>24}  decision", "metric", "B / A", "95 % interval");
        for one in &compared {
            let estimate = &one.log_ratio;
            let interval = format!("{:.4} to {:.4}", estimate.low.exp(), estimate.high.exp());
            let mark = if one.metric == args.metric { " (this one decides)" } else { "" };
            println!(
                "{:<8}{:>10.4}{interval:>24}  {:?}{mark}",
                format!("{:?}", one.metric).to_lowercase(),
                estimate.mean.exp(),
                one.decision,
            );
        }
        if primary.decision == Decision::Equal && !primary.is_shown {
            println!(
                "no difference was found; {} pairs would show one of {} %",
                primary.pairs_needed, args.band
            );
        }
        if invalid > 0 {
            println!("{invalid} of {} trials were INVALID: see a run's reasons", pairs.len() * 2);
        }
        if let Some(partial) = partial {
            println!("NOT WHOLE: {partial}");
        }
        println!("B is {}", format!("{:?}", primary.decision).to_lowercase());
    }
    Ok(if partial.is_some() { Ending::Bad } else { Ending::Good })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::rng::Rng;

    /// Log-ratios of pairs whose trials drift together and are noisy on their own.
    fn pairs(rng: &mut Rng, count: usize, noise: f64, difference: f64) -> Vec<f64> {
        (0..count).map(|_| difference + noise * rng.normal()).collect()
    }

    /// A against A is called equal at least 94 times of 100, whatever the noise.
    #[test]
    fn the_same_server_twice_is_equal() {
        let mut rng = Rng::new(2, 2);
        for (count, noise) in [(6, 0.02), (10, 0.05), (10, 0.3), (20, 0.1)] {
            let equal = (0..200)
                .filter(|&seed| {
                    let sample = pairs(&mut rng, count, noise, 0.0);
                    decide(Metric::P99, &sample, 0.02, seed).decision == Decision::Equal
                })
                .count();
            assert!(equal >= 188, "{equal} of 200 with {count} pairs and noise {noise}");
        }
    }

    #[test]
    fn a_difference_above_the_noise_is_found_with_its_sign() {
        let mut rng = Rng::new(3, 3);
        let slower = pairs(&mut rng, 10, 0.02, 0.05);
        assert_eq!(decide(Metric::P99, &slower, 0.02, 1).decision, Decision::Worse);
        assert_eq!(decide(Metric::Rate, &slower, 0.02, 1).decision, Decision::Better);
        let faster = pairs(&mut rng, 10, 0.02, -0.05);
        assert_eq!(decide(Metric::P99, &faster, 0.02, 1).decision, Decision::Better);
        // Below the band nobody cares.
        assert_eq!(decide(Metric::P99, &slower, 0.1, 1).decision, Decision::Equal);
    }

    #[test]
    fn what_can_not_be_seen_says_how_many_pairs_it_takes() {
        let mut rng = Rng::new(4, 4);
        let noisy = decide(Metric::P50, &pairs(&mut rng, 10, 0.05, 0.0), 0.02, 1);
        assert!(!noisy.is_shown && (20..120).contains(&noisy.pairs_needed), "{noisy:?}");
        let quiet = decide(Metric::P50, &pairs(&mut rng, 10, 0.005, 0.0), 0.02, 1);
        assert!(quiet.is_shown);
    }
}
