//! A run of the proxy from a configuration file: start, signals, end; and the checks that do not
//! run it.
//!
//! Invariant: after a signal that ends the process its pid file is gone, and whatever ends it, the
//! reason was printed or logged.

use std::net::{SocketAddr, ToSocketAddrs};
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::sync::Arc;
use std::time::Duration;

use runtime::Address;
use runtime::admin::{Admin, AdminListeners};
use runtime::process::{self, ProcessOptions};
use signal_hook::consts::signal::{
    SIGHUP, SIGINT, SIGQUIT, SIGTERM, SIGTTIN, SIGTTOU, SIGUSR1, SIGUSR2,
};
use signal_hook::iterator::Signals;
use tracing::{error, info, warn};

use crate::arguments::{Arguments, version_block};
use crate::{daemon, logging};

/// How long clients may take to get their last answers after TERM or INT. A second signal ends the
/// process at once.
const DRAIN_LIMIT: Duration = Duration::from_secs(10);

/// `-t`: says whether the configuration is right, and every reason why not.
pub(crate) fn test_configuration(arguments: &Arguments) -> ExitCode {
    let file = arguments.conf_file.display();
    match config::load(&arguments.conf_file) {
        Ok(_) => {
            eprintln!("weir: configuration file '{file}' syntax is ok");
            ExitCode::SUCCESS
        }
        Err(errors) => {
            eprintln!("{errors}");
            eprintln!("weir: configuration file '{file}' syntax is invalid");
            ExitCode::FAILURE
        }
    }
}

/// Runs the proxy until a signal ends it.
pub(crate) fn run(arguments: &Arguments) -> ExitCode {
    if arguments.daemonize && !daemon::is_detached() {
        return daemon::start();
    }
    if daemon::is_detached() {
        daemon::detach();
    }
    let mut log = match logging::start(arguments.verbose, arguments.output.as_deref()) {
        Ok(log) => log,
        Err(error) => {
            let file = arguments.output.as_deref().unwrap_or(Path::new("stderr")).display();
            eprintln!("weir: can't open the log {file}: {error}");
            return ExitCode::FAILURE;
        }
    };
    // Before anything runs, so that no signal is missed.
    let signals =
        Signals::new([SIGHUP, SIGINT, SIGQUIT, SIGTERM, SIGTTIN, SIGTTOU, SIGUSR1, SIGUSR2]);
    let mut signals = match signals {
        Ok(signals) => signals,
        Err(error) => return fail(format_args!("can't watch for signals: {error}")),
    };
    info!("weir-{} starts, process {}", env!("CARGO_PKG_VERSION"), std::process::id());
    let (process, admin) = match start(arguments) {
        Ok(started) => started,
        Err(text) => return fail(format_args!("{text}")),
    };
    let pid_file = match PidFile::write(arguments.pid_file.as_deref()) {
        Ok(pid_file) => pid_file,
        Err(text) => return fail(format_args!("{text}")),
    };
    if daemon::is_detached()
        && let Err(error) = daemon::say_running()
    {
        warn!(%error, "can't let go of the terminal");
    }
    info!("weir runs");
    for signal in signals.forever() {
        match signal {
            SIGHUP => match log.reopen() {
                Ok(()) => info!("log reopened"),
                Err(error) => error!(%error, "the log can't be reopened; it stays as it was"),
            },
            SIGTTIN => info!(level = log.step(true), "log level raised"),
            SIGTTOU => info!(level = log.step(false), "log level lowered"),
            SIGUSR1 => reload(&process, &arguments.conf_file),
            SIGUSR2 => info!("SIGUSR2 received; it has no meaning yet"),
            _ => {
                info!(signal, "signal received: stopping");
                break;
            }
        }
    }
    let pid_file = Arc::new(pid_file);
    let remains = Arc::clone(&pid_file);
    std::thread::spawn(move || {
        if signals.forever().any(|signal| matches!(signal, SIGINT | SIGQUIT | SIGTERM)) {
            warn!("second signal received: ending at once");
            remains.remove();
            std::process::exit(1);
        }
    });
    admin.set_draining();
    process.drain(DRAIN_LIMIT);
    admin.stop();
    pid_file.remove();
    info!("weir has stopped");
    ExitCode::SUCCESS
}

/// Takes the configuration file as it is now. One with an error changes nothing.
fn reload(process: &process::Process, file: &Path) {
    let reloaded = config::load(file)
        .map_err(|errors| errors.to_string())
        .and_then(|config| process.reload(config.pools).map_err(|error| error.to_string()));
    match reloaded {
        Ok(()) => info!(file = %file.display(), "configuration reloaded"),
        Err(text) => {
            for line in text.lines() {
                error!("{line}");
            }
            error!("the configuration was not reloaded; everything stays as it was");
        }
    }
}

fn fail(text: std::fmt::Arguments<'_>) -> ExitCode {
    error!("{text}");
    if daemon::is_detached() {
        eprintln!("weir: {text}");
    }
    ExitCode::FAILURE
}

fn start(arguments: &Arguments) -> Result<(process::Process, Admin), String> {
    let config = config::load(&arguments.conf_file).map_err(|errors| errors.to_string())?;
    let options = ProcessOptions {
        pools: config.pools,
        buffered_bytes_max: arguments.memory_max(),
        cpus: arguments.cpu_options(),
        event_base: arguments.event_base(),
        stats_address: Some(stats_address(&arguments.stats_addr, arguments.stats_port)?),
    };
    let listeners =
        AdminListeners::bind(&arguments.admin_options()).map_err(|error| error.to_string())?;
    let process = process::start(options).map_err(|error| error.to_string())?;
    let file = arguments.conf_file.clone();
    let check = move || config::load(&file).map(drop).map_err(|errors| errors.to_string());
    let admin = Admin::start(listeners, &process, Box::new(check))
        .map_err(|error| format!("can't answer operators: {error}"))?;
    Ok((process, admin))
}

fn stats_address(host: &str, port: u16) -> Result<Address, String> {
    if host.starts_with('/') {
        return Ok(Address::Unix(PathBuf::from(host)));
    }
    let found: Option<SocketAddr> = (runtime::without_brackets(host), port)
        .to_socket_addrs()
        .map_err(|error| format!("the statistics address '{host}' does not resolve: {error}"))?
        .next();
    found
        .map(Address::Inet)
        .ok_or_else(|| format!("the statistics address '{host}' resolves to nothing"))
}

/// The file that holds the process id, if one is wanted.
struct PidFile(Option<PathBuf>);

impl PidFile {
    fn write(path: Option<&Path>) -> Result<PidFile, String> {
        if let Some(path) = path {
            std::fs::write(path, std::process::id().to_string())
                .map_err(|error| format!("can't write the pid file {}: {error}", path.display()))?;
        }
        Ok(PidFile(path.map(Path::to_owned)))
    }

    fn remove(&self) {
        if let Some(path) = &self.0 {
            // Somebody may have removed it already, which is what we want.
            let _ = std::fs::remove_file(path);
        }
    }
}

/// `-D`: what each statistic means.
pub(crate) fn describe_stats() -> String {
    version_block() + &runtime::snapshot::describe()
}
