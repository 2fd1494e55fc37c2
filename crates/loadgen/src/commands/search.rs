//! `weir-bench search`: the highest load that meets a service level objective.
//!
//! Climb until a trial fails, halve the gap, confirm. Invariant: a rate is the answer only after it
//! has passed confirmation runs, and a trial that the generator spoiled is never called the
//! server's limit.

use std::fmt;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::AtomicBool;

use clap::Args;
use serde::Serialize;

use super::Ending;
use super::args::{GeneratorArgs, ReportArgs, WorkloadArgs, check_file};
use super::run::{is_stopped, measure, write};
use crate::report::{count, duration_if_known};
use crate::summary::{Percentiles, SCHEMA, Summary};
use crate::verdict::Grade;
use crate::workload::Settings;
use crate::workload::file::Mode;

/// Arguments of `search`.
#[derive(Debug, Clone, Args)]
pub struct SearchArgs {
    /// The server: HOST:PORT, or the path of a unix socket.
    pub server: String,
    /// What must hold, such as 'p99.9 < 1ms & err < 0.01%': p50, p90, p99, p99.9 in ns, us, ms or
    /// s, and err, the part of failed requests, in %.
    #[arg(long, default_value = "p99 < 1ms")]
    pub slo: String,
    /// The answer is exact to so many percent of it, 0.5 to 50.
    #[arg(long, default_value_t = 5.0)]
    pub precision: f64,
    /// The answer and all trials as JSON.
    #[arg(long, value_name = "FILE")]
    pub json: Option<PathBuf>,
    /// What the load is. Its duration is that of one trial.
    #[command(flatten)]
    pub workload: WorkloadArgs,
    /// How the generator runs.
    #[command(flatten)]
    pub generator: GeneratorArgs,
}

/// One condition.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Clause {
    /// A percentile of the response must be below so many nanoseconds.
    Percentile(f64, u64),
    /// The part of failed requests must be below this.
    Errors(f64),
}

/// How a trial went.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Trial {
    /// The whole interval of each percentile lies below its limit.
    Pass,
    /// Some interval lies above, or the server falls behind.
    Fail,
    /// The limit lies within an interval.
    Unclear,
}

/// Reads an SLO.
pub fn parse_slo(text: &str) -> Result<Vec<Clause>, String> {
    text.split('&').map(parse_clause).collect()
}

fn parse_clause(text: &str) -> Result<Clause, String> {
    let help = || format!("{:?}: write 'p99.9 < 1ms' or 'err < 0.1%'", text.trim());
    let (name, limit) = text.split_once('<').ok_or_else(help)?;
    let (name, limit) = (name.trim(), limit.trim());
    let split = limit.find(|c: char| c.is_ascii_alphabetic() || c == '%').ok_or_else(help)?;
    let number: f64 = limit[..split].trim().parse().map_err(|_| help())?;
    let unit = limit[split..].trim();
    if name == "err" && unit == "%" && number >= 0.0 {
        return Ok(Clause::Errors(number / 100.0));
    }
    let percent: f64 = name.strip_prefix('p').and_then(|p| p.parse().ok()).ok_or_else(help)?;
    let known = [50.0, 90.0, 99.0, 99.9].contains(&percent);
    let scale = match unit {
        "ns" => 1.0,
        "us" => 1e3,
        "ms" => 1e6,
        "s" => 1e9,
        _ => return Err(help()),
    };
    if !known || number <= 0.0 {
        return Err(help() + "; percentiles are p50, p90, p99 and p99.9");
    }
    Ok(Clause::Percentile(percent, (number * scale) as u64))
}

/// Judges a trial.
pub fn judge(summary: &Summary, clauses: &[Clause]) -> Trial {
    let mut worst = Trial::Pass;
    let mut take = |trial| {
        worst = match (worst, trial) {
            (Trial::Fail, _) | (_, Trial::Fail) => Trial::Fail,
            (Trial::Unclear, _) | (_, Trial::Unclear) => Trial::Unclear,
            _ => Trial::Pass,
        }
    };
    let backlog = summary.verdict.findings.iter().find(|finding| finding.check == "backlog");
    match summary.achieved_share {
        share if share < 0.97 || backlog.is_some_and(|f| f.grade == Grade::Invalid) => {
            take(Trial::Fail);
        }
        share if share < 0.99 => take(Trial::Unclear),
        _ => {}
    }
    // Errors are quick: without a word on them a few are allowed, not many.
    let allows_errors = clauses.iter().any(|clause| matches!(clause, Clause::Errors(_)));
    if !allows_errors && summary.fault().is_some() {
        take(Trial::Fail);
    }
    for clause in clauses {
        take(match *clause {
            Clause::Errors(limit) => {
                let failed =
                    summary.counts.failed() as f64 / summary.counts.offered().max(1) as f64;
                if failed <= limit { Trial::Pass } else { Trial::Fail }
            }
            Clause::Percentile(percent, limit) => {
                match summary.confidence.iter().find(|one| one.percent == percent) {
                    None => Trial::Unclear,
                    Some(one) if one.high_ns <= limit => Trial::Pass,
                    Some(one) if one.low_ns > limit => Trial::Fail,
                    Some(_) => Trial::Unclear,
                }
            }
        });
    }
    worst
}

impl fmt::Display for Trial {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Trial::Pass => "pass",
            Trial::Fail => "FAIL",
            Trial::Unclear => "unclear",
        })
    }
}

struct Search<'a> {
    args: &'a SearchArgs,
    settings: Settings,
    clauses: Vec<Clause>,
    stop: &'a Arc<AtomicBool>,
    runs_count: u64,
    trials: Vec<Tried>,
    /// The highest rate that has passed a trial; 0 for none.
    good: f64,
    /// The rate that was confirmed.
    answer: Option<f64>,
    /// The generator's own fault was seen in a trial that failed.
    spoiled: bool,
}

/// A trial, for the report.
#[derive(Debug, Serialize)]
struct Tried {
    rate: f64,
    duration_s: f64,
    result: Trial,
    achieved_share: f64,
    response: Percentiles,
    verdict: Grade,
}

/// A longer trial is at most so many times as long.
const LENGTHENED_MAX: f64 = 4.0;
/// Each step of the climb.
const CLIMB: f64 = 1.5;
const CLIMBS_MAX: u32 = 40;
/// Confirmation runs, how many must pass, and how often the answer may be lowered for want of them.
const CONFIRMATIONS: u32 = 3;
const CONFIRMED_MIN: u32 = 2;
const LOWERED_MAX: u32 = 5;

/// Carries `search` out.
pub fn execute(args: &SearchArgs, stop: &Arc<AtomicBool>) -> Result<Ending, String> {
    let clauses = parse_slo(&args.slo)?;
    if !(0.5..=50.0).contains(&args.precision) {
        return Err("--precision must be 0.5 to 50 percent".to_owned());
    }
    let settings = args.workload.settings()?;
    if settings.mode != Mode::Open {
        return Err("a search needs an open load".to_owned());
    }
    args.json.as_deref().map_or(Ok(()), check_file)?;
    let mut search = Search {
        args,
        settings,
        clauses,
        stop,
        runs_count: 0,
        trials: Vec::new(),
        good: 0.0,
        answer: None,
        spoiled: false,
    };
    let found = search.run();
    search.write(found.as_ref().err())?;
    found.map_err(|why| match search.good {
        0.0 => format!("no load has passed: {why}"),
        good => format!("{why}; {}/s has passed, which is not confirmed", count(good)),
    })
}

impl Search<'_> {
    fn run(&mut self) -> Result<Ending, String> {
        let peak = self.peak()?;
        println!("closed loop: {}/s at most", count(peak));
        let mut rate = (peak * 0.1).max(1.0);
        let mut bad = None;
        for _ in 0..CLIMBS_MAX {
            if self.trial(rate)? == Trial::Pass {
                rate *= CLIMB;
            } else {
                bad = Some(rate);
                break;
            }
        }
        let Some(mut bad) = bad else { return Err("no load was too much".to_owned()) };
        let mut good = if self.good == 0.0 { bad / 16.0 } else { self.good };
        while bad / good > 1.0 + self.args.precision / 100.0 {
            let middle = (good * bad).sqrt();
            if self.trial(middle)? == Trial::Pass {
                good = middle;
            } else {
                bad = middle;
            }
        }
        self.confirm(good)
    }

    /// What the server does at most, as a scale for the first steps.
    fn peak(&mut self) -> Result<f64, String> {
        let mut settings = self.settings.clone();
        settings.mode = Mode::Closed;
        settings.depth = 1;
        settings.duration_s = settings.duration_s.min(3.0);
        let summary = self.measure(&settings)?;
        if summary.counts.completed <= summary.counts.errors {
            return Err(summary.fault().unwrap_or_default());
        }
        Ok(summary.completed_rate)
    }

    fn measure(&mut self, settings: &Settings) -> Result<Summary, String> {
        let mut settings = settings.clone();
        settings.prefill &= self.runs_count == 0;
        settings.seed = settings.seed.wrapping_add(self.runs_count * 7919);
        self.runs_count += 1;
        let options = self.args.generator.options(&self.args.server, self.stop)?;
        let generator = GeneratorArgs { quiet: true, ..self.args.generator.clone() };
        let summary = measure(&settings, &options, &generator, &ReportArgs::default())?.summary;
        if is_stopped(self.stop) {
            return Err("interrupted".to_owned());
        }
        match summary.fault() {
            Some(fault) if summary.counts.violations_count() > 0 => Err(fault),
            _ => Ok(summary),
        }
    }

    /// One trial; an unclear one is made again, longer, and counts as failed in the end.
    fn trial(&mut self, rate: f64) -> Result<Trial, String> {
        let mut longer = 1.0;
        loop {
            let mut settings = self.settings.clone();
            settings.rate = rate;
            settings.duration_s *= longer;
            let summary = self.measure(&settings)?;
            let trial = judge(&summary, &self.clauses);
            println!(
                "{:>10}/s for {:>4.0} s: p50 {}, p99 {}, p99.9 {}, {:.1} % in time: {trial}",
                count(rate),
                settings.duration_s,
                duration_if_known(summary.response.p50_ns),
                duration_if_known(summary.response.p99_ns),
                duration_if_known(summary.response.p999_ns),
                summary.achieved_share * 100.0,
            );
            self.trials.push(Tried {
                rate,
                duration_s: settings.duration_s,
                result: trial,
                achieved_share: summary.achieved_share,
                response: summary.response.clone(),
                verdict: summary.grade(),
            });
            if trial == Trial::Pass {
                self.good = self.good.max(rate);
            } else {
                let own = ["cpu", "slip", "loop", "steal", "run delay"];
                let found = summary.verdict.findings.iter().find(|finding| {
                    finding.grade == Grade::Invalid && own.contains(&finding.check.as_str())
                });
                if let Some(finding) = found {
                    self.spoiled = true;
                    println!("           the generator: {}: {}", finding.check, finding.text);
                }
            }
            if trial != Trial::Unclear || longer >= LENGTHENED_MAX {
                return Ok(if trial == Trial::Unclear { Trial::Fail } else { trial });
            }
            longer *= 2.0;
        }
    }

    fn confirm(&mut self, mut rate: f64) -> Result<Ending, String> {
        for _ in 0..=LOWERED_MAX {
            println!("confirming {}/s", count(rate));
            let mut passed = 0;
            for _ in 0..CONFIRMATIONS {
                passed += u32::from(self.trial(rate)? == Trial::Pass);
            }
            if passed >= CONFIRMED_MIN {
                self.answer = Some(rate);
                let limit = if self.spoiled { "at least " } else { "" };
                println!(
                    "{limit}{}/s meets {} ({passed} of {CONFIRMATIONS} confirmed){}",
                    count(rate),
                    self.args.slo,
                    if self.spoiled { ", limited by the generator" } else { "" },
                );
                return Ok(Ending::Good);
            }
            rate *= 0.95;
        }
        unmet(&self.args.slo, self.spoiled)
    }

    fn write(&self, fault: Option<&String>) -> Result<(), String> {
        let Some(path) = &self.args.json else { return Ok(()) };
        let value = serde_json::json!({
            "schema": SCHEMA, "slo": self.args.slo, "rate": self.answer,
            "is_limited_by_generator": self.spoiled, "partial": fault, "trials": self.trials,
        });
        write(path, &format!("{value:#}\n"))
    }
}

/// No load was confirmed: the server's fault only if nothing else was.
fn unmet(slo: &str, is_spoiled: bool) -> Result<Ending, String> {
    if is_spoiled {
        return Err(format!(
            "no load was confirmed to meet {slo}, but trials failed by the fault of the \
             generator or of this machine, which says nothing about the server"
        ));
    }
    println!("no load meets {slo} reliably");
    Ok(Ending::Bad)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::summary::Confidence;

    #[test]
    fn an_slo_is_a_conjunction() {
        let clauses = parse_slo("p99.9<1ms & err < 0.01%").expect("good");
        assert_eq!(clauses[0], Clause::Percentile(99.9, 1_000_000));
        assert!(matches!(clauses[1], Clause::Errors(part) if (part - 0.0001).abs() < 1e-12));
        for bad in ["p99", "p99 < 1", "p98 < 1ms", "err < 1ms", "p99 < -1ms", "", "p99 < 1 hour"] {
            assert!(parse_slo(bad).is_err(), "{bad:?}");
        }
    }

    #[test]
    fn a_generator_that_is_too_busy_is_no_limit_of_the_server() {
        assert_eq!(unmet("p99 < 1ms", false), Ok(Ending::Bad));
        let why = unmet("p99 < 1ms", true).expect_err("there is no answer");
        assert!(why.contains("nothing about the server"), "{why}");
    }

    #[test]
    fn a_trial_has_three_ends() {
        let mut summary = crate::summary::tests::summary();
        let clauses = [Clause::Percentile(99.0, 1_000_000)];
        let mut with = |low_ns, high_ns| {
            summary.confidence = vec![Confidence { percent: 99.0, low_ns, high_ns }];
            judge(&summary, &clauses)
        };
        assert_eq!(with(500_000, 900_000), Trial::Pass);
        assert_eq!(with(900_000, 1_100_000), Trial::Unclear);
        assert_eq!(with(1_100_000, 1_200_000), Trial::Fail);
        // Quick errors are no answers.
        summary.confidence = vec![Confidence { percent: 99.0, low_ns: 1, high_ns: 2 }];
        summary.counts.errors = summary.counts.completed / 10;
        assert_eq!(judge(&summary, &clauses), Trial::Fail);
        let allowed = [clauses[0], Clause::Errors(0.2)];
        assert_eq!(judge(&summary, &allowed), Trial::Pass);
        summary.counts.errors = 0;
        summary.achieved_share = 0.9;
        assert_eq!(judge(&summary, &[]), Trial::Fail);
    }
}
