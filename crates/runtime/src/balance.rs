//! How many clients each worker has, so that a new one goes to the worker with the fewest.
//!
//! The kernel spreads connections over SO_REUSEPORT listeners by hash, which is uneven when they
//! are few and long-lived, as those of caches are. The counters are written when a connection is
//! accepted or closed, never for a request. Invariant: with no connection closing, no worker has
//! more than one connection above the mean.

use std::sync::atomic::{AtomicU32, Ordering};

/// Alone on its cache line, and on the one that is fetched with it.
#[derive(Debug, Default)]
#[repr(align(128))]
struct Padded(AtomicU32);

/// One counter a worker.
#[derive(Debug)]
pub struct Balance {
    clients: Box<[Padded]>,
}

impl Balance {
    /// All workers have none.
    pub fn new(workers_count: usize) -> Balance {
        Balance { clients: (0..workers_count).map(|_| Padded::default()).collect() }
    }

    /// Counts a new connection to the worker with the fewest, `own` among equals, and says which.
    pub fn take(&self, own: usize) -> usize {
        loop {
            let mut chosen = own;
            let mut fewest = self.clients[own].0.load(Ordering::Relaxed);
            for (index, clients) in self.clients.iter().enumerate() {
                let count = clients.0.load(Ordering::Relaxed);
                if count < fewest {
                    (chosen, fewest) = (index, count);
                }
            }
            let counter = &self.clients[chosen].0;
            let taken =
                counter.compare_exchange(fewest, fewest + 1, Ordering::Relaxed, Ordering::Relaxed);
            if taken.is_ok() {
                return chosen;
            }
        }
    }

    /// Counts a connection to this worker, whoever has fewer.
    pub fn count(&self, worker: usize) {
        self.clients[worker].0.fetch_add(1, Ordering::Relaxed);
    }

    /// A connection of this worker is gone.
    pub fn give_back(&self, worker: usize) {
        self.clients[worker].0.fetch_sub(1, Ordering::Relaxed);
    }

    /// Connections of each worker now.
    pub fn counts(&self) -> Vec<u32> {
        self.clients.iter().map(|clients| clients.0.load(Ordering::Relaxed)).collect()
    }
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
}
