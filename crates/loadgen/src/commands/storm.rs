//! `weir-bench storm`: connections that come and go, all at once or steadily.
//!
//! Each connects, asks once, reads the reply and closes. Invariant: each planned connection ends in
//! one of the counts, and times run from the intended start.

use std::collections::HashMap;
use std::os::fd::OwnedFd;
use std::sync::Arc;
use std::sync::atomic::AtomicBool;
use std::time::Duration;

use base::{Address, Buffers, Chain, Kind, Time, Token};
use clap::{Args, ValueEnum};
use event::{Event, EventBase, Readiness, ReadinessOptions};

use super::Ending;
use super::args::resolve;
use super::run::is_stopped;
use crate::engine::BaseChoice;
use crate::record::Latency;
use crate::reply::{self, Read};
use crate::report::{count, duration, duration_if_known};
use crate::summary::Percentiles;
use crate::workload::file::Wire;
use crate::workload::schedule::{Arrival, Schedule};

/// Arguments of `storm`.
#[derive(Debug, Clone, Args)]
pub struct StormArgs {
    /// The server: HOST:PORT, or the path of a unix socket.
    pub server: String,
    /// Connections in all. A client address has some 28 000 ports for one server address, and each
    /// stays taken for a minute.
    #[arg(short = 'n', long, default_value_t = 1000)]
    pub count: u32,
    /// New connections a second (Poisson) [default: all at once]
    #[arg(short, long, allow_negative_numbers = true)]
    pub rate: Option<f64>,
    /// The protocol of the one request.
    #[arg(short, long, value_enum, default_value = "redis")]
    pub protocol: StormProtocol,
    /// A connection without its reply for so many milliseconds has failed.
    #[arg(long, default_value_t = 5000)]
    pub timeout_ms: u64,
    /// The event base.
    #[arg(long, value_enum, default_value = "auto")]
    pub event_base: BaseChoice,
    /// Everything that is drawn follows from it.
    #[arg(long, default_value_t = 1)]
    pub seed: u64,
}

/// Protocols with a smallest request.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum StormProtocol {
    /// PING.
    Redis,
    /// version.
    Memcache,
}

impl StormProtocol {
    fn request(self) -> (&'static [u8], Wire) {
        match self {
            StormProtocol::Redis => (b"*1\r\n$4\r\nPING\r\n", Wire::Redis),
            StormProtocol::Memcache => (b"version\r\n", Wire::Memcache),
        }
    }
}

#[derive(Debug)]
struct Visitor {
    intended: Time,
    began: Time,
    reply: Vec<u8>,
    /// It has its end already, and only waits for its socket to be gone.
    is_over: bool,
}

/// What a storm came to.
#[derive(Debug, Default)]
struct Outcome {
    connect: Latency,
    first_reply: Latency,
    answered: u64,
    refused: u64,
    broken: u64,
    timed_out: u64,
    wrong: u64,
    /// The first wrong reply.
    example: Option<String>,
}

/// Carries `storm` out.
pub fn execute(args: &StormArgs, stop: &Arc<AtomicBool>) -> Result<Ending, String> {
    if args.count == 0 || args.timeout_ms == 0 {
        return Err("--count and --timeout-ms must be above 0".to_owned());
    }
    if let Some(rate) = args.rate.filter(|rate| !(*rate > 0.0 && *rate <= 1e6)) {
        return Err(format!("--rate {rate}: must be above 0 and at most 1e6 a second"));
    }
    let address = resolve(&args.server)?;
    #[cfg(target_os = "linux")]
    if args.event_base != BaseChoice::Readiness {
        match event::uring_supported() {
            Ok(tier) => {
                let base = event::Uring::new(event::UringOptions::new(tier));
                return storm(base.map_err(|error| error.to_string())?, args, &address, stop);
            }
            Err(refused) if args.event_base == BaseChoice::Uring => return Err(refused.to_string()),
            Err(_) => {}
        }
    }
    let base = Readiness::new(ReadinessOptions::default()).map_err(|error| error.to_string())?;
    storm(base, args, &address, stop)
}

fn storm<B: EventBase<Socket = OwnedFd>>(
    base: B,
    args: &StormArgs,
    address: &Address,
    stop: &AtomicBool,
) -> Result<Ending, String> {
    let start = base.now() + Duration::from_millis(10);
    let mut plan: Vec<Time> = match args.rate {
        None => vec![start; args.count as usize],
        Some(rate) => {
            let mut schedule = Schedule::new(&Arrival::Poisson, rate, args.seed, Arc::new([]));
            let times = std::iter::from_fn(|| schedule.next_ns());
            let times = times.take(args.count as usize);
            times.map(|ns| start + Duration::from_nanos(ns)).collect()
        }
    };
    plan.reverse();
    let mut storm = Storm {
        base,
        plan,
        visitors: HashMap::new(),
        generations: Vec::new(),
        free: Vec::new(),
        outcome: Outcome::default(),
        buffers: Buffers::new(),
        timeout: Duration::from_millis(args.timeout_ms),
        request: args.protocol.request(),
    };
    storm.run(address, stop).map_err(|error| error.to_string())?;
    let elapsed = storm.base.now().since(start);
    Ok(report(&storm.outcome, args.count, elapsed))
}

struct Storm<B> {
    base: B,
    /// Intended starts, the next one last.
    plan: Vec<Time>,
    visitors: HashMap<u32, Visitor>,
    generations: Vec<u32>,
    free: Vec<u32>,
    outcome: Outcome,
    buffers: Buffers,
    timeout: Duration,
    request: (&'static [u8], Wire),
}

/// How often time-outs are looked for.
const CHECK: Duration = Duration::from_millis(20);
/// Bytes of a wrong reply that are shown.
const EXAMPLE_SIZE_MAX: usize = 60;

impl<B: EventBase<Socket = OwnedFd>> Storm<B> {
    fn run(&mut self, address: &Address, stop: &AtomicBool) -> std::io::Result<()> {
        let mut events = Vec::new();
        let mut next_check = self.base.now() + CHECK;
        let is_over = |storm: &Self| storm.plan.is_empty() && storm.visitors.is_empty();
        while !is_over(self) && !is_stopped(stop) {
            let due = self.plan.last().copied().unwrap_or(Time::MAX);
            self.base.wait(1, Some(due.min(next_check)), &mut events)?;
            let now = self.base.now();
            for event in events.drain(..) {
                self.handle(event, now);
            }
            while let Some(intended) = self.plan.pop_if(|at| *at <= now) {
                self.begin(intended, now, address);
            }
            if now >= next_check {
                next_check = now + CHECK;
                self.check(now);
            }
        }
        Ok(())
    }

    fn begin(&mut self, intended: Time, now: Time, address: &Address) {
        let index = self.free.pop().unwrap_or_else(|| {
            self.generations.push(0);
            self.generations.len() as u32 - 1
        });
        let visitor = Visitor { intended, began: now, reply: Vec::new(), is_over: false };
        self.visitors.insert(index, visitor);
        self.base.connect(self.token(index), address);
    }

    fn token(&self, index: u32) -> Token {
        Token::new(Kind::Server, index, self.generations[index as usize])
    }

    fn handle(&mut self, event: Event<OwnedFd>, now: Time) {
        let (request, wire) = self.request;
        match event {
            Event::Connected(token) => {
                let Some(visitor) = self.visitors.get(&token.index()) else { return };
                self.outcome.connect.record(now.since(visitor.intended).as_nanos() as u64);
                let mut chain = Chain::new();
                chain.push(request, &mut self.buffers);
                self.base.recv_start(token, usize::MAX);
                self.base.send(token, chain);
            }
            Event::ConnectFailed(token, _) => self.end(token, |outcome| &mut outcome.refused),
            Event::Sent(_, mut chain) => chain.recycle(&mut self.buffers),
            Event::SendFailed(token, _, _) | Event::RecvEnd(token, _) => {
                self.end(token, |outcome| &mut outcome.broken);
            }
            Event::Received(token, received) => {
                let bytes = self.base.bytes(received).to_vec();
                self.base.release(received);
                let Some(visitor) = self.visitors.get_mut(&token.index()) else { return };
                visitor.reply.extend_from_slice(&bytes);
                match reply::read(wire, &visitor.reply) {
                    Read::Incomplete => {}
                    Read::Whole(size, reply::Reply::Done) if size == visitor.reply.len() => {
                        let since = now.since(visitor.intended).as_nanos() as u64;
                        if !visitor.is_over {
                            self.outcome.first_reply.record(since);
                        }
                        self.end(token, |outcome| &mut outcome.answered);
                    }
                    _ => {
                        let begin = &visitor.reply[..visitor.reply.len().min(EXAMPLE_SIZE_MAX)];
                        let text = begin.escape_ascii().to_string();
                        self.outcome.example.get_or_insert(text);
                        self.end(token, |outcome| &mut outcome.wrong);
                    }
                }
            }
            Event::Closed(token) => {
                self.visitors.remove(&token.index());
                self.generations[token.index() as usize] += 1;
                self.free.push(token.index());
            }
            _ => {}
        }
    }

    fn end(&mut self, token: Token, which: fn(&mut Outcome) -> &mut u64) {
        let Some(visitor) = self.visitors.get_mut(&token.index()) else { return };
        if !visitor.is_over {
            visitor.is_over = true;
            *which(&mut self.outcome) += 1;
            self.base.close(token);
        }
    }

    fn check(&mut self, now: Time) {
        let late: Vec<u32> = self
            .visitors
            .iter()
            .filter(|(_, visitor)| !visitor.is_over && now.since(visitor.began) >= self.timeout)
            .map(|(index, _)| *index)
            .collect();
        for index in late {
            let visitor = &self.visitors[&index];
            // A lower bound, in the tail all the same.
            self.outcome.first_reply.record(now.since(visitor.intended).as_nanos() as u64);
            self.end(self.token(index), |outcome| &mut outcome.timed_out);
        }
    }
}

fn report(outcome: &Outcome, planned: u32, elapsed: Duration) -> Ending {
    let rate = f64::from(planned) / elapsed.as_secs_f64();
    println!(
        "{planned} connections in {:.2} s ({}/s): answered {}, refused {}, broken {}, timed out \
         {}, wrong {}",
        elapsed.as_secs_f64(),
        count(rate),
        outcome.answered,
        outcome.refused,
        outcome.broken,
        outcome.timed_out,
        outcome.wrong,
    );
    if let Some(example) = &outcome.example {
        println!(
            "wrong reply: \"{example}\"; is the protocol right (--protocol), and does the server \
             take so many connections?"
        );
    }
    for (name, latency) in [("connected", &outcome.connect), ("first reply", &outcome.first_reply)]
    {
        let figures = Percentiles::of(latency);
        println!(
            "{name:<12} p50 {}, p99 {}, max {}",
            duration_if_known(figures.p50_ns),
            duration_if_known(figures.p99_ns),
            duration(figures.max_ns),
        );
    }
    let good = outcome.answered == u64::from(planned);
    if good { Ending::Good } else { Ending::Bad }
}
