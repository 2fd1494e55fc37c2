//! The way back of an ejected server: when its time has come a worker probes it, and only a good
//! answer lets requests go there again. No client's request finds out whether a server lives.
//!
//! The probe travels on the connection that requests will use, behind the handshake if that is new.
//! It is a record that nobody owns, like the handshake's. Invariant: of each server at most one
//! probe decides, and a server returns by its answer only.

use base::Time;
use base::slab::Key;
use protocol::Version;

use crate::canary::Canary;
use crate::pool::Probe;
use crate::proxy::{Proxy, Timer};
use crate::server::{Lane, RETRY_MIN};

impl Proxy {
    /// Looks for servers of the pool to probe, now and later.
    pub(crate) fn pool_timer(&mut self, pool_index: usize) {
        let pool = &mut self.pools[pool_index];
        if self.now < pool.probe_timer_at {
            // An entry that an earlier one has overtaken.
            return;
        }
        pool.probe_timer_at = Time::MAX;
        if pool.removed {
            return;
        }
        for server in 0..pool.retired_index() {
            if self.probe_due(pool_index, server).is_some_and(|due| due <= self.now) {
                self.probe(pool_index, server);
            }
        }
        self.set_pool_timer(pool_index);
    }

    /// Something about the pool's servers has changed: arms its one timer for the next probe, and
    /// looks after those who listen.
    pub(crate) fn set_pool_timer(&mut self, pool_index: usize) {
        if std::mem::take(&mut self.pools[pool_index].placement_changed) {
            self.review_listeners(pool_index);
        }
        let servers = 0..self.pools[pool_index].retired_index();
        let next = servers.filter_map(|server| self.probe_due(pool_index, server)).min();
        let pool = &mut self.pools[pool_index];
        if let Some(next) = next.filter(|next| *next < pool.probe_timer_at && !pool.removed) {
            pool.probe_timer_at = next;
            self.wheel.insert(next, Timer::Pool(pool_index as u32));
        }
    }

    /// When an ejected server is to be probed; `None` while a probe is under way.
    fn probe_due(&self, pool_index: usize, server: usize) -> Option<Time> {
        let server = &self.pools[pool_index].servers[server];
        let until = server.health.ejected_until().filter(|_| server.probe.is_none())?;
        Some(until.max(server.retry_at))
    }

    fn probe(&mut self, pool_index: usize, server: usize) {
        let pool = &mut self.pools[pool_index];
        pool.stats.servers[server].probes += 1;
        if self.canaries.sings(Canary::ReturnsUnprobed) {
            self.pools[pool_index].readmit(server);
            return;
        }
        let lane = Lane { index: 0, version: Version::Basic };
        let Ok(connection) = self.connection_for(pool_index, server, lane) else {
            // Its name does not resolve, or the connection owes as much as it may.
            let pool = &mut self.pools[pool_index];
            pool.servers[server].name_failed = false;
            pool.servers[server].retry_at = self.now + RETRY_MIN;
            pool.record_failed_probe(server, self.now);
            return;
        };
        let bytes = self.pools[pool_index].options.protocol.probe();
        let record = self.queue_own(connection, bytes, 1);
        self.pools[pool_index].servers[server].probe = Some(Probe { connection, record });
    }

    /// Counts a failure of each server that requests of this turn have found without an address;
    /// behind them, since an ejection amid a request would part its keys anew.
    #[cold]
    pub(crate) fn count_failed_names(&mut self) {
        self.names_failed = false;
        for pool_index in 0..self.pools.len() {
            let pool = &mut self.pools[pool_index];
            for server in 0..pool.retired_index() {
                if std::mem::take(&mut pool.servers[server].name_failed) {
                    pool.stats.servers[server].error_count += 1;
                    pool.record_failure(server, self.now);
                }
            }
            self.set_pool_timer(pool_index);
        }
    }

    /// A response came to something that no client has asked for.
    #[cold]
    pub(crate) fn handle_own_response(&mut self, connection: Key, record: u32, bytes: &[u8]) {
        let conn = self.conns.at(connection.index);
        let (pool_index, server) = (conn.pool as usize, conn.server as usize);
        let pool = &mut self.pools[pool_index];
        if pool.servers[server].probe != Some(Probe { connection, record }) {
            return;
        }
        if pool.options.protocol.is_probe_passed(bytes) {
            pool.readmit(server);
        } else {
            pool.record_failed_probe(server, self.now);
        }
        self.set_pool_timer(pool_index);
    }

    /// A connection was lost: that is a failed probe when it carried one.
    pub(crate) fn server_failed(&mut self, pool_index: usize, server: usize, connection: Key) {
        let pool = &mut self.pools[pool_index];
        let probe = pool.servers[server].probe;
        if probe.is_some_and(|probe| probe.connection == connection) {
            pool.record_failed_probe(server, self.now);
        } else {
            pool.record_failure(server, self.now);
        }
        self.set_pool_timer(pool_index);
    }
}
