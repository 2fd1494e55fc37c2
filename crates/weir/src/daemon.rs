//! Going into the background.
//!
//! The program starts itself again without `-d`, detached, and waits until that one says that it
//! runs or ends; so, unlike twemproxy's, the exit code tells whether the start worked. Invariant:
//! the parent returns only when the outcome is known.

use std::io::{self, Read};
use std::os::unix::process::CommandExt;
use std::process::{Command, ExitCode, Stdio};

use crate::terminal::say;

/// Set in the environment of the detached process.
const DETACHED: &str = "WEIR_DETACHED";
/// What the detached process writes to its stdout when it runs.
const RUNS: &[u8] = b"runs";

/// Whether this is the process in the background.
pub(crate) fn is_detached() -> bool {
    std::env::var_os(DETACHED).is_some()
}

/// Starts this program again in the background and waits for its word.
pub(crate) fn start() -> ExitCode {
    let mut arguments = std::env::args_os();
    let name = arguments.next();
    let started = std::env::current_exe().and_then(|program| {
        Command::new(&program)
            // By this name it finds the next version of itself.
            .arg0(name.as_deref().unwrap_or(program.as_os_str()))
            .args(arguments)
            .env(DETACHED, "1")
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .spawn()
    });
    let mut child = match started {
        Ok(child) => child,
        Err(error) => {
            say(format_args!("weir: can't start in the background: {error}"));
            return ExitCode::FAILURE;
        }
    };
    let mut said = Vec::new();
    if let Some(mut stdout) = child.stdout.take() {
        // Ends when the child closes its stdout, running or not.
        let _ = stdout.read_to_end(&mut said);
    }
    if said == RUNS { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}

/// In the background: leaves the terminal's session, and takes the umask that twemproxy takes, so
/// that clients of other users still reach a unix socket whose mode is not given.
pub(crate) fn detach() {
    rustix::process::umask(rustix::fs::Mode::empty());
    // Fails only for a process that leads a group, and this one was just started by another.
    let _ = rustix::process::setsid();
}

/// In the background: tells the parent that the start worked, and lets go of its pipes.
pub(crate) fn say_running() -> io::Result<()> {
    use std::io::Write;
    let mut stdout = io::stdout();
    stdout.write_all(RUNS)?;
    stdout.flush()?;
    let null = std::fs::OpenOptions::new().read(true).write(true).open("/dev/null")?;
    rustix::stdio::dup2_stdout(&null)?;
    rustix::stdio::dup2_stderr(&null)?;
    Ok(())
}
