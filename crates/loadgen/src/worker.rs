//! One thread of the generator: a driver, an event base, and the loop that joins them.
//!
//! Rules of the loop: wait once; handle everything that came; issue what is due; send once for each
//! connection; read the clock once after waiting and once before the sends go to the kernel.
//! Invariant: nothing blocks but `wait`, and nothing is formatted, locked or allocated for a
//! request.

use std::io;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use base::{Address, SocketError, Time, Token};
use crossbeam_channel::{Receiver, Sender};
use event::{Counters, Event, EventBase};
use rustix::time::{ClockId, clock_gettime};

use crate::driver::{Action, Driver};
use crate::record::Record;

/// A record of one interval on its way to whoever merges them.
#[derive(Debug)]
pub struct Interval {
    /// Which interval, from the start of the load.
    pub index: u64,
    /// What was measured.
    pub record: Box<Record>,
}

/// How a worker gives its intervals away, and gets emptied ones back.
#[derive(Debug)]
pub struct Outlet {
    /// Full ones go here.
    pub full: Sender<Interval>,
    /// Empty ones come from here.
    pub empty: Receiver<Box<Record>>,
    /// How long an interval is.
    pub length: Duration,
}

/// What an event base and its sockets tell, beyond what every base can.
#[derive(Debug)]
pub struct Looks<B: EventBase> {
    /// Whether a socket has TCP_NODELAY; `None` where that means nothing.
    pub nodelay_of: fn(&B::Socket) -> Option<bool>,
    /// What the base has done so far.
    pub counters_of: fn(&B) -> Counters,
}

/// See the module's text.
pub struct Worker<B: EventBase> {
    base: B,
    driver: Driver,
    address: Address,
    looks: Looks<B>,
    spin: bool,
    events: Vec<Event<B::Socket>>,
    ops_count: usize,
    usage: Usage,
    /// Connections whose TCP_NODELAY was read back, and those that did not have it.
    nodelay_seen: u32,
    nodelay_missing: u32,
}

impl<B: EventBase> Worker<B> {
    /// A worker whose connections will go to `address`. With `spin` it never sleeps.
    pub fn new(
        base: B,
        driver: Driver,
        address: Address,
        looks: Looks<B>,
        spin: bool,
        ops_count: usize,
    ) -> Worker<B> {
        Worker {
            base,
            driver,
            address,
            looks,
            spin,
            events: Vec::new(),
            ops_count,
            usage: Usage::default(),
            nodelay_seen: 0,
            nodelay_missing: 0,
        }
    }

    /// What it drives.
    pub fn driver(&self) -> &Driver {
        &self.driver
    }

    /// The clock.
    pub fn now(&self) -> Time {
        self.base.now()
    }

    /// Connections whose TCP_NODELAY was read back, and how many of them did not have it.
    pub fn nodelay(&self) -> (u32, u32) {
        (self.nodelay_seen, self.nodelay_missing)
    }

    /// Opens all connections, or gives up after `patience`.
    pub fn connect(&mut self, count: usize, patience: Duration) -> Result<(), String> {
        let deadline = self.base.now() + patience;
        // Brings the first connects forth.
        self.begin();
        while self.driver.up_count() < count {
            if self.base.now() >= deadline {
                let why = self.driver.last_error().unwrap_or(SocketError::TimedOut);
                let up = self.driver.up_count();
                let examples = self.driver.examples().join("; ");
                let text = format!("{}: {why} ({up} of {count} connections are up)", self.address);
                let more =
                    if examples.is_empty() { String::new() } else { format!(": {examples}") };
                return Err(text + &more);
            }
            self.turn(deadline).map_err(|error| error.to_string())?;
        }
        Ok(())
    }

    fn begin(&mut self) {
        let now = self.base.now();
        self.driver.begin_turn(now, 0);
        self.driver.poll(now);
        self.act();
        self.driver.stamp(self.base.now());
    }

    /// Writes all keys of the driver's part. Gives up when nothing was answered for `patience`: an
    /// error if nothing was answered at all, else the keys that are missing are counted.
    pub fn prefill(&mut self, patience: Duration, stop: &AtomicBool) -> Result<(), String> {
        self.driver.start_prefill();
        self.begin();
        let mut last = (u64::MAX, self.base.now());
        while !self.driver.is_done() && !stop.load(Ordering::Relaxed) {
            let now = self.base.now();
            self.turn(now + Duration::from_millis(100)).map_err(|error| error.to_string())?;
            let received = self.driver.record_mut().counts.bytes_in;
            if received != last.0 {
                last = (received, now);
            } else if now.since(last.1) > patience {
                break;
            }
        }
        if self.driver.record_mut().counts.bytes_in == 0 && !stop.load(Ordering::Relaxed) {
            let examples = self.driver.examples();
            return Err(format!(
                "{}: no reply while keys were written ({}); is the protocol right (--protocol)?",
                self.address,
                examples.first().map_or("nothing was said", |example| example),
            ));
        }
        Ok(())
    }

    /// Runs the load from `start`, until everything is answered or has timed out, or `stop` is set.
    /// Gives how long was measured.
    pub fn load(
        &mut self,
        start: Time,
        outlet: &Outlet,
        stop: &AtomicBool,
    ) -> io::Result<Duration> {
        // What was counted while keys were written is no part of the load.
        let _ = self.driver.take_record(Record::new(self.ops_count));
        self.driver.start_load(start);
        let (from, until) = self.driver.measured();
        let patience = self.driver.timeout();
        let drained = until + patience + patience / 8;
        // Intervals count from the measured time; what comes before belongs to none.
        let mut index = 0;
        let mut next_interval = from;
        let mut warm = false;
        self.begin();
        loop {
            let now = self.turn(next_interval.min(drained))?;
            if now >= next_interval {
                if warm {
                    self.flush(index, outlet);
                    index += 1;
                } else {
                    warm = true;
                    self.driver.record_mut().forget_traffic();
                    self.usage = self.usage_now();
                }
                while next_interval <= now {
                    next_interval = next_interval + outlet.length;
                }
                // What is answered after the measured time must not count as answered in it.
                if now < until {
                    next_interval = next_interval.min(until);
                }
            }
            let over = now >= until && (self.driver.is_done() || now >= drained);
            if over || stop.load(Ordering::Relaxed) {
                self.driver.finish(now);
                self.flush(index, outlet);
                return Ok(now.min(until).since(from));
            }
        }
    }

    fn usage_now(&self) -> Usage {
        let counters = (self.looks.counters_of)(&self.base);
        let overflows = counters.overflows + counters.starved;
        Usage { submissions: counters.submissions, overflows, ..Usage::now() }
    }

    fn flush(&mut self, index: u64, outlet: &Outlet) {
        let usage = self.usage_now();
        let counts = &mut self.driver.record_mut().counts;
        counts.cpu_ns = usage.cpu_ns.saturating_sub(self.usage.cpu_ns);
        counts.cpu_ns_max = counts.cpu_ns;
        counts.run_delay_ns = usage.run_delay_ns.saturating_sub(self.usage.run_delay_ns);
        counts.sleeps = usage.sleeps.saturating_sub(self.usage.sleeps);
        counts.submissions = usage.submissions.saturating_sub(self.usage.submissions);
        counts.overflows = usage.overflows.saturating_sub(self.usage.overflows);
        self.usage = usage;
        let mut empty =
            outlet.empty.try_recv().unwrap_or_else(|_| Box::new(Record::new(self.ops_count)));
        *empty = self.driver.take_record(*empty);
        // Whoever merges may have gone away.
        let _ = outlet.full.send(Interval { index, record: empty });
    }

    /// One turn; it ends at `limit` at the latest. Gives its time.
    fn turn(&mut self, limit: Time) -> io::Result<Time> {
        let deadline = if self.spin { Time::ZERO } else { self.driver.deadline().min(limit) };
        let mut events = std::mem::take(&mut self.events);
        self.base.wait(self.driver.events_wanted(), Some(deadline), &mut events)?;
        let now = self.base.now();
        self.driver.begin_turn(now, events.len());
        for event in events.drain(..) {
            self.handle(event);
        }
        self.events = events;
        self.driver.poll(now);
        let sent = self.act();
        let counts = &mut self.driver.record_mut().counts;
        counts.turns += 1;
        if sent {
            let submit = self.base.now();
            self.driver.stamp(submit);
            let record = self.driver.record_mut();
            record.loop_interval.record(submit.since(now).as_nanos() as u64);
        }
        Ok(now)
    }

    fn handle(&mut self, event: Event<B::Socket>) {
        match event {
            Event::Received(token, received) => {
                self.driver.handle_received(token, self.base.bytes(received));
                self.base.release(received);
            }
            Event::Sent(token, chain) => self.driver.handle_sent(token, chain),
            Event::RecvEnd(token, end) => self.driver.handle_recv_end(token, end),
            Event::SendFailed(token, chain, error) => {
                self.driver.handle_send_failed(token, chain, error);
            }
            Event::Connected(token) => self.connected(token),
            Event::ConnectFailed(token, error) => self.driver.handle_connect_failed(token, error),
            Event::Closed(token) => self.driver.handle_closed(token),
            Event::Accepted { .. } | Event::AcceptEnd { .. } | Event::Woken => {}
        }
    }

    /// Reads TCP_NODELAY back, since everything that is measured depends on it.
    fn connected(&mut self, token: Token) {
        if let Some(socket) = self.base.export(token) {
            if let Some(nodelay) = (self.looks.nodelay_of)(&socket) {
                self.nodelay_seen += 1;
                self.nodelay_missing += u32::from(!nodelay);
            }
            if let Err(error) = self.base.adopt(token, socket) {
                return self.driver.handle_connect_failed(token, SocketError::from(&error));
            }
        }
        self.driver.handle_connected(token);
    }

    /// Carries actions out; whether something is sent.
    fn act(&mut self) -> bool {
        let mut sent = false;
        while let Some(action) = self.driver.poll_action() {
            match action {
                Action::Send(token, chain) => {
                    self.base.send(token, chain);
                    sent = true;
                }
                Action::RecvStart(token) => self.base.recv_start(token, usize::MAX),
                Action::Connect(token) => self.base.connect(token, &self.address),
                Action::Close(token) => self.base.close(token),
            }
        }
        sent
    }
}

/// What the calling thread has used so far.
#[derive(Debug, Clone, Copy, Default)]
struct Usage {
    cpu_ns: u64,
    run_delay_ns: u64,
    sleeps: u64,
    submissions: u64,
    overflows: u64,
}

impl Usage {
    fn now() -> Usage {
        let cpu = clock_gettime(ClockId::ThreadCPUTime);
        // "time on the processor, time ready to run, time slices"; absent where not compiled in.
        let text = std::fs::read_to_string("/proc/thread-self/schedstat").unwrap_or_default();
        let delay = text.split_whitespace().nth(1).and_then(|field| field.parse().ok());
        let status = std::fs::read_to_string("/proc/thread-self/status").unwrap_or_default();
        let sleeps = status.lines().find_map(|line| line.strip_prefix("voluntary_ctxt_switches:"));
        Usage {
            cpu_ns: cpu.tv_sec as u64 * 1_000_000_000 + cpu.tv_nsec as u64,
            run_delay_ns: delay.unwrap_or(0),
            sleeps: sleeps.and_then(|count| count.trim().parse().ok()).unwrap_or(0),
            ..Usage::default()
        }
    }
}
