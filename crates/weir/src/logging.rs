//! Where log lines go, and which: stderr or a file that can be reopened, at twemproxy's levels.
//!
//! Invariants: a line is written whole or, where that would have to wait, lost; a file that can't
//! be reopened stays as it was.

use std::fs::{File, OpenOptions};
use std::io::{self, Write};
use std::os::fd::AsFd;
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};

use rustix::event::{PollFd, PollFlags, Timespec, poll};
use tracing::Level;
use tracing::level_filters::LevelFilter;
use tracing_subscriber::layer::SubscriberExt;
use tracing_subscriber::util::SubscriberInitExt;
use tracing_subscriber::{Registry, fmt, reload};

/// Levels run from 0 to this.
const VERBOSE_MAX: u8 = 11;

/// Bytes that a pipe takes without waiting when it is ready for any.
const PIECE_SIZE_MAX: usize = 4096;

/// Keeps what is needed to change the log of a running process.
pub(crate) struct Log {
    level: reload::Handle<LevelFilter, Registry>,
    verbose: u8,
    file: Option<(PathBuf, Arc<Mutex<File>>)>,
}

/// Starts logging. Fails when the file can't be opened.
pub(crate) fn start(verbose: u8, output: Option<&Path>) -> io::Result<Log> {
    let verbose = verbose.min(VERBOSE_MAX);
    let (filter, level) = reload::Layer::new(filter_for(verbose));
    let output = output.filter(|path| !path.as_os_str().is_empty());
    let file = match output {
        Some(path) => Some((path.to_owned(), Arc::new(Mutex::new(open(path)?)))),
        None => None,
    };
    let sink = Sink(file.as_ref().map(|(_, file)| Arc::clone(file)));
    let layer = fmt::layer().with_ansi(false).with_writer(move || sink.clone());
    tracing_subscriber::registry().with(filter).with(layer).init();
    Ok(Log { level, verbose, file })
}

fn open(path: &Path) -> io::Result<File> {
    OpenOptions::new().append(true).create(true).mode(0o644).open(path)
}

fn filter_for(verbose: u8) -> LevelFilter {
    LevelFilter::from_level(match verbose {
        0..=3 => Level::ERROR,
        4 => Level::WARN,
        5..=6 => Level::INFO,
        7 => Level::DEBUG,
        _ => Level::TRACE,
    })
}

impl Log {
    /// Whether it is where whoever has started the program looks.
    pub(crate) fn is_on_stderr(&self) -> bool {
        self.file.is_none()
    }

    /// Opens the file by its name again, after a log rotation. Does nothing for stderr.
    pub(crate) fn reopen(&self) -> io::Result<()> {
        let Some((path, file)) = &self.file else { return Ok(()) };
        let reopened = open(path)?;
        *file.lock().unwrap_or_else(PoisonError::into_inner) = reopened;
        Ok(())
    }

    /// Raises or lowers the level by one and returns it.
    pub(crate) fn step(&mut self, up: bool) -> u8 {
        self.verbose =
            if up { (self.verbose + 1).min(VERBOSE_MAX) } else { self.verbose.saturating_sub(1) };
        // Fails only when the subscriber is gone, and then nobody logs.
        let _ = self.level.reload(filter_for(self.verbose));
        self.verbose
    }
}

/// A file, or stderr.
#[derive(Clone)]
struct Sink(Option<Arc<Mutex<File>>>);

impl Write for Sink {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        match &self.0 {
            Some(file) => {
                write_now(&mut *file.lock().unwrap_or_else(PoisonError::into_inner), bytes)?;
            }
            None => write_now(&mut io::stderr().lock(), bytes)?,
        }
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

/// Writes all of it, unless it would have to wait. Whoever reads the log may stand still, and
/// neither clients nor signals may wait for that.
fn write_now(to: &mut (impl Write + AsFd), bytes: &[u8]) -> io::Result<()> {
    for piece in bytes.chunks(PIECE_SIZE_MAX) {
        let mut watched = [PollFd::new(to, PollFlags::OUT)];
        poll(&mut watched, Some(&Timespec::default()))?;
        if !watched[0].revents().contains(PollFlags::OUT) {
            return Err(io::ErrorKind::WouldBlock.into());
        }
        to.write_all(piece)?;
    }
    Ok(())
}
