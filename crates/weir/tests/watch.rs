//! `--watch`: a configuration file that changes is taken as at USR1, and only if it was asked for.
//!
//! Invariant: what must not happen is judged after something later has happened.

#![allow(clippy::unwrap_used)]

mod support;

use std::fs;
use std::os::unix::net::UnixStream;
use std::path::Path;

use support::process::{Running, TempDir, weir};
use support::servers::{Kind, Server};
use support::until;
use support::weir::{Pool, stats_at};

const RELOADED: &str = "configuration reloaded";
const NOT_RELOADED: &str = "the configuration was not reloaded";

fn start(folder: &TempDir, file: &Path, name: &str, arguments: &[&str]) -> Running {
    let mut command = weir();
    command.arg("-c").arg(file).arg("-a").arg(folder.join(name)).args(arguments);
    let running = Running::start("weir", &mut command);
    assert!(running.writes("weir runs"), "{}", running.output());
    running
}

/// Waits until the process has done something so many times.
fn until_done(running: &Running, what: &str, count: usize) {
    until(&format!("'{what}' for the {count}. time"), || {
        (running.output().matches(what).count() == count).then_some(())
    });
}

#[test]
fn a_file_that_changes_is_taken_if_it_is_watched() {
    let servers = Server::pair(Kind::Redis);
    let folder = TempDir::new();
    let file = folder.join("weir.yml");
    let text = |socket: &str| Pool::of(&servers).text(folder.join(socket).to_str().unwrap());
    // The other process has a file of its own, which changes in the same way.
    let unwatched_file = folder.join("unwatched.yml");
    let change = |text: &str, socket: &str| {
        let new = folder.join("new");
        fs::write(&new, text).unwrap();
        fs::rename(&new, &file).unwrap();
        fs::write(&unwatched_file, text.replace(socket, "unwatched")).unwrap();
    };
    change(&text("first"), "first");
    let watching = start(&folder, &file, "stats", &["--watch", "--workers", "1"]);
    let not_watching = start(&folder, &unwatched_file, "stats2", &["--workers", "1"]);

    // By a rename, as editors do.
    change(&text("second"), "second");
    until_done(&watching, RELOADED, 1);
    assert!(UnixStream::connect(folder.join("second")).is_ok());
    assert!(watching.output().contains("no longer listening"), "the log tells what has ended");

    change("redis:\n  listen: nowhere\n", "nowhere");
    until_done(&watching, NOT_RELOADED, 1);
    assert!(watching.output().contains("weir.yml:2:"), "{}", watching.output());
    assert!(UnixStream::connect(folder.join("second")).is_ok());
    // It looks at the file a few more times.
    let uptime = || stats_at(&folder.join("stats"))["uptime"].as_u64().unwrap();
    let then = uptime();
    until("some seconds pass", || (uptime() >= then + 3).then_some(()));

    // Written over.
    fs::write(&file, text("third")).unwrap();
    until_done(&watching, RELOADED, 2);
    assert!(UnixStream::connect(folder.join("third")).is_ok());
    assert_eq!(watching.output().matches(NOT_RELOADED).count(), 1, "it says so once");
    let output = not_watching.output();
    assert!(!output.contains(RELOADED) && !output.contains(NOT_RELOADED), "{output}");
}
