//! What a run can't say of itself: how near it came to what this generator can do, and whether more
//! threads would have measured something else.
//!
//! Both take further, short runs, so they are made on demand only. Invariant: the run's own figures
//! stay as they are; only its judgement gains grounds.

use std::sync::Arc;
use std::sync::atomic::AtomicBool;

use base::Address;
use protocol::Protocol;

use super::args::{GeneratorArgs, ReportArgs};
use super::run::measure;
use super::serve;
use crate::engine::RunOptions;
use crate::server::{Delay, ServerOptions};
use crate::summary::{Doubled, Summary};
use crate::verdict::judge;
use crate::workload::file::{Mode, Verify, Wire};
use crate::workload::plan::THREADS_MAX;
use crate::workload::{Plan, Settings};

/// Seconds of a further run.
const LENGTH_S: f64 = 2.0;

/// Makes both further runs and judges the run anew.
pub fn self_check(
    summary: &mut Summary,
    options: &RunOptions,
    generator: &GeneratorArgs,
) -> Result<(), String> {
    if !generator.agents.is_empty() {
        return Err("--self-check is for a run without --agents".to_owned());
    }
    let generator = GeneratorArgs { quiet: true, ..generator.clone() };
    summary.ceiling_rate = Some(ceiling(&summary.settings, options, &generator)?);
    summary.doubled = doubled(&summary.settings, options, &generator)?;
    summary.verdict = judge(summary);
    Ok(())
}

/// What the generator reaches against a server that does nothing, with the same connections,
/// threads, keys and commands. Its replies can't be verified.
fn ceiling(
    settings: &Settings,
    options: &RunOptions,
    generator: &GeneratorArgs,
) -> Result<f64, String> {
    let plan = Plan::new(settings, 0)?;
    // An open load does not gather, so neither may its ceiling.
    let (depth, gather) = match settings.mode {
        Mode::Closed => (plan.depth as u32, settings.gather),
        _ => (1, 1),
    };
    let settings = Settings {
        mode: Mode::Closed,
        depth,
        gather,
        verify: Verify::Off,
        prefill: false,
        must_hit: false,
        ..short(settings)
    };
    let protocol = match settings.protocol {
        Wire::Redis | Wire::Redis3 => Protocol::Redis,
        Wire::Memcache | Wire::Meta => Protocol::Memcache,
    };
    let size = plan.size_of(0).min(embedded::StoreOptions::NULL_VALUE_SIZE_MAX);
    let server = ServerOptions { protocol, null_value_size: Some(size), delay: Delay::None };
    let any = Address::Inet(([127, 0, 0, 1], 0).into());
    let stop = Arc::new(AtomicBool::new(false));
    let running = serve::start(&any, server, options.event_base, stop)?;
    let options = RunOptions { address: running.address.clone(), ..options.clone() };
    let measured = measure(&settings, &options, generator, &ReportArgs::default());
    running.end()?;
    Ok(measured?.summary.completed_rate)
}

/// The same load, shortly, with twice the threads; `None` where there can't be so many.
fn doubled(
    settings: &Settings,
    options: &RunOptions,
    generator: &GeneratorArgs,
) -> Result<Option<Doubled>, String> {
    let threads = settings.threads * 2;
    let possible = threads <= THREADS_MAX.min(settings.connections)
        && u64::from(threads) <= settings.keys.count;
    if !possible {
        return Ok(None);
    }
    let settings = Settings { threads, ..short(settings) };
    let summary = measure(&settings, options, generator, &ReportArgs::default())?.summary;
    let response_p99 = summary.confidence.iter().find(|one| one.percent == 99.0).cloned();
    Ok(Some(Doubled { response_p99, completed_rate: summary.completed_rate }))
}

fn short(settings: &Settings) -> Settings {
    let duration_s = settings.duration_s.min(LENGTH_S);
    Settings { duration_s, warmup_s: settings.warmup_s.min(0.5), ..settings.clone() }
}
