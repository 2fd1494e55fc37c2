//! `weir-bench agent`, and the coordinator's side: several machines make one load together.
//!
//! The coordinator sends the plan; each agent owns the part of the keys that falls to it, says when
//! it is ready, starts when told, and sends the histograms of each interval, which are added. Lines
//! of JSON over TCP; no secret protects an agent, so it listens on the loopback address unless told
//! otherwise. Invariant: percentiles never travel.

use std::collections::BTreeMap;
use std::io::{BufRead, BufReader, Write};
use std::net::{TcpListener, TcpStream};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc;
use std::thread;
use std::time::{Duration, Instant};

use clap::Args;
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
    while !stop.load(Ordering::Relaxed) {
        let (stream, peer) = listener.accept().map_err(|error| error.to_string())?;
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
    stream.set_nodelay(true).map_err(|error| error.to_string())?;
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
    let options = RunOptions {
        event_base: prepare.event_base,
        spin: prepare.spin,
        cpus: prepare.cpus.clone(),
        interval: Duration::from_millis(prepare.interval_ms),
        machine: Part { index: prepare.machine.0, count: prepare.machine.1 },
        stop: stop.clone(),
        ..RunOptions::new(resolve(&prepare.server)?)
    };
    // The coordinator may go away in the middle: the run then ends by itself.
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
                Err(_) => return stop.store(true, Ordering::Relaxed),
            }
        }
    };
    engine::run(&plan, &options, &mut ready, &mut |progress| match progress {
        Progress::Connected => tell(&Report::Connected),
        Progress::Prefilled(seconds) => tell(&Report::Prefilled(seconds)),
        Progress::Interval(index, record) => {
            tell(&Report::Interval(index, Box::new(record.to_remote())));
        }
    })
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
        stream.set_nodelay(true).map_err(|error| told(&error))?;
        let writer = stream.try_clone().map_err(|error| told(&error))?;
        let reader = BufReader::new(stream);
        let one_way = Duration::ZERO;
        let mut agent = Agent { name: name.to_owned(), writer, reader, one_way };
        // The quickest of a few tells how long the word to start will take.
        let mut round = Duration::MAX;
        for _ in 0..5 {
            let sent = Instant::now();
            send(&mut agent.writer, &Order::Echo).map_err(|error| told(&error))?;
            let Report::Echo = receive(&mut agent.reader).map_err(|error| told(&error))? else {
                return Err(told(&"answers something else"));
            };
            round = round.min(sent.elapsed());
        }
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
    collect(agents, progress)
}

/// Adds what the agents send until the last has ended.
fn collect(agents: Vec<Agent>, progress: &mut dyn FnMut(Progress<'_>)) -> Result<RunEnd, String> {
    let count = agents.len();
    let (reports_in, reports) = mpsc::channel();
    for mut agent in agents {
        let reports = reports_in.clone();
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
    while let Ok((name, report)) = reports.recv() {
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
    run.prefill_failed += end.prefill_failed;
    run.nodelay.0 += end.nodelay.0;
    run.nodelay.1 += end.nodelay.1;
    run.pinned &= end.pinned;
    run.event_base = end.event_base;
}
