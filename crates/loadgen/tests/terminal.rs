//! The view of a run on a terminal: what a person sees at 80 columns and at 40, when the window
//! changes, and after Ctrl-C; and the plain lines where there is no terminal.
//!
//! A pseudo-terminal carries what is drawn to a screen that knows only what the view may use.

#![cfg(target_os = "linux")]
#![allow(clippy::unwrap_used)]

#[path = "support/programs.rs"]
mod programs;

use std::fs::File;
use std::io::{ErrorKind, Read as _, Write as _};
use std::process::{Child, Command, Stdio};

use programs::Serving;
use rustix::pty::{OpenptFlags, grantpt, openpt, ptsname, unlockpt};
use rustix::termios::{Winsize, tcsetwinsize};

/// Lines of characters, drawn on as a terminal does.
struct Screen {
    columns: usize,
    lines: Vec<Vec<char>>,
    column: usize,
    /// How often a line was longer than the terminal is wide.
    wraps: usize,
    /// What stood on the last line before each time it was erased.
    erased: Vec<String>,
    escape: String,
}

impl Screen {
    fn new(columns: usize) -> Screen {
        let lines = vec![Vec::new()];
        Screen { columns, lines, column: 0, wraps: 0, erased: Vec::new(), escape: String::new() }
    }

    fn feed(&mut self, bytes: &[u8]) {
        // The program writes no other letters than those of ASCII.
        bytes.iter().for_each(|&byte| self.put(char::from(byte)));
    }

    fn put(&mut self, letter: char) {
        let last = self.lines.last_mut().unwrap();
        match letter {
            _ if !self.escape.is_empty() => {
                self.escape.push(letter);
                if letter.is_ascii_alphabetic() {
                    assert_eq!(self.escape, "\x1b[K", "the one sequence that is used");
                    self.escape.clear();
                    self.erased.push(last.iter().collect());
                    last.truncate(self.column);
                }
            }
            '\x1b' => self.escape.push(letter),
            '\r' => self.column = 0,
            '\n' => self.lines.push(Vec::new()),
            _ => {
                assert!(letter.is_ascii_graphic() || letter == ' ', "{letter:?}");
                if self.column == self.columns {
                    self.wraps += 1;
                    self.column = 0;
                    self.lines.push(Vec::new());
                }
                let last = self.lines.last_mut().unwrap();
                if last.len() == self.column {
                    last.push(letter);
                } else {
                    last[self.column] = letter;
                }
                self.column += 1;
            }
        }
    }

    fn text(&self) -> String {
        self.lines.iter().map(|line| line.iter().collect::<String>() + "\n").collect()
    }

    /// The states of the view that are not empty.
    fn views(&self) -> Vec<&str> {
        self.erased.iter().map(String::as_str).filter(|view| !view.is_empty()).collect()
    }
}

/// A run on a terminal.
struct Session {
    terminal: File,
    child: Child,
    screen: Screen,
}

impl Session {
    fn start(columns: u16, server: &Serving, duration: &str) -> Session {
        let terminal = openpt(OpenptFlags::RDWR | OpenptFlags::NOCTTY).unwrap();
        grantpt(&terminal).unwrap();
        unlockpt(&terminal).unwrap();
        let terminal = File::from(terminal);
        let name = ptsname(&terminal, Vec::new()).unwrap();
        let far = File::options().read(true).write(true).open(name.to_str().unwrap()).unwrap();
        let end = || Stdio::from(far.try_clone().unwrap());
        resize(&terminal, columns);
        // The terminal sends Ctrl-C as a signal to those whose terminal it is.
        let child = Command::new("setsid")
            .args(["--ctty", env!("CARGO_BIN_EXE_weir-bench"), "run", &server.address])
            .args(["-r", "500", "-d", duration, "--warmup", "0", "--interval", "0.1"])
            .args(["--set", "keys.count = 100", "--set", "timeout_ms = 60000"])
            .stdin(end())
            .stdout(end())
            .stderr(end())
            .spawn()
            .unwrap();
        Session { terminal, child, screen: Screen::new(columns.into()) }
    }

    /// Draws what comes; whether there is more.
    fn draw(&mut self) -> bool {
        let mut chunk = [0; 4096];
        match self.terminal.read(&mut chunk) {
            Ok(size) => {
                self.screen.feed(&chunk[..size]);
                size > 0
            }
            Err(error) if error.kind() == ErrorKind::Interrupted => true,
            // Nobody has the other end any more.
            Err(_) => false,
        }
    }

    fn until_views(&mut self, count: usize) {
        while self.screen.views().len() < count {
            assert!(self.draw(), "it has ended: {}", self.screen.text());
        }
    }

    fn end(mut self) -> (Screen, i32) {
        while self.draw() {}
        (self.screen, self.child.wait().unwrap().code().unwrap())
    }
}

fn resize(terminal: &File, columns: u16) {
    let size = Winsize { ws_row: 24, ws_col: columns, ws_xpixel: 0, ws_ypixel: 0 };
    tcsetwinsize(terminal, size).unwrap();
}

const GRADES: [&str; 3] = ["VALID", "SUSPECT", "INVALID"];

fn is_verdict(line: &str) -> bool {
    GRADES.iter().any(|grade| line.starts_with(grade))
}

#[test]
fn the_view_is_one_line_in_a_wide_terminal_and_in_a_narrow_one() {
    let server = Serving::start(&["serve"]);
    for columns in [80, 40] {
        let (screen, status) = Session::start(columns, &server, "1").end();
        let text = screen.text();
        assert_eq!((status, screen.wraps), (0, 0), "{text}");
        // Drawn over and over, and gone in the end.
        let views = screen.views();
        assert!(views.len() >= 10, "{views:?}");
        for view in &views {
            assert!(GRADES.iter().any(|grade| view.contains(grade)), "{view:?}");
            assert!(view.contains("/1s  ") && view.contains("  p99 "), "{view:?}");
            assert!(view.len() < columns.into() && view.contains("/s  "), "{view:?}");
            assert_eq!(view.starts_with('['), columns == 80, "{view:?}");
        }
        let progress = |view: &str| view.chars().filter(|&letter| letter == '#').count();
        assert!(views.windows(2).all(|pair| progress(pair[0]) <= progress(pair[1])), "{views:?}");
        let lines: Vec<&str> = text.lines().collect();
        assert!(lines[0].starts_with("connected to 127.0.0.1:"), "{text}");
        assert_eq!(lines[1], "writing 100 keys", "{text}");
        assert!(lines[2].starts_with("wrote 100 keys in "), "{text}");
        assert!(is_verdict(lines[3]), "{text}");
        let heading = lines.iter().position(|line| line.trim_start().starts_with(['c', 'p']));
        assert!(heading.is_some() && text.contains("\nresponse  "), "{text}");
    }
}

#[test]
fn the_view_follows_the_window() {
    let server = Serving::start(&["serve"]);
    let mut session = Session::start(120, &server, "3600");
    session.until_views(1);
    assert!(session.screen.views()[0].contains("  max "), "{:?}", session.screen.views());
    resize(&session.terminal, 40);
    // What was on its way before the change, and the first that begins after it.
    session.until_views(session.screen.views().len() + 2);
    let wide_count = session.screen.views().len();
    session.screen.columns = 40;
    session.until_views(wide_count + 3);
    let views = &session.screen.views()[wide_count..];
    assert!(views.iter().all(|view| view.len() < 40), "{views:?}");
    assert_eq!(session.screen.wraps, 0, "{}", session.screen.text());
    session.terminal.write_all(b"\x03").unwrap();
    let (screen, status) = session.end();
    assert_eq!(status, 1, "{}", screen.text());
}

#[test]
fn ctrl_c_ends_the_view_and_shows_what_there_is() {
    let server = Serving::start(&["serve"]);
    let mut session = Session::start(80, &server, "3600");
    session.until_views(2);
    session.terminal.write_all(b"\x03").unwrap();
    let (screen, status) = session.end();
    let text = screen.text();
    assert_eq!((status, screen.wraps), (1, 0), "{text}");
    let lines: Vec<&str> = text.lines().collect();
    assert!(lines[3].starts_with("INVALID  default on "), "{text}");
    assert!(text.contains("interrupted before its end") && text.contains("\nresponse "), "{text}");
    assert!(!text.contains("^C"), "{text}");
}

#[test]
fn without_a_terminal_there_are_plain_lines() {
    let server = Serving::start(&["serve"]);
    let args = ["run", &server.address, "-r", "500", "-d", "0.5", "--warmup", "0.1"];
    let more = ["--interval", "0.1", "--set", "keys.count = 100"];
    let output = programs::bench(&[&args[..], &more].concat());
    let said = String::from_utf8(output.stderr).unwrap();
    let lines: Vec<&str> = said.lines().collect();
    assert!(!said.contains(['\x1b', '\r', '#']), "{said:?}");
    assert_eq!(lines[3], "warming up for 0.1 s", "{said}");
    let views = lines.iter().filter(|line| line.contains("  p99.9 ") && line.contains("  max "));
    assert_eq!(views.count(), 5, "one an interval: {said}");
    assert!(is_verdict(&String::from_utf8(output.stdout).unwrap()));
}
