//! `weir-bench agent`, and the coordinator's side: several machines make one load together.
//!
//! The coordinator sends the plan; each agent owns the part of the keys that falls to it, says when
//! it is ready, starts when told, and sends the histograms of each interval, which are added. Lines
//! of JSON over TCP; no secret protects an agent, so it listens on the loopback address unless told
//! otherwise. Invariant: percentiles never travel.

use std::collections::BTreeMap;
use std::io::{BufRead, BufReader, ErrorKind, Write};
use std::net::{Shutdown, TcpListener, TcpStream};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::{self, RecvTimeoutError};
use std::thread;
use std::time::{Duration, Instant};

use clap::Args;
use rustix::io::Errno;
use rustix::net::RecvFlags;
use serde::{Deserialize, Serialize};

use super::Ending;
use super::args::resolve;
use crate::engine::{self, BaseChoice, Progress, RunEnd, RunOptions};
use crate::record::{Record, RemoteRecord};
use crate::workload::plan::Part;
use crate::workload::{Plan, Settings};

/// Arguments of `agent`.
#[derive(Debug, Clone, Args)]
pub struct AgentArgs {
    /// Where to wait for a coordinator. Whoever reaches it can make it send load anywhere.
    #[arg(default_value = "127.0.0.1:7400")]
    pub listen: String,
    /// Ends after the first run.
    #[arg(long)]
    pub once: bool,
}

/// What the coordinator sends.
#[derive(Debug, Serialize, Deserialize)]
enum Order {
    Prepare(Box<Prepare>),
    /// Start after so many microseconds.
    Go(u64),
    /// Answered at once, to learn how long a message takes.
    Echo,
}

#[derive(Debug, Serialize, Deserialize)]
struct Prepare {
    settings: Settings,
    run: u32,
    server: String,
    event_base: BaseChoice,
    spin: bool,
    cpus: Vec<usize>,
    interval_ms: u64,
    machine: (u64, u64),
}

/// What an agent sends.
#[derive(Debug, Serialize, Deserialize)]
enum Report {
    Echo,
    Connected,
    Prefilled(f64),
    Ready,
    Interval(u64, Box<RemoteRecord>),
    End(Box<Result<RunEnd, String>>),
}

/// The longest line that is read.
const LINE_SIZE_MAX: u64 = 64 << 20;
/// All start so long after the word to start was sent.
const HEAD_START: Duration = Duration::from_millis(200);
/// How often signals and the other side are looked at.
const LOOK: Duration = Duration::from_millis(50);
/// Who does not answer a first word for so long is no agent.
const PATIENCE: Duration = Duration::from_secs(5);

fn send<T: Serialize>(stream: &mut TcpStream, message: &T) -> Result<(), String> {
    let mut line = serde_json::to_vec(message).expect("messages are plain data");
    line.push(b'\n');
    stream.write_all(&line).map_err(|error| error.to_string())
}

fn receive<T: for<'a> Deserialize<'a>>(reader: &mut impl BufRead) -> Result<T, String> {
    let mut line = Vec::new();
    let mut limited = std::io::Read::take(reader, LINE_SIZE_MAX);
    match limited.read_until(b'\n', &mut line) {
        Ok(0) => Err("the other side has gone away".to_owned()),
        Ok(_) => serde_json::from_slice(&line).map_err(|error| format!("a bad message: {error}")),
        Err(error) => Err(error.to_string()),
    }
}

/// Carries `agent` out.
pub fn execute(args: &AgentArgs, stop: &Arc<AtomicBool>) -> Result<Ending, String> {
    let listener =
        TcpListener::bind(&args.listen).map_err(|error| format!("{}: {error}", args.listen))?;
    let address = listener.local_addr().map_err(|error| error.to_string())?;
    println!("agent on {address}");
    listener.set_nonblocking(true).map_err(|error| error.to_string())?;
    while !stop.load(Ordering::Relaxed) {
        let (stream, peer) = match listener.accept() {
            Ok(accepted) => accepted,
            // A signal must be able to end it.
            Err(error) if error.kind() == ErrorKind::WouldBlock => {
                thread::sleep(LOOK);
                continue;
            }
            Err(error) => return Err(error.to_string()),
        };
        match serve(stream, stop) {
            Ok(()) => println!("a run for {peer} is over"),
            Err(why) => eprintln!("a run for {peer} failed: {why}"),
        }
        if args.once {
            break;
        }
    }
    Ok(Ending::Good)
}

/// One run for one coordinator.
fn serve(stream: TcpStream, stop: &Arc<AtomicBool>) -> Result<(), String> {
    let prepared = stream.set_nonblocking(false).and_then(|()| prepare_stream(&stream));
    prepared.map_err(|error| error.to_string())?;
    let mut writer = stream.try_clone().map_err(|error| error.to_string())?;
    let mut reader = BufReader::new(stream);
    let prepare = loop {
        match receive(&mut reader)? {
            Order::Prepare(prepare) => break prepare,
            Order::Echo => send(&mut writer, &Report::Echo)?,
            Order::Go(_) => return Err("told to start before it was told what".to_owned()),
        }
    };
    let result = carry_out(&prepare, &mut reader, &writer, stop);
    send(&mut writer, &Report::End(Box::new(result)))
}

fn carry_out(
    prepare: &Prepare,
    reader: &mut impl BufRead,
    writer: &TcpStream,
    stop: &Arc<AtomicBool>,
) -> Result<RunEnd, String> {
    let plan = Arc::new(Plan::new(&prepare.settings, prepare.run)?);
    // Of this run only: the agent stays when a coordinator goes away.
    let run_stop = Arc::new(AtomicBool::new(false));
    let options = RunOptions {
        event_base: prepare.event_base,
        spin: prepare.spin,
        cpus: prepare.cpus.clone(),
        interval: Duration::from_millis(prepare.interval_ms),
        machine: Part { index: prepare.machine.0, count: prepare.machine.1 },
        stop: run_stop.clone(),
        ..RunOptions::new(resolve(&prepare.server)?)
    };
    // The coordinator may go away in the middle: see `watch`.
    let tell = |report: &Report| {
        let told = writer.try_clone().map_err(|error| error.to_string());
        let _ = told.and_then(|mut writer| send(&mut writer, report));
    };
    let mut ready = || {
        tell(&Report::Ready);
        loop {
            match receive(reader) {
                Ok(Order::Go(delay_us)) => {
                    thread::sleep(Duration::from_micros(delay_us));
                    return;
                }
                Ok(_) => tell(&Report::Echo),
                Err(_) => return run_stop.store(true, Ordering::Relaxed),
            }
        }
    };
    let mut progress = |progress: Progress<'_>| match progress {
        Progress::Connected => tell(&Report::Connected),
        Progress::Prefilled(seconds) => tell(&Report::Prefilled(seconds)),
        Progress::Interval(index, record) => {
            tell(&Report::Interval(index, Box::new(record.to_remote())));
        }
    };
    let is_over = AtomicBool::new(false);
    thread::scope(|scope| {
        scope.spawn(|| watch(writer, [stop, &run_stop], &is_over));
        let end = engine::run(&plan, &options, &mut ready, &mut progress);
        is_over.store(true, Ordering::Relaxed);
        end
    })
}

/// Ends a run when the coordinator has closed its side, or when the agent is told to end. It only
/// looks: what the coordinator says is read elsewhere.
fn watch(stream: &TcpStream, [stop, run_stop]: [&AtomicBool; 2], is_over: &AtomicBool) {
    while !is_over.load(Ordering::Relaxed) {
        thread::sleep(LOOK);
        let flags = RecvFlags::PEEK | RecvFlags::DONTWAIT;
        let is_gone = match rustix::net::recv(stream, &mut [0u8; 1], flags) {
            Ok((_, size)) => size == 0,
            Err(error) => error != Errno::AGAIN && error != Errno::INTR,
        };
        if is_gone || stop.load(Ordering::Relaxed) {
            return run_stop.store(true, Ordering::Relaxed);
        }
    }
}

/// A machine that is gone is noticed though it says nothing.
fn prepare_stream(stream: &TcpStream) -> std::io::Result<()> {
    const ALIVE: Duration = Duration::from_secs(5);
    let keepalive = socket2::TcpKeepalive::new().with_time(ALIVE).with_interval(ALIVE);
    socket2::SockRef::from(stream).set_tcp_keepalive(&keepalive)?;
    stream.set_nodelay(true)
}

struct Agent {
    name: String,
    writer: TcpStream,
    reader: BufReader<TcpStream>,
    one_way: Duration,
}

impl Agent {
    fn connect(name: &str) -> Result<Agent, String> {
        let told = |error: &dyn std::fmt::Display| format!("agent {name}: {error}");
        let stream = TcpStream::connect(name).map_err(|error| told(&error))?;
        prepare_stream(&stream).map_err(|error| told(&error))?;
        stream.set_read_timeout(Some(PATIENCE)).map_err(|error| told(&error))?;
        let writer = stream.try_clone().map_err(|error| told(&error))?;
        let reader = BufReader::new(stream);
        let one_way = Duration::ZERO;
        let mut agent = Agent { name: name.to_owned(), writer, reader, one_way };
        // The quickest of a few tells how long the word to start will take.
        let mut round = Duration::MAX;
        for _ in 0..5 {
            let sent = Instant::now();
            send(&mut agent.writer, &Order::Echo).map_err(|error| told(&error))?;
            let Ok(Report::Echo) = receive(&mut agent.reader) else {
                return Err(told(&"answers as no agent does; `weir-bench agent` must run there"));
            };
            round = round.min(sent.elapsed());
        }
        agent.writer.set_read_timeout(None).map_err(|error| told(&error))?;
        agent.one_way = round / 2;
        Ok(agent)
    }
}

/// Runs a plan on agents; the counterpart of [`engine::run`].
pub fn run_on_agents(
    plan: &Plan,
    run: u32,
    options: &RunOptions,
    names: &[String],
    progress: &mut dyn FnMut(Progress<'_>),
) -> Result<RunEnd, String> {
    let count = names.len() as u32;
    let mut agents: Vec<Agent> =
        names.iter().map(|name| Agent::connect(name)).collect::<Result<_, _>>()?;
    let total = plan.settings.connections;
    for (index, agent) in (0..).zip(&mut agents) {
        let mut settings = plan.settings.clone();
        settings.connections =
            (total / count + u32::from(index < total % count)).max(settings.threads);
        let prepare = Prepare {
            settings,
            run,
            server: options.address.to_string(),
            event_base: options.event_base,
            spin: options.spin,
            cpus: options.cpus.clone(),
            interval_ms: options.interval.as_millis() as u64,
            machine: (u64::from(index), u64::from(count)),
        };
        send(&mut agent.writer, &Order::Prepare(Box::new(prepare)))?;
    }
    // All are connected before the first writes a key, as far as that can be seen from here.
    for agent in &mut agents {
        loop {
            match receive(&mut agent.reader)
                .map_err(|why| format!("agent {}: {why}", agent.name))?
            {
                Report::Ready => break,
                Report::End(end) => {
                    let why = end.err().unwrap_or_else(|| "ended before it began".to_owned());
                    return Err(format!("agent {}: {why}", agent.name));
                }
                Report::Connected => progress(Progress::Connected),
                Report::Prefilled(seconds) => progress(Progress::Prefilled(seconds)),
                Report::Echo | Report::Interval(..) => {}
            }
        }
    }
    let start = Instant::now() + HEAD_START;
    for agent in &mut agents {
        let left = start.saturating_duration_since(Instant::now() + agent.one_way);
        send(&mut agent.writer, &Order::Go(left.as_micros() as u64))?;
    }
    collect(agents, &options.stop, progress)
}

/// Adds what the agents send until the last has ended. They are told to stop by the end of what is
/// sent to them, and then send what they have.
fn collect(
    agents: Vec<Agent>,
    stop: &AtomicBool,
    progress: &mut dyn FnMut(Progress<'_>),
) -> Result<RunEnd, String> {
    let count = agents.len();
    let mut writers = Vec::new();
    let (reports_in, reports) = mpsc::channel();
    for mut agent in agents {
        let reports = reports_in.clone();
        writers.extend(agent.writer.try_clone());
        thread::spawn(move || {
            loop {
                let report: Result<Report, String> = receive(&mut agent.reader);
                let last = !matches!(report, Ok(Report::Interval(..)));
                if reports.send((agent.name.clone(), report)).is_err() || last {
                    return;
                }
            }
        });
    }
    drop(reports_in);
    let mut run = RunEnd { pinned: true, ..RunEnd::default() };
    let mut open: BTreeMap<u64, (usize, Record)> = BTreeMap::new();
    loop {
        let (name, report) = match reports.recv_timeout(LOOK) {
            Ok(told) => told,
            Err(RecvTimeoutError::Timeout) => {
                if stop.load(Ordering::Relaxed) {
                    // One that is gone can't be told.
                    writers.drain(..).for_each(|one| drop(one.shutdown(Shutdown::Write)));
                }
                continue;
            }
            Err(RecvTimeoutError::Disconnected) => break,
        };
        match report {
            Ok(Report::Interval(index, remote)) => {
                let record = Record::from_remote(&remote)?;
                let merged =
                    open.entry(index).or_insert_with(|| (0, Record::new(record.ops.len())));
                merged.1.add(&record);
                merged.0 += 1;
                while let Some(first) = open.first_entry().filter(|one| one.get().0 == count) {
                    let (index, (_, record)) = first.remove_entry();
                    progress(Progress::Interval(index, &record));
                }
            }
            Ok(Report::End(end)) => match *end {
                Ok(end) => add_end(&mut run, end, &name),
                Err(why) => run.partial = Some(format!("agent {name}: {why}")),
            },
            Ok(_) => run.partial = Some(format!("agent {name} has lost the thread")),
            Err(why) => run.partial = Some(format!("agent {name}: {why}")),
        }
    }
    for (index, (_, record)) in open {
        progress(Progress::Interval(index, &record));
    }
    Ok(run)
}

fn add_end(run: &mut RunEnd, end: RunEnd, name: &str) {
    if let Some(why) = end.partial {
        run.partial = Some(format!("agent {name}: {why}"));
    }
    run.examples.extend(end.examples);
    run.measured_s = run.measured_s.max(end.measured_s);
    run.prefill_failed += end.prefill_failed;
    run.nodelay.0 += end.nodelay.0;
    run.nodelay.1 += end.nodelay.1;
    run.pinned &= end.pinned;
    run.event_base = end.event_base;
}
