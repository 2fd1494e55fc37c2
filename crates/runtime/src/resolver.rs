//! Names of servers become addresses here, on a thread of their own, since a name server may take
//! its time; workers only ever see addresses.
//!
//! Invariant: a name that stops resolving keeps its last address.

use std::net::ToSocketAddrs;
use std::sync::Arc;
use std::time::Duration;

use base::Address;
use crossbeam_channel::{Receiver, RecvTimeoutError, Sender};
use proxy::options::{PoolOptions, ServerAddress};
use tracing::{info, warn};

use crate::mailbox::Message;
use crate::process::Control;

/// How often names that do not resolve are tried again.
const RETRY: Duration = Duration::from_secs(1);
/// How often names that do are looked up again, in units of [`RETRY`].
const REFRESH_ROUNDS: u64 = 30;

/// One server whose host is a name.
struct Name {
    pool: usize,
    server: usize,
    host: String,
    port: u16,
    address: Option<Address>,
}

/// The address of a server, when it takes no look-up.
pub(crate) fn literal(address: &ServerAddress) -> Option<Address> {
    match address {
        ServerAddress::Unix(path) => Some(Address::Unix(path.clone())),
        ServerAddress::Inet { host, port } => {
            let ip = host.trim_start_matches('[').trim_end_matches(']').parse().ok()?;
            Some(Address::Inet(std::net::SocketAddr::new(ip, *port)))
        }
    }
}

/// Resolves the names of all servers until `stop` is closed. Says on `first_round_done` when each
/// name was tried once.
pub(crate) fn run(
    pools: &[PoolOptions],
    workers: &[Arc<dyn Control>],
    first_round_done: &Sender<()>,
    stop: &Receiver<()>,
) {
    let mut names = names_of(pools);
    for round in 0.. {
        for name in &mut names {
            if name.address.is_none() || round % REFRESH_ROUNDS == 0 {
                look_up(name, workers, round == 0);
            }
        }
        if round == 0 {
            // Nobody listens any more when the start took too long.
            let _ = first_round_done.try_send(());
        }
        if names.is_empty() || stop.recv_timeout(RETRY) != Err(RecvTimeoutError::Timeout) {
            return;
        }
    }
}

fn names_of(pools: &[PoolOptions]) -> Vec<Name> {
    let mut names = Vec::new();
    for (pool, options) in pools.iter().enumerate() {
        for (server, server_options) in options.servers.iter().enumerate() {
            if literal(&server_options.address).is_some() {
                continue;
            }
            if let ServerAddress::Inet { host, port } = &server_options.address {
                names.push(Name { pool, server, host: host.clone(), port: *port, address: None });
            }
        }
    }
    names
}

fn look_up(name: &mut Name, workers: &[Arc<dyn Control>], first: bool) {
    let found = (name.host.as_str(), name.port).to_socket_addrs().map(|mut all| all.next());
    match found {
        Ok(Some(address)) => {
            let address = Some(Address::Inet(address));
            if address != name.address {
                info!(host = name.host, address = ?address, "server name resolved");
                name.address = address;
                for worker in workers {
                    worker.send(Message::SetAddress {
                        pool: name.pool,
                        server: name.server,
                        address: name.address.clone(),
                    });
                }
            }
        }
        Ok(None) => warn!(host = name.host, "server name has no address"),
        Err(error) if first => {
            warn!(host = name.host, %error, "server name does not resolve; trying each second");
        }
        Err(_) => {}
    }
}
