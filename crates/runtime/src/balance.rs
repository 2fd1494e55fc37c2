//! How many clients each worker has, so that a new one goes to the worker with the fewest, and how
//! many each pool has, so that its limit holds for the process.
//!
//! The kernel spreads connections over SO_REUSEPORT listeners by hash, which is uneven when they
//! are few and long-lived, as those of caches are. The counters are written when a connection is
//! accepted or closed, never for a request. Invariants: with no connection closing, no worker has
//! more than one connection above the mean; no pool has more clients than it may.

use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError};

/// Alone on its cache line, and on the one that is fetched with it.
#[derive(Debug, Default)]
#[repr(align(128))]
struct Seat {
    clients: AtomicU32,
    /// It takes no more clients from others.
    is_leaving: AtomicBool,
}

/// Clients of one pool, in all workers.
#[derive(Debug, Default, Clone)]
struct PoolClients {
    count: u32,
    /// 0 for no limit.
    max: u32,
}

/// One counter a worker, one a pool.
#[derive(Debug)]
pub struct Balance {
    seats: Box<[Seat]>,
    /// By index. A lock, since only accepting and closing look here.
    pools: Mutex<Vec<PoolClients>>,
}

impl Balance {
    /// All workers have none, and no pool has a limit.
    pub fn new(workers_count: usize) -> Balance {
        let seats = (0..workers_count).map(|_| Seat::default()).collect();
        Balance { seats, pools: Mutex::default() }
    }

    /// How many clients each pool may have, by index; 0 for no limit.
    pub fn set_limits(&self, limits: impl Iterator<Item = u32>) {
        let mut pools = self.pools();
        for (index, max) in limits.enumerate() {
            at(&mut pools, index).max = max;
        }
    }

    /// Counts a new client to a pool. `false` when the pool has as many as it may.
    pub fn admit(&self, pool: usize) -> bool {
        let mut pools = self.pools();
        let pool = at(&mut pools, pool);
        let free = pool.max == 0 || pool.count < pool.max;
        pool.count += u32::from(free);
        free
    }

    /// A client that was admitted to a pool is gone.
    pub fn leave(&self, pool: usize) {
        at(&mut self.pools(), pool).count -= 1;
    }

    fn pools(&self) -> MutexGuard<'_, Vec<PoolClients>> {
        self.pools.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Counts a new connection to the worker with the fewest, `own` among equals, and says which.
    pub fn take(&self, own: usize) -> usize {
        loop {
            let mut chosen = own;
            let mut fewest = self.seats[own].clients.load(Ordering::Relaxed);
            for (index, seat) in self.seats.iter().enumerate() {
                let count = seat.clients.load(Ordering::Relaxed);
                if count < fewest && !seat.is_leaving.load(Ordering::Relaxed) {
                    (chosen, fewest) = (index, count);
                }
            }
            let counter = &self.seats[chosen].clients;
            let taken =
                counter.compare_exchange(fewest, fewest + 1, Ordering::Relaxed, Ordering::Relaxed);
            if taken.is_ok() {
                return chosen;
            }
        }
    }

    /// Counts a connection to this worker, whoever has fewer.
    pub fn count(&self, worker: usize) {
        self.seats[worker].clients.fetch_add(1, Ordering::Relaxed);
    }

    /// A connection of this worker is gone.
    pub fn give_back(&self, worker: usize) {
        self.seats[worker].clients.fetch_sub(1, Ordering::Relaxed);
    }

    /// This worker is about to end: nobody hands it a connection any more.
    pub fn retire(&self, worker: usize) {
        self.seats[worker].is_leaving.store(true, Ordering::Relaxed);
    }

    /// Connections of each worker now.
    pub fn counts(&self) -> Vec<u32> {
        self.seats.iter().map(|seat| seat.clients.load(Ordering::Relaxed)).collect()
    }
}

/// The pool with this index; there may be new ones since a reload.
fn at(pools: &mut Vec<PoolClients>, index: usize) -> &mut PoolClients {
    if index >= pools.len() {
        pools.resize(index + 1, PoolClients::default());
    }
    &mut pools[index]
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::Arc;

    #[test]
    fn connections_spread_evenly_whoever_accepts_them() {
        let balance = Arc::new(Balance::new(4));
        let threads: Vec<_> = (0..4)
            .map(|own| {
                let balance = Arc::clone(&balance);
                // Worker 0 accepts most of them.
                let count = if own == 0 { 97 } else { 1 };
                std::thread::spawn(move || {
                    for _ in 0..count {
                        balance.take(own);
                    }
                })
            })
            .collect();
        threads.into_iter().for_each(|thread| thread.join().expect("no thread panics"));
        assert_eq!(balance.counts(), [25, 25, 25, 25]);
        balance.give_back(2);
        assert_eq!(balance.take(0), 2);
    }

    #[test]
    fn a_worker_that_leaves_gets_nothing_from_others() {
        let balance = Balance::new(2);
        balance.retire(1);
        assert_eq!([balance.take(0), balance.take(0)], [0, 0]);
        assert_eq!(balance.take(1), 1);
    }

    #[test]
    fn a_pool_has_as_many_clients_as_it_may_whichever_worker_has_them() {
        let balance = Balance::new(2);
        balance.set_limits([2, 0].into_iter());
        assert_eq!([0, 0, 0].map(|pool| balance.admit(pool)), [true, true, false]);
        balance.leave(0);
        assert!(balance.admit(0));
        assert!((0..100).all(|_| balance.admit(1)));
        // A reload may lower the limit, and bring pools that are not known yet.
        balance.set_limits([1].into_iter());
        balance.leave(0);
        assert!(!balance.admit(0));
        assert!(balance.admit(7));
    }
}
