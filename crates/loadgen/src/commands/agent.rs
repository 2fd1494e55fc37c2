//! `weir-bench agent`: makes the part of a load that a coordinator (`run --agents`) gives it.
//!
//! The coordinator sends the plan; each agent owns the part of the keys that falls to it, says when
//! it is ready, starts when told, and sends the histograms of each interval. No secret protects an
//! agent, so it listens on the loopback address unless told otherwise. Invariant: an agent outlives
//! every coordinator, and ends when it is told to, whatever the coordinator does.

use std::io::ErrorKind;
use std::net::{TcpListener, TcpStream};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::thread;
use std::time::{Duration, Instant};

use clap::Args;
use rustix::io::Errno;
use rustix::net::RecvFlags;

use super::Ending;
use super::args::resolve;
use super::messages::{Inbox, LOOK, Order, Prepare, Report, SILENCE_MAX, send};
use crate::engine::{self, Progress, RunEnd, RunOptions};
use crate::workload::Plan;
use crate::workload::plan::Part;

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

/// How often the coordinator hears of an agent that has nothing to tell.
const ALIVE_EVERY: Duration = Duration::from_secs(1);

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
    let writer = stream.try_clone().map_err(|error| error.to_string())?;
    let mut inbox = Inbox::new(stream).map_err(|error| error.to_string())?;
    let prepare = loop {
        match inbox.receive(SILENCE_MAX, stop)? {
            Order::Prepare(prepare) => break prepare,
            Order::Echo => send(&writer, &Report::Echo)?,
            Order::Go(_) => return Err("told to start before it was told what".to_owned()),
        }
    };
    let result = carry_out(&prepare, &mut inbox, &writer, stop);
    send(&writer, &Report::End(Box::new(result)))
}

fn carry_out(
    prepare: &Prepare,
    inbox: &mut Inbox,
    writer: &TcpStream,
    stop: &AtomicBool,
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
    let link = Link { writer: Mutex::new(writer), run_stop: &run_stop };
    let mut ready = || {
        link.tell(&Report::Ready);
        // The others may take long to get ready; `watch` sees a coordinator that goes away.
        match inbox.receive(Duration::MAX, &run_stop) {
            Ok(Order::Go(delay_us)) => thread::sleep(Duration::from_micros(delay_us)),
            _ => run_stop.store(true, Ordering::Relaxed),
        }
    };
    let mut progress = |progress: Progress<'_>| match progress {
        Progress::Connected => link.tell(&Report::Connected),
        Progress::Prefilled(seconds) => link.tell(&Report::Prefilled(seconds)),
        // The coordinator knows, since it says when.
        Progress::Begins(_) => {}
        Progress::Interval(index, record) => {
            link.tell(&Report::Interval(index, Box::new(record.to_remote())));
        }
    };
    let is_over = AtomicBool::new(false);
    thread::scope(|scope| {
        scope.spawn(|| link.watch(stop, &is_over));
        let end = engine::run(&plan, &options, &mut ready, &mut progress);
        is_over.store(true, Ordering::Relaxed);
        end
    })
}

/// What leads to the coordinator while a run goes on.
struct Link<'a> {
    /// One message at a time.
    writer: Mutex<&'a TcpStream>,
    /// Ends the run.
    run_stop: &'a AtomicBool,
}

impl Link<'_> {
    /// A coordinator that can't be told anything has gone away.
    fn tell(&self, report: &Report) {
        let writer = self.writer.lock().expect("nobody panics while it is held");
        if send(*writer, report).is_err() {
            self.run_stop.store(true, Ordering::Relaxed);
        }
    }

    /// Ends the run when the coordinator has closed its side, or when the agent is told to end;
    /// says now and then that this agent lives. It only looks: what the coordinator says is read
    /// elsewhere.
    fn watch(&self, stop: &AtomicBool, is_over: &AtomicBool) {
        let stream = *self.writer.lock().expect("nobody panics while it is held");
        let mut told_at = Instant::now();
        while !is_over.load(Ordering::Relaxed) {
            thread::sleep(LOOK);
            let flags = RecvFlags::PEEK | RecvFlags::DONTWAIT;
            let is_gone = match rustix::net::recv(stream, &mut [0u8; 1], flags) {
                Ok((_, size)) => size == 0,
                Err(error) => error != Errno::AGAIN && error != Errno::INTR,
            };
            if is_gone || stop.load(Ordering::Relaxed) {
                self.run_stop.store(true, Ordering::Relaxed);
            }
            if told_at.elapsed() >= ALIVE_EVERY {
                told_at = Instant::now();
                self.tell(&Report::Alive);
            }
        }
    }
}
