//! The settings of a run as people write them: a workload file (TOML), with what the command line
//! changes on top.
//!
//! Nothing here is checked beyond its form; see `plan`. Invariant: every key of a file is known, so
//! a misspelt one is an error and not a default.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use super::keys::Popularity;
use super::law::Law;
use super::schedule::Arrival;

/// What a request does.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Op {
    /// Reads one value.
    Get,
    /// Reads several values with one request (`multi`).
    Mget,
    /// Reads several values of neighbouring keys (`multi`): what a scan comes to without an index.
    Scan,
    /// Writes a value.
    Set,
    /// Writes a value of a key that did not exist before.
    Insert,
    /// Writes a value unless there is one.
    Add,
    /// Reads a value and writes it, one behind the other.
    Rmw,
    /// Reads one value with its version number (memcached only).
    Gets,
    /// Reads a value with its version number, and writes it if it has that number still (memcached
    /// only). The second request leaves when the first is answered; the time is that of both.
    Cas,
    /// Puts nothing in front of a value, so that what is there can still be checked (memcached
    /// only).
    Prepend,
    /// Removes a value.
    Delete,
    /// Adds one to a counter.
    Incr,
    /// Sets the time to live.
    Touch,
    /// Asks for nothing: PING or version.
    Ping,
}

impl Op {
    /// As in files and reports.
    pub fn name(self) -> &'static str {
        match self {
            Op::Get => "get",
            Op::Mget => "mget",
            Op::Scan => "scan",
            Op::Set => "set",
            Op::Insert => "insert",
            Op::Add => "add",
            Op::Rmw => "rmw",
            Op::Gets => "gets",
            Op::Cas => "cas",
            Op::Prepend => "prepend",
            Op::Delete => "delete",
            Op::Incr => "incr",
            Op::Touch => "touch",
            Op::Ping => "ping",
        }
    }
}

/// Which protocol is spoken.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Wire {
    /// Redis, RESP2.
    Redis,
    /// Redis, RESP3 (the connection starts with HELLO 3).
    Redis3,
    /// memcached's classic text commands.
    Memcache,
    /// memcached's meta commands.
    Meta,
}

/// What decides when a request begins.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub enum Mode {
    /// The schedule, whatever the system does.
    Open,
    /// The end of another request: each connection keeps `depth` in flight.
    Closed,
    /// Sessions begin by schedule; each issues a geometric number of requests one after the other.
    PartlyOpen {
        /// Mean requests of a session.
        requests: f64,
        /// Pause between two, in milliseconds.
        #[serde(default)]
        think_ms: f64,
    },
}

/// How much of a reply is checked.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Verify {
    /// Only that it is a reply of the protocol.
    Off,
    /// Heads and lengths of all values, the whole of one in 64, and versions.
    On,
    /// All bytes of all values.
    Full,
}

/// The keys.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Keys {
    /// How many. 1 to 2^39.
    pub count: u64,
    /// What their texts begin with.
    pub prefix: String,
    /// Bytes of a key; raised where its number would not fit. At most 250.
    pub size: Law,
    /// How often which is asked for.
    pub popularity: Popularity,
}

impl Default for Keys {
    fn default() -> Keys {
        Keys {
            count: 100_000,
            prefix: "key:".to_owned(),
            size: Law::fixed(16),
            popularity: Popularity::Uniform,
        }
    }
}

/// The values.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct ValueSettings {
    /// Bytes of a value, drawn for each key. At most 1 MiB.
    pub size: Law,
    /// Seconds to live of what is written; none means for ever.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub ttl_s: Option<Law>,
}

impl Default for ValueSettings {
    fn default() -> ValueSettings {
        ValueSettings { size: Law::fixed(100), ttl_s: None }
    }
}

/// Everything that a workload file may say. Each key has a default.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Settings {
    /// For the report.
    pub name: String,
    /// For people.
    pub description: String,
    /// See [`Wire`].
    pub protocol: Wire,
    /// Weights of the commands.
    pub commands: BTreeMap<Op, f64>,
    /// Keys of one `mget` or `scan`.
    pub multi: Law,
    /// See [`Keys`].
    pub keys: Keys,
    /// See [`ValueSettings`].
    pub values: ValueSettings,
    /// See [`Mode`].
    pub mode: Mode,
    /// See [`Arrival`].
    pub arrival: Arrival,
    /// Requests a second in all, open and partly open.
    pub rate: f64,
    /// Connections in all.
    pub connections: u32,
    /// Threads of the generator.
    pub threads: u32,
    /// Requests in flight a connection; 0 chooses 1 for closed and 256 for open.
    pub depth: u32,
    /// Replies that a turn of a closed loop may wait for, on each thread: more of them cost the
    /// generator less. 0 chooses an eighth of the thread's connections, at most 16.
    pub gather: u32,
    /// Seconds that are measured.
    pub duration_s: f64,
    /// Seconds before, which are not.
    pub warmup_s: f64,
    /// Whether all keys are written first.
    pub prefill: bool,
    /// A request without a reply for so long has failed.
    pub timeout_ms: f64,
    /// Everything that is drawn follows from it.
    pub seed: u64,
    /// See [`Verify`].
    pub verify: Verify,
    /// Whether a miss of a key that is known to be written is a violation. True only for a server
    /// that never evicts, and for workloads without deletes and times to live.
    pub must_hit: bool,
}

impl Default for Settings {
    fn default() -> Settings {
        Settings {
            name: "default".to_owned(),
            description: String::new(),
            protocol: Wire::Redis,
            commands: BTreeMap::from([(Op::Get, 90.0), (Op::Set, 10.0)]),
            multi: Law::fixed(10),
            keys: Keys::default(),
            values: ValueSettings::default(),
            mode: Mode::Open,
            arrival: Arrival::Poisson,
            rate: 10_000.0,
            connections: 16,
            threads: 1,
            depth: 0,
            gather: 0,
            duration_s: 10.0,
            warmup_s: 1.0,
            prefill: true,
            timeout_ms: 5_000.0,
            seed: 1,
            verify: Verify::On,
            must_hit: false,
        }
    }
}

impl Settings {
    /// Reads a workload file. The error has the line and what would be right.
    pub fn parse(text: &str) -> Result<Settings, String> {
        toml::from_str(text).map_err(|error| error.to_string().trim_end().to_owned())
    }

    /// A number for what is measured: two runs with different shapes can't be compared. The
    /// duration, the seed and the names are no part of it.
    pub fn shape(&self) -> u64 {
        let mut shape = self.clone();
        (shape.name, shape.description) = (String::new(), String::new());
        (shape.duration_s, shape.warmup_s, shape.seed) = (0.0, 0.0, 0);
        let text = serde_json::to_vec(&shape).expect("settings are plain data");
        text.iter().fold(0, |hash, &byte| crate::rng::mix(hash ^ u64::from(byte)))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::workload::law::LawKind;

    #[test]
    fn a_file_says_what_it_likes_and_the_rest_has_defaults() {
        let text = "
            name = 'mine' # a comment
            protocol = 'meta'
            mode = { partly-open = { requests = 4 } }
            arrival = { pareto = 0.15 }
            [commands]
            get = 96.8
            set = 3.2
            [keys]
            count = 1_000
            size = { choice = [[16, 0.5], [21, 0.5]] }
            popularity = { zipf = 1.2 }
            [values]
            size = 2
            ttl_s = { uniform = [60, 120] }
        ";
        let settings = Settings::parse(text).expect("a good file");
        assert_eq!(settings.protocol, Wire::Meta);
        assert_eq!(settings.mode, Mode::PartlyOpen { requests: 4.0, think_ms: 0.0 });
        assert_eq!(settings.keys.popularity, Popularity::Zipf(1.2));
        assert_eq!(settings.values.size, Law::fixed(2));
        assert_eq!(settings.values.ttl_s, Some(Law(LawKind::Uniform([60, 120]))));
        assert_eq!(settings.connections, Settings::default().connections);
    }

    #[test]
    fn a_misspelt_key_is_an_error_with_its_line() {
        for (text, word) in [
            ("rate = 1\nconections = 3", "conections"),
            ("[keys]\ncuont = 3", "cuont"),
            ("[commands]\ngett = 3", "gett"),
            ("[keys]\npopularity = { zip = 1 }", "zip"),
            ("[values]\nsize = { unifrom = [1, 2] }", "unifrom"),
            ("protocol = 'http'", "http"),
        ] {
            let error = Settings::parse(text).expect_err(text);
            assert!(error.contains(word) && error.contains("line"), "{error}");
        }
        assert!(Settings::parse("[values]\nsize = -1").is_err());
        assert!(Settings::parse("rate = ").is_err());
    }

    #[test]
    fn settings_survive_the_way_to_another_machine() {
        let settings = Settings {
            arrival: Arrival::Step(vec![(1.0, 2.0)]),
            keys: Keys { popularity: Popularity::Latest(0.5), ..Keys::default() },
            ..Settings::default()
        };
        let text = serde_json::to_string(&settings).expect("plain data");
        let back: Settings = serde_json::from_str(&text).expect("its own form");
        assert_eq!(back, settings);
        assert_eq!(back.shape(), settings.shape());
        let other = Settings { connections: 17, ..settings.clone() };
        assert_ne!(other.shape(), settings.shape());
        assert_eq!(Settings { seed: 5, ..settings.clone() }.shape(), settings.shape());
    }
}
