//! What systemd and its like are told, and give: readiness, the main process, signs of life, and
//! listening sockets. Without one of them nothing here has an effect.
//!
//! Invariant: a service manager that can't be reached is no reason to stop.

use std::io;
use std::os::unix::net::UnixDatagram;
use std::process::Command;
use std::time::Duration;

use runtime::process::Pulse;
use runtime::restart::Inherited;
use tracing::{info, warn};

/// Where it wants to be told.
const NOTIFY_SOCKET: &str = "NOTIFY_SOCKET";
/// How often it wants a sign of life, in microseconds, and from which process.
const WATCHDOG_USEC: &str = "WATCHDOG_USEC";
const WATCHDOG_PID: &str = "WATCHDOG_PID";
/// How many sockets it has opened, and for which process.
const LISTEN_FDS: &str = "LISTEN_FDS";
const LISTEN_PID: &str = "LISTEN_PID";
/// Their names, which do not matter here.
const LISTEN_FDNAMES: &str = "LISTEN_FDNAMES";

/// How long workers may take to answer before a sign of life is withheld.
const ANSWER_TIMEOUT: Duration = Duration::from_secs(5);

/// Tells that this process serves.
pub(crate) fn tell_ready() {
    tell("READY=1");
}

/// Tells that another process is the main one from here on.
pub(crate) fn tell_main_process(pid: u32) {
    tell(&format!("MAINPID={pid}\nREADY=1"));
}

/// Tells that this process is about to end, on purpose.
pub(crate) fn tell_stopping() {
    tell("STOPPING=1");
}

fn tell(text: &str) {
    let Some(path) = std::env::var_os(NOTIFY_SOCKET) else { return };
    if let Err(error) = send(path.as_encoded_bytes(), text) {
        warn!(%error, "the service manager can't be told: {text}");
    }
}

fn send(path: &[u8], text: &str) -> io::Result<()> {
    let socket = UnixDatagram::unbound()?;
    #[cfg(target_os = "linux")]
    if let Some(name) = path.strip_prefix(b"@") {
        use std::os::linux::net::SocketAddrExt;
        let address = std::os::unix::net::SocketAddr::from_abstract_name(name)?;
        return socket.send_to_addr(text.as_bytes(), &address).map(drop);
    }
    use std::os::unix::ffi::OsStrExt;
    socket.send_to(text.as_bytes(), std::ffi::OsStr::from_bytes(path)).map(drop)
}

/// Gives signs of life as often as it was asked for, while the workers answer.
pub(crate) fn show_life(pulse: Pulse) {
    let Some(interval) = watchdog_interval() else { return };
    info!(?interval, "the service manager gets signs of life");
    std::thread::spawn(move || {
        loop {
            if pulse.answers(ANSWER_TIMEOUT.min(interval)) {
                tell("WATCHDOG=1");
            } else {
                warn!("a worker does not answer: no sign of life");
            }
            std::thread::sleep(interval);
        }
    });
}

/// Half of the time after which this process counts as dead.
fn watchdog_interval() -> Option<Duration> {
    let text = |name| std::env::var(name).ok();
    let for_us = text(WATCHDOG_PID).is_none_or(|pid| pid == std::process::id().to_string());
    let limit: u64 = text(WATCHDOG_USEC)?.parse().ok().filter(|limit| *limit > 0)?;
    for_us.then(|| Duration::from_micros(limit) / 2)
}

/// The listening sockets that it has opened for this process.
pub(crate) fn sockets() -> Inherited {
    let number = |name| std::env::var(name).ok().and_then(|text| text.parse::<u32>().ok());
    let (Some(count), Some(pid)) = (number(LISTEN_FDS), number(LISTEN_PID)) else {
        return Inherited::default();
    };
    if pid != std::process::id() {
        return Inherited::default();
    }
    info!(count, "listening sockets of the service manager");
    Inherited::new(runtime::restart::sockets_from_start(count))
}

/// Takes away what was meant for this process alone. The watchdog's process id can't be that of a
/// process that is not started yet; without it the sign of life is the main process's.
pub(crate) fn forget_own(command: &mut Command) {
    for name in [LISTEN_FDS, LISTEN_PID, LISTEN_FDNAMES, WATCHDOG_PID] {
        command.env_remove(name);
    }
}
