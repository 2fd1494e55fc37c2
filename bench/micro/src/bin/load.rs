//! The load of the comparison: closed-loop clients in one thread, each with a batch of requests in
//! flight, and the processor time of whom they load.
//!
//! It measures capacity and the cost of an operation. Its latencies are those of a closed loop,
//! which a slow proxy slows down: for latency at a given load there is `weir-bench`. Invariant:
//! every reply is of the kind and size that its request must have, in the order of the requests,
//! or the program panics.

#![forbid(unsafe_code)]

use std::net::SocketAddr;
use std::os::fd::OwnedFd;
use std::time::Duration;

use base::{Address, Buffers, Chain, Kind, Time, Token};
use clap::Parser;
use event::{Event, EventBase};
use hdrhistogram::Histogram;
use micro::requests::{self, KEY_SIZE, Protocol};
use micro::{BaseName, base_choice};

/// Closed-loop load.
#[derive(Debug, Clone, Parser)]
struct Arguments {
    /// Whom to load.
    #[arg(long)]
    target: SocketAddr,
    /// Speak memcached's protocol instead of Redis'.
    #[arg(long)]
    memcache: bool,
    /// Clients. 1 to 20000.
    #[arg(long, default_value_t = 50)]
    connections: u32,
    /// Requests of a batch: the next is sent when all of its replies have come. 1 to 64.
    #[arg(long, default_value_t = 1)]
    pipeline: u32,
    /// Seconds that are measured.
    #[arg(long, default_value_t = 2.0)]
    seconds: f64,
    /// Seconds before them.
    #[arg(long, default_value_t = 0.5)]
    warmup: f64,
    /// Bytes of a value.
    #[arg(long, default_value_t = 64)]
    value_size: usize,
    /// Different keys.
    #[arg(long, default_value_t = 10_000)]
    keys: u64,
    /// Keys that one request asks for.
    #[arg(long, default_value_t = 1)]
    keys_per_request: usize,
    /// Percent of the requests that store a value.
    #[arg(long, default_value_t = 0)]
    sets_percent: u32,
    /// Replies to requests of two kinds may come in any order.
    #[arg(long)]
    unordered: bool,
    /// Store every key once and end.
    #[arg(long)]
    fill: bool,
    /// Processes whose time on the processor is told.
    #[arg(long, value_delimiter = ',')]
    watch: Vec<u32>,
    /// CPU whose idle time is told: that of the load and the servers.
    #[arg(long)]
    core: Option<u32>,
    /// The event base.
    #[arg(long, value_enum, default_value_t = BaseName::Uring)]
    event_base: BaseName,
}

impl Arguments {
    fn protocol(&self) -> Protocol {
        if self.memcache { Protocol::Memcache } else { Protocol::Redis }
    }
}

/// Connections that are opened at a time, so that no listener's queue overflows.
const CONNECTING_MAX: u32 = 128;
/// Nothing takes as long as this.
const SILENCE_MAX: Duration = Duration::from_secs(20);

fn main() {
    let arguments = Arguments::parse();
    assert!((1..=64).contains(&arguments.pipeline), "a batch is 1 to 64 requests");
    match arguments.event_base {
        #[cfg(target_os = "linux")]
        BaseName::Uring => Load::new(base_choice::uring(), &arguments).run(),
        #[cfg(not(target_os = "linux"))]
        BaseName::Uring => panic!("io_uring is Linux'"),
        BaseName::Polling => Load::new(base_choice::polling(), &arguments).run(),
    }
}

/// A request with places for the numbers of its keys.
struct Shape {
    bytes: Vec<u8>,
    /// One past the last digit of each key.
    key_ends: Vec<usize>,
}

impl Shape {
    fn new(bytes: Vec<u8>, value_size: usize) -> Shape {
        let mut key = Vec::new();
        requests::push_key(value_size, 0, &mut key);
        let starts = (0..bytes.len().saturating_sub(KEY_SIZE - 1))
            .filter(|&start| bytes[start..start + KEY_SIZE] == key[..]);
        let key_ends = starts.map(|start| start + KEY_SIZE).collect();
        Shape { bytes, key_ends }
    }

    /// Appends the request, with keys that `next` numbers.
    fn push(&self, mut next: impl FnMut() -> u64, out: &mut Vec<u8>) {
        let start = out.len();
        out.extend_from_slice(&self.bytes);
        for end in &self.key_ends {
            let mut number = next();
            let mut at = start + end;
            while number > 0 {
                at -= 1;
                out[at] = b'0' + (number % 10) as u8;
                number /= 10;
            }
        }
    }
}

#[derive(Default)]
struct Connection {
    /// Requests of the batch that wait for a reply.
    waiting_count: u32,
    /// Which of them store a value, the next to be answered lowest.
    sets: u64,
    /// Bytes of the reply under way that are still to come.
    reply_left: usize,
    sent_at: Time,
}

/// What was measured, or the state at its beginning.
struct Mark {
    at: Time,
    watched_ns: u64,
    own_ns: u64,
    /// Idle and all ticks of the core.
    ticks: (u64, u64),
}

struct Load<B> {
    base: B,
    arguments: Arguments,
    get: Shape,
    set: Shape,
    get_reply_size: usize,
    set_reply_size: usize,
    connections: Vec<Connection>,
    opened_count: u32,
    random: u64,
    /// Keys that were stored, while filling.
    filled_count: u64,
    operations: u64,
    latencies: Histogram<u64>,
    buffers: Buffers,
    scratch: Vec<u8>,
}

impl<B: EventBase<Socket = OwnedFd>> Load<B> {
    fn new(base: B, arguments: &Arguments) -> Load<B> {
        let protocol = arguments.protocol();
        let size = arguments.value_size;
        let (mut get, mut set) = (Vec::new(), Vec::new());
        let zeros = vec![0; arguments.keys_per_request];
        requests::push_get(protocol, size, zeros.into_iter(), &mut get);
        requests::push_set(protocol, size, 0, &requests::value(size), &mut set);
        Load {
            base,
            arguments: arguments.clone(),
            get: Shape::new(get, size),
            set: Shape::new(set, size),
            get_reply_size: requests::get_reply_size(protocol, size, arguments.keys_per_request),
            set_reply_size: requests::set_reply_size(protocol),
            connections: (0..arguments.connections).map(|_| Connection::default()).collect(),
            opened_count: 0,
            random: 0x9e37_79b9_7f4a_7c15,
            filled_count: 0,
            operations: 0,
            latencies: Histogram::new(3).expect("3 digits are possible"),
            buffers: Buffers::new(),
            scratch: Vec::new(),
        }
    }

    fn run(mut self) {
        self.open_all();
        for index in 0..self.arguments.connections {
            self.send_batch(index, self.base.now());
        }
        if self.arguments.fill {
            while self.operations < self.arguments.keys {
                self.turn();
            }
            println!("{{\"filled\": {}}}", self.operations);
            return;
        }
        let warm_at = self.base.now() + Duration::from_secs_f64(self.arguments.warmup);
        while self.base.now() < warm_at {
            self.turn();
        }
        let before = self.mark();
        self.operations = 0;
        self.latencies.reset();
        let end_at = before.at + Duration::from_secs_f64(self.arguments.seconds);
        while self.base.now() < end_at {
            self.turn();
        }
        let after = self.mark();
        self.report(&before, &after);
    }

    /// Opens every connection, a few at a time.
    fn open_all(&mut self) {
        let address = Address::Inet(self.arguments.target);
        let mut started_count = 0;
        let mut events = Vec::new();
        while self.opened_count < self.arguments.connections {
            while started_count < self.arguments.connections
                && started_count - self.opened_count < CONNECTING_MAX
            {
                self.base.connect(Token::new(Kind::Client, started_count, 0), &address);
                started_count += 1;
            }
            self.base.wait(1, None, &mut events).expect("waiting works");
            for event in events.drain(..) {
                match event {
                    Event::Connected(token) => {
                        self.opened_count += 1;
                        self.base.recv_start(token, usize::MAX);
                    }
                    other => panic!("a connection could not be opened: {other:?}"),
                }
            }
        }
    }

    fn turn(&mut self) {
        let mut events = Vec::new();
        let silent_at = self.base.now() + SILENCE_MAX;
        self.base.wait(1, Some(silent_at), &mut events).expect("waiting works");
        let now = self.base.now();
        assert!(now < silent_at, "nobody has answered for {SILENCE_MAX:?}");
        for event in events {
            match event {
                Event::Received(token, received) => {
                    let index = token.index();
                    self.take_replies(index, received, now);
                    self.base.release(received);
                    if self.connections[index as usize].waiting_count == 0 {
                        self.send_batch(index, now);
                    }
                }
                Event::Sent(_, mut chain) => chain.recycle(&mut self.buffers),
                other => panic!("a connection has ended: {other:?}"),
            }
        }
    }

    fn take_replies(&mut self, index: u32, received: event::Received, now: Time) {
        let connection = &mut self.connections[index as usize];
        let mut bytes = self.base.bytes(received);
        while !bytes.is_empty() {
            if connection.reply_left == 0 {
                assert!(connection.waiting_count > 0, "a reply to no request");
                let is_set = match bytes[0] {
                    b'$' | b'*' | b'V' if bytes.get(1) != Some(&b'-') => false,
                    b'+' | b'S' => true,
                    _ => panic!("not a reply to be had: {}", String::from_utf8_lossy(bytes)),
                };
                let due = connection.sets & 1 == 1;
                assert!(is_set == due || self.arguments.unordered, "the order was not kept");
                connection.sets >>= 1;
                connection.reply_left =
                    if is_set { self.set_reply_size } else { self.get_reply_size };
            }
            let size = connection.reply_left.min(bytes.len());
            connection.reply_left -= size;
            if connection.reply_left == 0 {
                assert!(bytes[size - 1] == b'\n', "a reply has not the size that it must have");
                connection.waiting_count -= 1;
                self.operations += 1;
                let latency_ns = (now - connection.sent_at).as_nanos() as u64;
                self.latencies.record(latency_ns).expect("the histogram grows");
            }
            bytes = &bytes[size..];
        }
    }

    fn send_batch(&mut self, index: u32, now: Time) {
        let connection = &mut self.connections[index as usize];
        let keys = self.arguments.keys;
        self.scratch.clear();
        for place in 0..self.arguments.pipeline {
            if self.arguments.fill {
                if self.filled_count == keys {
                    break;
                }
                let number = self.filled_count;
                self.filled_count += 1;
                self.set.push(|| number, &mut self.scratch);
                connection.sets |= 1 << place;
            } else {
                let random = &mut self.random;
                let sets = next(random) % 100 < u64::from(self.arguments.sets_percent);
                let shape = if sets { &self.set } else { &self.get };
                shape.push(|| next(random) % keys, &mut self.scratch);
                connection.sets |= u64::from(sets) << place;
            }
            connection.waiting_count += 1;
        }
        if connection.waiting_count == 0 {
            return;
        }
        connection.sent_at = now;
        let mut chain = Chain::new();
        chain.push(&self.scratch, &mut self.buffers);
        self.base.send(Token::new(Kind::Client, index, 0), chain);
    }

    fn mark(&self) -> Mark {
        let watched_ns = self.arguments.watch.iter().map(|&pid| processor_ns(pid)).sum();
        Mark {
            at: self.base.now(),
            watched_ns,
            own_ns: processor_ns(std::process::id()),
            ticks: self.arguments.core.map_or((0, 0), core_ticks),
        }
    }

    fn report(&self, before: &Mark, after: &Mark) {
        let seconds = (after.at - before.at).as_secs_f64();
        let quantile = |q| self.latencies.value_at_quantile(q) as f64 / 1000.0;
        let ticks = (after.ticks.1 - before.ticks.1).max(1) as f64;
        let idle = (after.ticks.0 - before.ticks.0) as f64 / ticks;
        println!(
            "{{\"operations\": {}, \"seconds\": {seconds:.6}, \"p50_us\": {:.1}, \
             \"p99_us\": {:.1}, \"p999_us\": {:.1}, \"watched_ns\": {}, \"own_ns\": {}, \
             \"core_idle\": {idle:.3}}}",
            self.operations,
            quantile(0.5),
            quantile(0.99),
            quantile(0.999),
            after.watched_ns - before.watched_ns,
            after.own_ns - before.own_ns,
        );
    }
}

/// Small and fast (Marsaglia, xorshift64).
fn next(state: &mut u64) -> u64 {
    *state ^= *state << 13;
    *state ^= *state >> 7;
    *state ^= *state << 17;
    *state >> 16
}

/// How long all threads of a process have been on a processor.
fn processor_ns(pid: u32) -> u64 {
    let Ok(tasks) = std::fs::read_dir(format!("/proc/{pid}/task")) else {
        panic!("process {pid} is gone");
    };
    tasks
        .flatten()
        .filter_map(|task| std::fs::read_to_string(task.path().join("schedstat")).ok())
        .filter_map(|text| text.split(' ').next()?.parse::<u64>().ok())
        .sum()
}

/// Idle ticks of a CPU and all of them, since it started.
fn core_ticks(cpu: u32) -> (u64, u64) {
    let text = std::fs::read_to_string("/proc/stat").unwrap_or_default();
    let name = format!("cpu{cpu} ");
    let line = text.lines().find(|line| line.starts_with(&name)).unwrap_or_default();
    let ticks: Vec<u64> =
        line.split_whitespace().skip(1).filter_map(|word| word.parse().ok()).collect();
    // Idle, and waiting for a disk.
    (ticks.iter().skip(3).take(2).sum(), ticks.iter().take(8).sum())
}
