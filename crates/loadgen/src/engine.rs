//! One run: threads are started, connect, write the keys, begin together, and what they measure is
//! merged.
//!
//! It prints nothing and judges nothing. Invariant: the threads share no memory while they measure,
//! but for one flag that tells them to stop; whatever happens, what was measured is returned.

use std::collections::BTreeMap;
use std::os::fd::OwnedFd;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Barrier};
use std::thread;
use std::time::{Duration, Instant};

use base::{Address, Time};
use crossbeam_channel::{Receiver, Sender, bounded, unbounded};
use event::{EventBase, Readiness, ReadinessOptions};
use serde::{Deserialize, Serialize};

use crate::driver::Driver;
use crate::record::Record;
use crate::worker::{Interval, Looks, Outlet, Worker};
use crate::workload::Plan;
use crate::workload::plan::Part;

/// Which event base to use.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, clap::ValueEnum)]
#[serde(rename_all = "lowercase")]
pub enum BaseChoice {
    /// io_uring where it works, else readiness.
    Auto,
    /// io_uring or nothing.
    Uring,
    /// epoll, kqueue, event ports.
    Readiness,
}

/// How a run is carried out, apart from what it does.
#[derive(Debug, Clone)]
pub struct RunOptions {
    /// The server.
    pub address: Address,
    /// See [`BaseChoice`].
    pub event_base: BaseChoice,
    /// Threads never sleep. For machines with a CPU to spare for each.
    pub spin: bool,
    /// CPUs that the threads are pinned to, in turn; empty for none.
    pub cpus: Vec<usize>,
    /// Which of all machines this is, and how many there are.
    pub machine: Part,
    /// How long an interval is.
    pub interval: Duration,
    /// Set from outside to end early.
    pub stop: Arc<AtomicBool>,
}

impl RunOptions {
    /// The defaults for a server.
    pub fn new(address: Address) -> RunOptions {
        RunOptions {
            address,
            event_base: BaseChoice::Auto,
            spin: false,
            cpus: Vec::new(),
            machine: Part::WHOLE,
            interval: Duration::from_secs(1),
            stop: Arc::new(AtomicBool::new(false)),
        }
    }
}

/// What a run tells while it goes on.
#[derive(Debug)]
pub enum Progress<'a> {
    /// Connections are open.
    Connected,
    /// Keys are written, in so many seconds.
    Prefilled(f64),
    /// The measured time begins so much later.
    Begins(Duration),
    /// An interval of the measured time is complete.
    Interval(u64, &'a Record),
}

/// What a run, or a thread's or an agent's part of it, gives besides its intervals.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
pub struct RunEnd {
    /// What was wrong with it, if it did not go to its end.
    pub partial: Option<String>,
    /// The first violations and refusals, in words.
    pub examples: Vec<String>,
    /// Seconds of the measured time that went by, on the thread that lasted longest.
    pub measured_s: f64,
    /// Keys that could not be written before the measurement.
    pub prefill_failed: u64,
    /// Connections whose TCP_NODELAY was read back, and how many did not have it.
    pub nodelay: (u32, u32),
    /// Which event base was used.
    pub event_base: String,
    /// Whether all threads were pinned as asked.
    pub pinned: bool,
}

impl RunEnd {
    /// Of a run of which no part has ended yet.
    pub fn empty() -> RunEnd {
        RunEnd { pinned: true, ..RunEnd::default() }
    }

    /// Adds a part. What was wrong with the first is told of the whole.
    pub fn add(&mut self, part: RunEnd) {
        if let Some(why) = part.partial {
            self.partial.get_or_insert(why);
        }
        self.examples.extend(part.examples);
        self.measured_s = self.measured_s.max(part.measured_s);
        self.prefill_failed += part.prefill_failed;
        self.nodelay.0 += part.nodelay.0;
        self.nodelay.1 += part.nodelay.1;
        self.event_base = part.event_base;
        self.pinned &= part.pinned;
    }
}

enum Message {
    /// A phase is over for one thread.
    Ready(Result<(), String>),
    Done(Box<RunEnd>),
}

/// What the threads share with the caller.
struct Shared {
    plan: Arc<Plan>,
    options: RunOptions,
    barrier: Barrier,
    /// The start of the load on the event bases' clock.
    start_ns: AtomicU64,
    abandoned: AtomicBool,
}

/// How long connections may take to open, and a prefill to show a sign of life.
const PATIENCE: Duration = Duration::from_secs(5);
/// Between "all are ready" and the start of the load.
const HEAD_START: Duration = Duration::from_millis(20);

/// From the word to start until the measured time begins.
pub fn until_measured(plan: &Plan) -> Duration {
    HEAD_START + plan.warmup
}

/// Runs a plan. `ready` is called when everything is prepared, and returns when the load should
/// begin; `progress` is told what happens. The error says why nothing could be measured at all.
pub fn run(
    plan: &Arc<Plan>,
    options: &RunOptions,
    ready: &mut dyn FnMut(),
    progress: &mut dyn FnMut(Progress<'_>),
) -> Result<RunEnd, String> {
    #[cfg(target_os = "linux")]
    if options.event_base != BaseChoice::Readiness {
        match event::uring_supported() {
            Ok(tier) => {
                let options_of_base = uring_options(tier, plan);
                let make = move || event::Uring::new(options_of_base);
                let counters_of = event::Uring::counters;
                return run_on(plan, options, ("io_uring", counters_of), make, ready, progress);
            }
            Err(refused) if options.event_base == BaseChoice::Uring => {
                return Err(refused.to_string());
            }
            Err(_) => {}
        }
    }
    if options.event_base == BaseChoice::Uring && !cfg!(target_os = "linux") {
        return Err("io_uring is a thing of Linux".to_owned());
    }
    let make = || Readiness::new(ReadinessOptions::default());
    run_on(plan, options, ("readiness", Readiness::counters), make, ready, progress)
}

/// Where receives share buffers, and all replies in flight have room in a few, few are lent: those
/// stay in the cache.
#[cfg(target_os = "linux")]
fn uring_options(tier: event::Tier, plan: &Plan) -> event::UringOptions {
    const FEW: event::ReceiveBuffers = event::ReceiveBuffers { count: 8, size: 32 << 10 };
    let mut options = event::UringOptions::new(tier);
    let in_flight = u64::from(plan.settings.connections.div_ceil(plan.settings.threads))
        .saturating_mul(plan.depth as u64);
    let reply_size = plan.value_size.constant().map_or(u64::MAX, |size| size + 64);
    let few_size = u64::from(FEW.count) * u64::from(FEW.size);
    if tier.incremental && in_flight.saturating_mul(reply_size) <= few_size / 2 {
        options.server_buffers = FEW;
    }
    options
}

fn run_on<B, F>(
    plan: &Arc<Plan>,
    options: &RunOptions,
    (name, counters_of): (&str, fn(&B) -> event::Counters),
    make: F,
    ready: &mut dyn FnMut(),
    progress: &mut dyn FnMut(Progress<'_>),
) -> Result<RunEnd, String>
where
    B: EventBase<Socket = OwnedFd>,
    F: Fn() -> std::io::Result<B> + Send + Copy,
{
    let threads = plan.settings.threads as usize;
    let shared = Shared {
        plan: plan.clone(),
        options: options.clone(),
        barrier: Barrier::new(threads + 1),
        start_ns: AtomicU64::new(0),
        abandoned: AtomicBool::new(false),
    };
    let (messages_in, messages) = unbounded();
    let (full_in, full) = unbounded();
    // Enough for all that may be under way; more are simply freed.
    let (empty_in, empty) = bounded(threads * 4);
    thread::scope(|scope| {
        for index in 0..threads {
            let (messages, shared) = (messages_in.clone(), &shared);
            let outlet =
                Outlet { full: full_in.clone(), empty: empty.clone(), length: options.interval };
            scope.spawn(move || {
                let end = thread_main(index, shared, (make, counters_of), &messages, &outlet);
                // The caller may have given up.
                let _ = messages.send(Message::Done(Box::new(end)));
            });
        }
        drop(full_in);
        let mut lead = Lead { shared: &shared, messages: &messages, threads };
        let prepared = lead.prepare(ready, progress);
        if prepared.is_ok() {
            merge(&full, &empty_in, threads, progress);
        }
        let mut end = lead.collect(prepared)?;
        end.event_base = name.to_owned();
        Ok(end)
    })
}

/// The caller's side of the phases.
struct Lead<'a> {
    shared: &'a Shared,
    messages: &'a Receiver<Message>,
    threads: usize,
}

impl Lead<'_> {
    fn phase(&mut self) -> Result<(), String> {
        let mut result = Ok(());
        for _ in 0..self.threads {
            if let Ok(Message::Ready(one)) = self.messages.recv() {
                result = result.and(one);
            }
        }
        if result.is_err() {
            self.shared.abandoned.store(true, Ordering::Relaxed);
        }
        self.shared.barrier.wait();
        result
    }

    fn prepare(
        &mut self,
        ready: &mut dyn FnMut(),
        progress: &mut dyn FnMut(Progress<'_>),
    ) -> Result<(), String> {
        self.phase()?;
        progress(Progress::Connected);
        let began = Instant::now();
        self.phase()?;
        if self.shared.plan.settings.prefill {
            progress(Progress::Prefilled(began.elapsed().as_secs_f64()));
        }
        ready();
        progress(Progress::Begins(until_measured(&self.shared.plan)));
        // Threads read the start when the barrier lets them through.
        self.shared.barrier.wait();
        Ok(())
    }

    fn collect(&mut self, prepared: Result<(), String>) -> Result<RunEnd, String> {
        let mut run = RunEnd::empty();
        for _ in 0..self.threads {
            let Ok(Message::Done(end)) = self.messages.recv() else { break };
            run.add(*end);
        }
        prepared?;
        if self.shared.options.stop.load(Ordering::Relaxed) {
            run.partial.get_or_insert("interrupted before its end".to_owned());
        }
        Ok(run)
    }
}

/// Merges the threads' intervals; each is told when all threads have given theirs.
fn merge(
    full: &Receiver<Interval>,
    empty: &Sender<Box<Record>>,
    threads: usize,
    progress: &mut dyn FnMut(Progress<'_>),
) {
    let mut open: BTreeMap<u64, (usize, Box<Record>)> = BTreeMap::new();
    while let Ok(Interval { index, mut record }) = full.recv() {
        let merged = open.entry(index).or_insert_with(|| {
            let ops_count = record.ops.len();
            (0, Box::new(Record::new(ops_count)))
        });
        merged.1.add(&record);
        merged.0 += 1;
        record.clear();
        // When there are enough it is freed.
        let _ = empty.try_send(record);
        while let Some(first) = open.first_entry().filter(|first| first.get().0 == threads) {
            let (index, (_, record)) = first.remove_entry();
            progress(Progress::Interval(index, &record));
        }
    }
    // Threads that failed have not given all of theirs.
    for (index, (_, record)) in open {
        progress(Progress::Interval(index, &record));
    }
}

fn thread_main<B, F>(
    index: usize,
    shared: &Shared,
    (make, counters_of): (F, fn(&B) -> event::Counters),
    messages: &Sender<Message>,
    outlet: &Outlet,
) -> RunEnd
where
    B: EventBase<Socket = OwnedFd>,
    F: Fn() -> std::io::Result<B>,
{
    let (plan, options) = (&shared.plan, &shared.options);
    let threads = u64::from(plan.settings.threads);
    let part = Part {
        index: options.machine.index * threads + index as u64,
        count: options.machine.count * threads,
    };
    let pinned = match options.cpus.get(index % options.cpus.len().max(1)) {
        None => true,
        Some(&cpu) => core_affinity::set_for_current(core_affinity::CoreId { id: cpu }),
    };
    // Sleeps end when they should, not up to 50 us later.
    #[cfg(target_os = "linux")]
    let _ = rustix::thread::set_current_timer_slack(std::num::NonZeroU64::new(1));
    let total = plan.settings.connections;
    let connections = total / threads as u32 + u32::from((index as u32) < total % threads as u32);
    let driver = Driver::new(plan.clone(), part, connections);
    let mut end = RunEnd { pinned, ..RunEnd::default() };
    let made = make().map(|base| {
        let address = options.address.clone();
        let looks = Looks { nodelay_of, counters_of };
        Worker::new(base, driver, address, looks, options.spin, plan.ops.len())
    });
    let mut worker =
        made.map_err(|error| end.partial = Some(format!("the event base: {error}"))).ok();
    let connect = |worker: &mut Worker<B>| worker.connect(connections as usize, PATIENCE);
    let prefill = |worker: &mut Worker<B>| match plan.settings.prefill {
        true => worker.prefill(PATIENCE.max(plan.timeout), &options.stop),
        false => Ok(()),
    };
    for phase in [&connect as &dyn Fn(&mut Worker<B>) -> Result<(), String>, &prefill] {
        if let (None, Some(worker)) = (&end.partial, &mut worker) {
            end.partial = phase(worker).err();
        }
        let _ = messages.send(Message::Ready(end.partial.clone().map_or(Ok(()), Err)));
        shared.barrier.wait();
        if shared.abandoned.load(Ordering::Relaxed) {
            return end;
        }
    }
    let Some(mut worker) = worker else { return end };
    shared.barrier.wait();
    let mine = (worker.now() + HEAD_START).as_ns();
    // The first one to come here decides for all.
    let chosen = shared.start_ns.compare_exchange(0, mine, Ordering::AcqRel, Ordering::Acquire);
    let start = Time::from_ns(chosen.err().unwrap_or(mine));
    match worker.load(start, outlet, &options.stop) {
        Ok(measured) => end.measured_s = measured.as_secs_f64(),
        Err(error) => end.partial = Some(format!("the event base failed: {error}")),
    }
    end.examples = worker.driver().examples().to_vec();
    end.prefill_failed = worker.driver().prefill_failed();
    end.nodelay = worker.nodelay();
    end
}

fn nodelay_of(socket: &OwnedFd) -> Option<bool> {
    socket2::SockRef::from(socket).tcp_nodelay().ok()
}
