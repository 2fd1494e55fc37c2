//! New pools in the place of old ones, while everything runs.
//!
//! No client of a pool that stays is closed, no request is lost: those on their way finish where
//! they were sent, and the next one is routed anew. A server that stays keeps its connections.
//! Invariant: an index of a pool never means another pool than it once did.

use base::slab::Key;

use crate::options::PoolOptions;
use crate::pool::Pool;
use crate::proxy::Proxy;

impl Proxy {
    /// Takes a new set of pools: the i-th stands for the pool with index i, `None` for one that is
    /// gone. Those beyond the present ones are new. A pool keeps its index and its protocol.
    /// Addresses of servers that are new must be set afterwards.
    pub fn reload(&mut self, pools: Vec<Option<PoolOptions>>) {
        assert!(pools.len() >= self.pools.len(), "an index once given stays");
        for (index, options) in pools.into_iter().enumerate() {
            match options {
                Some(options) if index == self.pools.len() => {
                    let seed = self.random.draw();
                    self.pools.push(Pool::new(options, seed));
                }
                Some(options) => self.reload_pool(index, options),
                None => self.remove_pool(index),
            }
        }
        self.slow_log.set_thresholds(&self.pools);
    }

    fn reload_pool(&mut self, index: usize, options: PoolOptions) {
        let pool = &mut self.pools[index];
        if !pool.removed && pool.options == options {
            return;
        }
        assert!(pool.options.protocol == options.protocol, "a pool keeps its protocol");
        let lanes_count = options.server_connections_per_worker as usize;
        let timeout = options.request_timeout;
        let seed = self.random.draw();
        let places = pool.reconfigure(options, seed);
        let retired = pool.retired_index();
        self.slow_log.renumber(index, &places, retired);
        for key in self.connections_of(index) {
            let conn = self.conns.at_mut(key.index);
            let place = places[conn.server as usize];
            if place == retired || conn.lane.is_some_and(|lane| lane as usize >= lanes_count) {
                self.retire(key, place);
            } else {
                conn.server = place as u32;
            }
            if let Some(timeout) = timeout {
                self.shorten_deadlines(key, timeout);
            }
        }
        self.set_pool_timer(index);
    }

    fn remove_pool(&mut self, index: usize) {
        self.pools[index].removed = true;
        self.ending = true;
        let clients: Vec<Key> = (self.clients.iter())
            .filter(|(_, client)| client.pool as usize == index)
            .map(|(key, _)| key)
            .collect();
        for key in clients {
            self.client_drain(key);
        }
        self.let_servers_go(index);
    }

    /// Once a pool that is gone has no clients, its servers are needed no longer.
    pub(crate) fn let_servers_go(&mut self, index: usize) {
        let pool = &self.pools[index];
        if !pool.removed || pool.stats.client_connections > 0 {
            return;
        }
        let still = |pool: &Pool| pool.removed && pool.stats.client_connections > 0;
        self.ending = self.draining || self.pools.iter().any(still);
        for key in self.connections_of(index) {
            let server = self.conns.at(key.index).server as usize;
            for lanes in &mut self.pools[index].servers[server].lanes {
                lanes.fill(None);
            }
            self.pools[index].servers[server].idle = Default::default();
            self.pools[index].servers[server].probe = None;
            self.retire(key, server);
        }
    }

    fn connections_of(&self, pool: usize) -> Vec<Key> {
        let conns = self.conns.iter().filter(|(_, conn)| conn.pool as usize == pool);
        conns.map(|(key, _)| key).collect()
    }
}
