//! The scene of a fault: a pool of two real servers, of which the left one has the trouble, a
//! client of the right one that must not notice, and load on the left one.
//!
//! Invariant: outside of [`Site::trouble`] no request of anybody fails.

use std::net::SocketAddr;
use std::process::Command;

use super::loader::Loader;
use super::upstream::Upstream;
use crate::support::bystander::Bystander;
use crate::support::keys::keys_of;
use crate::support::process::weir;
use crate::support::servers::Kind;
use crate::support::weir::{Base, Pool, Weir};

/// A key of the left server.
pub(crate) const KEY: &str = "k10";
/// A key of the right one.
pub(crate) const GOOD_KEY: &str = "k0";
/// Milliseconds that a request may wait. Nobody must wait so long in times of peace, whatever else
/// runs on the machine.
pub(crate) const TIMEOUT: &str = "timeout: 2500";

/// Texts of errors.
pub(crate) const REFUSED: &str = "Connection refused";
pub(crate) const SILENT: &str = "Connection timed out";
pub(crate) const NO_FILES: &str = "Too many open files";

pub(crate) struct Site {
    pub(crate) kind: Kind,
    pub(crate) left: Upstream,
    pub(crate) right: Upstream,
    pub(crate) weir: Weir,
    pub(crate) bystander: Bystander,
    pub(crate) loader: Loader,
}

impl Site {
    /// With all servers and both event bases.
    pub(crate) fn each(act: impl Fn(&mut Site)) {
        for (kind, base) in Kind::BOTH.into_iter().flat_map(|kind| Base::BOTH.map(|b| (kind, b))) {
            println!("{kind:?}, {base:?}");
            let mut site = Site::new(kind, base, &[TIMEOUT]);
            act(&mut site);
            site.end();
        }
    }

    /// One worker, so that everybody is served by the one that has the trouble.
    pub(crate) fn new(kind: Kind, base: Base, keys: &[&str]) -> Site {
        Site::start_as(kind, keys, weir, &["--event-base", base.name(), "--workers", "1"])
    }

    /// `program` makes the proxy's command.
    pub(crate) fn start_as(
        kind: Kind,
        keys: &[&str],
        program: impl Fn() -> Command,
        arguments: &[&str],
    ) -> Site {
        let left = Upstream::start(kind);
        let address = left.address;
        Site::before(left, address, keys, program, arguments)
    }

    /// Before a server that the proxy reaches at `address`.
    pub(crate) fn before(
        left: Upstream,
        address: SocketAddr,
        keys: &[&str],
        program: impl Fn() -> Command,
        arguments: &[&str],
    ) -> Site {
        let kind = left.kind;
        let right = Upstream::start(kind);
        let pool = Pool::new(kind, &[address, right.address]).with("hash_tag: \"{}\"");
        let pool = keys.iter().fold(pool, |pool, key| pool.with(key));
        let weir = Weir::start_as(program, &[pool], |command| {
            command.args(arguments);
        });
        let mut wire = weir.wire(kind);
        for (key, value) in [(KEY, "left"), (GOOD_KEY, "right")] {
            assert_eq!(kind.set(&mut wire, key, value), kind.stored());
        }
        // They are where the tests believe them to be.
        assert_eq!(kind.get(&mut left.wire(), KEY), kind.found(KEY, "left"));
        assert_eq!(kind.get(&mut right.wire(), GOOD_KEY), kind.found(GOOD_KEY, "right"));
        let bystander = Bystander::start(kind, weir.address(kind), &keys_of(1)[1..4]);
        let loader = Loader::start(kind, &weir, KEY);
        Site { kind, left, right, weir, bystander, loader }
    }

    /// While `act` does something to the left server its requests may fail. Afterwards it must be
    /// well, and everybody is served by the proxy that ran all the time.
    pub(crate) fn trouble<T>(&mut self, act: impl FnOnce(&mut Site) -> T) -> T {
        self.loader.trouble_begins();
        let done = act(self);
        self.loader.is_served();
        self.loader.trouble_ends();
        self.bystander.goes_on();
        done
    }

    /// Ends the left server's process.
    pub(crate) fn kill(&mut self) {
        let Site { left, loader, .. } = self;
        loader.while_killed(|| left.kill());
    }

    /// The reply to `get` of a key, on a new connection.
    pub(crate) fn get(&self, key: &str) -> String {
        let reply = self.kind.get(&mut self.weir.wire(self.kind), key);
        String::from_utf8_lossy(&reply).into_owned()
    }

    /// The error line with this text.
    pub(crate) fn error(&self, text: &str) -> String {
        match self.kind {
            Kind::Redis => format!("-ERR {text}\r\n"),
            Kind::Memcached => format!("SERVER_ERROR {text}\r\n"),
        }
    }

    /// How often something happened to the left server.
    pub(crate) fn count(&self, name: &str) -> u64 {
        let stats = self.weir.stats();
        let count = stats[self.kind.name()]["left"][name].as_u64();
        count.unwrap_or_else(|| panic!("no {name} in {stats}"))
    }

    /// Nobody has seen anything wrong, and the good server's data are what they were.
    pub(crate) fn end(mut self) {
        let found = self.kind.found(GOOD_KEY, "right");
        assert_eq!(self.get(GOOD_KEY).as_bytes(), found);
        self.bystander.finish();
        println!("  {} errors in times of trouble", self.loader.finish());
        assert!(!self.weir.running.has_ended());
    }
}
