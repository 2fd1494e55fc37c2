//! Taking the place of a process, and being replaced: which program is started, and how it knows.
//!
//! The new process is this program again, from the same path and with the same arguments, so that
//! a file that was replaced on the disk is the new version. How the sockets travel is in
//! [`runtime::restart`]. Invariant: nothing but its standard streams and the sockets that it is
//! sent reaches the new process.

use std::ffi::OsString;
use std::fs::{File, Metadata};
use std::io;
use std::os::fd::AsFd;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::process::Command;

use runtime::restart::{self, Inherited, Predecessor};

use crate::service_manager;

/// Set in the environment of a process whose stdin leads to the one whose place it takes.
const TAKES_OVER: &str = "WEIR_TAKES_OVER";

/// What this process was started as.
pub(crate) struct Program {
    path: PathBuf,
    arguments: Vec<OsString>,
}

impl Program {
    /// Must be called early: a file that is replaced later can't be told from this one.
    pub(crate) fn of_this_process() -> io::Result<Program> {
        let mut arguments = std::env::args_os();
        let running = std::env::current_exe()?;
        // The name that it was called by may be a link that leads to another version one day.
        let called = arguments.next().and_then(|name| find(Path::new(&name)));
        let path = match called {
            Some(called) if is_same(&called, &running) => called,
            _ => running,
        };
        Ok(Program { path, arguments: arguments.collect() })
    }

    /// The command that starts it again, to take the place of this process.
    pub(crate) fn successor(&self) -> Command {
        let mut command = Command::new(&self.path);
        command.args(&self.arguments).env(TAKES_OVER, "1");
        service_manager::forget_own(&mut command);
        command
    }
}

/// Where a program of this name is.
fn find(name: &Path) -> Option<PathBuf> {
    if name.components().count() > 1 {
        return Some(name.to_owned());
    }
    let folders = std::env::var_os("PATH")?;
    std::env::split_paths(&folders).map(|folder| folder.join(name)).find(|path| path.is_file())
}

fn is_same(one: &Path, other: &Path) -> bool {
    let identity = |file: Metadata| (file.dev(), file.ino());
    match (std::fs::metadata(one), std::fs::metadata(other)) {
        (Ok(one), Ok(other)) => identity(one) == identity(other),
        _ => false,
    }
}

/// The listening sockets that this process was started with, and the one whose place it takes, if
/// there is one.
pub(crate) fn inherit() -> io::Result<(Inherited, Option<Predecessor>)> {
    if std::env::var_os(TAKES_OVER).is_none() {
        return Ok((service_manager::sockets(), None));
    }
    let stream = io::stdin().as_fd().try_clone_to_owned()?;
    rustix::stdio::dup2_stdin(File::open("/dev/null")?)?;
    let (inherited, predecessor) = restart::inherit(stream)?;
    Ok((inherited, Some(predecessor)))
}
