//! `weir-bench curve`: latency against offered load, beyond saturation where asked.
//!
//! Invariant: the axis is the offered load, since what is achieved folds back when a server is
//! full.

use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::AtomicBool;

use clap::Args;

use super::Ending;
use super::args::{GeneratorArgs, ReportArgs, WorkloadArgs};
use super::run::{is_stopped, measure, write};
use crate::report::{count, duration, duration_if_known, html};
use crate::summary::Summary;

/// Arguments of `curve`.
#[derive(Debug, Clone, Args)]
pub struct CurveArgs {
    /// The server.
    pub server: String,
    /// Rates to try, such as 1000,2000,5000.
    #[arg(long, value_delimiter = ',', required = true)]
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
    let mut runs: Vec<Summary> = Vec::new();
    println!(
        "{:>10}{:>10}{:>12}{:>12}{:>12}{:>12}  verdict",
        "offered", "in time", "p50", "p99", "p99.9", "max"
    );
    for &rate in &args.rates {
        let mut settings = settings.clone();
        settings.rate = rate;
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
        runs.push(summary);
        if is_stopped(stop) {
            break;
        }
    }
    if let Some(path) = &args.json {
        let text = serde_json::to_string_pretty(&runs).expect("summaries are plain data");
        write(path, &text)?;
    }
    if let Some(path) = &args.csv {
        write(path, &csv(&runs))?;
    }
    if let Some(path) = &args.html {
        write(path, &html::curve(&settings.name, &runs))?;
    }
    let wrong = runs.iter().any(|run| run.counts.violations_count() > 0);
    Ok(if wrong { Ending::Bad } else { Ending::Good })
}

fn csv(runs: &[Summary]) -> String {
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
    out
}
