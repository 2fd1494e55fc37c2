//! The command line: twemproxy's options, and ours beside them.
//!
//! Short options bundle, long ones may be abbreviated, and of one that is given twice the last
//! counts, as with getopt. Everything is printed to stderr, and what can't be understood ends with
//! exit code 1, as in twemproxy. Invariant: what is returned as [`Parsed::Run`] is in range, but
//! for the number of workers, which depends on the machine, and log levels beyond the last, which
//! mean the last.

use std::ffi::OsString;
use std::net::{Ipv4Addr, SocketAddr};
use std::path::PathBuf;
use std::time::Duration;

use clap::error::ErrorKind;
use clap::{ArgAction, Parser, Subcommand, ValueEnum};
use runtime::admin::AdminOptions;
use runtime::cpus::CpuOptions;
use runtime::process::EventBaseChoice;

/// A thread-per-core sharded proxy for memcached and Redis/Valkey.
#[derive(Debug, Parser)]
#[command(
    name = "weir",
    infer_long_args = true,
    args_override_self = true,
    disable_help_flag = true,
    disable_version_flag = true,
    disable_help_subcommand = true,
    args_conflicts_with_subcommands = false
)]
pub(crate) struct Arguments {
    /// Print this help.
    #[arg(short = 'h', long = "help", action = ArgAction::SetTrue)]
    help: bool,
    /// Print the version and the event base.
    #[arg(short = 'V', long = "version", action = ArgAction::SetTrue)]
    version: bool,
    /// Check the configuration, say what is wrong with it, and exit.
    #[arg(short = 't', long)]
    pub(crate) test_conf: bool,
    /// Run in the background.
    #[arg(short = 'd', long)]
    pub(crate) daemonize: bool,
    /// Print what the statistics mean.
    #[arg(short = 'D', long)]
    pub(crate) describe_stats: bool,
    /// Log level, 0 to 11: up to 4 warnings and errors, 5 what happens to the process, 7 detail.
    #[arg(short = 'v', long, value_name = "N", default_value_t = 5)]
    verbose: u32,
    /// Log to this file instead of stderr.
    #[arg(short = 'o', long, value_name = "FILE")]
    pub(crate) output: Option<PathBuf>,
    /// The configuration file.
    #[arg(short = 'c', long, value_name = "FILE", default_value = "conf/nutcracker.yml")]
    pub(crate) conf_file: PathBuf,
    /// Port of the statistics.
    #[arg(short = 's', long, value_name = "PORT", default_value_t = 22222,
          value_parser = clap::value_parser!(u16).range(1..))]
    pub(crate) stats_port: u16,
    /// Address of the statistics: a host, or the path of a unix socket.
    #[arg(short = 'a', long, value_name = "ADDR", default_value = "0.0.0.0")]
    pub(crate) stats_addr: String,
    /// Taken for twemproxy's sake; statistics are fresh at each read.
    #[arg(short = 'i', long, value_name = "MS", default_value_t = 30000)]
    stats_interval: u32,
    /// Write the process id to this file.
    #[arg(short = 'p', long, value_name = "FILE")]
    pub(crate) pid_file: Option<PathBuf>,
    /// Taken for twemproxy's sake; Weir's buffers have no one size.
    #[arg(short = 'm', long, value_name = "BYTES", default_value_t = 16384,
          value_parser = clap::value_parser!(u32).range(512..=16_777_216))]
    mbuf_size: u32,
    /// Number of workers, instead of one for each CPU that the process may use.
    #[arg(long, value_name = "N")]
    workers: Option<usize>,
    /// CPUs of the workers, for example 0,2-5.
    #[arg(long, value_name = "LIST", value_parser = parse_cpus)]
    cpus: Option<CpuList>,
    /// MiB that all workers together may hold for their clients: unfinished requests and waiting
    /// replies. 16 to 1048576; by default a quarter of what the process may use, and at most 1 GiB
    /// for each worker.
    #[arg(long, value_name = "MIB", value_parser = clap::value_parser!(u32).range(16..=1_048_576))]
    memory_max: Option<u32>,
    /// Event base of the workers.
    #[arg(long, value_name = "NAME", value_enum, default_value_t = EventBaseName::Auto)]
    event_base: EventBaseName,
    /// Answer HTTP for monitoring here: a port of the loopback address, or an address with a port.
    #[arg(long, value_name = "[ADDR:]PORT", value_parser = parse_admin_addr)]
    pub(crate) admin_addr: Option<SocketAddr>,
    /// Answer `weir ctl` at this unix socket, to which only its owner may connect.
    #[arg(long, value_name = "PATH")]
    pub(crate) ctl_socket: Option<PathBuf>,
    /// Reload the configuration file whenever it changes, as at SIGUSR1.
    #[arg(long)]
    pub(crate) watch: bool,
    /// How long a new process may take to serve after SIGUSR2, before it is given up, in seconds.
    #[arg(long, value_name = "S", default_value_t = 30,
          value_parser = clap::value_parser!(u32).range(1..=3600))]
    restart_timeout: u32,
    #[command(subcommand)]
    pub(crate) command: Option<Command>,
}

/// What Weir can do beside proxying.
#[derive(Debug, Subcommand)]
pub(crate) enum Command {
    /// Start small in-memory servers and a proxy before them, to try it out.
    Demo(DemoOptions),
    /// Ask a proxy that runs, or tell it to do something.
    Ctl(CtlOptions),
}

#[derive(Debug, clap::Args)]
pub(crate) struct CtlOptions {
    /// The socket that the proxy was given with --ctl-socket.
    #[arg(long, value_name = "PATH", default_value = "/run/weir/ctl.sock", global = true)]
    pub(crate) socket: PathBuf,
    /// Print JSON instead of tables.
    #[arg(long, global = true)]
    pub(crate) json: bool,
    /// Print this help.
    #[arg(short = 'h', long = "help", action = ArgAction::Help, global = true)]
    help: Option<bool>,
    #[command(subcommand)]
    pub(crate) request: CtlRequest,
}

/// What a proxy that runs can be asked.
#[derive(Debug, Subcommand)]
pub(crate) enum CtlRequest {
    /// The process and its pools.
    Status,
    /// Every server: whether it lives, what it was asked, how long it took.
    Servers,
    /// Clients.
    Clients {
        /// No more than so many of each worker, of which 1000 are told of at the most.
        #[arg(long, value_name = "N", default_value_t = 100)]
        max: usize,
    },
    /// The requests that took longer than `slow_threshold_ms` of their pool, newest first.
    Slowlog {
        /// No more than so many.
        #[arg(long, value_name = "N", default_value_t = 50)]
        max: usize,
    },
    /// Which server a key goes to, and why.
    Explain {
        /// The key.
        key: String,
        /// The pool, when there are several.
        #[arg(long, value_name = "NAME")]
        pool: Option<String>,
    },
    /// Take the configuration file as it is now, as SIGUSR1 does.
    Reload,
    /// Let the clients go and end, as SIGTERM does.
    Drain,
    /// Start the program anew in the place of this process, as SIGUSR2 does.
    Upgrade,
}

#[derive(Debug, clap::Args)]
pub(crate) struct DemoOptions {
    /// First of the two ports that are proxied: Redis, then memcached.
    #[arg(long, value_name = "PORT", default_value_t = 22121,
          value_parser = clap::value_parser!(u16).range(1..65535))]
    pub(crate) port: u16,
    /// End after so many seconds instead of at Ctrl-C.
    #[arg(long, value_name = "N")]
    pub(crate) seconds: Option<u64>,
    /// Print this help.
    #[arg(short = 'h', long = "help", action = ArgAction::Help)]
    help: Option<bool>,
}

#[derive(Debug, Clone, Copy, ValueEnum)]
enum EventBaseName {
    Auto,
    Uring,
    Polling,
}

/// A port alone is one of the loopback address: what is served there is for this machine, unless
/// somebody says otherwise.
fn parse_admin_addr(text: &str) -> Result<SocketAddr, String> {
    let port = text.strip_prefix(':').unwrap_or(text).parse::<u16>();
    port.map(|port| SocketAddr::from((Ipv4Addr::LOCALHOST, port)))
        .or_else(|_| text.parse())
        .map_err(|_| format!("'{text}' is no address: write a port, or ADDR:PORT, like [::1]:9122"))
}

/// CPUs by number.
#[derive(Debug, Clone)]
struct CpuList(Vec<usize>);

/// The most CPUs that a list may name.
const CPUS_MAX: usize = 4096;

fn parse_cpus(text: &str) -> Result<CpuList, String> {
    let wrong = || format!("'{text}' is no list of CPUs: write numbers and ranges, like 0,2-5");
    let mut cpus = Vec::new();
    for part in text.split(',') {
        let (first, last) = part.split_once('-').unwrap_or((part, part));
        let first: usize = first.trim().parse().map_err(|_| wrong())?;
        let last: usize = last.trim().parse().map_err(|_| wrong())?;
        if first > last || last >= CPUS_MAX {
            return Err(wrong());
        }
        // Each once; several workers share a CPU when there are more of them than CPUs.
        let new: Vec<usize> = (first..=last).filter(|cpu| !cpus.contains(cpu)).collect();
        cpus.extend(new);
    }
    Ok(CpuList(cpus))
}

/// What the command line asks for.
pub(crate) enum Parsed {
    /// To run.
    Run(Box<Arguments>),
    /// To print something to stderr and exit with this code.
    Text { text: String, code: u8 },
}

impl Arguments {
    pub(crate) fn from_command_line(arguments: impl Iterator<Item = OsString>) -> Parsed {
        match Arguments::try_parse_from(arguments) {
            Ok(arguments) if arguments.help => {
                let help = <Arguments as clap::CommandFactory>::command().render_help();
                Parsed::Text { text: format!("{}\n{help}", version_block()), code: 0 }
            }
            Ok(arguments) if arguments.version => Parsed::Text { text: version_block(), code: 0 },
            Ok(arguments) => Parsed::Run(Box::new(arguments)),
            // That of `weir ctl` and `weir demo`.
            Err(error) if error.kind() == ErrorKind::DisplayHelp => {
                Parsed::Text { text: error.to_string(), code: 0 }
            }
            Err(error) => Parsed::Text { text: format!("weir: {error}"), code: 1 },
        }
    }

    pub(crate) fn cpu_options(&self) -> CpuOptions {
        let cpus = self.cpus.as_ref().map(|list| list.0.clone());
        CpuOptions { workers: self.workers, cpus }
    }

    /// The log level; the highest stands for all beyond it.
    pub(crate) fn verbose(&self) -> u8 {
        u8::try_from(self.verbose).unwrap_or(u8::MAX)
    }

    /// In bytes.
    pub(crate) fn memory_max(&self) -> Option<usize> {
        self.memory_max.map(|mib| (mib as usize) << 20)
    }

    pub(crate) fn admin_options(&self) -> AdminOptions {
        AdminOptions { http: self.admin_addr, ctl: self.ctl_socket.clone() }
    }

    pub(crate) fn restart_timeout(&self) -> Duration {
        Duration::from_secs(self.restart_timeout.into())
    }

    pub(crate) fn event_base(&self) -> EventBaseChoice {
        match self.event_base {
            EventBaseName::Auto => EventBaseChoice::Auto,
            EventBaseName::Uring => EventBaseChoice::Uring,
            EventBaseName::Polling => EventBaseChoice::Polling,
        }
    }
}

/// The version as twemproxy words it.
pub(crate) fn version_block() -> String {
    format!(
        "This is weir-{}\nasync event backend: {}\n\n",
        env!("CARGO_PKG_VERSION"),
        runtime::process::event_base_name()
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(line: &str) -> Parsed {
        Arguments::from_command_line(line.split_whitespace().map(OsString::from))
    }

    fn run(line: &str) -> Arguments {
        match parse(line) {
            Parsed::Run(arguments) => *arguments,
            Parsed::Text { text, .. } => panic!("{line}: {text}"),
        }
    }

    #[test]
    fn twemproxy_options_are_understood() {
        let arguments = run("weir -dv 7 -c a.yml -s 1 -a ::1 -i 5 -o log -p pid -m 512");
        assert!(arguments.daemonize);
        assert_eq!(arguments.verbose(), 7);
        assert_eq!(arguments.conf_file, PathBuf::from("a.yml"));
        assert_eq!((arguments.stats_port, arguments.stats_addr.as_str()), (1, "::1"));
        let long = run("weir --conf=b.yml --test --stats-port=2 --verb=0");
        assert!(long.test_conf);
        assert_eq!((long.stats_port, long.verbose()), (2, 0));
        let twice = run("weir -d -c a.yml -v 5 -d -c b.yml --verbose 7");
        assert_eq!((twice.conf_file, twice.verbose), (PathBuf::from("b.yml"), 7));
        assert_eq!(run("weir -v 1000").verbose(), u8::MAX);
    }

    #[test]
    fn what_is_wrong_ends_with_exit_code_one() {
        for line in [
            "weir -z",
            "weir -s 0",
            "weir -s 70000",
            "weir -v x",
            "weir -m 1",
            "weir -c",
            "weir --ver",
            "weir --cpus 3-1",
            "weir --cpus a",
            "weir --memory-max 5",
            "weir --event-base kqueue",
            "weir --admin-addr localhost",
            "weir --admin-addr 70000",
            "weir ctl",
            "weir ctl explain",
            "weir --restart-timeout 0",
        ] {
            match parse(line) {
                Parsed::Text { text, code: 1 } => assert!(text.starts_with("weir: "), "{text}"),
                _ => panic!("{line} was accepted"),
            }
        }
    }

    #[test]
    fn help_and_version_win() {
        for line in ["weir -h -t", "weir -V", "weir --help", "weir -tV"] {
            assert!(matches!(parse(line), Parsed::Text { code: 0, .. }), "{line}");
        }
    }

    #[test]
    fn ctl_takes_its_options_before_and_behind_the_command_and_has_a_help() {
        for line in ["weir ctl --json --socket s status", "weir ctl status --socket s --json"] {
            let Some(Command::Ctl(options)) = run(line).command else { panic!("{line}") };
            assert!(options.json && options.socket.ends_with("s"), "{line}");
        }
        for line in ["weir ctl -h", "weir ctl --help", "weir ctl explain -h", "weir demo -h"] {
            match parse(line) {
                Parsed::Text { text, code: 0 } => assert!(text.contains("Usage: "), "{text}"),
                _ => panic!("{line} does not help"),
            }
        }
    }

    #[test]
    fn an_admin_port_is_one_of_the_loopback_address() {
        for (text, address) in [
            ("9122", "127.0.0.1:9122"),
            (":9122", "127.0.0.1:9122"),
            ("0.0.0.0:9122", "0.0.0.0:9122"),
            ("[::1]:0", "[::1]:0"),
        ] {
            let arguments = run(&format!("weir --admin-addr {text}"));
            assert_eq!(arguments.admin_options().http, Some(address.parse().expect("it is one")));
        }
        assert_eq!(run("weir").admin_options().http, None);
    }

    #[test]
    fn cpu_lists_are_numbers_and_ranges() {
        assert_eq!(run("weir --cpus 0,2-4").cpu_options().cpus, Some(vec![0, 2, 3, 4]));
        assert_eq!(run("weir --cpus 2,0-2,0").cpu_options().cpus, Some(vec![2, 0, 1]));
        assert_eq!(run("weir --workers 3").cpu_options().workers, Some(3));
    }
}
