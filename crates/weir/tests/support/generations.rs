//! A proxy that is replaced by new processes of itself: each takes over at USR2 from the one
//! before it. All write to the same output and the same pid file.
//!
//! Invariant: every process that was ever seen in the pid file has ended when this is dropped.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use rustix::process::{Signal, kill_process};

use super::process::{Running, TempDir, pid, status_field, weir_path};
use super::servers::ATTEMPTS;
use super::until;

/// What the log says of a process once it serves.
const SERVES: &str = "weir runs";

/// The processes, from the first to the one that serves.
pub(crate) struct Generations {
    pub(crate) first: Running,
    pub(crate) folder: TempDir,
    pids: Vec<u32>,
}

impl Generations {
    /// Starts the first one. `plan` is given a folder, and gives a configuration and arguments; it
    /// is asked again when somebody else takes a port. The program is a copy in the folder, `weir`.
    pub(crate) fn start(plan: impl Fn(&TempDir) -> (String, Vec<String>)) -> Generations {
        Generations::start_as(|program| (Command::new(program), Stdio::null()), plan)
    }

    /// As `start`; `wrap` makes the command that starts the program, and its stdin.
    pub(crate) fn start_as(
        wrap: impl Fn(PathBuf) -> (Command, Stdio),
        plan: impl Fn(&TempDir) -> (String, Vec<String>),
    ) -> Generations {
        for _ in 0..ATTEMPTS {
            let folder = TempDir::new();
            install(&folder, "weir");
            let (text, arguments) = plan(&folder);
            fs::write(folder.join("weir.yml"), text).unwrap();
            let (mut command, input) = wrap(folder.join("weir"));
            command.arg("-c").arg(folder.join("weir.yml")).arg("-p").arg(folder.join("pid"));
            command.arg("-a").arg(folder.join("stats")).args(arguments);
            let first = Running::start_with_input("weir", &mut command, input);
            if first.writes(SERVES) {
                let pids = vec![first.pid()];
                return Generations { first, folder, pids };
            }
            let output = first.output();
            assert!(output.contains("can't listen on"), "weir did not start:\n{output}");
        }
        panic!("weir: no port in {ATTEMPTS} attempts");
    }

    /// The process that serves.
    pub(crate) fn pid(&self) -> u32 {
        *self.pids.last().expect("there is the first")
    }

    pub(crate) fn output(&self) -> String {
        self.first.output()
    }

    pub(crate) fn signal(&self, signal: Signal) {
        kill_process(pid(self.pid()), signal).expect("it runs");
    }

    /// Replaces the process that serves, and waits until the new one does.
    pub(crate) fn restart(&mut self) {
        self.restart_by(|generations| generations.signal(Signal::USR2));
    }

    /// As `restart`; `ask` asks the process for it.
    pub(crate) fn restart_by(&mut self, ask: impl Fn(&Generations)) {
        let count = self.output().matches(SERVES).count();
        ask(self);
        until("the new process serves", || {
            (self.output().matches(SERVES).count() > count).then_some(())
        });
        let new = fs::read_to_string(self.folder.join("pid")).expect("it is written by now");
        let new = new.parse().expect("a process id");
        assert_ne!(new, self.pid(), "the pid file is the new process's");
        self.pids.push(new);
    }

    /// Waits until the log has the text once more than `count` times.
    pub(crate) fn until_says_again(&self, text: &str, count: usize) {
        until(&format!("the log says '{text}' once more"), || {
            (self.output().matches(text).count() > count).then_some(())
        });
    }

    /// Waits until those that were replaced have ended.
    pub(crate) fn until_alone(&self) {
        for old in &self.pids[..self.pids.len() - 1] {
            until("a process that was replaced ends", || is_gone(*old).then_some(()));
        }
    }

    /// Ends the one that serves, and waits until none is left.
    pub(crate) fn stop(&self) {
        self.signal(Signal::TERM);
        for one in &self.pids {
            until("the process ends", || is_gone(*one).then_some(()));
        }
    }

    /// The number of descriptors that the process has open.
    pub(crate) fn descriptors_count(&self) -> usize {
        super::process::descriptors_count(self.pid())
    }
}

impl Drop for Generations {
    fn drop(&mut self) {
        for one in &self.pids[1..] {
            if is_ours(*one, self.folder.path()) {
                let _ = kill_process(pid(*one), Signal::KILL);
            }
        }
    }
}

/// Puts the program into the folder, in the place of what has this name.
pub(crate) fn install(folder: &TempDir, name: &str) {
    run(Command::new("cp").arg(weir_path()).arg(folder.join("new")));
    fs::rename(folder.join("new"), folder.join(name)).expect("it is one folder");
}

/// Puts a script into the folder, in the place of what has this name.
pub(crate) fn install_script(folder: &TempDir, name: &str, text: &str) {
    let write = "printf '#!/bin/sh\\n%s\\n' \"$1\" > \"$0\" && chmod 755 \"$0\"";
    run(Command::new("sh").args(["-c", write]).arg(folder.join("new")).arg(text));
    fs::rename(folder.join("new"), folder.join(name)).expect("it is one folder");
}

/// Files that are to be run are written by other processes: this one has several threads, and a
/// program that one of them starts may hold a file that another writes to, which can't be run then.
fn run(command: &mut Command) {
    let output = command.output().expect("it can be started");
    assert!(output.status.success(), "{output:?}");
}

/// Gone, or waiting for whoever inherits the dead of this machine.
pub(crate) fn is_gone(pid: u32) -> bool {
    !Path::new(&format!("/proc/{pid}")).exists() || status_field(pid, "State").starts_with('Z')
}

/// Whether the process still is one that was started here: the number may be another's by now.
fn is_ours(pid: u32, folder: &Path) -> bool {
    let line = fs::read(format!("/proc/{pid}/cmdline")).unwrap_or_default();
    String::from_utf8_lossy(&line).contains(folder.to_str().expect("names here are text"))
}
