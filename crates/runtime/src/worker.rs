//! One worker: an event base, a proxy, and the loop that joins them. THE MAIN LOOP is
//! [`Worker::run`].
//!
//! Rules of the loop: wait once; handle everything that came; then act once, one send for each
//! connection that became dirty. Nothing blocks but `wait`. Events are handled before timers, so
//! that what has arrived is never called late; a worker that was held up looks again before that.
//! No line of a log is written for a request.

use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use base::{Kind, Time, Token};
use crossbeam_channel::Receiver;
use event::{AcceptEnd, Event, EventBase};
use proxy::{Action, Proxy};
use tracing::{debug, warn};

use crate::balance::Balance;
use crate::mailbox::{Mailbox, Message, Reload};

/// How long accepting pauses after the system refused a descriptor.
const ACCEPT_RETRY: Duration = Duration::from_millis(100);
/// How often a worker warns of that, as long as it lasts: each of its listeners pauses so often.
const ACCEPT_WARNING: Duration = Duration::from_secs(10);

/// A worker that has held more than this gives memory back when it has become quiet.
const BURST_BYTES: u64 = 4 << 20;
/// How long it must have been quiet.
const QUIET: Duration = Duration::from_secs(1);

/// A turn that begins so long after it was due comes late: the worker was held up.
const HELD_UP: Duration = Duration::from_millis(10);
/// How often a worker that was held up looks for what came meanwhile, in one turn.
const CATCH_UP_MAX: usize = 64;

/// The mailboxes of all workers, by their index.
pub type Peers<B> = Vec<Mailbox<<B as EventBase>::Socket, <B as EventBase>::Waker>>;

struct Listener {
    pool: usize,
    /// When accepting is tried again; `None` while it goes on.
    retry_at: Option<Time>,
    /// What becomes of it when it has ended accepting; `None` while it is to go on.
    ending: Option<Ending>,
}

/// How a listener ends.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Ending {
    /// Nobody will listen there.
    Close,
    /// Another process has it, too, and accepts who waits in its queue.
    LetGo,
}

/// See the module's text.
pub struct Worker<B: EventBase> {
    index: usize,
    base: B,
    proxy: Proxy,
    listeners: Vec<Listener>,
    listeners_open: usize,
    messages: Receiver<Message<B::Socket>>,
    peers: Peers<B>,
    balance: Arc<Balance>,
    events: Vec<Event<B::Socket>>,
    /// Since when the worker has held little after it had held much.
    quiet_since: Option<Time>,
    had_burst: bool,
    /// When whatever is left is closed; set once the worker is to end.
    drain_until: Option<Time>,
    /// Set when a connection to a server is closed.
    server_closed: Arc<AtomicBool>,
    /// When it may warn again that accepting pauses.
    accept_warning_at: Time,
}

impl<B: EventBase> Worker<B> {
    /// A worker that listens nowhere yet. `peers` holds the mailboxes of all workers, its own at
    /// `index`.
    pub fn new(
        index: usize,
        base: B,
        proxy: Proxy,
        messages: Receiver<Message<B::Socket>>,
        peers: Peers<B>,
        balance: Arc<Balance>,
    ) -> Worker<B> {
        Worker {
            index,
            base,
            proxy,
            listeners: Vec::new(),
            listeners_open: 0,
            messages,
            peers,
            balance,
            events: Vec::new(),
            quiet_since: None,
            had_burst: false,
            drain_until: None,
            server_closed: Arc::default(),
            accept_warning_at: Time::ZERO,
        }
    }

    /// Sets this from now on when it closes a connection to a server, for whoever looks up where
    /// servers are.
    pub fn tell_closed(&mut self, server_closed: Arc<AtomicBool>) {
        self.server_closed = server_closed;
    }

    /// The proxy that it drives; for whoever checks its state.
    pub fn proxy(&self) -> &Proxy {
        &self.proxy
    }

    /// Accepts the clients of a pool on a listening socket.
    pub fn listen(&mut self, pool: usize, socket: B::Socket) -> io::Result<()> {
        let token = Token::new(Kind::Listener, self.listeners.len() as u32, 0);
        self.base.listen(token, socket)?;
        self.base.accept_start(token);
        self.listeners.push(Listener { pool, retry_at: None, ending: None });
        self.listeners_open += 1;
        Ok(())
    }

    /// The main loop. Returns after [`Message::Drain`], or when the kernel fails the event base.
    pub fn run(&mut self) -> io::Result<()> {
        self.proxy.begin_turn(self.base.now());
        self.proxy.preconnect();
        self.act();
        while !self.is_drained() {
            self.turn()?;
        }
        Ok(())
    }

    /// Whether the worker was told to end and nobody is left, or not in time.
    fn is_drained(&self) -> bool {
        self.drain_until.is_some_and(|until| {
            let nobody_left = self.listeners_open == 0
                && self.proxy.clients_count() == 0
                && self.messages.is_empty();
            nobody_left || until <= self.base.now()
        })
    }

    /// One turn: wait, handle, act.
    pub fn turn(&mut self) -> io::Result<()> {
        let deadline = self.deadline();
        let mut events = std::mem::take(&mut self.events);
        self.base.wait(self.proxy.poll_events_wanted(), deadline, &mut events)?;
        let now = self.base.now();
        self.proxy.begin_turn(now);
        for event in events.drain(..) {
            self.handle(event);
        }
        if deadline.is_some_and(|deadline| deadline + HELD_UP < now) {
            self.catch_up(now, &mut events)?;
        }
        self.events = events;
        self.proxy.end_turn();
        self.proxy.name_slow_clients(|client| self.base.peer(client));
        self.act();
        self.housekeep(now);
        Ok(())
    }

    /// The worker was held up (the process was stopped, say, or others had its CPU), and may not
    /// have been told yet what came meanwhile: whose time is over is judged when it has.
    #[cold]
    fn catch_up(&mut self, now: Time, events: &mut Vec<Event<B::Socket>>) -> io::Result<()> {
        for _ in 0..CATCH_UP_MAX {
            self.base.wait(1, Some(now), events)?;
            if events.is_empty() {
                break;
            }
            for event in events.drain(..) {
                self.handle(event);
            }
        }
        Ok(())
    }

    fn handle(&mut self, event: Event<B::Socket>) {
        match event {
            Event::Received(token, received) => {
                self.proxy.handle_received(token, self.base.bytes(received));
                self.base.release(received);
            }
            Event::Sent(token, chain) => self.proxy.handle_sent(token, chain),
            Event::RecvEnd(token, end) => self.proxy.handle_recv_end(token, end),
            Event::SendFailed(token, chain, error) => {
                self.proxy.handle_send_failed(token, chain, error);
            }
            Event::Connected(token) => self.proxy.handle_connected(token),
            Event::ConnectFailed(token, error) => self.proxy.handle_connect_failed(token, error),
            Event::Closed(token) => {
                if token.kind() == Kind::Listener {
                    self.listeners_open -= 1;
                } else if let Some(pool) = self.proxy.handle_closed(token) {
                    self.forget_client(pool);
                }
            }
            Event::Accepted { listener, socket } => self.accepted(listener, socket),
            Event::AcceptEnd { listener, end } => self.accept_ended(listener, end),
            Event::Woken => self.read_mailbox(),
        }
    }

    fn act(&mut self) {
        while let Some(action) = self.proxy.poll_action() {
            match action {
                Action::Send(token, chain) => self.base.send(token, chain),
                Action::RecvStart(token, credit) => self.base.recv_start(token, credit),
                Action::Connect(token, address) => self.base.connect(token, &address),
                Action::Close(token) => {
                    if token.kind() == Kind::Server {
                        self.server_closed.store(true, Ordering::Relaxed);
                    }
                    self.base.close(token);
                }
            }
        }
    }

    /// A new client goes to the worker with the fewest.
    fn accepted(&mut self, listener: Token, socket: B::Socket) {
        let pool = self.listeners[listener.index() as usize].pool;
        if !self.balance.admit(pool) {
            self.proxy.count_refused(pool);
            return;
        }
        let chosen = self.balance.take(self.index);
        if chosen == self.index {
            self.adopt(pool, socket);
            return;
        }
        if let Err(message) = self.peers[chosen].try_send(Message::Adopt { pool, socket }) {
            // Its mailbox is full: better here than nowhere.
            self.balance.give_back(chosen);
            if let Message::Adopt { pool, socket } = message {
                self.balance.count(self.index);
                self.adopt(pool, socket);
            }
        }
    }

    fn adopt(&mut self, pool: usize, socket: B::Socket) {
        let Some(token) = self.proxy.handle_accepted(pool) else {
            self.forget_client(pool);
            return;
        };
        if let Err(error) = self.base.adopt(token, socket) {
            debug!(%error, "a new connection could not be registered");
            self.proxy.handle_adopt_failed(token);
            self.forget_client(pool);
        }
    }

    fn forget_client(&self, pool: usize) {
        self.balance.give_back(self.index);
        self.balance.leave(pool);
    }

    fn accept_ended(&mut self, token: Token, end: AcceptEnd) {
        let listener = &mut self.listeners[token.index() as usize];
        if let Some(ending) = listener.ending {
            self.end_listener(token, ending);
            return;
        }
        if let AcceptEnd::Failed(error) = end {
            let now = self.base.now();
            listener.retry_at = Some(now + ACCEPT_RETRY);
            if now < self.accept_warning_at {
                debug!(%error, "accepting pauses for {ACCEPT_RETRY:?}");
            } else {
                warn!(%error, "accepting pauses for {ACCEPT_RETRY:?} at a time");
                self.accept_warning_at = now + ACCEPT_WARNING;
            }
        }
    }

    fn read_mailbox(&mut self) {
        while let Ok(message) = self.messages.try_recv() {
            match message {
                Message::Adopt { pool, socket } => self.adopt(pool, socket),
                Message::SetAddress { pool, server, address } => {
                    self.proxy.set_address(pool, server, address);
                }
                Message::Reload(reload, listeners) => self.reload(&reload, listeners),
                Message::Stats(reply) => {
                    // Whoever asked may have given up.
                    let _ = reply.try_send(self.proxy.stats());
                }
                Message::Inspect(inspection) => inspection.answer(&self.proxy, &self.base),
                Message::Drain(limit) => self.drain(limit, &[]),
                Message::HandOver(pools, limit) => self.drain(limit, &pools),
            }
        }
    }

    fn reload(&mut self, reload: &Reload, listeners: Vec<(usize, B::Socket)>) {
        self.proxy.reload(reload.pools.clone());
        for (pool, addresses) in reload.addresses.iter().enumerate() {
            for (server, address) in addresses.iter().enumerate() {
                self.proxy.set_address(pool, server, address.clone());
            }
        }
        self.proxy.preconnect();
        let before = self.listeners.len();
        // The new ones take over before the old ones stop.
        for (pool, socket) in listeners {
            if let Err(error) = self.listen(pool, socket) {
                warn!(%error, "a new listener can't be registered");
            }
        }
        for index in 0..before {
            let listener = &mut self.listeners[index];
            if listener.ending.is_some() {
                continue;
            }
            if let Some((_, to)) = reload.moved.iter().find(|(from, _)| *from == listener.pool) {
                listener.pool = *to;
            } else if reload.closed.contains(&listener.pool) {
                self.stop_listening(index, Ending::Close);
            }
        }
    }

    /// Ends. Another process has the listeners of the pools `handed_over`.
    fn drain(&mut self, limit: Duration, handed_over: &[usize]) {
        if self.drain_until.is_some() {
            return;
        }
        self.drain_until = Some(self.base.now() + limit);
        self.balance.retire(self.index);
        for index in 0..self.listeners.len() {
            let handed_over = handed_over.contains(&self.listeners[index].pool);
            self.stop_listening(index, if handed_over { Ending::LetGo } else { Ending::Close });
        }
        self.proxy.drain();
    }

    fn stop_listening(&mut self, index: usize, ending: Ending) {
        let token = Token::new(Kind::Listener, index as u32, 0);
        let listener = &mut self.listeners[index];
        if listener.ending.is_some() {
            return;
        }
        listener.ending = Some(ending);
        match listener.retry_at.take() {
            // What the kernel has accepted already still comes, and is served.
            None => self.base.accept_stop(token),
            // It was not accepting anyway.
            Some(_) => self.end_listener(token, ending),
        }
    }

    /// Ends a listener that does not accept.
    fn end_listener(&mut self, token: Token, ending: Ending) {
        match ending {
            Ending::Close => self.base.close(token),
            Ending::LetGo => {
                let socket = self.base.export(token);
                debug_assert!(socket.is_some(), "nothing of {token:?} is under way");
                self.listeners_open -= 1;
            }
        }
    }

    fn deadline(&self) -> Option<Time> {
        let retries = self.listeners.iter().filter_map(|listener| listener.retry_at);
        let quiet = self.quiet_since.map(|since| since + QUIET);
        retries.chain(quiet).chain(self.drain_until).chain(self.proxy.poll_deadline()).min()
    }

    /// What is due now and then: accepting again, and giving memory back after a burst.
    fn housekeep(&mut self, now: Time) {
        for (index, listener) in self.listeners.iter_mut().enumerate() {
            if listener.retry_at.is_some_and(|at| at <= now) {
                listener.retry_at = None;
                self.base.accept_start(Token::new(Kind::Listener, index as u32, 0));
            }
        }
        if self.proxy.buffered_bytes() > BURST_BYTES {
            self.had_burst = true;
            self.quiet_since = None;
        } else if self.had_burst {
            let since = *self.quiet_since.get_or_insert(now);
            if since + QUIET <= now {
                self.had_burst = false;
                self.quiet_since = None;
                self.proxy.release_memory();
                self.events.shrink_to(64);
                base::memory::trim();
            }
        }
    }
}
