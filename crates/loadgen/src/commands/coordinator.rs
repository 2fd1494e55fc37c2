//! `run --agents`: the side that plans the load, starts all agents together and adds what they
//! send.
//!
//! Invariants: percentiles never travel, only histograms; and an agent that dies or hangs costs its
//! own part of the load, not what the others have measured.

use std::collections::BTreeMap;
use std::net::{Shutdown, TcpStream};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::{self, RecvTimeoutError};
use std::thread;
use std::time::{Duration, Instant};

use super::messages::{Inbox, LOOK, Order, PATIENCE, Prepare, Report, SILENCE_MAX, connect, send};
use crate::engine::{Progress, RunEnd, RunOptions, until_measured};
use crate::record::Record;
use crate::workload::Plan;

/// All start so long after the word to start was sent.
const HEAD_START: Duration = Duration::from_millis(200);

struct Agent {
    name: String,
    writer: TcpStream,
    inbox: Inbox,
    one_way: Duration,
}

impl Agent {
    fn connect(name: &str, stop: &AtomicBool) -> Result<Agent, String> {
        let told = |error: &dyn std::fmt::Display| format!("agent {name}: {error}");
        let writer = connect(name).map_err(|error| told(&error))?;
        let inbox = writer.try_clone().and_then(Inbox::new).map_err(|error| told(&error))?;
        let mut agent = Agent { name: name.to_owned(), writer, inbox, one_way: Duration::ZERO };
        // The quickest of a few tells how long the word to start will take.
        let mut round = Duration::MAX;
        for _ in 0..5 {
            let sent = Instant::now();
            send(&agent.writer, &Order::Echo).map_err(|error| told(&error))?;
            match agent.inbox.receive(PATIENCE, stop) {
                Ok(Report::Echo) => round = round.min(sent.elapsed()),
                _ if stop.load(Ordering::Relaxed) => return Err(told(&"interrupted")),
                _ => {
                    let why = "answers as no agent does; `weir-bench agent` must run there, and \
                        have no other run";
                    return Err(told(&why));
                }
            }
        }
        agent.one_way = round / 2;
        Ok(agent)
    }

    /// Waits until it is connected to the server and has written its keys.
    fn wait(
        &mut self,
        stop: &AtomicBool,
        progress: &mut dyn FnMut(Progress<'_>),
    ) -> Result<(), String> {
        loop {
            match self.inbox.receive(SILENCE_MAX, stop)? {
                Report::Ready => return Ok(()),
                Report::End(end) => {
                    return Err(end.err().unwrap_or_else(|| "ended before it began".to_owned()));
                }
                Report::Connected => progress(Progress::Connected),
                Report::Prefilled(seconds) => progress(Progress::Prefilled(seconds)),
                Report::Alive | Report::Echo | Report::Interval(..) => {}
            }
        }
    }
}

/// Runs a plan on agents; the counterpart of [`crate::engine::run`].
pub fn run_on_agents(
    plan: &Plan,
    run: u32,
    options: &RunOptions,
    names: &[String],
    progress: &mut dyn FnMut(Progress<'_>),
) -> Result<RunEnd, String> {
    let (stop, count) = (&*options.stop, names.len() as u32);
    let mut agents: Vec<Agent> =
        names.iter().map(|name| Agent::connect(name, stop)).collect::<Result<_, _>>()?;
    let total = plan.settings.connections;
    for (index, agent) in (0..).zip(&agents) {
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
        send(&agent.writer, &Order::Prepare(Box::new(prepare)))
            .map_err(|why| format!("agent {}: {why}", agent.name))?;
    }
    // All are connected before the first writes a key, as far as that can be seen from here.
    for agent in &mut agents {
        agent.wait(stop, progress).map_err(|why| format!("agent {}: {why}", agent.name))?;
    }
    let start = Instant::now() + HEAD_START;
    for agent in &agents {
        let left = start.saturating_duration_since(Instant::now() + agent.one_way);
        send(&agent.writer, &Order::Go(left.as_micros() as u64))
            .map_err(|why| format!("agent {}: {why}", agent.name))?;
    }
    let left = start.saturating_duration_since(Instant::now());
    progress(Progress::Begins(left + until_measured(plan)));
    collect(agents, stop, progress)
}

/// What one agent says, until its end; which agent is said by its number.
type Told = (usize, Result<Report, String>);

/// Adds what the agents send until the last has ended. They are told to stop by the end of what is
/// sent to them, and then send what they have.
fn collect(
    agents: Vec<Agent>,
    stop: &AtomicBool,
    progress: &mut dyn FnMut(Progress<'_>),
) -> Result<RunEnd, String> {
    let names: Vec<String> = agents.iter().map(|agent| agent.name.clone()).collect();
    let mut writers = Vec::new();
    let (reports_in, reports) = mpsc::channel();
    for (number, Agent { writer, mut inbox, .. }) in agents.into_iter().enumerate() {
        writers.push(writer);
        let reports = reports_in.clone();
        thread::spawn(move || {
            // Those that are told to stop have something to say still.
            let never = AtomicBool::new(false);
            loop {
                let report: Result<Report, String> = inbox.receive(SILENCE_MAX, &never);
                let last = !matches!(report, Ok(Report::Interval(..) | Report::Alive));
                if reports.send((number, report)).is_err() || last {
                    return;
                }
            }
        });
    }
    drop(reports_in);
    let mut merging = Merging::new(names);
    loop {
        match reports.recv_timeout(LOOK) {
            Ok(told) => merging.take(told, progress)?,
            Err(RecvTimeoutError::Timeout) => {}
            Err(RecvTimeoutError::Disconnected) => return Ok(merging.run),
        }
        if stop.load(Ordering::Relaxed) {
            // One that is gone can't be told.
            writers.drain(..).for_each(|one| drop(one.shutdown(Shutdown::Write)));
        }
    }
}

/// Intervals on their way to the whole.
struct Merging {
    names: Vec<String>,
    /// The interval that each agent will tell next; none after its end.
    reached: Vec<u64>,
    open: BTreeMap<u64, Record>,
    run: RunEnd,
}

impl Merging {
    fn new(names: Vec<String>) -> Merging {
        let reached = vec![0; names.len()];
        Merging { reached, names, open: BTreeMap::new(), run: RunEnd::empty() }
    }

    fn take(
        &mut self,
        (number, report): Told,
        progress: &mut dyn FnMut(Progress<'_>),
    ) -> Result<(), String> {
        let name = &self.names[number];
        match report {
            Ok(Report::Alive) => return Ok(()),
            Ok(Report::Interval(index, remote)) => {
                let record = Record::from_remote(&remote)?;
                let empty = || Record::new(record.ops.len());
                self.open.entry(index).or_insert_with(empty).add(&record);
                self.reached[number] = index + 1;
            }
            other => {
                self.reached[number] = u64::MAX;
                let end = match other {
                    Ok(Report::End(end)) => *end,
                    Ok(_) => Err("has lost the thread".to_owned()),
                    Err(why) => Err(why),
                };
                match end {
                    Ok(mut end) => {
                        end.partial = end.partial.map(|why| format!("agent {name}: {why}"));
                        self.run.add(end);
                    }
                    Err(why) => {
                        self.run.partial.get_or_insert(format!("agent {name}: {why}"));
                    }
                }
            }
        }
        // Those that are gone tell no more, and must not keep the others waiting.
        let told_by_all = self.reached.iter().min().copied().unwrap_or(u64::MAX);
        while let Some(first) = self.open.first_entry().filter(|one| *one.key() < told_by_all) {
            let (index, record) = first.remove_entry();
            progress(Progress::Interval(index, &record));
        }
        Ok(())
    }
}
