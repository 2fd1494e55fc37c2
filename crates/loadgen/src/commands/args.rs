//! Arguments that several commands share.
//!
//! Invariant: what is not given on the command line comes from the workload, and what that does not
//! say has a default.

use std::net::ToSocketAddrs;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::AtomicBool;
use std::time::Duration;

use base::Address;
use clap::{Args, ValueEnum};
use serde::Deserialize as _;

use crate::engine::{BaseChoice, RunOptions};
use crate::workload::plan::Part;
use crate::workload::{Settings, presets};

/// What the load is.
#[derive(Debug, Clone, Args)]
pub struct WorkloadArgs {
    /// A workload file, or the name of a preset (`weir-bench presets` lists them). What is given
    /// beside it goes before what it says [default: get 90, set 10, 100000 keys of 16 bytes, values
    /// of 100 bytes]
    #[arg(short, long)]
    pub workload: Option<String>,
    /// Requests a second in all [default: 10000, or the workload's]
    #[arg(short, long, allow_negative_numbers = true)]
    pub rate: Option<f64>,
    /// A closed loop: each connection keeps --depth requests in flight, whatever the rate.
    #[arg(long)]
    pub closed: bool,
    /// Connections in all [default: 16, or the workload's]
    #[arg(short, long)]
    pub connections: Option<u32>,
    /// Threads of the generator, on each machine [default: 1, or the workload's]
    #[arg(short, long)]
    pub threads: Option<u32>,
    /// Requests in flight a connection: the pipeline of a closed loop, the limit of an open one
    /// [default: 1 closed, 256 open, or the workload's]
    #[arg(short = 'P', long)]
    pub depth: Option<u32>,
    /// Seconds that are measured [default: 10, or the workload's]
    #[arg(short, long, allow_negative_numbers = true)]
    pub duration: Option<f64>,
    /// Seconds of load before, which are not measured [default: 1, or the workload's]
    #[arg(long, allow_negative_numbers = true)]
    pub warmup: Option<f64>,
    /// Does not write all keys first, which is the default.
    #[arg(long)]
    pub no_prefill: bool,
    /// redis, redis3, memcache or meta [default: redis, or the workload's]
    #[arg(short, long)]
    pub protocol: Option<String>,
    /// Checks of replies: off, on, or full, which looks at every byte of every value [default: on,
    /// or the workload's]
    #[arg(long)]
    pub verify: Option<String>,
    /// Everything that is drawn follows from it [default: 1, or the workload's]
    #[arg(long)]
    pub seed: Option<u64>,
    /// Any key of a workload file, as in a workload file: --set 'keys.popularity = { zipf = 1.2 }'.
    #[arg(long = "set", value_name = "KEY = VALUE")]
    pub set: Vec<String>,
}

impl WorkloadArgs {
    /// The settings that come of it.
    pub fn settings(&self) -> Result<Settings, String> {
        let settings = match &self.workload {
            None => Settings::default(),
            Some(name) => presets::load(name)?,
        };
        let mut lines = self.set.clone();
        let mut set = |key: &str, value: Option<String>| {
            lines.extend(value.map(|value| format!("{key} = {value}")));
        };
        set("rate", self.rate.map(toml_float));
        set("mode", self.closed.then(|| "\"closed\"".to_owned()));
        set("connections", self.connections.map(|count| count.to_string()));
        set("threads", self.threads.map(|count| count.to_string()));
        set("depth", self.depth.map(|count| count.to_string()));
        set("duration_s", self.duration.map(toml_float));
        set("warmup_s", self.warmup.map(toml_float));
        set("prefill", self.no_prefill.then(|| "false".to_owned()));
        set("protocol", self.protocol.as_ref().map(|name| format!("{name:?}")));
        set("verify", self.verify.as_ref().map(|level| format!("{level:?}")));
        set("seed", self.seed.map(|seed| seed.to_string()));
        change(&settings, &lines)
    }
}

/// As TOML writes it: `nan`, where Rust writes `NaN`.
fn toml_float(number: f64) -> String {
    format!("{number:?}").to_lowercase()
}

/// Settings with lines of a workload file on top.
fn change(settings: &Settings, lines: &[String]) -> Result<Settings, String> {
    let mut value = toml_value(settings);
    for line in lines {
        let told = |error: &dyn std::fmt::Display| format!("--set {line:?}: {error}");
        let table: toml::Table = line.parse().map_err(|error| told(&error))?;
        overlay(&mut value, &table, 0);
        // Said for each line, so that the fault is found.
        Settings::deserialize(value.clone()).map_err(|error| told(&error))?;
    }
    Settings::deserialize(value).map_err(|error| error.to_string())
}

fn toml_value(settings: &Settings) -> toml::Table {
    let json = serde_json::to_value(settings).expect("settings are plain data");
    match to_toml(json) {
        Some(toml::Value::Table(table)) => table,
        _ => unreachable!("settings are a table"),
    }
}

fn to_toml(value: serde_json::Value) -> Option<toml::Value> {
    Some(match value {
        serde_json::Value::Null => return None,
        serde_json::Value::Bool(flag) => flag.into(),
        serde_json::Value::String(text) => text.into(),
        serde_json::Value::Number(number) => match number.as_i64() {
            Some(integer) => integer.into(),
            None => number.as_f64()?.into(),
        },
        serde_json::Value::Array(items) => {
            toml::Value::Array(items.into_iter().filter_map(to_toml).collect())
        }
        serde_json::Value::Object(fields) => toml::Value::Table(
            fields.into_iter().filter_map(|(key, value)| Some((key, to_toml(value)?))).collect(),
        ),
    })
}

/// Tables of the file are merged; a law is a value of its own and replaced as a whole.
fn overlay(below: &mut toml::Table, above: &toml::Table, depth: u32) {
    for (key, value) in above {
        let mergeable = depth == 0 && matches!(key.as_str(), "keys" | "values");
        match (below.get_mut(key), value) {
            (Some(toml::Value::Table(old)), toml::Value::Table(new)) if mergeable => {
                overlay(old, new, depth + 1);
            }
            _ => {
                below.insert(key.clone(), value.clone());
            }
        }
    }
}

/// How the generator runs.
#[derive(Debug, Clone, Args)]
pub struct GeneratorArgs {
    /// The event base.
    #[arg(long, value_enum, default_value = "auto")]
    pub event_base: BaseChoice,
    /// Threads never sleep. Only with a CPU to spare for each of them.
    #[arg(long)]
    pub spin: bool,
    /// CPUs to pin threads to, in turn, such as 2,3 [default: wherever the system puts them]
    #[arg(long, value_delimiter = ',')]
    pub cpus: Vec<usize>,
    /// Seconds of an interval of the time series.
    #[arg(long, default_value_t = 1.0)]
    pub interval: f64,
    /// Agents on other machines (`weir-bench agent`), which make the load together [default: this
    /// process makes it]
    #[arg(long, value_delimiter = ',', value_name = "HOST:PORT")]
    pub agents: Vec<String>,
    /// Says nothing while it runs.
    #[arg(short, long)]
    pub quiet: bool,
}

impl GeneratorArgs {
    /// The options for a server.
    pub fn options(&self, address: &str, stop: &Arc<AtomicBool>) -> Result<RunOptions, String> {
        if !(0.01..=3600.0).contains(&self.interval) {
            return Err(format!("--interval {}: must be 0.01 to 3600 seconds", self.interval));
        }
        Ok(RunOptions {
            address: resolve(address)?,
            event_base: self.event_base,
            spin: self.spin,
            cpus: self.cpus.clone(),
            machine: Part::WHOLE,
            interval: Duration::from_secs_f64(self.interval),
            stop: stop.clone(),
        })
    }
}

/// Where reports go.
#[derive(Debug, Clone, Default, Args)]
pub struct ReportArgs {
    /// All figures as JSON.
    #[arg(long, value_name = "FILE")]
    pub json: Option<PathBuf>,
    /// The time series as CSV, and the percentiles beside it as FILE.percentiles.csv.
    #[arg(long, value_name = "FILE")]
    pub csv: Option<PathBuf>,
    /// All histograms by interval as an HdrHistogram log.
    #[arg(long, value_name = "FILE")]
    pub hlog: Option<PathBuf>,
    /// A report with plots, in one file.
    #[arg(long, value_name = "FILE")]
    pub html: Option<PathBuf>,
}

impl ReportArgs {
    /// Whether the files can be written: a typing error must not be found after the run.
    pub fn check(&self) -> Result<(), String> {
        let files = [&self.json, &self.csv, &self.hlog, &self.html];
        files.into_iter().flatten().try_for_each(|path| check_file(path))
    }
}

/// Whether a file can be written. What is in it stays.
pub fn check_file(path: &Path) -> Result<(), String> {
    let opened = std::fs::File::options().create(true).append(true).open(path);
    opened.map(|_| ()).map_err(|error| format!("{}: {error}", path.display()))
}

/// The form of a plain answer.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum Form {
    /// For people.
    Text,
    /// For programs.
    Json,
}

/// An address: a path (with a slash) or host:port.
pub fn resolve(text: &str) -> Result<Address, String> {
    if text.contains('/') {
        return Ok(Address::Unix(PathBuf::from(text)));
    }
    let mut found = text
        .to_socket_addrs()
        .map_err(|error| format!("{text}: {error}; an address is HOST:PORT or a /path"))?;
    found.next().map(Address::Inet).ok_or_else(|| format!("{text}: the name has no address"))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::workload::keys::Popularity;
    use crate::workload::law::Law;

    #[test]
    fn lines_change_what_they_name_and_nothing_else() {
        let base = presets::load("fb-etc").expect("ships");
        let lines = ["keys.popularity = { zipf = 1.2 }", "values.size = 7", "rate = 5"];
        let changed = change(&base, &lines.map(str::to_owned)).expect("good");
        assert_eq!(changed.keys.popularity, Popularity::Zipf(1.2));
        assert_eq!(changed.values.size, Law::fixed(7));
        assert_eq!(changed.rate, 5.0);
        assert_eq!((changed.keys.count, changed.commands), (base.keys.count, base.commands));
        for line in ["keys.cuont = 1", "rate = 'x'", "rate", "nothing = 1"] {
            assert!(change(&Settings::default(), &[line.to_owned()]).is_err(), "{line}");
        }
    }

    /// The help names defaults in words, since the workload's come before them.
    #[test]
    fn the_help_tells_the_defaults_that_hold() {
        let command = WorkloadArgs::augment_args(clap::Command::new("x"));
        let default = Settings::default();
        let plain = |number: f64| format!("[default: {number}, or");
        for (name, expected) in [
            ("rate", plain(default.rate)),
            ("connections", plain(f64::from(default.connections))),
            ("threads", plain(f64::from(default.threads))),
            ("duration", plain(default.duration_s)),
            ("warmup", plain(default.warmup_s)),
            ("seed", plain(default.seed as f64)),
            ("verify", "[default: on, or".to_owned()),
            ("protocol", "[default: redis, or".to_owned()),
            ("depth", "[default: 1 closed, 256 open, or".to_owned()),
            ("workload", "get 90, set 10, 100000 keys of 16 bytes, values of 100 bytes".to_owned()),
        ] {
            let argument = command.get_arguments().find(|one| one.get_id() == name);
            let help = argument.and_then(|one| one.get_help()).expect("it has one").to_string();
            assert!(help.contains(&expected), "{name}: {help}");
        }
        let plan = crate::workload::Plan::new(&default, 0).expect("possible");
        let closed = Settings { mode: crate::workload::file::Mode::Closed, ..default.clone() };
        let closed = crate::workload::Plan::new(&closed, 0).expect("possible");
        assert_eq!((plan.depth, closed.depth), (256, 1));
        let Settings { protocol, verify, keys, values, .. } = default;
        use crate::workload::file::{Verify, Wire};
        assert_eq!((protocol, verify, keys.count), (Wire::Redis, Verify::On, 100_000));
        assert_eq!((keys.size, values.size), (Law::fixed(16), Law::fixed(100)));
    }

    #[test]
    fn addresses_are_ports_or_paths() {
        assert_eq!(resolve("/tmp/s").expect("a path"), Address::Unix("/tmp/s".into()));
        assert!(matches!(resolve("127.0.0.1:80"), Ok(Address::Inet(_))));
        assert!(resolve("127.0.0.1").is_err());
    }
}
