//! Names of servers become addresses here, on threads of their own, since a name server may take
//! its time; workers only ever see addresses.
//!
//! Invariant: a name that stops resolving keeps its last address.

use std::collections::BTreeMap;
use std::net::ToSocketAddrs;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use base::Address;
use crossbeam_channel::{Receiver, RecvTimeoutError, bounded};
use proxy::options::{PoolOptions, ServerAddress};
use tracing::{info, warn};

use crate::process::Shared;

/// How often names that do not resolve are tried again.
const RETRY: Duration = Duration::from_secs(1);
/// How often names that do are looked up again, in units of [`RETRY`].
const REFRESH_ROUNDS: u64 = 30;
/// How long a start or a reload waits for names, so that the first requests find their servers.
const FIRST_TIMEOUT: Duration = Duration::from_secs(2);

type Name = (String, u16);

/// What is known of names.
#[derive(Debug, Default)]
pub(crate) struct AddressBook(Mutex<BTreeMap<Name, Address>>);

impl AddressBook {
    /// Where each server of each pool is, as far as it is known.
    pub(crate) fn addresses(&self, pools: &[Option<PoolOptions>]) -> Vec<Vec<Option<Address>>> {
        let known = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let servers = |pool: &Option<PoolOptions>| {
            let servers = pool.iter().flat_map(|pool| &pool.servers);
            let find = |address: &ServerAddress| match (literal(address), name_of(address)) {
                (None, Some(name)) => known.get(&name).cloned(),
                (literal, _) => literal,
            };
            servers.map(|server| find(&server.address)).collect()
        };
        pools.iter().map(servers).collect()
    }

    fn get(&self, name: &Name) -> Option<Address> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).get(name).cloned()
    }

    /// Notes the address of a name. Whether it is news.
    fn set(&self, name: &Name, address: &Address) -> bool {
        let mut known = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        known.insert(name.clone(), address.clone()).as_ref() != Some(address)
    }

    /// Looks up the names that are not known yet, and waits a while for the answers.
    pub(crate) fn look_up_new(self: &Arc<Self>, pools: &[Option<PoolOptions>]) {
        let names: Vec<Name> =
            names_of(pools).into_iter().filter(|name| self.get(name).is_none()).collect();
        if names.is_empty() {
            return;
        }
        let (done, answered) = bounded::<()>(0);
        let book = Arc::clone(self);
        std::thread::spawn(move || {
            for name in names {
                look_up(&name, &book, true);
            }
            drop(done);
        });
        // Later is no harm: requests get an error until the name is known.
        let _ = answered.recv_timeout(FIRST_TIMEOUT);
    }
}

/// The address of a server, when it takes no look-up.
fn literal(address: &ServerAddress) -> Option<Address> {
    match address {
        ServerAddress::Unix(path) => Some(Address::Unix(path.clone())),
        ServerAddress::Inet { host, port } => {
            let ip = base::address::without_brackets(host).parse().ok()?;
            Some(Address::Inet(std::net::SocketAddr::new(ip, *port)))
        }
    }
}

fn name_of(address: &ServerAddress) -> Option<Name> {
    match (address, literal(address)) {
        (ServerAddress::Inet { host, port }, None) => Some((host.clone(), *port)),
        _ => None,
    }
}

fn names_of(pools: &[Option<PoolOptions>]) -> Vec<Name> {
    let servers = pools.iter().flatten().flat_map(|pool| &pool.servers);
    let mut names: Vec<Name> = servers.filter_map(|server| name_of(&server.address)).collect();
    names.sort();
    names.dedup();
    names
}

/// Keeps the names of all servers resolved until `stop` is closed.
pub(crate) fn run(shared: &Shared, stop: &Receiver<()>) {
    for round in 1_u64.. {
        if stop.recv_timeout(RETRY) != Err(RecvTimeoutError::Timeout) {
            return;
        }
        for name in names_of(&shared.pools()) {
            let due = shared.book.get(&name).is_none() || round % REFRESH_ROUNDS == 0;
            if due
                && look_up(&name, &shared.book, false)
                && let Some(address) = shared.book.get(&name)
            {
                let is_named = |server: &ServerAddress| name_of(server).as_ref() == Some(&name);
                shared.tell_address(is_named, &address);
            }
        }
    }
}

/// Whether the address of a name is news.
fn look_up(name: &Name, book: &AddressBook, first: bool) -> bool {
    let (host, port) = name;
    let answer = (host.as_str(), *port).to_socket_addrs().map(|addresses| {
        let addresses: Vec<_> = addresses.map(Address::Inet).collect();
        // Name servers turn their answers round; a server stays where it is while it is among them.
        let known = book.get(name).filter(|known| addresses.contains(known));
        known.or_else(|| addresses.into_iter().next())
    });
    match answer {
        Ok(Some(address)) => {
            let news = book.set(name, &address);
            if news {
                info!(host, %address, "server name resolved");
            }
            news
        }
        Ok(None) => {
            warn!(host, "server name has no address");
            false
        }
        Err(error) => {
            if first {
                warn!(host, %error, "server name does not resolve; trying each second");
            }
            false
        }
    }
}
