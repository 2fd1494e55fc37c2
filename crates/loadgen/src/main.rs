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

/// A load generator for memcached and Redis that tells the truth about latency.
#[derive(Debug, Parser)]
#[command(name = "weir-bench", version)]
struct Cli {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Makes a load, measures it, and says whether the figures may be trusted.
    Run(Box<run::RunArgs>),
    /// Finds the highest load that meets a service level objective.
    Search(Box<search::SearchArgs>),
    /// Measures latency at several loads.
    Curve(Box<curve::CurveArgs>),
    /// Says whether server B is better than A, worse, or equal.
    Compare(Box<compare::CompareArgs>),
    /// Serves: stores, makes values up, or answers with a known delay.
    Serve(serve::ServeArgs),
    /// Proves that this machine and this generator measure right.
    Calibrate(calibrate::CalibrateArgs),
    /// Opens and closes many connections.
    Storm(storm::StormArgs),
    /// Waits for a coordinator (`run --agents`) and makes a part of its load.
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
