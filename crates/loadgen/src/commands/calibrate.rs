//! `weir-bench calibrate`: whether this machine and this generator measure right.
//!
//! Clock, ceiling, a server of known delay, and the freeze: one second without a reply, which an
//! honest generator must show to a fifth of all requests. Invariant: each step ends in figures
//! beside what they should be, and a failed step makes the command fail.

use std::sync::Arc;
use std::sync::atomic::AtomicBool;
use std::time::Duration;

use base::Address;
use clap::Args;
use protocol::Protocol;

use super::Ending;
use super::args::{GeneratorArgs, ReportArgs};
use super::run::{Measured, measure};
use super::serve;
use crate::engine::{BaseChoice, RunOptions};
use crate::environment::Environment;
use crate::report::{count, duration};
use crate::server::{Delay, ServerOptions};
use crate::workload::Settings;
use crate::workload::file::{Mode, Op, Verify};
use crate::workload::schedule::Arrival;

/// Arguments of `calibrate`.
#[derive(Debug, Clone, Args)]
pub struct CalibrateArgs {
    /// Only this event base [default: both]
    #[arg(long, value_enum)]
    pub event_base: Option<BaseChoice>,
    /// Threads never sleep.
    #[arg(long)]
    pub spin: bool,
    /// CPUs to pin the generator to, such as 2,3 [default: wherever the system puts it]
    #[arg(long, value_delimiter = ',')]
    pub cpus: Vec<usize>,
}

/// Carries `calibrate` out.
pub fn execute(args: &CalibrateArgs, stop: &Arc<AtomicBool>) -> Result<Ending, String> {
    let mut good = clock();
    let mut bases = match args.event_base {
        Some(choice) => vec![choice],
        None => vec![BaseChoice::Uring, BaseChoice::Readiness],
    };
    if args.event_base.is_none() && !uring_works() {
        println!("io_uring does not work here: only readiness is tried");
        bases.remove(0);
    }
    for choice in bases {
        println!("\nevent base: {choice:?}");
        let bench = Bench { args, choice, stop };
        bench.ceiling()?;
        good &= bench.known_delay()?;
        good &= bench.freeze()?;
    }
    println!("\ncalibration: {}", if good { "passed" } else { "FAILED" });
    Ok(if good { Ending::Good } else { Ending::Bad })
}

#[cfg(target_os = "linux")]
fn uring_works() -> bool {
    event::uring_supported().is_ok()
}

#[cfg(not(target_os = "linux"))]
fn uring_works() -> bool {
    false
}

fn clock() -> bool {
    let environment = Environment::look();
    println!(
        "clock: source {}, {} ns a read, {} ns resolution",
        environment.clock_source.as_deref().unwrap_or("unknown"),
        environment.clock_cost_ns,
        environment.clock_resolution_ns,
    );
    let good = environment.clock_cost_ns <= CLOCK_COST_NS_MAX;
    if !good {
        println!("  FAILED: a read must not cost more than {CLOCK_COST_NS_MAX} ns");
    }
    good
}

/// Two reads a turn at this cost are still a small part of a turn.
const CLOCK_COST_NS_MAX: u64 = 500;

/// See [`Bench::try_again`].
const TRIES_MAX: u32 = 3;

struct Bench<'a> {
    args: &'a CalibrateArgs,
    choice: BaseChoice,
    stop: &'a Arc<AtomicBool>,
}

impl Bench<'_> {
    /// Runs a load against an own server.
    fn run(&self, settings: &Settings, delay: Delay) -> Result<Measured, String> {
        let any = Address::Inet(([127, 0, 0, 1], 0).into());
        let server = ServerOptions { protocol: Protocol::Redis, null_value_size: Some(100), delay };
        let stop = Arc::new(AtomicBool::new(false));
        let running = serve::start(&any, server, self.choice, stop)?;
        let options = RunOptions {
            event_base: self.choice,
            spin: self.args.spin,
            cpus: self.args.cpus.clone(),
            stop: self.stop.clone(),
            ..RunOptions::new(running.address.clone())
        };
        let generator = GeneratorArgs {
            event_base: self.choice,
            spin: self.args.spin,
            cpus: self.args.cpus.clone(),
            interval: 1.0,
            agents: Vec::new(),
            quiet: true,
        };
        let measured = measure(settings, &options, &generator, &ReportArgs::default());
        running.end()?;
        measured
    }

    fn ceiling(&self) -> Result<(), String> {
        for depth in [1, 16] {
            let settings = Settings {
                mode: Mode::Closed,
                depth,
                connections: 16,
                duration_s: 2.0,
                warmup_s: 0.5,
                prefill: false,
                verify: Verify::Off,
                ..Settings::default()
            };
            let summary = self.run(&settings, Delay::None)?.summary;
            println!(
                "null server, 16 connections, {depth} deep: {}/s, p50 {}, p99 {}, {} CPU a request",
                count(summary.completed_rate),
                duration(summary.response.p50_ns.unwrap_or(0)),
                duration(summary.response.p99_ns.unwrap_or(0)),
                duration(summary.cpu_ns_per_request),
            );
        }
        Ok(())
    }

    fn known_delay(&self) -> Result<bool, String> {
        let settings =
            Settings { connections: 64, rate: 1000.0, duration_s: 3.0, warmup_s: 0.5, ..ping() };
        // Large against what loopback and a timer take, some 0.1 ms.
        let delay = Duration::from_millis(20);
        println!("server with a delay of 20 ms:");
        self.try_again(&settings, Delay::Constant(delay), |measured| {
            let p50 = measured.summary.response.p50_ns.unwrap_or(0);
            near("p50", p50, delay.as_nanos() as u64)
        })
    }

    /// 10 000 a second for 10 s, one after the other in 50 us each, and a second of nothing after
    /// 3 s: 20 % of all requests lie evenly between 0 and 1 s.
    fn freeze(&self) -> Result<bool, String> {
        let settings = Settings {
            connections: 1,
            depth: 1 << 17,
            rate: 10_000.0,
            arrival: Arrival::Constant,
            duration_s: 10.0,
            warmup_s: 0.0,
            ..ping()
        };
        let delay = Delay::Queue {
            service: Duration::from_micros(50),
            freeze: Some((Duration::from_secs(3), Duration::from_secs(1))),
        };
        println!("server that freezes for 1 s:");
        self.try_again(&settings, delay, |measured| {
            let response = measured.total.response();
            let expected = [(90.0, 500_000_000), (99.0, 950_000_000), (99.9, 995_000_000)];
            let mut good = true;
            for (percent, ns) in expected {
                let found = response.percentile(percent).unwrap_or(0);
                good &= near(&format!("p{percent}"), found, ns);
            }
            good
        })
    }

    /// A step that fails while threads were kept from running says more about who else uses the
    /// machine: it is made again, a few times.
    fn try_again(
        &self,
        settings: &Settings,
        delay: Delay,
        judge: impl Fn(&Measured) -> bool,
    ) -> Result<bool, String> {
        for left in (0..TRIES_MAX).rev() {
            let measured = self.run(settings, delay)?;
            if judge(&measured) {
                return Ok(true);
            }
            let findings = &measured.summary.verdict.findings;
            let busy = findings.iter().find(|finding| finding.check == "run delay");
            match busy {
                Some(finding) if left > 0 => println!("  once more: {}", finding.text),
                _ => return Ok(false),
            }
        }
        Ok(false)
    }
}

fn ping() -> Settings {
    Settings { commands: [(Op::Ping, 1.0)].into(), prefill: false, ..Settings::default() }
}

/// Within 3 %.
fn near(name: &str, found: u64, expected: u64) -> bool {
    let off = found as f64 / expected as f64 - 1.0;
    let good = off.abs() <= 0.03;
    let mark = if good { "good" } else { "FAILED" };
    let (found, expected) = (duration(found), duration(expected));
    println!("  {name}: {found}, expected {expected} ({:+.2} %): {mark}", off * 100.0);
    good
}
