//! Programs that a test runs: found or asked for, watched, and ended with the test.
//!
//! Invariant: a [`Running`] that is dropped has ended, and its output is shown when the test
//! failed.

use std::fs;
use std::io::{BufRead, BufReader, Read};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Arc, Condvar, Mutex};
use std::time::Instant;

use rustix::process::{Pid, Resource, Rlimit, Signal, getrlimit, kill_process, setrlimit};

use super::{DEADLINE, until};

/// The root of the repository.
pub(crate) fn repository() -> PathBuf {
    let folder = std::env::var_os("CARGO_MANIFEST_DIR").expect("Cargo sets it for tests");
    Path::new(&folder).join("../..")
}

/// Where a program is. Servers are in folders that are not on everyone's path.
///
/// # Panics
/// When it is nowhere.
pub(crate) fn program(name: &str) -> PathBuf {
    let path = std::env::var("PATH").unwrap_or_default() + ":/usr/sbin:/sbin";
    path.split(':')
        .map(|folder| Path::new(folder).join(name))
        .find(|path| path.is_file())
        .unwrap_or_else(|| panic!("{name} is needed: run make setup"))
}

/// The Python of the virtual environment that holds the client libraries.
///
/// # Panics
/// When there is none.
pub(crate) fn python() -> Command {
    let python = repository().join(".venv/bin/python");
    assert!(python.is_file(), ".venv/bin/python is needed: run make setup");
    Command::new(python)
}

/// One of the programs in `tests/clients`.
pub(crate) fn python_program(name: &str) -> Command {
    let mut command = python();
    command.arg(repository().join("tests/clients").join(name));
    command
}

/// The program under test: as shipped when `WEIR_BIN` names it, else as Cargo built it for tests.
pub(crate) fn weir() -> Command {
    Command::new(weir_path())
}

/// See [`weir`].
pub(crate) fn weir_path() -> PathBuf {
    match std::env::var_os("WEIR_BIN") {
        Some(path) => repository().join(path),
        None => PathBuf::from(env!("CARGO_BIN_EXE_weir")),
    }
}

/// A folder of one test, removed with everything in it when dropped.
pub(crate) struct TempDir(PathBuf);

impl TempDir {
    pub(crate) fn new() -> TempDir {
        static COUNT: AtomicU32 = AtomicU32::new(0);
        let count = COUNT.fetch_add(1, Ordering::Relaxed);
        let path = std::env::temp_dir().join(format!("weir-test-{}-{count}", std::process::id()));
        fs::create_dir_all(&path).expect("the folder for temporary files is writable");
        TempDir(path)
    }

    pub(crate) fn join(&self, name: &str) -> PathBuf {
        self.0.join(name)
    }

    pub(crate) fn path(&self) -> &Path {
        &self.0
    }
}

impl Drop for TempDir {
    fn drop(&mut self) {
        // Nothing depends on it.
        let _ = fs::remove_dir_all(&self.0);
    }
}

/// Lines that a program has written.
#[derive(Default)]
struct Output {
    text: String,
    open_count: usize,
}

/// A program that runs.
pub(crate) struct Running {
    name: String,
    child: Child,
    output: Arc<(Mutex<Output>, Condvar)>,
}

impl Running {
    /// Starts it; what it writes is kept.
    pub(crate) fn start(name: &str, command: &mut Command) -> Running {
        Running::start_with_input(name, command, Stdio::null())
    }

    /// As `start`, with something for its stdin.
    pub(crate) fn start_with_input(name: &str, command: &mut Command, input: Stdio) -> Running {
        command.stdin(input).stdout(Stdio::piped()).stderr(Stdio::piped());
        let mut child = command.spawn().unwrap_or_else(|error| panic!("{name}: {error}"));
        let output = Arc::new((Mutex::new(Output::default()), Condvar::new()));
        let stdout = child.stdout.take().expect("it is piped");
        let stderr = child.stderr.take().expect("it is piped");
        output.0.lock().unwrap().open_count = 2;
        keep(stdout, &output);
        keep(stderr, &output);
        Running { name: name.to_owned(), child, output }
    }

    pub(crate) fn pid(&self) -> u32 {
        self.child.id()
    }

    /// Everything that it has written so far.
    pub(crate) fn output(&self) -> String {
        self.output.0.lock().unwrap().text.clone()
    }

    /// Waits until it has written this. `false` when it has ended without.
    ///
    /// # Panics
    /// When neither happens in time.
    pub(crate) fn writes(&self, text: &str) -> bool {
        let (output, changed) = &*self.output;
        let deadline = Instant::now() + DEADLINE;
        let mut output = output.lock().unwrap();
        loop {
            if output.text.contains(text) {
                return true;
            }
            if output.open_count == 0 {
                return false;
            }
            let left = deadline.saturating_duration_since(Instant::now());
            assert!(!left.is_zero(), "{} has not written '{text}':\n{}", self.name, output.text);
            output = changed.wait_timeout(output, left).unwrap().0;
        }
    }

    pub(crate) fn signal(&self, signal: Signal) {
        kill_process(pid(self.child.id()), signal).expect("it was not waited for yet");
    }

    /// Whether it has ended.
    pub(crate) fn has_ended(&mut self) -> bool {
        self.child.try_wait().expect("it is our child").is_some()
    }

    /// Waits for its end. Others may go on writing where it wrote.
    pub(crate) fn end_status(&mut self) -> ExitStatus {
        until(&format!("{} ends", self.name), || self.child.try_wait().expect("it is our child"))
    }

    /// Waits for its end, and for the rest of its output.
    pub(crate) fn end(&mut self) -> ExitStatus {
        let status = self.end_status();
        let (output, changed) = &*self.output;
        let waited = changed
            .wait_timeout_while(output.lock().unwrap(), DEADLINE, |output| output.open_count > 0)
            .unwrap();
        assert!(!waited.1.timed_out(), "{} left its output open", self.name);
        status
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        // It may have ended by itself.
        let _ = self.child.kill();
        let _ = self.child.wait();
        if std::thread::panicking() {
            eprintln!("---- {} wrote:\n{}----", self.name, self.output());
        }
    }
}

fn keep(from: impl Read + Send + 'static, output: &Arc<(Mutex<Output>, Condvar)>) {
    let output = Arc::clone(output);
    std::thread::spawn(move || {
        let mut lines = BufReader::new(from);
        let mut line = Vec::new();
        while let Ok(1..) = lines.read_until(b'\n', &mut line) {
            let mut output_now = output.0.lock().unwrap();
            output_now.text.push_str(&String::from_utf8_lossy(&line));
            output.1.notify_all();
            line.clear();
        }
        output.0.lock().unwrap().open_count -= 1;
        output.1.notify_all();
    });
}

pub(crate) fn pid(number: u32) -> Pid {
    Pid::from_raw(number as i32).expect("no process has the number 0")
}

/// Lets this process, and those that it starts from here on, open so many files.
///
/// # Panics
/// When the system does not allow it.
pub(crate) fn allow_open_files(count: u64) {
    let limit = getrlimit(Resource::Nofile);
    if limit.current.is_none_or(|current| current >= count) {
        return;
    }
    let maximum = limit.maximum.map(|maximum| maximum.max(count));
    setrlimit(Resource::Nofile, Rlimit { current: Some(count), maximum })
        .unwrap_or_else(|error| panic!("{count} open files are needed (ulimit -n): {error}"));
}

/// A field of `/proc/PID/status`.
pub(crate) fn status_field(pid: u32, name: &str) -> String {
    field_of(Path::new(&format!("/proc/{pid}/status")), name)
}

/// A field of a file of lines `name: value`.
pub(crate) fn field_of(path: &Path, name: &str) -> String {
    let text = fs::read_to_string(path).expect("the process runs");
    text.lines()
        .find_map(|line| line.strip_prefix(name)?.strip_prefix(':'))
        .unwrap_or_else(|| panic!("{} has no {name}", path.display()))
        .trim()
        .to_owned()
}

/// Descriptors that the process has open.
pub(crate) fn descriptors_count(pid: u32) -> usize {
    std::fs::read_dir(format!("/proc/{pid}/fd")).expect("it runs").count()
}

/// Bytes of memory that the process holds, its program and shared libraries not counted.
pub(crate) fn memory_bytes(pid: u32) -> u64 {
    status_bytes(pid, "RssAnon")
}

/// Bytes of memory that the process occupies, as most tools show it.
pub(crate) fn resident_bytes(pid: u32) -> u64 {
    status_bytes(pid, "VmRSS")
}

/// The most that it has occupied so far.
pub(crate) fn resident_bytes_max(pid: u32) -> u64 {
    status_bytes(pid, "VmHWM")
}

fn status_bytes(pid: u32, name: &str) -> u64 {
    let field = status_field(pid, name);
    let kib: u64 = field.trim_end_matches(" kB").parse().expect("a number of kB");
    kib << 10
}

/// The threads of a process: their ids and names.
pub(crate) fn threads(pid: u32) -> Vec<(u32, String)> {
    let tasks = fs::read_dir(format!("/proc/{pid}/task")).expect("the process runs");
    tasks
        .filter_map(|task| {
            let task = task.ok()?;
            // A thread may end while it is looked at.
            let name = fs::read_to_string(task.path().join("comm")).ok()?;
            Some((task.file_name().to_str()?.parse().ok()?, name.trim().to_owned()))
        })
        .collect()
}
