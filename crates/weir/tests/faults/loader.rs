//! Load on the server that a test makes trouble for, by clients that know what each reply may be.
//!
//! Every value names its key and its version. A client writes and reads in a pipeline and judges
//! each reply: an error is right only in times of trouble, a version must be the last acknowledged
//! one or one whose fate is unknown, and a key may be missing only after the server was killed.
//! Invariant: whatever is wrong ends the client, and with it the test.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::thread::JoinHandle;
use std::time::Duration;

use crate::support::servers::Kind;
use crate::support::weir::Weir;
use crate::support::wire::Wire;
use crate::support::{spare_the_cpu, until_within};

/// Connections: with two workers there are some on each.
const CLIENTS_COUNT: usize = 4;
/// Keys of each, all of which are used in one pipeline.
const KEYS_COUNT: usize = 8;
/// Padding of a value, by its version, in bytes: some are copied, some referenced, some straddle.
const PADDING: [usize; 8] = [0, 100, 1500, 7, 20_000, 33, 400, 50_000];
/// How long the clients may need to be served by a server that is well again.
const RECOVERY_MAX: Duration = Duration::from_secs(30);

/// What a test does to the server, as the clients must know it.
#[derive(Default)]
struct Shared {
    stop: AtomicBool,
    /// Odd in times of trouble.
    trouble: AtomicU64,
    /// Odd while the server is being killed, so that no reply is taken for one of its successor.
    kills: AtomicU64,
    errors: AtomicU64,
    /// Rounds of each client, and those without an error.
    rounds: [AtomicU64; CLIENTS_COUNT],
    rounds_clean: [AtomicU64; CLIENTS_COUNT],
}

impl Shared {
    fn now(&self) -> Moment {
        Moment {
            trouble: self.trouble.load(Ordering::SeqCst),
            kills: self.kills.load(Ordering::SeqCst),
        }
    }
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Moment {
    trouble: u64,
    kills: u64,
}

pub(crate) struct Loader {
    shared: Arc<Shared>,
    threads: Vec<JoinHandle<()>>,
}

impl Loader {
    /// Starts on keys with this tag, which must belong to the server in question.
    pub(crate) fn start(kind: Kind, weir: &Weir, tag: &str) -> Loader {
        let shared = Arc::new(Shared::default());
        let threads = (0..CLIENTS_COUNT).map(|index| {
            let wire = weir.wire(kind);
            let keys = (0..KEYS_COUNT).map(|key| Key::new(format!("{{{tag}}}:{index}:{key}")));
            let keys = keys.collect();
            let mut client = Client { kind, index, wire, keys, version: 0 };
            let shared = Arc::clone(&shared);
            std::thread::spawn(move || {
                while !shared.stop.load(Ordering::Relaxed) {
                    client.round(&shared);
                }
            })
        });
        let loader = Loader { threads: threads.collect(), shared: Arc::clone(&shared) };
        loader.is_served();
        loader
    }

    /// From here on requests may fail.
    pub(crate) fn trouble_begins(&self) {
        assert_eq!(self.shared.trouble.fetch_add(1, Ordering::SeqCst) % 2, 0);
    }

    /// From here on requests may not fail any more.
    pub(crate) fn trouble_ends(&self) {
        assert_eq!(self.shared.trouble.fetch_add(1, Ordering::SeqCst) % 2, 1);
    }

    /// `kill` ends the server with its data.
    pub(crate) fn while_killed(&self, kill: impl FnOnce()) {
        self.shared.kills.fetch_add(1, Ordering::SeqCst);
        kill();
        self.shared.kills.fetch_add(1, Ordering::SeqCst);
    }

    /// Waits until each client has had a round without errors that began after this call.
    ///
    /// # Panics
    /// When one saw anything wrong, or is not served in time.
    pub(crate) fn is_served(&self) {
        self.each_does("is served again", &self.shared.rounds_clean);
    }

    /// Waits until each client has had replies of any kind to a whole round.
    pub(crate) fn is_answered(&self) {
        self.each_does("is answered", &self.shared.rounds);
    }

    fn each_does(&self, what: &str, counts: &[AtomicU64; CLIENTS_COUNT]) {
        let read = || counts.each_ref().map(|count| count.load(Ordering::SeqCst));
        let before = read();
        until_within(RECOVERY_MAX, &format!("each client {what}"), || {
            assert!(!self.saw_wrong(), "a client of the loaded server saw something wrong");
            // The next round to end may have begun before.
            read().iter().zip(before).all(|(now, before)| *now >= before + 2).then_some(())
        });
    }

    /// Whether a client has had a reply that must not be.
    pub(crate) fn saw_wrong(&self) -> bool {
        self.threads.iter().any(JoinHandle::is_finished)
    }

    /// Replies that were errors so far.
    pub(crate) fn errors(&self) -> u64 {
        self.shared.errors.load(Ordering::SeqCst)
    }

    /// Ends it. The errors that there were.
    ///
    /// # Panics
    /// When a client saw anything wrong.
    pub(crate) fn finish(self) -> u64 {
        self.is_served();
        self.shared.stop.store(true, Ordering::Relaxed);
        for thread in self.threads {
            thread.join().expect("no client of the loaded server sees anything wrong");
        }
        self.shared.errors.load(Ordering::SeqCst)
    }
}

/// What is known of a key.
struct Key {
    name: String,
    /// The version that was acknowledged last, and the kills before it was.
    acknowledged: Option<(u64, u64)>,
    /// Versions that may or may not have been written, or may still be, and the kills after that
    /// was known.
    unknown: BTreeMap<u64, u64>,
}

impl Key {
    fn new(name: String) -> Key {
        Key { name, acknowledged: None, unknown: BTreeMap::new() }
    }

    fn value(&self, version: u64) -> String {
        let padding = PADDING[(version % PADDING.len() as u64) as usize];
        let fill = char::from(b'a' + (version % 26) as u8);
        format!("{}={version};{}", self.name, fill.to_string().repeat(padding))
    }

    /// Whether the reply to `get` is one of those that may be.
    fn may_be(&mut self, kind: Kind, reply: &[u8], before: Moment, after: Moment) -> bool {
        // What a server did not do before it was killed is never done.
        self.unknown.retain(|_, kills| *kills >= before.kills - before.kills % 2);
        if reply == kind.missing() {
            let may_be = self.acknowledged.is_none_or(|(_, kills)| kills != after.kills);
            self.acknowledged = None;
            return may_be;
        }
        let versions = self.unknown.keys().copied().chain(self.acknowledged.map(|(at, _)| at));
        versions.into_iter().any(|at| kind.found(&self.name, &self.value(at)) == reply)
    }
}

struct Client {
    kind: Kind,
    index: usize,
    wire: Wire,
    keys: Vec<Key>,
    version: u64,
}

impl Client {
    /// Writes and reads every key once.
    fn round(&mut self, shared: &Shared) {
        let before = shared.now();
        self.version += 1;
        let requests = self.keys.iter().flat_map(|key| {
            let set = set_request(self.kind, &key.name, &key.value(self.version));
            [set, self.kind.get_request(&key.name)]
        });
        let requests = requests.collect::<Vec<_>>().concat();
        self.wire.send(&requests);
        let mut errors = 0;
        for index in 0..self.keys.len() {
            let stored = self.kind.reply(&mut self.wire);
            let found = self.kind.reply(&mut self.wire);
            let after = shared.now();
            let replies = [&stored, &found].map(|reply| error_text(reply));
            let may_fail = before.trouble != after.trouble || after.trouble % 2 == 1;
            let failed = replies.iter().flatten().count() as u64;
            let name = &self.keys[index].name;
            assert!(may_fail || failed == 0, "{name}: {replies:?} without a reason");
            errors += failed;
            self.take_stored(index, &stored, before, after);
            if replies[1].is_none() {
                let key = &mut self.keys[index];
                let last = key.acknowledged;
                assert!(
                    key.may_be(self.kind, &found, before, after),
                    "{} has a value that can't be: '{}', written last is {last:?}, unknown are \
                     {:?}, {before:?}, {after:?}",
                    key.name,
                    found[..found.len().min(100)].escape_ascii(),
                    key.unknown
                );
            }
        }
        shared.errors.fetch_add(errors, Ordering::SeqCst);
        shared.rounds[self.index].fetch_add(1, Ordering::SeqCst);
        if errors == 0 {
            shared.rounds_clean[self.index].fetch_add(1, Ordering::SeqCst);
        } else {
            spare_the_cpu();
        }
    }

    /// The reply to `set`.
    fn take_stored(&mut self, index: usize, reply: &[u8], before: Moment, after: Moment) {
        let key = &mut self.keys[index];
        match error_text(reply) {
            None => {
                assert_eq!(reply, self.kind.stored(), "set {}", key.name);
                key.acknowledged = Some((self.version, before.kills));
            }
            // These say that nothing was sent.
            Some(text) if text == "Connection refused" || text == "Too many open files" => {}
            Some(_) => {
                key.unknown.insert(self.version, after.kills);
            }
        }
    }
}

/// The text of an error of the proxy's own.
pub(crate) fn error_text(reply: &[u8]) -> Option<String> {
    let text =
        reply.strip_prefix(b"-ERR ").or_else(|| reply.strip_prefix(b"SERVER_ERROR ".as_slice()));
    text.map(|text| String::from_utf8_lossy(text).trim_end().to_owned())
}

/// A request that stores a value.
pub(crate) fn set_request(kind: Kind, key: &str, value: &str) -> Vec<u8> {
    match kind {
        Kind::Redis => crate::support::wire::request(&["SET", key, value]),
        Kind::Memcached => format!("set {key} 0 0 {}\r\n{value}\r\n", value.len()).into_bytes(),
    }
}
