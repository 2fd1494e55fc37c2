//! The program `weir-bench`: arguments in, exit status out.
//!
//! Everything else is in the library. Invariant: status 0 means that all went well, 1 that the
//! answer is bad (wrong replies, a failed calibration), 2 that there is no answer.
#![forbid(unsafe_code)]

use std::process::ExitCode;
use std::sync::Arc;
use std::sync::atomic::AtomicBool;

use clap::{Parser, Subcommand};
use loadgen::commands::{Ending, agent, calibrate, compare, curve, run, search, serve, storm};
use loadgen::workload::presets;

const EXIT_STATUS: &str = "\
Exit status:
  0    all went well
  1    there is an answer, and it is bad
  2    there is no answer: bad arguments, no server, too little measured
  130  ended by a second signal; the first one ends a run and keeps what was measured

`weir-bench COMMAND --help` says more of each command.";

/// Of one command.
macro_rules! exit_status {
    ($good:literal, $bad:literal) => {
        concat!("Exit status:\n  0  ", $good, "\n  1  ", $bad, "\n  2  there is no answer")
    };
}

const RUN_STATUS: &str = exit_status!(
    "the run went to its end, and every reply was right (whatever the verdict is: read it)",
    "a reply was wrong, nothing succeeded, requests were due and never sent, or the run did\n     \
     not go to its end"
);
const SEARCH_STATUS: &str =
    exit_status!("a load was found and confirmed", "the server meets the objective at no load");
const CURVE_STATUS: &str = exit_status!(
    "each rate was measured",
    "one of the runs had a fault for which `run` ends with 1; with 2 the files hold the\n     \
     rates that were measured"
);
const COMPARE_STATUS: &str = exit_status!(
    "all pairs were measured, whatever came of it",
    "some were not, and the answer is that of those before"
);
const SERVE_STATUS: &str = "Exit status:\n  0  a signal has ended it\n  2  it can't listen";
const CALIBRATE_STATUS: &str = exit_status!("every step passed", "a step did not");
const STORM_STATUS: &str = exit_status!("every connection was answered", "some were not");
const AGENT_STATUS: &str =
    "Exit status:\n  0  a signal or --once has ended it\n  2  it can't listen";

/// A load generator for memcached and Redis that tells the truth about latency.
#[derive(Debug, Parser)]
#[command(name = "weir-bench", version, after_help = EXIT_STATUS)]
struct Cli {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Makes a load, measures it, and says whether the figures may be trusted.
    #[command(after_help = RUN_STATUS)]
    Run(Box<run::RunArgs>),
    /// Finds the highest load that meets a service level objective.
    #[command(after_help = SEARCH_STATUS)]
    Search(Box<search::SearchArgs>),
    /// Measures latency at several loads.
    #[command(after_help = CURVE_STATUS)]
    Curve(Box<curve::CurveArgs>),
    /// Says whether server B is better than A, worse, or equal.
    #[command(after_help = COMPARE_STATUS)]
    Compare(Box<compare::CompareArgs>),
    /// Serves: stores, makes values up, or answers with a known delay.
    #[command(after_help = SERVE_STATUS)]
    Serve(serve::ServeArgs),
    /// Proves that this machine and this generator measure right.
    #[command(after_help = CALIBRATE_STATUS)]
    Calibrate(calibrate::CalibrateArgs),
    /// Opens and closes many connections.
    #[command(after_help = STORM_STATUS)]
    Storm(storm::StormArgs),
    /// Waits for a coordinator (`run --agents`) and makes a part of its load.
    #[command(after_help = AGENT_STATUS)]
    Agent(agent::AgentArgs),
    /// Lists the workloads that ship with the program, or prints one.
    Presets {
        /// Which one to print.
        name: Option<String>,
    },
}

fn main() -> ExitCode {
    let cli = Cli::parse();
    let stop = Arc::new(AtomicBool::new(false));
    for signal in [signal_hook::consts::SIGINT, signal_hook::consts::SIGTERM] {
        // The first one ends the run and keeps what was measured; the second one ends the process.
        let registered =
            signal_hook::flag::register_conditional_shutdown(signal, 130, stop.clone())
                .and_then(|_| signal_hook::flag::register(signal, stop.clone()));
        if let Err(error) = registered {
            eprintln!("weir-bench: signals: {error}");
        }
    }
    let result = match &cli.command {
        Command::Run(args) => run::execute(args, &stop),
        Command::Search(args) => search::execute(args, &stop),
        Command::Curve(args) => curve::execute(args, &stop),
        Command::Compare(args) => compare::execute(args, &stop),
        Command::Serve(args) => serve::execute(args, &stop),
        Command::Calibrate(args) => calibrate::execute(args, &stop),
        Command::Storm(args) => storm::execute(args, &stop),
        Command::Agent(args) => agent::execute(args, &stop),
        Command::Presets { name } => list(name.as_deref()),
    };
    match result {
        Ok(Ending::Good) => ExitCode::SUCCESS,
        Ok(Ending::Bad) => ExitCode::from(1),
        Err(why) => {
            eprintln!("weir-bench: {why}");
            ExitCode::from(2)
        }
    }
}

fn list(name: Option<&str>) -> Result<Ending, String> {
    match name {
        None => presets::list().for_each(|(name, text)| println!("{name:<16}{text}")),
        Some(name) => {
            let text = presets::find(name).ok_or_else(|| format!("no preset is called {name}"))?;
            print!("{text}");
        }
    }
    Ok(Ending::Good)
}
