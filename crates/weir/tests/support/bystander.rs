//! A client that minds its own business while another one misbehaves: it stores and reads on both
//! servers, on connections of its own, and every single reply must be right.
//!
//! Invariant: a wrong reply, an error or a closed connection fails the test that asked for it.

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::thread::JoinHandle;
use std::time::Duration;

use super::servers::Kind;
use super::until_within;
use super::wire::Wire;

/// It shares the servers' connections with whoever misbehaves, so a gigabyte of replies may go
/// before its own. That it waits is no fault, unless it waits for ever.
const PATIENCE: Duration = Duration::from_secs(30);

/// Connections that it takes turns with: with two workers there is one on each.
const CONNECTIONS_COUNT: usize = 2;

pub(crate) struct Bystander {
    stop: Arc<AtomicBool>,
    rounds: Arc<AtomicU64>,
    thread: JoinHandle<()>,
}

impl Bystander {
    /// Starts on these keys, which nobody else may use.
    pub(crate) fn start(kind: Kind, address: SocketAddr, keys: &[&'static str]) -> Bystander {
        let (stop, rounds) = (Arc::new(AtomicBool::new(false)), Arc::new(AtomicU64::new(0)));
        let keys = keys.to_vec();
        let (stopped, counted) = (Arc::clone(&stop), Arc::clone(&rounds));
        let mut wires: Vec<Wire> =
            (0..CONNECTIONS_COUNT).map(|_| Wire::connect(address).patient(PATIENCE)).collect();
        let thread = std::thread::spawn(move || {
            while !stopped.load(Ordering::Relaxed) {
                let round = counted.load(Ordering::Relaxed);
                for (i, wire) in wires.iter_mut().enumerate() {
                    for key in &keys {
                        let value = format!("round {round} on {i}");
                        assert_eq!(kind.set(wire, key, &value), kind.stored(), "set {key}");
                        assert_eq!(kind.get(wire, key), kind.found(key, &value), "get {key}");
                    }
                }
                counted.fetch_add(1, Ordering::Relaxed);
            }
        });
        let bystander = Bystander { stop, rounds, thread };
        bystander.goes_on();
        bystander
    }

    /// Waits until it has done a whole round that began after this call.
    ///
    /// # Panics
    /// When it saw anything wrong.
    pub(crate) fn goes_on(&self) {
        let before = self.rounds.load(Ordering::Relaxed);
        until_within(PATIENCE, "the bystander is served", || {
            assert!(!self.thread.is_finished(), "the bystander saw something wrong");
            (self.rounds.load(Ordering::Relaxed) >= before + 2).then_some(())
        });
    }

    /// Ends it, after one more round.
    ///
    /// # Panics
    /// When it saw anything wrong.
    pub(crate) fn finish(self) {
        self.goes_on();
        self.stop.store(true, Ordering::Relaxed);
        self.thread.join().expect("the bystander sees nothing wrong");
    }
}
