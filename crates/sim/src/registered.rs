//! What the world knows of one worker's event base: what is registered with it, and what is under
//! way there.
//!
//! What becomes of it is told by [`crate::base`]. Invariant: whatever may have something to tell is
//! on exactly one of the two lists.

use std::mem;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use base::{Chain, Kind, SocketError, Token};
use event::Waker;

use crate::ejections::Ejection;

/// Wakes a worker of the simulation, from any thread.
#[derive(Debug, Clone, Default)]
pub struct SimWaker(Arc<AtomicBool>);

impl SimWaker {
    pub(crate) fn is_called(&self) -> bool {
        self.0.load(Ordering::Relaxed)
    }

    pub(crate) fn take(&self) -> bool {
        self.0.swap(false, Ordering::Acquire)
    }
}

impl Waker for SimWaker {
    fn wake(&self) {
        // A swap, not a store: a store would hide what threads had written whose calls came before
        // this one and were not seen yet.
        self.0.swap(true, Ordering::Release);
    }
}

/// What the world knows of one worker's event base.
#[derive(Default)]
pub struct BaseState {
    pub(crate) kinds: [Vec<Option<Registration>>; Kind::COUNT],
    pub(crate) listeners: Vec<Option<Listener>>,
    pub(crate) listed: Vec<(u8, u32)>,
    /// Those that found no receive buffer, in the order in which they will get one.
    pub(crate) starved: Vec<(u8, u32)>,
    pub(crate) woken: SimWaker,
    /// What the last `wait` was given.
    pub deadline: Option<u64>,
    /// Calls of `wait`.
    pub waits: u64,
    /// Receives that found no buffer.
    pub starved_count: u64,
    /// `Woken` that stood for wakes of the world only.
    pub foreign_wakes_count: usize,
    /// Sends started since the last `wait`, by token; for the one-send rule.
    pub(crate) sends: Vec<Token>,
    /// Events of the last `wait`.
    pub events_count: usize,
    /// Operations started and not ended.
    pub operations_count: usize,
    /// What this worker has said of each server, of all pools.
    pub ejections: Vec<Ejection>,
}

impl BaseState {
    pub(crate) fn registration(&mut self, kind: u8, slot: u32) -> Option<&mut Registration> {
        self.kinds[kind as usize].get_mut(slot as usize)?.as_mut()
    }

    /// Puts a connection on the list of those that may have something to tell.
    pub fn touch(&mut self, kind: u8, slot: u32) {
        if self.list(kind, slot) {
            self.listed.push((kind, slot));
        }
    }

    /// Whether the connection was on neither list; it must be put on one now.
    pub(crate) fn list(&mut self, kind: u8, slot: u32) -> bool {
        let found = self.registration(kind, slot);
        found.is_some_and(|found| !mem::replace(&mut found.listed, true))
    }

    /// A listener that is not being closed.
    pub(crate) fn listener(&mut self, token: Token) -> Option<&mut Listener> {
        let place = self.listeners.get_mut(token.index() as usize)?.as_mut();
        place.filter(|found| found.token == token && !found.closing)
    }

    /// Whether a connection to the place would find a listener here.
    pub fn is_listening(&self, place: usize) -> bool {
        let mut listeners = self.listeners.iter().flatten();
        listeners.any(|listener| listener.place == place && !listener.closing)
    }

    /// The send under way.
    pub fn send_op(&self, kind: u8, slot: u32) -> Option<&SendOp> {
        self.kinds[kind as usize].get(slot as usize)?.as_ref()?.send.as_ref()
    }

    /// Takes the next bytes of the send under way.
    pub fn take_send(&mut self, kind: u8, slot: u32, size: usize) -> Vec<u8> {
        let registration = self.registration(kind, slot).expect("it has a send under way");
        let op = registration.send.as_mut().expect("it has a send under way");
        let piece = op.bytes[op.position..op.position + size].to_vec();
        op.position += size;
        piece
    }

    /// The send under way is with the network.
    pub fn finish_send(&mut self, kind: u8, slot: u32, at: u64) {
        if let Some(op) = self.registration(kind, slot).and_then(|found| found.send.as_mut()) {
            op.over = Some((at, None));
        }
    }

    /// The send under way can't go on.
    pub fn end_send(&mut self, kind: u8, slot: u32, at: u64, reset: bool) {
        let error = if reset { SocketError::ConnectionReset } else { SocketError::BrokenPipe };
        if let Some(op) = self.registration(kind, slot).and_then(|found| found.send.as_mut()) {
            op.over = Some((at, Some(error)));
        }
    }

    /// Whether a `wait` now would find something, or might.
    pub fn has_work(&self) -> bool {
        self.woken.is_called()
            || !self.listed.is_empty()
            || !self.starved.is_empty()
            || self.listeners.iter().flatten().any(Listener::has_work)
    }

    /// A connection stands before the listener at the place, which must be there.
    pub fn arrive(&mut self, place: usize, connection: usize) {
        let open = |listener: &&mut Listener| listener.place == place && !listener.closing;
        let listener = self.listeners.iter_mut().flatten().rev().find(open);
        listener.expect("it listens").waiting.push(connection);
    }

    /// Bytes of the sends under way.
    pub fn sending_size(&self) -> usize {
        let sends = self.kinds.iter().flatten().flatten().filter_map(|found| found.send.as_ref());
        sends.map(|op| op.chain.len()).sum()
    }

    /// Connections that are registered, by kind.
    pub fn registered_count(&self, kind: Kind) -> usize {
        self.kinds[kind as usize].iter().flatten().count()
    }
}

/// A send under way.
#[derive(Debug)]
pub struct SendOp {
    pub(crate) chain: Chain,
    pub(crate) bytes: Vec<u8>,
    pub(crate) position: usize,
    /// When its end is told, and whether it failed.
    pub(crate) over: Option<(u64, Option<SocketError>)>,
}

impl SendOp {
    /// What the network has not taken.
    pub fn left(&self) -> &[u8] {
        &self.bytes[self.position..]
    }

    /// Whether it only waits to be told.
    pub fn is_over(&self) -> bool {
        self.over.is_some()
    }
}

#[derive(Debug)]
pub(crate) struct ReceiveOp {
    pub(crate) credit: usize,
    pub(crate) stopping: bool,
}

/// A connection that a worker has registered.
#[derive(Debug)]
pub(crate) struct Registration {
    pub(crate) token: Token,
    pub(crate) connection: usize,
    /// When the outcome of `connect` is told, and which it is.
    pub(crate) connecting: Option<(u64, Option<SocketError>)>,
    /// `false` before `Connected`, and for good after `ConnectFailed`.
    pub(crate) connected: bool,
    pub(crate) receive: Option<ReceiveOp>,
    pub(crate) send: Option<SendOp>,
    /// When `Closed` may be told.
    pub(crate) closing: Option<u64>,
    pub(crate) listed: bool,
    /// The ejection of the server, by its count, during which the connection was opened.
    pub(crate) opened_in: Option<u64>,
}

impl Registration {
    pub(crate) fn is_idle(&self) -> bool {
        self.connecting.is_none() && self.receive.is_none() && self.send.is_none()
    }
}

#[derive(Debug)]
pub(crate) struct Listener {
    pub(crate) token: Token,
    pub(crate) place: usize,
    pub(crate) accepting: bool,
    pub(crate) stopping: bool,
    pub(crate) closing: bool,
    pub(crate) waiting: Vec<usize>,
}

impl Listener {
    pub(crate) fn has_work(&self) -> bool {
        self.stopping || self.closing || (self.accepting && !self.waiting.is_empty())
    }
}
