//! A run of the proxy from a configuration file: start, signals, end; and the checks that do not
//! run it.
//!
//! Invariant: after a signal that ends the process its pid file is gone, unless another process has
//! written its own there, and whatever ends it, the reason was printed or logged.

use std::io::Write;
use std::net::{SocketAddr, ToSocketAddrs};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::sync::Arc;
use std::sync::mpsc::{self, Receiver, Sender};
use std::time::Duration;

use runtime::Address;
use runtime::admin::{Admin, AdminListeners};
use runtime::process::{self, Process, ProcessOptions};
use runtime::restart::{self, Attempt, Inherited, Predecessor, RestartError, Successor};
use rustix::process::{Pid, Signal, kill_process};
use signal_hook::consts::signal::{
    SIGHUP, SIGINT, SIGQUIT, SIGTERM, SIGTTIN, SIGTTOU, SIGUSR1, SIGUSR2,
};
use signal_hook::iterator::Signals;
use tracing::{error, info, warn};

use crate::arguments::{Arguments, version_block};
use crate::logging::Log;
use crate::restart::{Program, inherit};
use crate::terminal::say;
use crate::watch::Watch;
use crate::{daemon, logging, service_manager};

/// How long clients may take to get their last answers after TERM or INT. A second signal ends the
/// process at once.
const DRAIN_LIMIT: Duration = Duration::from_secs(10);
/// How long the workers may take to serve after they were started.
const START_TIMEOUT: Duration = Duration::from_secs(10);

/// `-t`: says whether the configuration is right, and every reason why not.
pub(crate) fn test_configuration(arguments: &Arguments) -> ExitCode {
    let file = arguments.conf_file.display();
    match config::load(&arguments.conf_file) {
        Ok(_) => {
            say(format_args!("weir: configuration file '{file}' syntax is ok"));
            ExitCode::SUCCESS
        }
        Err(errors) => {
            say(errors);
            say(format_args!("weir: configuration file '{file}' syntax is invalid"));
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
    let log = match logging::start(arguments.verbose(), arguments.output.as_deref()) {
        Ok(log) => log,
        Err(error) => {
            let file = arguments.output.as_deref().unwrap_or(Path::new("stderr")).display();
            say(format_args!("weir: can't open the log {file}: {error}"));
            return ExitCode::FAILURE;
        }
    };
    let is_seen = log.is_on_stderr();
    match Service::start(arguments, log) {
        Ok(service) => service.run(),
        Err(text) => {
            error!("{text}");
            if !is_seen {
                say(format_args!("weir: {text}"));
            }
            ExitCode::FAILURE
        }
    }
}

/// What the main thread acts upon.
enum Happening {
    Signal(i32),
    /// The configuration file is another than before.
    FileChanged,
    /// What became of a process that was to take the place of this one.
    Restarted(Result<Successor, RestartError>),
}

/// A proxy that runs, and what is needed to steer it.
struct Service<'a> {
    arguments: &'a Arguments,
    log: Log,
    program: Program,
    process: Process,
    admin: Admin,
    pid_file: PidFile,
    happenings: Receiver<Happening>,
    happens: Sender<Happening>,
    /// A new process that does not serve yet.
    attempt: Option<Attempt>,
    /// A reload was asked for meanwhile.
    reload_waits: bool,
}

impl<'a> Service<'a> {
    /// Starts everything, in the place of another process if there is one.
    fn start(arguments: &'a Arguments, log: Log) -> Result<Service<'a>, String> {
        let (happens, happenings) = mpsc::channel();
        // Before anything runs, so that no signal is missed.
        watch_signals(happens.clone()).map_err(|e| format!("can't watch for signals: {e}"))?;
        info!("weir-{} starts, process {}", env!("CARGO_PKG_VERSION"), std::process::id());
        let program = Program::of_this_process()
            .map_err(|error| format!("can't tell where this program is: {error}"))?;
        let (mut inherited, predecessor) = inherit().map_err(|error| {
            format!("can't take the listening sockets of the process to be replaced: {error}")
        })?;
        let watch = arguments.watch.then(|| Watch::new(&arguments.conf_file));
        let (process, admin) = start(arguments, &mut inherited)?;
        if !process.answers(START_TIMEOUT) {
            return Err(format!("a worker does not answer within {START_TIMEOUT:?}"));
        }
        let pid_file = PidFile::write(arguments.pid_file.as_deref())?;
        if daemon::is_detached()
            && let Err(error) = daemon::say_running()
        {
            warn!(%error, "can't let go of the terminal");
        }
        say_ready(predecessor, &inherited);
        service_manager::show_life(process.pulse());
        if let Some(watch) = watch {
            let happens = happens.clone();
            watch.start(move || happens.send(Happening::FileChanged).is_ok());
        }
        info!("weir runs");
        Ok(Service {
            arguments,
            log,
            program,
            process,
            admin,
            pid_file,
            happenings,
            happens,
            attempt: None,
            reload_waits: false,
        })
    }

    /// Acts upon signals until one of them, or a new process, ends this one.
    fn run(mut self) -> ExitCode {
        let successor = loop {
            // It holds a sender itself.
            match self.happenings.recv().expect("there is a sender") {
                Happening::Signal(SIGHUP) => match self.log.reopen() {
                    Ok(()) => info!("log reopened"),
                    Err(error) => error!(%error, "the log can't be reopened; it stays as it was"),
                },
                Happening::Signal(SIGTTIN) => {
                    info!(level = self.log.step(true), "log level raised");
                }
                Happening::Signal(SIGTTOU) => {
                    info!(level = self.log.step(false), "log level lowered");
                }
                Happening::Signal(SIGUSR1) | Happening::FileChanged => self.reload(),
                Happening::Signal(SIGUSR2) => self.restart(),
                Happening::Signal(signal) => {
                    info!(signal, "signal received: stopping");
                    break None;
                }
                Happening::Restarted(Ok(successor)) => break Some(successor),
                Happening::Restarted(Err(error)) => self.go_on(&error),
            }
        };
        self.end(successor)
    }

    fn reload(&mut self) {
        if self.attempt.is_some() {
            // The new process may have read the file before it was changed.
            info!("a restart is under way: the reload waits for its end");
            self.reload_waits = true;
            return;
        }
        reload(&self.process, &self.arguments.conf_file);
    }

    /// Starts a process that is to take the place of this one.
    fn restart(&mut self) {
        if self.attempt.is_some() {
            info!("a restart is under way already");
            return;
        }
        let ended = self.happens.clone();
        let offer = self.process.offer().and_then(|mut offer| {
            self.admin.offer(&mut offer)?;
            Ok(offer)
        });
        let begun = offer.map_err(RestartError::Start).and_then(|offer| {
            let limit = self.arguments.restart_timeout();
            restart::begin(offer, self.program.successor(), limit, move |result| {
                // Nobody listens when the process ends for another reason.
                let _ = ended.send(Happening::Restarted(result));
            })
        });
        match begun {
            Ok(attempt) => self.attempt = Some(attempt),
            Err(error) => self.go_on(&error),
        }
    }

    /// There is no successor.
    fn go_on(&mut self, error: &RestartError) {
        self.attempt = None;
        // The other may have come as far as to write its own number.
        if let Err(text) = self.pid_file.claim() {
            error!("{text}");
        }
        error!("{error}; this process goes on");
        if std::mem::take(&mut self.reload_waits) {
            self.reload();
        }
    }

    /// Lets the clients go and ends. What `successor` has taken over is left to it.
    fn end(self, successor: Option<Successor>) -> ExitCode {
        let pid_file = Arc::new(self.pid_file);
        // Whoever ends a service may signal the old process of a restart, too, which is ending
        // already: it hurries only when it is signalled again.
        let patience = usize::from(successor.is_some());
        hurry_when_signalled(self.happenings, Arc::clone(&pid_file), patience);
        match successor {
            Some(successor) => {
                let pid = successor.pid;
                info!(pid, "the new process serves; this one ends when its clients are answered");
                service_manager::tell_main_process(pid);
                if self.reload_waits {
                    pass_on_reload(pid);
                }
                self.admin.stop(Some(&successor));
                self.process.retire(&successor, DRAIN_LIMIT);
            }
            None => {
                service_manager::tell_stopping();
                if let Some(attempt) = self.attempt {
                    attempt.abandon();
                }
                self.admin.set_draining();
                self.process.drain(DRAIN_LIMIT);
                self.admin.stop(None);
            }
        }
        pid_file.remove();
        info!("weir has stopped");
        ExitCode::SUCCESS
    }
}

fn watch_signals(happens: Sender<Happening>) -> std::io::Result<()> {
    let mut signals =
        Signals::new([SIGHUP, SIGINT, SIGQUIT, SIGTERM, SIGTTIN, SIGTTOU, SIGUSR1, SIGUSR2])?;
    std::thread::spawn(move || {
        for signal in signals.forever() {
            if happens.send(Happening::Signal(signal)).is_err() {
                return;
            }
        }
    });
    Ok(())
}

fn say_ready(predecessor: Option<Predecessor>, inherited: &Inherited) {
    match predecessor.map(|predecessor| predecessor.say_ready(inherited)) {
        None => service_manager::tell_ready(),
        // It tells the service manager, which listens to the main process only.
        Some(Ok(())) => {}
        Some(Err(error)) => {
            warn!(%error, "the process to be replaced is gone already");
            service_manager::tell_main_process(std::process::id());
        }
    }
}

/// Ends the process at once at a signal that ends it, after as many as `patience`.
fn hurry_when_signalled(happenings: Receiver<Happening>, pid_file: Arc<PidFile>, patience: usize) {
    std::thread::spawn(move || {
        let ends = |happening: &Happening| {
            matches!(happening, Happening::Signal(SIGINT | SIGQUIT | SIGTERM))
        };
        if happenings.into_iter().filter(ends).nth(patience).is_some() {
            warn!("second signal received: ending at once");
            pid_file.remove();
            std::process::exit(1);
        }
    });
}

/// Lets the process that has taken over read the configuration once more.
fn pass_on_reload(pid: u32) {
    let reloaded = Pid::from_raw(pid as i32).map(|pid| kill_process(pid, Signal::USR1));
    if let Some(Err(error)) = reloaded {
        warn!(%error, "the new process can't be told to reload");
    }
}

/// Takes the configuration file as it is now. One with an error changes nothing.
fn reload(process: &Process, file: &Path) {
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

fn start(arguments: &Arguments, inherited: &mut Inherited) -> Result<(Process, Admin), String> {
    let config = config::load(&arguments.conf_file).map_err(|errors| errors.to_string())?;
    let options = ProcessOptions {
        pools: config.pools,
        buffered_bytes_max: arguments.memory_max(),
        cpus: arguments.cpu_options(),
        event_base: arguments.event_base(),
        stats_address: Some(stats_address(&arguments.stats_addr, arguments.stats_port)?),
    };
    let listeners = AdminListeners::bind(&arguments.admin_options(), inherited)
        .map_err(|error| error.to_string())?;
    let process =
        process::start_with_sockets(options, inherited).map_err(|error| error.to_string())?;
    let file = arguments.conf_file.clone();
    let check = move || config::load(&file).map(drop).map_err(|errors| errors.to_string());
    let admin = Admin::start(listeners, &process, Arc::new(check))
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
        let pid_file = PidFile(path.map(Path::to_owned));
        pid_file.claim().map(|()| pid_file)
    }

    /// Writes the number of this process, unless it is there.
    fn claim(&self) -> Result<(), String> {
        match &self.0 {
            Some(path) if !self.is_ours() => write_pid(path)
                .map_err(|error| format!("can't write the pid file {}: {error}", path.display())),
            _ => Ok(()),
        }
    }

    fn is_ours(&self) -> bool {
        let text = self.0.as_ref().and_then(|path| std::fs::read_to_string(path).ok());
        text.is_some_and(|text| text == std::process::id().to_string())
    }

    fn remove(&self) {
        if let Some(path) = self.0.as_ref().filter(|_| self.is_ours()) {
            // Somebody may have removed it already, which is what we want.
            let _ = std::fs::remove_file(path);
        }
    }
}

fn write_pid(path: &Path) -> std::io::Result<()> {
    // Whoever may write there can choose which process is signalled.
    let mut file = std::fs::OpenOptions::new()
        .write(true)
        .create(true)
        .truncate(true)
        .mode(0o644)
        .open(path)?;
    file.write_all(std::process::id().to_string().as_bytes())
}

/// `-D`: what each statistic means.
pub(crate) fn describe_stats() -> String {
    version_block() + &runtime::snapshot::describe()
}
