//! The real servers, for comparison, and a source of numbers that is the same in each run.
//!
//! Invariant: a server ends with the value that stands for it, whatever the test does.

use std::io::{BufRead, BufReader, Read, Write};
use std::net::{Shutdown, TcpListener, TcpStream};
use std::process::{Child, Command, Stdio};
use std::sync::mpsc;
use std::thread;
use std::time::Duration;

/// A read that takes longer has failed: the servers answer in microseconds.
const READ_TIMEOUT: Duration = Duration::from_secs(20);

/// How long a server may take to say that it is ready.
const START_TIMEOUT: Duration = Duration::from_secs(20);

/// Ports that are tried: another process may take one between its choice and its use.
const START_ATTEMPTS_MAX: usize = 5;

/// A real server on a port of its own.
pub(crate) struct Server {
    child: Child,
    port: u16,
}

/// Reads all that a program prints, so that it never waits, and tells when a line has the word.
fn watch(output: impl Read + Send + 'static, word: &'static str, told: mpsc::Sender<()>) {
    thread::spawn(move || {
        for line in BufReader::new(output).split(b'\n') {
            let Ok(line) = line else { return };
            if String::from_utf8_lossy(&line).contains(word) {
                // Only the first time somebody listens.
                let _ = told.send(());
            }
        }
    });
}

impl Drop for Server {
    fn drop(&mut self) {
        // It may have ended by itself; then there is nothing to do.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

impl Server {
    /// Starts `redis-server` with these further arguments.
    pub(crate) fn redis(further: &[&str]) -> Server {
        let mut args = vec!["--bind", "127.0.0.1", "--save", "", "--appendonly", "no"];
        args.extend_from_slice(further);
        Server::start("redis-server", "--port", &args, "Ready to accept connections")
    }

    /// Starts `memcached`, without eviction.
    pub(crate) fn memcached() -> Server {
        let mut args = vec!["-l", "127.0.0.1", "-U", "0", "-M", "-u", "root", "-t", "1"];
        // Its background threads hold items now and then, and a number that shrinks is only padded
        // in an item that nobody else holds.
        args.extend_from_slice(&["-o", "no_lru_maintainer,no_lru_crawler,no_slab_reassign"]);
        // Without it memcached does not say when it listens.
        args.push("-vv");
        Server::start("memcached", "-p", &args, "server listening")
    }

    /// `ready` is what the program prints when it can be connected to.
    fn start(program: &str, port_option: &str, args: &[&str], ready: &'static str) -> Server {
        for _ in 0..START_ATTEMPTS_MAX {
            let listener = TcpListener::bind("127.0.0.1:0").expect("a free port");
            let port = listener.local_addr().expect("an address").port();
            drop(listener);
            let child = Command::new(program)
                .args([port_option, &port.to_string()])
                .args(args)
                .current_dir(std::env::temp_dir())
                .stdin(Stdio::null())
                .stdout(Stdio::piped())
                .stderr(Stdio::piped())
                .spawn()
                .unwrap_or_else(|_| panic!("{program} is needed: run make setup"));
            let mut server = Server { child, port };
            if server.says(ready) {
                return server;
            }
        }
        panic!("{program} does not start");
    }

    /// Waits for a word of the program. `false` when it ends, or takes too long, without it.
    fn says(&mut self, word: &'static str) -> bool {
        let (sender, said) = mpsc::channel();
        let stdout = self.child.stdout.take().expect("it is piped");
        let stderr = self.child.stderr.take().expect("it is piped");
        watch(stdout, word, sender.clone());
        watch(stderr, word, sender);
        said.recv_timeout(START_TIMEOUT).is_ok()
    }

    /// A new connection.
    pub(crate) fn connect(&self) -> TcpStream {
        let stream = TcpStream::connect(("127.0.0.1", self.port)).expect("it listens");
        stream.set_read_timeout(Some(READ_TIMEOUT)).expect("a time-out");
        stream.set_nodelay(true).expect("an option");
        stream
    }

    /// Everything that it says to `input` on a connection of its own.
    pub(crate) fn exchange(&self, input: &[u8]) -> Vec<u8> {
        let mut stream = self.connect();
        stream.write_all(input).expect("it reads");
        stream.shutdown(Shutdown::Write).expect("it is connected");
        let mut output = Vec::new();
        stream.read_to_end(&mut output).expect("it ends");
        output
    }
}

/// Sends `request` and then `mark`, and returns what comes before `mark_reply`, which ends the
/// reply to the latter and nothing else.
pub(crate) fn ask(
    stream: &mut TcpStream,
    request: &[u8],
    mark: &[u8],
    mark_reply: &[u8],
) -> Vec<u8> {
    stream.write_all(&[request, mark].concat()).expect("it reads");
    let mut output = Vec::new();
    let mut piece = [0; 64 << 10];
    while !output.ends_with(mark_reply) {
        let size = stream.read(&mut piece).expect("it answers");
        assert_ne!(size, 0, "closed after {} with {}", show(request), show(&output));
        output.extend_from_slice(&piece[..size]);
    }
    output.truncate(output.len() - mark_reply.len());
    output
}

/// Bytes as text, for messages.
pub(crate) fn show(bytes: &[u8]) -> String {
    bytes.escape_ascii().to_string()
}

/// SplitMix64: the numbers depend on the seed alone.
pub(crate) struct Random(pub(crate) u64);

impl Random {
    pub(crate) fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mixed = (self.0 ^ (self.0 >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        let mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        mixed ^ (mixed >> 31)
    }

    /// A number from 0 to `count - 1`.
    pub(crate) fn below(&mut self, count: usize) -> usize {
        (self.next() % count as u64) as usize
    }

    /// One of `choices`.
    pub(crate) fn pick<'a, T: ?Sized>(&mut self, choices: &[&'a T]) -> &'a T {
        choices[self.below(choices.len())]
    }
}
