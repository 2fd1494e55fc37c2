//! The program as a process, and servers that a test makes up.
//!
//! Invariant: a process that was started here ends with its test.
#![allow(dead_code, unreachable_pub, reason = "each test program uses a part")]

use std::io::{BufRead as _, BufReader, Read as _, Write as _};
use std::net::{TcpListener, TcpStream};
use std::process::{Child, ChildStdout, Command, Output, Stdio};
use std::sync::Arc;
use std::thread;

/// Runs it to its end.
pub fn bench(args: &[&str]) -> Output {
    let mut command = Command::new(env!("CARGO_BIN_EXE_weir-bench"));
    command.args(args).stdin(Stdio::null()).output().unwrap()
}

/// Both streams, and the status.
pub fn told(output: &Output) -> (String, i32) {
    let text = [&output.stdout[..], &output.stderr[..]].concat();
    (String::from_utf8(text).unwrap(), output.status.code().unwrap())
}

/// A process that serves, ended when dropped.
pub struct Serving {
    pub child: Child,
    pub address: String,
    /// Stays open, for what the process says later.
    _out: BufReader<ChildStdout>,
}

impl Serving {
    /// Starts a command that says on its first line where it listens.
    pub fn start(args: &[&str]) -> Serving {
        Serving::start_as(Command::new(env!("CARGO_BIN_EXE_weir-bench")).args(args))
    }

    /// The same, in a way of the test's own.
    pub fn start_as(command: &mut Command) -> Serving {
        let mut child = command.stdout(Stdio::piped()).spawn().unwrap();
        let mut line = String::new();
        let mut out = BufReader::new(child.stdout.take().unwrap());
        out.read_line(&mut line).unwrap();
        let address = line.trim().rsplit(' ').next().unwrap().to_owned();
        Serving { child, address, _out: out }
    }
}

impl Drop for Serving {
    fn drop(&mut self) {
        // It may have ended by itself.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// A server of the test's own: `answer` gets each connection.
pub fn listen(answer: impl Fn(TcpStream) + Send + Sync + 'static) -> String {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap().to_string();
    let answer = Arc::new(answer);
    thread::spawn(move || {
        for stream in listener.incoming().map_while(Result::ok) {
            let answer = answer.clone();
            thread::spawn(move || answer(stream));
        }
    });
    address
}

/// Answers what it is asked with `reply`, then with nothing more if it is to be `once`.
pub fn answers(reply: &'static [u8], once: bool) -> String {
    listen(move |mut stream| {
        let mut chunk = [0; 4096];
        while let Ok(1..) = stream.read(&mut chunk) {
            if stream.write_all(reply).is_err() || once {
                return;
            }
        }
    })
}
