//! Names of servers become addresses here, on threads of their own, since a name server may take
//! its time; workers only ever see addresses.
//!
//! Invariants: a name that stops resolving keeps its last address; workers are told of every
//! address that is found, whoever has found it and however late.

use std::collections::{BTreeMap, BTreeSet};
use std::io;
use std::net::{SocketAddr, ToSocketAddrs};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use base::Address;
use crossbeam_channel::{Receiver, RecvTimeoutError, bounded};
use proxy::options::{PoolOptions, ServerAddress};
use proxy::stats::WorkerStats;
use tracing::{debug, info, warn};

use crate::process::Shared;
use crate::snapshot;

/// How often names that do not resolve are tried again.
const RETRY: Duration = Duration::from_secs(1);
/// How often names that do are looked up again, in units of [`RETRY`].
const REFRESH_ROUNDS: u64 = 30;
/// How long a start or a reload waits for names, so that the first requests find their servers.
const FIRST_TIMEOUT: Duration = Duration::from_secs(2);
/// Names that are looked up at a time: one that takes long must not hold up all others.
const LOOKUPS_MAX: usize = 16;

const THREAD_NAME: &str = "weir-names";

type Name = (String, u16);

/// What is known of names.
#[derive(Debug)]
pub(crate) struct AddressBook {
    known: Mutex<Known>,
    /// Asks for the addresses of a name, and takes its time: the system's resolver, but in tests.
    ask: fn(&Name) -> io::Result<Vec<SocketAddr>>,
    /// Set by workers when they close a connection to a server: it may have moved.
    server_closed: Arc<AtomicBool>,
}

#[derive(Debug, Default)]
struct Known {
    addresses: BTreeMap<Name, Address>,
    /// Names with an address that workers may not have been told of.
    news: BTreeSet<Name>,
}

impl Default for AddressBook {
    fn default() -> AddressBook {
        let ask = |(host, port): &Name| Ok((host.as_str(), *port).to_socket_addrs()?.collect());
        AddressBook { known: Mutex::default(), ask, server_closed: Arc::default() }
    }
}

impl AddressBook {
    /// Where each server of each pool is, as far as it is known.
    pub(crate) fn addresses(&self, pools: &[Option<PoolOptions>]) -> Vec<Vec<Option<Address>>> {
        let known = self.lock();
        let servers = |pool: &Option<PoolOptions>| {
            let servers = pool.iter().flat_map(|pool| &pool.servers);
            let find = |address: &ServerAddress| match (literal(address), name_of(address)) {
                (None, Some(name)) => known.addresses.get(&name).cloned(),
                (literal, _) => literal,
            };
            servers.map(|server| find(&server.address)).collect()
        };
        pools.iter().map(servers).collect()
    }

    /// Where workers say that they have closed a connection to a server.
    pub(crate) fn server_closed(&self) -> Arc<AtomicBool> {
        Arc::clone(&self.server_closed)
    }

    fn lock(&self) -> MutexGuard<'_, Known> {
        self.known.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn get(&self, name: &Name) -> Option<Address> {
        self.lock().addresses.get(name).cloned()
    }

    /// Notes the address of a name. Whether it is news.
    fn set(&self, name: &Name, address: &Address) -> bool {
        let mut known = self.lock();
        let before = known.addresses.insert(name.clone(), address.clone());
        let is_news = before.as_ref() != Some(address);
        if is_news {
            known.news.insert(name.clone());
        }
        is_news
    }

    /// The addresses that were found since this was asked last.
    fn take_news(&self) -> Vec<(Name, Address)> {
        let mut known = self.lock();
        let names = std::mem::take(&mut known.news);
        let address = |name: Name| Some((known.addresses.get(&name)?.clone(), name));
        names.into_iter().filter_map(address).map(|(address, name)| (name, address)).collect()
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
        let thread = std::thread::Builder::new().name(THREAD_NAME.to_owned());
        // Where it can't be started the names are looked up by the thread that keeps them.
        let _ = thread.spawn(move || {
            look_up_all(&names, &book, true);
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
            Some(Address::Inet(SocketAddr::new(ip, *port)))
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
    let mut failures = Failures::default();
    for round in 1_u64.. {
        if stop.recv_timeout(RETRY) != Err(RecvTimeoutError::Timeout) {
            return;
        }
        let pools = shared.pools();
        let mut names = names_of(&pools);
        if round % REFRESH_ROUNDS != 0 {
            let failed = failures.names_failed(shared, &pools);
            names.retain(|name| shared.book.get(name).is_none() || failed.contains(name));
        }
        look_up_all(&names, &shared.book, false);
        for (name, address) in shared.book.take_news() {
            let is_named = |server: &ServerAddress| name_of(server).as_ref() == Some(&name);
            shared.tell_address(is_named, &address);
        }
    }
}

/// How often each server had failed when it was looked at last, to tell which have failed since.
#[derive(Default)]
struct Failures(BTreeMap<Name, u64>);

impl Failures {
    /// The names behind which something has failed since the last call. Workers are asked only when
    /// one of them has closed a connection to a server.
    fn names_failed(&mut self, shared: &Shared, pools: &[Option<PoolOptions>]) -> BTreeSet<Name> {
        if !shared.book.server_closed.swap(false, Ordering::Relaxed) {
            return BTreeSet::new();
        }
        let failed = self.compare(pools, &snapshot::sum(&shared.stats()));
        for (host, port) in &failed {
            debug!(host, port, "a server fails: its name is looked up again");
        }
        failed
    }

    fn compare(&mut self, pools: &[Option<PoolOptions>], total: &WorkerStats) -> BTreeSet<Name> {
        let mut counts = BTreeMap::new();
        for (pool, stats) in pools.iter().zip(&total.pools) {
            let servers = pool.iter().flat_map(|pool| &pool.servers);
            for (server, stats) in servers.zip(&stats.servers) {
                if let Some(name) = name_of(&server.address) {
                    let count = stats.error_count + stats.eof_count + stats.timedout_count;
                    *counts.entry(name).or_default() += count;
                }
            }
        }
        let before = std::mem::replace(&mut self.0, counts);
        let has_failed = |(name, count): &(&Name, &u64)| {
            **count > before.get(*name).copied().unwrap_or_default()
        };
        self.0.iter().filter(has_failed).map(|(name, _)| name.clone()).collect()
    }
}

/// Looks up some at a time, and returns when all have been answered.
fn look_up_all(names: &[Name], book: &AddressBook, first: bool) {
    for some in names.chunks(LOOKUPS_MAX) {
        std::thread::scope(|scope| {
            // The last one needs no further thread, and mostly there is no other.
            let (last, others) = some.split_last().expect("a chunk holds something");
            for name in others {
                let thread = std::thread::Builder::new().name(THREAD_NAME.to_owned());
                let started = thread.spawn_scoped(scope, move || look_up(name, book, first));
                if started.is_err() {
                    // For want of threads, which is no reason to end.
                    look_up(name, book, first);
                }
            }
            look_up(last, book, first);
        });
    }
}

/// Notes the address of a name.
fn look_up(name: &Name, book: &AddressBook, first: bool) {
    let (host, _) = name;
    let answer = (book.ask)(name).map(|addresses| {
        let addresses: Vec<_> = addresses.into_iter().map(Address::Inet).collect();
        // Name servers turn their answers round; a server stays where it is while it is among them.
        let known = book.get(name).filter(|known| addresses.contains(known));
        known.or_else(|| addresses.into_iter().next())
    });
    match answer {
        Ok(Some(address)) => {
            if book.set(name, &address) {
                info!(host, %address, "server name resolved");
            }
        }
        Ok(None) => warn!(host, "server name has no address"),
        Err(error) if first => {
            warn!(host, %error, "server name does not resolve; trying each second");
        }
        Err(_) => {}
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use std::net::{IpAddr, Ipv4Addr};

    use super::*;
    use proxy::options::{Protocol, ServerOptions};
    use proxy::stats::{PoolStats, ServerStats};

    fn name(host: &str) -> Name {
        (host.to_owned(), 1)
    }

    fn pool(hosts: &[&str]) -> Option<PoolOptions> {
        let server = |host: &&str| ServerOptions {
            name: (*host).to_owned(),
            address: ServerAddress::Inet { host: (*host).to_owned(), port: 1 },
            weight: 1,
        };
        let listen = Address::Inet(([127, 0, 0, 1], 2).into());
        Some(PoolOptions::new("p", Protocol::Redis, listen, hosts.iter().map(server).collect()))
    }

    /// The name server takes longer than a start waits: the address is found by the thread of the
    /// start, when the workers have begun without it.
    #[test]
    fn an_address_that_comes_after_the_start_is_told_all_the_same() {
        let book = AddressBook::default();
        look_up(&name("localhost"), &book, true);
        look_up(&name("localhost"), &book, false);
        let news = book.take_news();
        assert_eq!(news.len(), 1, "{news:?}");
        assert_eq!(news[0].0, name("localhost"));
        assert_eq!(book.take_news(), [], "it is told once");
    }

    #[test]
    fn more_names_than_are_looked_up_at_a_time_are_all_looked_up() {
        let book = AddressBook::default();
        let names: Vec<Name> =
            (1..=2 * LOOKUPS_MAX + 1).map(|port| ("localhost".to_owned(), port as u16)).collect();
        look_up_all(&names, &book, true);
        assert_eq!(book.take_news().len(), names.len());
        look_up_all(&[], &book, true);
    }

    const FIRST: SocketAddr = SocketAddr::new(IpAddr::V4(Ipv4Addr::new(192, 0, 2, 1)), 1);
    const SECOND: SocketAddr = SocketAddr::new(IpAddr::V4(Ipv4Addr::new(192, 0, 2, 2)), 1);

    /// A name server that does as the name says.
    fn ask((host, _): &Name) -> io::Result<Vec<SocketAddr>> {
        match host.as_str() {
            "hangs" => loop {
                std::thread::park();
            },
            "unknown" => Err(io::ErrorKind::NotFound.into()),
            "empty" => Ok(Vec::new()),
            "turned" => Ok(vec![SECOND, FIRST]),
            "moved" => Ok(vec![SECOND]),
            _ => Ok(vec![FIRST]),
        }
    }

    fn book() -> AddressBook {
        AddressBook { ask, ..AddressBook::default() }
    }

    /// Its requests get an error until it is known; nobody else waits for it.
    #[test]
    fn a_name_whose_look_up_hangs_holds_up_neither_the_start_nor_other_names() {
        let book = Arc::new(book());
        let pools = [pool(&["hangs", "good", "127.0.0.1", "unknown", "empty"])];
        let (done, ended) = bounded(1);
        let (starting, names) = (Arc::clone(&book), pools.clone());
        std::thread::spawn(move || {
            starting.look_up_new(&names);
            done.send(()).unwrap();
        });
        ended.recv_timeout(10 * FIRST_TIMEOUT).expect("the start goes on");
        let literal = Address::Inet(([127, 0, 0, 1], 1).into());
        let first = Some(Address::Inet(FIRST));
        assert_eq!(book.addresses(&pools), [[None, first, Some(literal), None, None]]);
    }

    #[test]
    fn a_server_stays_where_it_is_unless_its_name_says_that_it_moved() {
        for (host, then) in [
            ("good", FIRST),
            ("unknown", FIRST),
            ("empty", FIRST),
            ("turned", FIRST),
            ("moved", SECOND),
        ] {
            let book = book();
            book.set(&name(host), &Address::Inet(FIRST));
            book.take_news();
            look_up(&name(host), &book, false);
            assert_eq!(book.get(&name(host)), Some(Address::Inet(then)), "{host}");
            assert_eq!(book.take_news().len(), usize::from(then != FIRST), "{host}");
        }
    }

    #[test]
    fn names_whose_servers_fail_are_looked_up_again() {
        let pools = [None, pool(&["good", "bad", "127.0.0.1"]), pool(&["bad", "idle"])];
        let stats = |counts: [u64; 5]| {
            let server = |error_count| ServerStats { error_count, ..ServerStats::default() };
            let [good, bad, literal, bad_too, idle] = counts.map(server);
            let pool = |servers: &[ServerStats]| PoolStats {
                servers: servers.to_vec(),
                ..PoolStats::default()
            };
            WorkerStats {
                pools: vec![pool(&[]), pool(&[good, bad, literal]), pool(&[bad_too, idle])],
                ..WorkerStats::default()
            }
        };
        let mut failures = Failures::default();
        let none: [Name; 0] = [];
        let mut failed = |counts| -> Vec<Name> {
            failures.compare(&pools, &stats(counts)).into_iter().collect()
        };
        assert_eq!(failed([0; 5]), none);
        assert_eq!(failed([0, 1, 7, 0, 0]), [name("bad")]);
        assert_eq!(failed([0, 1, 9, 0, 0]), none, "an address needs no look-up");
        assert_eq!(failed([0, 1, 9, 1, 2]), [name("bad"), name("idle")]);
        assert_eq!(failed([0, 1, 9, 1, 2]), none);
    }
}
