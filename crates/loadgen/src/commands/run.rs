//! `weir-bench run`: one run, its report, and its judgement.
//!
//! Invariant: whatever happens after the measurement has begun, what was measured is reported, and
//! marked where it is not whole.

use std::fs::File;
use std::io::{BufWriter, Write as _};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Instant, SystemTime, UNIX_EPOCH};

use clap::Args;

use super::Ending;
use super::args::{GeneratorArgs, ReportArgs, WorkloadArgs};
use super::coordinator::run_on_agents;
use super::self_check::self_check;
use crate::engine::{self, Progress, RunOptions};
use crate::environment::Environment;
use crate::marks::Marks;
use crate::record::Record;
use crate::report::hlog::HlogWriter;
use crate::report::live::{Live, columns};
use crate::report::terminal;
use crate::report::{csv, html};
use crate::rng::mix;
use crate::summary::{Gather, Summary};
use crate::workload::file::Mode;
use crate::workload::{Plan, Settings};

/// Arguments of `run`.
#[derive(Debug, Clone, Args)]
pub struct RunArgs {
    /// The server: HOST:PORT, or the path of a unix socket.
    pub server: String,
    /// What the load is.
    #[command(flatten)]
    pub workload: WorkloadArgs,
    /// Also measures what this generator can do at most, and the same load with twice the threads:
    /// a few seconds more.
    #[arg(long)]
    pub self_check: bool,
    /// How the generator runs.
    #[command(flatten)]
    pub generator: GeneratorArgs,
    /// Where reports go.
    #[command(flatten)]
    pub report: ReportArgs,
}

/// A run and everything that was measured.
#[derive(Debug)]
pub struct Measured {
    /// In figures.
    pub summary: Summary,
    /// In histograms.
    pub total: Record,
}

/// Carries `run` out.
pub fn execute(args: &RunArgs, stop: &Arc<AtomicBool>) -> Result<Ending, String> {
    let settings = args.workload.settings()?;
    args.report.check()?;
    let options = args.generator.options(&args.server, stop)?;
    let mut measured = collect(&settings, &options, &args.generator, &args.report)?;
    let whole = measured.summary.partial.is_none();
    let checked = match args.self_check && whole {
        true => self_check(&mut measured.summary, &options, &args.generator),
        false => Ok(()),
    };
    // What was measured is kept and shown, whatever became of the check and of the files.
    print!("{}", terminal::summary(&measured.summary, columns(&std::io::stdout())));
    write_reports(&args.report, &measured)?;
    checked?;
    Ok(if measured.summary.is_failure() { Ending::Bad } else { Ending::Good })
}

/// Measures once and writes the reports that are asked for.
pub fn measure(
    settings: &Settings,
    options: &RunOptions,
    generator: &GeneratorArgs,
    report: &ReportArgs,
) -> Result<Measured, String> {
    let measured = collect(settings, options, generator, report)?;
    write_reports(report, &measured)?;
    Ok(measured)
}

/// Measures once; only the histogram log is written, as it comes.
fn collect(
    settings: &Settings,
    options: &RunOptions,
    generator: &GeneratorArgs,
    report: &ReportArgs,
) -> Result<Measured, String> {
    let mut options = options.clone();
    options.machine.count = generator.agents.len().max(1) as u64;
    let started = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    // Tells the values of this run from those of an earlier one.
    let run = mix(started.as_nanos() as u64 ^ u64::from(std::process::id()) << 40) as u32;
    let plan = Arc::new(Plan::new(settings, run)?);
    let mut environment = Environment::look();
    let during = &mut environment.during;
    let (before, began) = (Marks::now(), Instant::now());
    let timed = settings.mode != Mode::Closed;
    let rate = timed.then_some(settings.rate);
    let live = Live::new(settings.duration_s, rate, generator.spin, generator.quiet);
    let mut gather = Gather::new(&plan, options.interval);
    let mut hlog = match &report.hlog {
        None => None,
        Some(path) => {
            let file = create(path)?;
            Some(HlogWriter::new(BufWriter::new(file), &plan, options.interval))
        }
    };
    let mut hlog_failure = None;
    let mut progress = |progress: Progress<'_>| match progress {
        Progress::Connected => {
            live.note(&format!("connected to {}", options.address));
            if settings.prefill {
                live.note(&format!("writing {} keys", settings.keys.count));
            }
        }
        Progress::Prefilled(seconds) => {
            live.note(&format!("wrote {} keys in {seconds:.1} s", settings.keys.count));
        }
        Progress::Begins(after) => {
            live.warmup(settings.warmup_s);
            let at = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default() + after;
            if let Some(Err(error)) = hlog.as_mut().map(|hlog| hlog.begin(at)) {
                hlog_failure.get_or_insert(error);
            }
        }
        Progress::Interval(index, record) => {
            gather.add(index, record);
            during.look_at_frequency();
            if let Some(hlog) = &mut hlog
                && let Err(error) = hlog.write(index, record)
            {
                hlog_failure.get_or_insert(error);
            }
            live.interval(record, options.interval.as_secs_f64(), &gather);
        }
    };
    let end = if generator.agents.is_empty() {
        engine::run(&plan, &options, &mut || {}, &mut progress)
    } else {
        run_on_agents(&plan, run, &options, &generator.agents, &mut progress)
    };
    live.end();
    let end = end?;
    environment.look_again(&before, began.elapsed().as_secs_f64());
    let mut summary = gather.finish(&plan, &options, &end, environment);
    summary.started_unix_ms = started.as_millis() as u64;
    if let Some(error) = hlog_failure {
        return Err(format!("the histogram log: {error}"));
    }
    Ok(Measured { summary, total: gather.total })
}

fn create(path: &std::path::Path) -> Result<File, String> {
    File::create(path).map_err(|error| format!("{}: {error}", path.display()))
}

/// Writes text to a file.
pub fn write(path: &std::path::Path, text: &str) -> Result<(), String> {
    let written = create(path)?.write_all(text.as_bytes());
    written.map_err(|error| format!("{}: {error}", path.display()))
}

fn write_reports(report: &ReportArgs, measured: &Measured) -> Result<(), String> {
    let summary = &measured.summary;
    if let Some(path) = &report.json {
        let text = serde_json::to_string_pretty(summary).expect("a summary is plain data");
        write(path, &(text + "\n"))?;
    }
    if let Some(path) = &report.csv {
        write(path, &csv::series(summary))?;
        let mut beside = path.clone().into_os_string();
        beside.push(".percentiles.csv");
        write(beside.as_ref(), &csv::percentiles(summary))?;
    }
    if let Some(path) = &report.html {
        write(path, &html::run(summary, &measured.total))?;
    }
    Ok(())
}

/// Whether the user wants it to end.
pub fn is_stopped(stop: &AtomicBool) -> bool {
    stop.load(Ordering::Relaxed)
}
