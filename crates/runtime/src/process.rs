//! Starting and stopping: which event base, which CPUs, who listens where, and the threads.
//!
//! Everything that can go wrong with the surroundings goes wrong here, before the first client is
//! accepted. Invariant: when [`start`] returns, every listener is open and every worker runs.

use std::fmt;
use std::os::fd::OwnedFd;
use std::sync::atomic::AtomicBool;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::thread::JoinHandle;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use base::Address;
use crossbeam_channel::{Receiver, Sender, bounded};
use event::{
    EventBase, Readiness, ReadinessOptions, Tier, Uring, UringOptions, Waker, uring_supported,
};
use proxy::Proxy;
use proxy::options::{PoolOptions, ServerAddress, WorkerLimits};
use proxy::stats::WorkerStats;
use tracing::{error, info, warn};

use crate::balance::Balance;
use crate::control_listener::{Listener, Server};
use crate::cpus::{self, CpuOptions};
use crate::listeners::{self, Held, Inherited, Listeners};
use crate::mailbox::{Mailbox, Message};
use crate::memory;
use crate::reload::{self, Plan};
use crate::resolver::{self, AddressBook};
use crate::restart::{Offer, Purpose, Successor};
use crate::snapshot::{self, Header, WorkerFields};
use crate::stats_server;
use crate::worker::Worker;

/// How long a worker may take to answer the control side.
pub(crate) const ANSWER_TIMEOUT: Duration = Duration::from_secs(1);

/// Which event base the workers use.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum EventBaseChoice {
    /// io_uring where the kernel lets us, else `polling`.
    #[default]
    Auto,
    /// io_uring; falls back with a warning where the kernel refuses.
    Uring,
    /// The readiness back end.
    Polling,
}

/// What a process is started with.
#[derive(Debug, Clone)]
pub struct ProcessOptions {
    /// At least one, in the order of their names.
    pub pools: Vec<PoolOptions>,
    /// Bytes that all workers together may hold for their clients; `None` for what
    /// [`memory::budget`] finds right for this machine.
    pub buffered_bytes_max: Option<usize>,
    /// How many workers, and where.
    pub cpus: CpuOptions,
    /// See [`EventBaseChoice`].
    pub event_base: EventBaseChoice,
    /// Where statistics are served; `None` for nowhere.
    pub stats_address: Option<Address>,
}

/// Why a process could not start.
#[non_exhaustive]
#[derive(Debug)]
pub enum StartError {
    /// The CPUs are not as asked.
    Cpus(String),
    /// An address can't be listened on.
    Listen {
        /// Which.
        address: String,
        /// Why.
        error: std::io::Error,
    },
    /// A thread or its event base could not be made.
    Worker(String),
}

impl fmt::Display for StartError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            StartError::Cpus(text) => f.write_str(text),
            StartError::Listen { address, error } => {
                write!(f, "can't listen on {address}: {error}")
            }
            StartError::Worker(text) => write!(f, "can't start a worker: {text}"),
        }
    }
}

impl std::error::Error for StartError {}

/// A worker as the control side sees it, whatever its event base.
pub trait Control: Send + Sync {
    /// Puts a message into the worker's mailbox. `false` when the worker is gone.
    fn send(&self, message: Message<OwnedFd>) -> bool;
}

impl<W: Waker + Sync> Control for Mailbox<OwnedFd, W> {
    fn send(&self, message: Message<OwnedFd>) -> bool {
        Mailbox::send(self, message)
    }
}

/// What the threads of the control side share.
pub(crate) struct Shared {
    pub(crate) workers: Vec<Arc<dyn Control>>,
    pub(crate) book: Arc<AddressBook>,
    pools: Mutex<Pools>,
    /// Locked after `pools`.
    held: Mutex<Held>,
    pub(crate) balance: Arc<Balance>,
    last_stats: Mutex<Vec<WorkerStats>>,
    pub(crate) started: Instant,
}

/// The pools that run.
#[derive(Debug, Clone)]
pub(crate) struct Pools {
    by_index: Vec<Option<PoolOptions>>,
    /// Indices in the order of the configuration.
    order: Vec<usize>,
}

impl Pools {
    /// Those that run, with their indices, in the order of the configuration.
    pub(crate) fn in_order(&self) -> impl Iterator<Item = (usize, &PoolOptions)> {
        self.order.iter().filter_map(|index| Some((*index, self.by_index[*index].as_ref()?)))
    }
}

impl Shared {
    fn lock_pools(&self) -> MutexGuard<'_, Pools> {
        self.pools.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Says where the servers with this name are now. No reload comes between, so that an index
    /// means what it meant to the worker.
    pub(crate) fn tell_address(&self, is_named: impl Fn(&ServerAddress) -> bool, to: &Address) {
        let pools = self.lock_pools();
        for (pool, options) in pools.by_index.iter().enumerate() {
            for (server, options) in options.iter().flat_map(|p| &p.servers).enumerate() {
                if !is_named(&options.address) {
                    continue;
                }
                for worker in &self.workers {
                    let address = Some(to.clone());
                    worker.send(Message::SetAddress { pool, server, address });
                }
            }
        }
    }

    /// A copy of what runs.
    pub(crate) fn running(&self) -> Pools {
        self.lock_pools().clone()
    }

    /// The pools that run, by index.
    pub(crate) fn pools(&self) -> Vec<Option<PoolOptions>> {
        self.lock_pools().by_index.clone()
    }

    fn lock_held(&self) -> MutexGuard<'_, Held> {
        self.held.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Asks each worker for what it has counted; `None` for one that does not answer in time.
    fn ask_all(&self, limit: Duration) -> Vec<Option<WorkerStats>> {
        let ask = |worker: &Arc<dyn Control>| {
            let (sender, answer) = bounded(1);
            worker.send(Message::Stats(sender));
            answer
        };
        let answers: Vec<_> = self.workers.iter().map(ask).collect();
        let deadline = Instant::now() + limit;
        answers.into_iter().map(|answer| answer.recv_deadline(deadline).ok()).collect()
    }

    /// What each worker has counted; of one that does not answer in time, what it said last, so
    /// that no sum ever falls.
    pub(crate) fn stats(&self) -> Vec<WorkerStats> {
        let answers = self.ask_all(ANSWER_TIMEOUT);
        let mut last = self.last_stats.lock().unwrap_or_else(PoisonError::into_inner);
        last.resize(answers.len(), WorkerStats::default());
        for (last, answer) in last.iter_mut().zip(answers) {
            if let Some(stats) = answer {
                *last = stats;
            }
        }
        last.clone()
    }

    pub(crate) fn stats_json(&self) -> Vec<u8> {
        let header = Header {
            service: "nutcracker",
            source: host_name(),
            version: env!("CARGO_PKG_VERSION"),
            uptime: self.started.elapsed().as_secs(),
            timestamp: SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |d| d.as_secs()),
            workers: (self.balance.counts().into_iter())
                .map(|clients| WorkerFields { clients })
                .collect(),
        };
        let pools = self.running();
        let total = snapshot::sum(&self.stats());
        let rows: Vec<_> = (pools.in_order())
            .filter_map(|(index, options)| Some((options, total.pools.get(index)?)))
            .collect();
        snapshot::to_json(&header, &rows, &total)
    }
}

fn host_name() -> String {
    rustix::system::uname().nodename().to_string_lossy().into_owned()
}

/// A running process. Dropping it without [`Process::drain`] leaves its threads running.
pub struct Process {
    pub(crate) shared: Arc<Shared>,
    threads: Vec<JoinHandle<()>>,
    stats_server: Option<Server>,
    /// Closed to end the resolver.
    _resolver_stop: Sender<()>,
}

/// Starts everything. See [`StartError`] for what can go wrong.
pub fn start(options: ProcessOptions) -> Result<Process, StartError> {
    start_with_sockets(options, &mut Inherited::default())
}

/// As [`start`]; what listens already where the options say is taken over, not opened. Listening
/// sockets that nobody wants are closed.
pub fn start_with_sockets(
    options: ProcessOptions,
    inherited: &mut Inherited,
) -> Result<Process, StartError> {
    let plan = cpus::plan(&options.cpus).map_err(StartError::Cpus)?;
    let stats_address = options.stats_address.as_ref();
    let stats_listener = stats_address.map(|at| bind_stats(at, inherited)).transpose()?;
    let started = match choose(options.event_base) {
        Some(tier) => start_on(options, &plan, stats_listener, inherited, move || {
            Uring::new(UringOptions::new(tier))
        }),
        None => start_on(options, &plan, stats_listener, inherited, || {
            Readiness::new(ReadinessOptions::default())
        }),
    };
    for address in inherited.close_rest() {
        info!(address, "a listening socket that was passed on is not wanted here");
    }
    started
}

/// Settles which event base it will be, and says why in one line of the log: what may be used of
/// io_uring, or `None` for the readiness back end.
fn choose(choice: EventBaseChoice) -> Option<Tier> {
    if choice == EventBaseChoice::Polling {
        info!("event base: polling, as asked");
        return None;
    }
    match uring_supported() {
        Ok(tier) => {
            info!("event base: io_uring, {tier}");
            Some(tier)
        }
        Err(refused) => {
            let text = format!("event base: polling, since io_uring is refused: {refused}");
            // Who asked for it is warned.
            match choice {
                EventBaseChoice::Uring => warn!("{text}"),
                _ => info!("{text}"),
            }
            None
        }
    }
}

/// What `auto` would choose here, in twemproxy's words for it.
pub fn event_base_name() -> &'static str {
    match uring_supported() {
        Ok(_) => "io_uring",
        Err(_) if cfg!(target_os = "linux") => "epoll",
        Err(_) if cfg!(any(target_os = "solaris", target_os = "illumos")) => "event_ports",
        Err(_) => "kqueue",
    }
}

fn bind_stats(address: &Address, inherited: &mut Inherited) -> Result<Listener, StartError> {
    stats_server::bind(address, inherited)
        .map_err(|error| StartError::Listen { address: address.to_string(), error })
}

fn start_on<B, F>(
    options: ProcessOptions,
    plan: &[usize],
    stats_listener: Option<Listener>,
    inherited: &mut Inherited,
    make_base: F,
) -> Result<Process, StartError>
where
    B: EventBase<Socket = OwnedFd> + 'static,
    B::Waker: Sync,
    F: Fn() -> std::io::Result<B> + Clone + Send + 'static,
{
    let balance = Arc::new(Balance::new(plan.len()));
    let buffered_bytes_max = match options.buffered_bytes_max {
        Some(total) => memory::share(total, plan.len()),
        None => memory::budget(plan.len()),
    };
    let limits = WorkerLimits { buffered_bytes_max, ..WorkerLimits::default() };
    info!("each worker may hold {} MiB for its clients", buffered_bytes_max >> 20);
    let mut threads = Vec::new();
    let mut pending = Vec::new();
    let by_index: Vec<_> = options.pools.iter().cloned().map(Some).collect();
    balance.set_limits(reload::client_limits(&by_index));
    let book = Arc::new(AddressBook::default());
    book.look_up_new(&by_index);
    let addresses = book.addresses(&by_index);
    // As late as possible: from here on clients may wait in the queues.
    let listeners = listeners::open(options.pools.iter().enumerate(), plan.len(), inherited)?;
    let mut held = Held::default();
    held.hold(&listeners);
    for (index, (cpu, listeners)) in plan.iter().zip(listeners).enumerate() {
        let (to_worker, from_control) = bounded(1);
        let (to_control, from_worker) = bounded(1);
        let seat = Seat {
            index,
            cpu: *cpu,
            pools: options.pools.clone(),
            addresses: addresses.clone(),
            limits,
            listeners,
            balance: Arc::clone(&balance),
            server_closed: book.server_closed(),
        };
        let make_base = make_base.clone();
        let thread = std::thread::Builder::new()
            .name(format!("weir-worker-{index}"))
            .spawn(move || seat.work(make_base, &to_control, &from_control))
            .map_err(|error| StartError::Worker(error.to_string()))?;
        threads.push(thread);
        pending.push((to_worker, from_worker));
    }
    let mailboxes = introduce(&pending)?;
    let workers =
        mailboxes.into_iter().map(|mailbox| Arc::new(mailbox) as Arc<dyn Control>).collect();
    let order = (0..by_index.len()).collect();
    let shared = Arc::new(Shared {
        workers,
        book,
        pools: Mutex::new(Pools { by_index, order }),
        held: Mutex::new(held),
        balance,
        last_stats: Mutex::default(),
        started: Instant::now(),
    });
    start_control(shared, threads, stats_listener)
}

type OwnMailbox<W> = Mailbox<OwnedFd, W>;

/// How a worker's thread is given all mailboxes, and gives its own.
type PendingWorker<W> = (Sender<Vec<OwnMailbox<W>>>, Receiver<std::io::Result<OwnMailbox<W>>>);

/// Waits until every worker stands, and gives each the mailboxes of all.
fn introduce<W: Waker>(pending: &[PendingWorker<W>]) -> Result<Vec<OwnMailbox<W>>, StartError> {
    let mut mailboxes = Vec::new();
    for (_, from_worker) in pending {
        let mailbox = from_worker
            .recv()
            .map_err(|_| StartError::Worker("its thread ended at once".to_owned()))?;
        mailboxes.push(mailbox.map_err(|error| StartError::Worker(error.to_string()))?);
    }
    for (to_worker, _) in pending {
        // A worker that is gone by now has said why.
        let _ = to_worker.send(mailboxes.clone());
    }
    Ok(mailboxes)
}

/// The threads of the control side.
fn start_control(
    shared: Arc<Shared>,
    threads: Vec<JoinHandle<()>>,
    stats_listener: Option<Listener>,
) -> Result<Process, StartError> {
    let (stop, stopped) = bounded(1);
    let resolving = Arc::clone(&shared);
    std::thread::spawn(move || resolver::run(&resolving, &stopped));
    let stats_server = stats_listener
        .map(|listener| stats_server::start(listener, Arc::clone(&shared)))
        .transpose()
        .map_err(|error| StartError::Worker(format!("that serves the statistics: {error}")))?;
    Ok(Process { shared, threads, stats_server, _resolver_stop: stop })
}

/// What a worker's thread takes with it.
struct Seat {
    index: usize,
    cpu: usize,
    pools: Vec<PoolOptions>,
    addresses: Vec<Vec<Option<Address>>>,
    limits: WorkerLimits,
    listeners: Listeners,
    balance: Arc<Balance>,
    server_closed: Arc<AtomicBool>,
}

impl Seat {
    /// The life of a worker's thread. The event base is made here, since it belongs to the thread
    /// that makes it, and its memory to the CPU that touches it first.
    fn work<B, F>(
        self,
        make_base: F,
        to_control: &Sender<std::io::Result<Mailbox<OwnedFd, B::Waker>>>,
        from_control: &Receiver<Vec<Mailbox<OwnedFd, B::Waker>>>,
    ) where
        B: EventBase<Socket = OwnedFd>,
        F: Fn() -> std::io::Result<B>,
    {
        if !cpus::pin(self.cpu) {
            warn!(worker = self.index, cpu = self.cpu, "the system refuses to pin this worker");
        }
        let base = match make_base() {
            Ok(base) => base,
            Err(error) => {
                let _ = to_control.send(Err(error));
                return;
            }
        };
        let (mailbox, messages) = Mailbox::new(base.waker());
        let _ = to_control.send(Ok(mailbox));
        // The others' mailboxes come when every worker has one.
        let Ok(peers) = from_control.recv() else { return };
        let now = base.now();
        let seed = now.as_ns() ^ (self.index as u64) << 48;
        let mut proxy = Proxy::new(self.pools.clone(), self.limits, seed, now);
        proxy.number_clients(self.index as u64 + 1, peers.len() as u64);
        for (pool, addresses) in self.addresses.into_iter().enumerate() {
            for (server, address) in addresses.into_iter().enumerate() {
                proxy.set_address(pool, server, address);
            }
        }
        let mut worker = Worker::new(self.index, base, proxy, messages, peers, self.balance);
        worker.tell_closed(self.server_closed);
        for (pool, socket) in self.listeners {
            if let Err(error) = worker.listen(pool, socket) {
                error!(worker = self.index, %error, "a listener can't be registered");
                std::process::abort();
            }
        }
        info!(worker = self.index, cpu = self.cpu, "worker runs");
        if let Err(error) = worker.run() {
            error!(worker = self.index, %error, "the event base failed: the worker ends");
            std::process::abort();
        }
    }
}

impl Process {
    /// The counters of all workers as one.
    pub fn stats(&self) -> WorkerStats {
        snapshot::sum(&self.shared.stats())
    }

    /// Takes a new set of pools, without closing a client that still has a pool. When a listener
    /// can't be opened nothing changes.
    pub fn reload(&self, wanted: Vec<PoolOptions>) -> Result<(), StartError> {
        let workers_count = self.shared.workers.len();
        let mut pools = self.shared.lock_pools();
        let Plan { mut reload, opened, order } = reload::plan(&pools.by_index, wanted);
        let new = opened.iter().filter_map(|index| Some((*index, reload.pools[*index].as_ref()?)));
        let listeners = listeners::open(new, workers_count, &mut Inherited::default())?;
        for old in reload.closed.iter().filter_map(|index| pools.by_index[*index].as_ref()) {
            info!(pool = old.name, address = %old.listen.address, "no longer listening");
        }
        let mut held = self.shared.lock_held();
        held.reload(&reload.moved, &reload.closed);
        held.hold(&listeners);
        self.shared.book.look_up_new(&reload.pools);
        reload.addresses = self.shared.book.addresses(&reload.pools);
        self.shared.balance.set_limits(reload::client_limits(&reload.pools));
        *pools = Pools { by_index: reload.pools.clone(), order };
        let reload = Arc::new(reload);
        for (worker, listeners) in self.shared.workers.iter().zip(listeners) {
            worker.send(Message::Reload(Arc::clone(&reload), listeners));
        }
        Ok(())
    }

    /// The line that the statistics port serves.
    pub fn stats_json(&self) -> Vec<u8> {
        self.shared.stats_json()
    }

    /// Connections of each worker now.
    pub fn balance(&self) -> Vec<u32> {
        self.shared.balance.counts()
    }

    /// Whether every worker answers within `limit`. One that does not hangs, or has too much to do.
    pub fn answers(&self, limit: Duration) -> bool {
        self.pulse().answers(limit)
    }

    /// For another thread that is to ask whether the workers answer.
    pub fn pulse(&self) -> Pulse {
        Pulse(Arc::clone(&self.shared))
    }

    /// The listening sockets, for a process that is to take the place of this one. Reloads must
    /// wait until it is known what became of that one. Fails for want of descriptors.
    pub fn offer(&self) -> std::io::Result<Offer> {
        let held = self.shared.lock_held().copies()?;
        let mut sockets: Vec<_> =
            held.into_iter().map(|(pool, socket)| (Purpose::Pool(pool), socket)).collect();
        if let Some(server) = &self.stats_server {
            sockets.push((Purpose::Statistics, server.socket()?));
        }
        Ok(Offer { sockets })
    }

    /// Ends every worker: nobody is accepted any more, what was asked is answered, and clients are
    /// closed when they are owed nothing, or when `limit` is over. Returns when all have ended.
    pub fn drain(mut self, limit: Duration) {
        self.shared.lock_held().release();
        self.end_workers(|| Message::Drain(limit));
        if let Some(server) = self.stats_server.take() {
            server.stop(false);
        }
    }

    /// As [`Process::drain`], after another process has taken over: what it has of the listening
    /// sockets is let go of, with whoever waits there.
    pub fn retire(mut self, successor: &Successor, limit: Duration) {
        // Its statistics are those that count from here on.
        if let Some(server) = self.stats_server.take() {
            server.stop(successor.has(Purpose::Statistics));
        }
        self.shared.lock_held().release();
        let pools = successor.pools();
        self.end_workers(|| Message::HandOver(Arc::clone(&pools), limit));
    }

    fn end_workers(&mut self, message: impl Fn() -> Message<OwnedFd>) {
        for worker in &self.shared.workers {
            worker.send(message());
        }
        for thread in self.threads.drain(..) {
            // A worker that panicked has said so.
            let _ = thread.join();
        }
    }
}

/// Tells whether the workers of a process are alive.
#[derive(Clone)]
pub struct Pulse(Arc<Shared>);

impl Pulse {
    /// Whether every worker answers within `limit`.
    pub fn answers(&self, limit: Duration) -> bool {
        self.0.ask_all(limit).iter().all(Option::is_some)
    }
}
