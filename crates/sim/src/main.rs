//! Runs many seeds, or replays one.
//!
//! ```text
//! sim --seeds 10000 [--first N] [--threads 2]     runs seeds, and simplifies those that fail
//! sim --seed N [--trace] [--change no=reset]...   replays one
//! ```
//!
//! The seeds run in processes of their own, since a panic ends the process in a release build.
//! Invariant: the exit status is 0 only when every seed was right.

#![forbid(unsafe_code)]

use std::cell::Cell;
use std::io::{BufRead, BufReader};
use std::process::{Command, ExitCode, Stdio};
use std::time::Instant;

use sim::{Plan, RunOptions, Verdict, changes, run_plan};

/// Failing seeds that are made simpler; the rest are only named.
const SIMPLIFIED_MAX: usize = 5;
/// Every so manieth seed is run twice, and both traces must be alike.
const REPEATED_EVERY: u64 = 100;

#[derive(Debug, Default, Clone)]
struct Arguments {
    seeds: u64,
    first: u64,
    threads: u64,
    seed: Option<u64>,
    trace: bool,
    child: bool,
    changes: Vec<String>,
}

fn main() -> ExitCode {
    let Some(arguments) = parse(std::env::args().skip(1)) else {
        eprintln!("usage: sim --seeds N [--first N] [--threads N]");
        eprintln!("       sim --seed N [--trace] [--change WHAT=VALUE]...");
        return ExitCode::from(2);
    };
    let good = match arguments.seed {
        Some(seed) => replay(seed, &arguments),
        None if arguments.child => run_child(&arguments),
        None => run_all(&arguments),
    };
    if good { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}

fn parse(mut words: impl Iterator<Item = String>) -> Option<Arguments> {
    let mut arguments = Arguments { seeds: 1000, threads: 1, ..Arguments::default() };
    while let Some(word) = words.next() {
        match word.as_str() {
            "--trace" => arguments.trace = true,
            "--child" => arguments.child = true,
            "--change" => arguments.changes.push(words.next()?),
            "--seed" => arguments.seed = Some(words.next()?.parse().ok()?),
            "--seeds" => arguments.seeds = words.next()?.parse().ok()?,
            "--first" => arguments.first = words.next()?.parse().ok()?,
            "--threads" => arguments.threads = words.next()?.parse().ok()?,
            _ => return None,
        }
    }
    Some(arguments)
}

fn plan_of(seed: u64, given: &[String]) -> Option<Plan> {
    let mut plan = Plan::draw(seed);
    given.iter().all(|change| changes::apply(&mut plan, change)).then_some(plan)
}

fn replay(seed: u64, arguments: &Arguments) -> bool {
    let Some(plan) = plan_of(seed, &arguments.changes) else {
        eprintln!("unknown change");
        return false;
    };
    if arguments.trace {
        println!("{plan:#?}");
    }
    let verdict = run_plan(plan, RunOptions { prints: arguments.trace, ..RunOptions::default() });
    match &verdict.failure {
        Some(text) => println!("seed {seed}: FAILED after {} steps: {text}", verdict.steps_count),
        None => println!(
            "seed {seed}: right; {} steps, {} replies, trace {:016x}",
            verdict.steps_count, verdict.replies_count, verdict.hash
        ),
    }
    verdict.failure.is_none()
}

thread_local! {
    static SEED: Cell<u64> = const { Cell::new(0) };
}

/// Runs seeds one after the other and prints what became of them, a line each where it matters.
fn run_child(arguments: &Arguments) -> bool {
    std::panic::set_hook(Box::new(|info| {
        let text = info.to_string().replace('\n', " ");
        println!("failed {} panic: {text}", SEED.get());
    }));
    let (mut steps, mut replies, mut errors, mut virtual_ms) = (0, 0, 0, 0);
    for seed in arguments.first..arguments.first + arguments.seeds {
        SEED.set(seed);
        let Ok(verdict) = std::panic::catch_unwind(|| judged(seed)) else { continue };
        if let Some(text) = verdict.failure {
            println!("failed {seed} {}", text.replace('\n', " "));
        }
        steps += verdict.steps_count;
        replies += verdict.replies_count;
        errors += verdict.errors_count;
        virtual_ms += verdict.virtual_ns / 1_000_000;
    }
    println!("done {steps} {replies} {errors} {virtual_ms}");
    true
}

fn judged(seed: u64) -> Verdict {
    let mut verdict = sim::run_seed(seed);
    if seed.is_multiple_of(REPEATED_EVERY) && verdict.failure.is_none() {
        let again = sim::run_seed(seed);
        if again.hash != verdict.hash {
            verdict.failure = Some("two runs of this seed are not alike".to_owned());
        }
    }
    verdict
}

#[derive(Default)]
struct Totals {
    failed: Vec<(u64, String)>,
    steps: u64,
    replies: u64,
    errors: u64,
    virtual_ms: u64,
}

fn run_all(arguments: &Arguments) -> bool {
    let started = Instant::now();
    let share = arguments.seeds.div_ceil(arguments.threads.max(1));
    let end = arguments.first + arguments.seeds;
    let threads: Vec<_> = (0..arguments.threads)
        .map(|index| {
            let first = (arguments.first + index * share).min(end);
            let last = (first + share).min(end);
            std::thread::spawn(move || run_range(first, last))
        })
        .collect();
    let mut all = Totals::default();
    for thread in threads {
        let part = thread.join().expect("a thread that reads a child does not panic");
        all.failed.extend(part.failed);
        all.steps += part.steps;
        all.replies += part.replies;
        all.errors += part.errors;
        all.virtual_ms += part.virtual_ms;
    }
    for (seed, text) in all.failed.iter().take(SIMPLIFIED_MAX) {
        println!("seed {seed}: {text}");
        simplify(*seed);
    }
    for (seed, text) in all.failed.iter().skip(SIMPLIFIED_MAX) {
        println!("seed {seed}: {text}");
    }
    let seconds = started.elapsed().as_secs_f64();
    println!(
        "{} seeds in {seconds:.1} s, {:.0} an hour: {} failed; {} steps, {} replies checked \
         ({} errors), {:.1} virtual hours, {:.0} times as fast as time",
        arguments.seeds,
        arguments.seeds as f64 / seconds * 3600.0,
        all.failed.len(),
        all.steps,
        all.replies,
        all.errors,
        all.virtual_ms as f64 / 3_600_000.0,
        all.virtual_ms as f64 / 1000.0 / seconds,
    );
    all.failed.is_empty()
}

/// Runs a range in child processes; a seed that ends its process is a failure, and the next
/// process goes on behind it.
fn run_range(mut first: u64, last: u64) -> Totals {
    let mut totals = Totals::default();
    while first < last {
        let mut child = own_command()
            .args(["--child", "--first", &first.to_string()])
            .args(["--seeds", &(last - first).to_string()])
            .stdout(Stdio::piped())
            .spawn()
            .expect("this program can be started again");
        let mut done = false;
        let output = child.stdout.take().expect("it is piped");
        for line in BufReader::new(output).lines().map_while(Result::ok) {
            let mut words = line.splitn(3, ' ');
            match (words.next(), words.next().and_then(|word| word.parse().ok())) {
                (Some("failed"), Some(seed)) => {
                    totals.failed.push((seed, words.next().unwrap_or("").to_owned()));
                    first = seed + 1;
                }
                (Some("done"), Some(steps)) => {
                    let rest = words.next().unwrap_or("");
                    let mut numbers = rest.split(' ').map(|word| word.parse().unwrap_or(0));
                    let mut next = || -> u64 { numbers.next().unwrap_or(0) };
                    totals.steps += steps;
                    totals.replies += next();
                    totals.errors += next();
                    totals.virtual_ms += next();
                    done = true;
                }
                _ => println!("{line}"),
            }
        }
        let status = child.wait().expect("a child can be waited for");
        if done {
            return totals;
        }
        let last_failed = totals.failed.last().map(|(seed, _)| seed + 1);
        if last_failed != Some(first) {
            totals.failed.push((first, format!("the process ended without a word: {status}")));
            return totals;
        }
    }
    totals
}

fn own_command() -> Command {
    Command::new(std::env::current_exe().expect("a running program has a path"))
}

/// Tries to do without clients, requests, workers and faults, and says how to replay what is left.
fn simplify(seed: u64) {
    let mut kept: Vec<String> = Vec::new();
    for change in changes::candidates(&Plan::draw(seed)) {
        let name = change.split('=').next().unwrap_or("");
        if name != "no" && kept.iter().any(|other| other.starts_with(&format!("{name}="))) {
            continue;
        }
        let mut tried = kept.clone();
        tried.push(change);
        let status = own_command()
            .args(["--seed", &seed.to_string()])
            .args(tried.iter().flat_map(|change| ["--change", change]))
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .status();
        if status.is_ok_and(|status| !status.success()) {
            kept = tried;
        }
    }
    let given: Vec<String> = kept.iter().map(|change| format!("--change {change}")).collect();
    println!("  still fails as: sim --seed {seed} --trace {}", given.join(" "));
}
