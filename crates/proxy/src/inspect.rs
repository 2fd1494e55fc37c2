//! What people ask about a proxy that runs: who its clients are, and why a key goes where it goes.
//!
//! Nothing here is on the path of a request, and nothing is changed. Invariant: what is asked costs
//! at most one walk through the clients.

use base::{Time, Token};
use protocol::Version;

use crate::client::Client;
use crate::proxy::Proxy;

/// One client.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ClientView {
    /// Its name with the event base.
    pub token: Token,
    /// Index of its pool.
    pub pool: usize,
    /// What `CLIENT ID` tells it.
    pub id: u64,
    /// How it calls itself; empty when it has not said.
    pub name: Vec<u8>,
    /// The client library and its version, the same.
    pub library: [Vec<u8>; 2],
    /// What is spoken with it.
    pub version: Version,
    /// When it came.
    pub accepted_at: Time,
    /// When bytes of it last came.
    pub received_at: Time,
    /// Requests that are not answered.
    pub requests_count: u32,
    /// Bytes of replies that wait for it.
    pub output_size: usize,
    /// Bytes of it that are not parsed.
    pub input_size: usize,
    /// Too much is owed to it for its bytes to be parsed.
    pub is_paused: bool,
}

/// Where a key goes, and why.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct KeyView {
    /// The part of the key that is hashed.
    pub hashed: Vec<u8>,
    /// Its hash; `None` in a pool of one server.
    pub hash: Option<u32>,
    /// The point that owns the hash; `None` when nothing is hashed or no server is live.
    pub point: Option<u32>,
    /// The server, by index; `None` when none is live.
    pub server: Option<usize>,
    /// The same with every server live.
    pub owner: Option<usize>,
    /// Servers that are ejected now.
    pub ejected: Vec<usize>,
}

impl Proxy {
    /// The first `max` clients.
    pub fn clients(&self, max: usize) -> Vec<ClientView> {
        let view = |(key, client): (_, &Client)| client.view(key);
        self.clients.iter().filter(|(_, client)| !client.is_closing()).map(view).take(max).collect()
    }

    /// Where a key of this pool goes; `None` when there is no such pool.
    pub fn explain(&self, pool: usize, key: &[u8]) -> Option<KeyView> {
        let pool = self.pools.get(pool).filter(|pool| !pool.removed)?;
        let [now, whole] = pool.explain(key);
        let servers = pool.servers[..pool.retired_index()].iter().enumerate();
        Some(KeyView {
            hashed: now.hashed.to_vec(),
            hash: now.hash,
            point: now.point.map(|point| point.value),
            server: now.server_index,
            owner: whole.server_index,
            ejected: servers.filter(|(_, s)| !s.health.is_live()).map(|(index, _)| index).collect(),
        })
    }
}
