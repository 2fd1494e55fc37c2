//! From the low form to the checked one: every key, every value, and what must hold between them.
//!
//! It neither reads files nor looks names up; the caller passes in how a listening host's name is
//! resolved. Invariant: whatever it returns without a report passes `PoolOptions::validate`.

use std::collections::HashMap;
use std::fmt;
use std::io;
use std::net::{Ipv4Addr, SocketAddr};

use base::Address;
use protocol::Protocol;
use proxy::options::{PoolOptions, ServerOptions};

use crate::address::{self, Listen};
use crate::error::Report;
use crate::keys::{self, Kind, Row};
use crate::low::{Entry, Pool, Scalar, Value};

/// How the name of a host becomes an address.
pub(crate) type Resolve<'a> = &'a dyn Fn(&str, u16) -> io::Result<SocketAddr>;

/// Checks all pools and reports everything that is wrong. What is returned is of use only if
/// nothing was reported; its order is the order of names, as in twemproxy.
pub(crate) fn check(typed: &[Pool], resolve: Resolve<'_>, report: &mut Report) -> Vec<PoolOptions> {
    let mut names = HashMap::new();
    let mut addresses = Addresses::default();
    let mut pools = Vec::with_capacity(typed.len());
    for pool in typed {
        let name = &pool.name;
        if name.text.is_empty() {
            report.at(name.line, "a pool has no name: a name must stand before the colon");
        } else if let Some(line) = names.get(name.text.as_str()) {
            let text =
                format!("pool '{}': the pool of line {line} has this name already", name.text);
            report.at(name.line, text);
        } else {
            names.insert(name.text.as_str(), name.line);
        }
        pools.push(PoolCheck { pool, report }.run(resolve, &mut addresses));
    }
    pools.sort_by(|left, right| routing::name_order(&left.name, &right.name));
    pools
}

/// An entry with the row of its key.
type Known<'a> = (&'static Row, &'a Entry);

/// The check of one pool.
struct PoolCheck<'a, 'r> {
    pool: &'a Pool,
    report: &'r mut Report,
}

impl<'a> PoolCheck<'a, '_> {
    fn run(mut self, resolve: Resolve<'_>, addresses: &mut Addresses<'a>) -> PoolOptions {
        let errors_count = self.report.count();
        let known = self.known_entries();
        let (address, unix_mode) = self.listen(&known, resolve, addresses);
        let servers = self.servers(&known);
        let name = &self.pool.name;
        let mut options = PoolOptions::new(&name.text, Protocol::Memcache, address, servers);
        options.listen.unix_mode = unix_mode;
        for (row, entry) in &known {
            self.apply(row, entry, &mut options);
        }
        self.relations(&known, &mut options);
        if self.report.count() == errors_count {
            for text in options.validate() {
                self.at(name.line, text);
            }
        }
        options
    }

    fn at(&mut self, line: u32, message: impl fmt::Display) {
        self.report.at(line, format!("pool '{}': {message}", self.pool.name.text));
    }

    /// The entries whose key is known, each key once.
    fn known_entries(&mut self) -> Vec<Known<'a>> {
        let mut lines: HashMap<&str, u32> = HashMap::new();
        let mut known = Vec::new();
        for entry in &self.pool.entries {
            let key = &entry.key;
            let Some(row) = keys::row(&key.text) else {
                let nearest = match keys::nearest(&key.text) {
                    Some(name) => format!(": did you mean '{name}'?"),
                    None => ": see configs/reference.yml for the keys of a pool".to_owned(),
                };
                self.at(key.line, format!("key '{}' is not known{nearest}", key.text));
                continue;
            };
            if let Some(line) = lines.get(row.name) {
                let text = format!("{} is given already at line {line}: give it once", row.name);
                self.at(key.line, text);
                continue;
            }
            lines.insert(row.name, key.line);
            known.push((row, entry));
        }
        known
    }

    /// The address to listen at. After a report it is a stand-in that goes nowhere.
    fn listen(
        &mut self,
        known: &[Known<'a>],
        resolve: Resolve<'_>,
        addresses: &mut Addresses<'a>,
    ) -> (Address, Option<u32>) {
        let stand_in = (Address::Inet((Ipv4Addr::LOCALHOST, 0).into()), None);
        let Some((row, entry)) = find(known, "listen") else {
            let text = format!("has no listen: must be {}", keys::LISTEN_FORM);
            self.at(self.pool.name.line, text);
            return stand_in;
        };
        let Some(typed) = self.single(row, entry) else { return stand_in };
        let checked = match address::listen(&typed.text) {
            Ok(Listen::Inet(address)) => (Address::Inet(address), None),
            Ok(Listen::Unix(path, mode)) => (Address::Unix(path), mode),
            Ok(Listen::Host(host, port)) => match resolve(&host, port) {
                Ok(address) => (Address::Inet(address), None),
                Err(error) => {
                    let text = format!(
                        "listen '{}': the host '{host}' has no address ({error}): must be a name \
                         that resolves, or an address",
                        typed.text
                    );
                    self.at(typed.line, text);
                    return stand_in;
                }
            },
            Err(wrong) => {
                let text =
                    format!("listen '{}' {wrong}: must be {}", typed.text, keys::LISTEN_FORM);
                self.at(typed.line, text);
                return stand_in;
            }
        };
        if let Some(other) = addresses.add(&checked.0, &self.pool.name.text, typed.line) {
            let text = format!(
                "listen '{}' takes the address of pool '{}' at line {}: addresses must differ",
                typed.text, other.pool, other.line
            );
            self.at(typed.line, text);
        }
        checked
    }

    /// The servers in the order of their names.
    fn servers(&mut self, known: &[Known<'a>]) -> Vec<ServerOptions> {
        let line = self.pool.name.line;
        let Some((_, entry)) = find(known, "servers") else {
            let text = format!("has no servers: must be a list of {}", keys::SERVER_FORM);
            self.at(line, text);
            return Vec::new();
        };
        let items = match &entry.value {
            Value::List(items) if !items.is_empty() => items,
            Value::Refused => return Vec::new(),
            Value::List(_) | Value::Scalar(_) => {
                let text = format!(
                    "servers must be a list of at least one entry, each on a line of its own: \
                     `- ` and {}",
                    keys::SERVER_FORM
                );
                self.at(entry.key.line, text);
                return Vec::new();
            }
        };
        let mut lines: HashMap<String, u32> = HashMap::new();
        let mut servers = Vec::with_capacity(items.len());
        for item in items {
            let server = match address::server(&item.text) {
                Ok(server) => server,
                Err(wrong) => {
                    let form = keys::SERVER_FORM;
                    self.at(item.line, format!("server '{}' {wrong}: must be {form}", item.text));
                    continue;
                }
            };
            if let Some(line) = lines.get(&server.name) {
                let text = format!(
                    "server '{}': the server of line {line} has the name '{}' already: give one \
                     of them another name",
                    item.text, server.name
                );
                self.at(item.line, text);
            } else {
                lines.insert(server.name.clone(), item.line);
                servers.push(server);
            }
        }
        servers.sort_by(|left, right| routing::name_order(&left.name, &right.name));
        servers
    }

    /// Puts one plain value where its row says.
    fn apply(&mut self, row: &Row, entry: &'a Entry, options: &mut PoolOptions) {
        if matches!(row.kind, Kind::Listen | Kind::Servers) {
            return;
        }
        let Some(typed) = self.single(row, entry) else { return };
        let right = match &row.kind {
            Kind::Listen | Kind::Servers => true,
            Kind::Flag(set) => match typed.text.as_str() {
                "true" => {
                    set(options, true);
                    true
                }
                "false" => {
                    set(options, false);
                    true
                }
                _ => false,
            },
            Kind::Number { min, max, set, .. } => {
                let number = address::digits(&typed.text).filter(|n| (min..=max).contains(&n));
                number.inspect(|number| set(options, *number)).is_some()
            }
            Kind::OneOf { set, .. } | Kind::Text { set, .. } => set(options, &typed.text),
        };
        if !right {
            let form = row.kind.form();
            let text = match row.kind {
                Kind::OneOf { .. } => format!("{} '{}' is not known: {form}", row.name, typed.text),
                _ => format!("{} '{}': must be {form}", row.name, typed.text),
            };
            self.at(typed.line, text);
        }
    }

    /// The value of a key that has one value; `None` after a report.
    fn single(&mut self, row: &Row, entry: &'a Entry) -> Option<&'a Scalar> {
        match &entry.value {
            Value::Scalar(scalar) if !scalar.text.is_empty() => return Some(scalar),
            Value::Scalar(scalar) => {
                self.at(
                    scalar.line,
                    format!("{} has no value: must be {}", row.name, row.kind.form()),
                );
            }
            Value::List(_) => {
                let form = row.kind.form();
                let text = format!("{} is a list: must be one value, {form}", row.name);
                self.at(entry.key.line, text);
            }
            Value::Refused => {}
        }
        None
    }

    /// What must hold between the values of a pool.
    fn relations(&mut self, known: &[Known<'a>], options: &mut PoolOptions) {
        if options.protocol == Protocol::Memcache {
            if let Some((row, entry)) = find(known, "redis_auth") {
                let text = format!("{} needs `redis: true`; memcached has no password", row.name);
                self.at(entry.key.line, text);
            }
            // twemproxy accepts a database here and never uses it.
            options.database = 0;
        }
        let (high_water, max) = (options.client_output_high_water, options.client_output_max);
        if high_water > max {
            let name = "client_output_high_water_bytes";
            let other = "client_output_max_bytes";
            let typed = find(known, name).or_else(|| find(known, other));
            let line = typed.map_or(self.pool.name.line, |(_, entry)| entry.key.line);
            self.at(line, format!("{name} ({high_water}) must be at most {other} ({max})"));
        }
    }
}

fn find<'a>(known: &[Known<'a>], name: &str) -> Option<Known<'a>> {
    known.iter().find(|(row, _)| row.name == name).copied()
}

/// Who listens where. Each worker binds with SO_REUSEPORT, so that the kernel would not refuse a
/// second pool on an address but share its clients out between the two.
#[derive(Default)]
struct Addresses<'a> {
    exact: HashMap<Address, Holder<'a>>,
    /// The first pool on each port (true for IPv6).
    ports: HashMap<(u16, bool), Holder<'a>>,
    /// The first pool on each port that listens on every address of the machine.
    everywhere: HashMap<(u16, bool), Holder<'a>>,
}

/// The pool that has an address, and the line that says so.
#[derive(Debug, Clone, Copy)]
struct Holder<'a> {
    pool: &'a str,
    line: u32,
}

impl<'a> Addresses<'a> {
    /// Enters an address and tells whose it is already, if it is.
    fn add(&mut self, address: &Address, pool: &'a str, line: u32) -> Option<Holder<'a>> {
        let holder = Holder { pool, line };
        let mut other = self.exact.get(address).copied();
        if let Address::Inet(inet) = address {
            let port = (inet.port(), inet.is_ipv6());
            let everywhere = inet.ip().is_unspecified();
            let overlapping = if everywhere { &self.ports } else { &self.everywhere };
            other = other.or_else(|| overlapping.get(&port).copied());
            self.ports.entry(port).or_insert(holder);
            if everywhere {
                self.everywhere.entry(port).or_insert(holder);
            }
        }
        self.exact.entry(address.clone()).or_insert(holder);
        other
    }
}
