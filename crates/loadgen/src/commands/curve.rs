//! `weir-bench curve`: latency against offered load, beyond saturation where asked.
//!
//! Invariant: the axis is the offered load, since what is achieved folds back when a server is
//! full.

use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::AtomicBool;

use clap::Args;

use super::Ending;
use super::args::{GeneratorArgs, ReportArgs, WorkloadArgs, check_file};
use super::run::{is_stopped, measure, write};
use crate::report::{count, duration, duration_if_known, html};
use crate::summary::{SCHEMA, Summary};
use crate::workload::file::Mode;
use crate::workload::{Plan, Settings};

/// Arguments of `curve`.
#[derive(Debug, Clone, Args)]
pub struct CurveArgs {
    /// The server: HOST:PORT, or the path of a unix socket.
    pub server: String,
    /// Rates to try, in requests a second, such as 1000,2000,5000. --duration is that of each; it
    /// has no default.
    #[arg(long, value_delimiter = ',', required = true, allow_negative_numbers = true)]
    pub rates: Vec<f64>,
    /// All runs as JSON.
    #[arg(long, value_name = "FILE")]
    pub json: Option<PathBuf>,
    /// One line a rate as CSV.
    #[arg(long, value_name = "FILE")]
    pub csv: Option<PathBuf>,
    /// The plots in one file.
    #[arg(long, value_name = "FILE")]
    pub html: Option<PathBuf>,
    /// What the load is.
    #[command(flatten)]
    pub workload: WorkloadArgs,
    /// How the generator runs.
    #[command(flatten)]
    pub generator: GeneratorArgs,
}

/// Carries `curve` out.
pub fn execute(args: &CurveArgs, stop: &Arc<AtomicBool>) -> Result<Ending, String> {
    let settings = args.workload.settings()?;
    if settings.mode == Mode::Closed {
        return Err("a curve needs a load with rates, not a closed loop".to_owned());
    }
    // All rates are looked at before the first is tried.
    for &rate in &args.rates {
        Plan::new(&Settings { rate, ..settings.clone() }, 0)
            .map_err(|fault| format!("--rates: {fault}"))?;
    }
    [&args.json, &args.csv, &args.html].into_iter().flatten().try_for_each(|p| check_file(p))?;
    let mut runs = Vec::new();
    let measured = measure_all(args, &settings, stop, &mut runs);
    let partial = measured
        .err()
        .map(|why| format!("{} of {} rates were measured: {why}", runs.len(), args.rates.len()));
    write_all(args, &settings.name, &runs, partial.as_deref())?;
    if let Some(partial) = partial {
        return Err(partial);
    }
    let is_bad = runs.iter().any(Summary::is_failure);
    Ok(if is_bad { Ending::Bad } else { Ending::Good })
}

/// What was measured is in `runs`, also when a later rate fails.
fn measure_all(
    args: &CurveArgs,
    settings: &Settings,
    stop: &Arc<AtomicBool>,
    runs: &mut Vec<Summary>,
) -> Result<(), String> {
    println!(
        "{:>10}{:>10}{:>12}{:>12}{:>12}{:>12}  verdict",
        "offered", "in time", "p50", "p99", "p99.9", "max"
    );
    for &rate in &args.rates {
        let mut settings = Settings { rate, ..settings.clone() };
        settings.prefill &= runs.is_empty();
        let options = args.generator.options(&args.server, stop)?;
        let generator = GeneratorArgs { quiet: true, ..args.generator.clone() };
        let summary = measure(&settings, &options, &generator, &ReportArgs::default())?.summary;
        println!(
            "{:>10}{:>9.2}%{:>12}{:>12}{:>12}{:>12}  {}",
            count(rate),
            summary.achieved_share * 100.0,
            duration_if_known(summary.response.p50_ns),
            duration_if_known(summary.response.p99_ns),
            duration_if_known(summary.response.p999_ns),
            duration(summary.response.max_ns),
            summary.grade().text(),
        );
        if let Some(fault) = summary.fault() {
            println!("           {fault}");
        }
        runs.push(summary);
        if is_stopped(stop) {
            return Err("interrupted".to_owned());
        }
    }
    Ok(())
}

fn write_all(
    args: &CurveArgs,
    name: &str,
    runs: &[Summary],
    partial: Option<&str>,
) -> Result<(), String> {
    if let Some(path) = &args.json {
        let value = serde_json::json!({ "schema": SCHEMA, "partial": partial, "runs": runs });
        write(path, &format!("{value:#}\n"))?;
    }
    if let Some(path) = &args.csv {
        write(path, &csv(&args.rates, runs))?;
    }
    if let Some(path) = &args.html {
        write(path, &html::curve(name, runs, partial))?;
    }
    Ok(())
}

/// A rate that was not measured has a line as well, without figures.
fn csv(rates: &[f64], runs: &[Summary]) -> String {
    let mut out =
        String::from("offered_rate,achieved_share,p50_ns,p99_ns,p999_ns,max_ns,verdict\n");
    for run in runs {
        let field = |ns: Option<u64>| ns.map(|ns| ns.to_string()).unwrap_or_default();
        let fields = [
            run.settings.rate.to_string(),
            run.achieved_share.to_string(),
            field(run.response.p50_ns),
            field(run.response.p99_ns),
            field(run.response.p999_ns),
            run.response.max_ns.to_string(),
            run.grade().text().to_owned(),
        ];
        out.push_str(&fields.join(","));
        out.push('\n');
    }
    for rate in &rates[runs.len()..] {
        out.push_str(&format!("{rate},,,,,,NOT MEASURED\n"));
    }
    out
}
