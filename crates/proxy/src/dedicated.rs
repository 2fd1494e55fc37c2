//! Connections that belong to one client at a time: for as long as it waits for a response, is in a
//! transaction, or listens to channels. When it needs one no longer the connection is as it was,
//! and another client may have it.
//!
//! A connection that breaks, or is too late with a response, takes the transaction or subscription
//! with it. Invariant: a dedicated connection stands in its server's list of idle ones, or has a
//! client whose mode names it.

use base::slab::Key;
use protocol::{Notice, PLACEHOLDER_KEY};
use routing::DistributionKind;

use crate::canary::Canary;
use crate::client::Mode;
use crate::errors::RequestError;
use crate::pool::Pool;
use crate::proxy::Proxy;

/// Idle connections that are kept for each server and version.
const IDLE_MAX: usize = 16;

impl Pool {
    /// Whether a key is this server's. Where lots are drawn it is anybody's.
    pub(crate) fn is_owner(&mut self, server: usize, key: &[u8]) -> bool {
        self.draws_lots() || self.route(key) == Ok(server)
    }

    /// The one server that owns all these keys.
    pub(crate) fn owner_of_all<'key>(
        &mut self,
        mut keys: impl Iterator<Item = &'key [u8]>,
    ) -> Result<usize, RequestError> {
        let server = self.route(keys.next().unwrap_or(PLACEHOLDER_KEY))?;
        if keys.all(|key| self.is_owner(server, key)) {
            Ok(server)
        } else {
            Err(RequestError::KeysApart)
        }
    }

    fn draws_lots(&self) -> bool {
        self.options.distribution == DistributionKind::Random
    }
}

impl Proxy {
    /// Gives a client a connection of its own to a server.
    pub(crate) fn dedicate(&mut self, client: Key, server: usize) -> Result<Key, RequestError> {
        let pool_index = self.clients.at(client.index).pool as usize;
        let version = self.clients.at(client.index).profile.version;
        let pool = &mut self.pools[pool_index];
        let key = match pool.servers[server].idle[version as usize].pop() {
            Some(key) => key,
            None => {
                let max = pool.options.dedicated_connections_max as usize;
                if pool.dedicated_count >= max && !self.close_an_idle_one(pool_index) {
                    return Err(RequestError::TooManyConnections);
                }
                let key = self.open_connection(pool_index, server, None, version)?;
                self.pools[pool_index].dedicated_count += 1;
                key
            }
        };
        self.conns.at_mut(key.index).client = Some(client);
        Ok(key)
    }

    fn close_an_idle_one(&mut self, pool_index: usize) -> bool {
        let servers = &self.pools[pool_index].servers;
        let idle =
            servers.iter().flat_map(|server| &server.idle).find_map(|idle| idle.last().copied());
        if let Some(key) = idle {
            self.drop_connection(key, RequestError::ServerClosed, false);
        }
        idle.is_some()
    }

    /// A dedicated connection has given a response. Whether it is closed by now.
    pub(crate) fn review_dedicated(&mut self, key: Key) -> bool {
        let conn = self.conns.at(key.index);
        if conn.is_closing() {
            return true;
        }
        if !conn.queue.is_empty() {
            return false;
        }
        let Some(client) = conn.client else { return false };
        match self.clients.at(client.index).mode {
            Mode::Awaits { .. } => self.untie(key),
            _ => false,
        }
    }

    /// The client of a connection needs it no longer. Whether the connection is closed.
    fn untie(&mut self, key: Key) -> bool {
        let conn = self.conns.at_mut(key.index);
        let client = conn.client.take().expect("a connection that is tied has a client");
        let server = &mut self.pools[conn.pool as usize].servers[conn.server as usize];
        let idle = &mut server.idle[conn.version as usize];
        let keeps = !conn.retired && idle.len() < IDLE_MAX;
        if keeps {
            idle.push(key);
        } else {
            self.drop_connection(key, RequestError::ServerClosed, false);
        }
        self.client_untied(client);
        !keeps
    }

    /// The client of this connection is gone: whatever it waits for is not wanted.
    pub(crate) fn close_dedicated(&mut self, key: Key) {
        let conn = self.conns.at_mut(key.index);
        conn.client = None;
        let handed_on = self.canaries.sings(Canary::TransactionHandedOn);
        if handed_on && conn.queue.is_empty() && !conn.is_closing() && !conn.retired {
            let server = &mut self.pools[conn.pool as usize].servers[conn.server as usize];
            server.idle[conn.version as usize].push(key);
        } else if !conn.is_closing() {
            self.drop_connection(key, RequestError::ServerClosed, false);
        }
    }

    /// A connection is about to be closed. Returns the client that it was tied to.
    pub(crate) fn forget_dedicated(&mut self, key: Key) -> Option<Key> {
        let conn = self.conns.at_mut(key.index);
        let pool = &mut self.pools[conn.pool as usize];
        pool.dedicated_count -= 1;
        let idle = &mut pool.servers[conn.server as usize].idle[conn.version as usize];
        idle.retain(|idle| *idle != key);
        conn.client.take()
    }

    /// Passes on what a server sends to a client that listens. `false` when it has no such client.
    pub(crate) fn relay(&mut self, key: Key, bytes: &[u8]) -> bool {
        let conn = self.conns.at(key.index);
        let Some(client_key) = conn.client else { return false };
        let client = self.clients.at_mut(client_key.index);
        let Mode::Listens { left, marks, .. } = &mut client.mode else { return false };
        let protocol = self.pools[client.pool as usize].options.protocol;
        match protocol.notice(bytes) {
            Notice::Mark if marks.asked_count > 0 => {
                marks.asked_count -= 1;
                if marks.asked_count == 0 {
                    self.conns.at_mut(key.index).mark_due = None;
                }
                if marks.is_settled() && *left == [0, 0] {
                    // It is as it was; so is the client.
                    client.mode = Mode::Awaits { connection: key, waits: false };
                    self.untie(key);
                } else {
                    self.client_may_resume(client_key);
                }
                return true;
            }
            Notice::Left { sharded, count } => {
                left[usize::from(sharded)] = count;
                if *left == [0, 0] && marks.asked_count == 0 {
                    self.ask_for_mark(client_key);
                }
            }
            Notice::Nonsense => {
                self.break_connection(key, RequestError::ServerMisbehaved);
                return true;
            }
            Notice::Mark | Notice::Other => {}
        }
        let client = self.clients.at_mut(client_key.index);
        if !client.is_open() {
            return true;
        }
        client.out.push(bytes, &mut self.buffers);
        self.buffered_bytes += bytes.len();
        client.mark_dirty(client_key, &mut self.clients_dirty);
        true
    }

    /// The placement of a pool has changed: who listens at a server where nobody will publish any
    /// more is closed, and will look for the right one.
    #[cold]
    pub(crate) fn review_listeners(&mut self, pool_index: usize) {
        let pool = &mut self.pools[pool_index];
        if pool.draws_lots() {
            return;
        }
        let Ok(server) = pool.route(PLACEHOLDER_KEY) else { return };
        let strays = |proxy: &Proxy, client: Option<Key>| {
            let client = client.and_then(|key| proxy.clients.get(key));
            client.is_some_and(|client| matches!(client.mode, Mode::Listens { .. }))
        };
        let elsewhere: Vec<Key> = (self.conns.iter())
            .filter(|(_, conn)| conn.pool as usize == pool_index && !conn.is_closing())
            .filter(|(_, conn)| conn.server as usize != server && strays(self, conn.client))
            .map(|(key, _)| key)
            .collect();
        for key in elsewhere {
            self.drop_connection(key, RequestError::ServerClosed, false);
        }
    }
}
