//! What the coordinator of a run and its agents say to each other: lines of JSON over TCP.
//!
//! It makes no load and merges nothing. Invariant: nobody waits for the other side without an end:
//! who says nothing for [`SILENCE_MAX`] while it owes something is given up.

use std::io::{self, BufRead as _, BufReader, ErrorKind, Read as _, Write as _};
use std::net::{TcpStream, ToSocketAddrs as _};
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use serde::{Deserialize, Serialize};

use crate::engine::{BaseChoice, RunEnd};
use crate::record::RemoteRecord;
use crate::workload::Settings;

/// What the coordinator sends.
#[derive(Debug, Serialize, Deserialize)]
pub(super) enum Order {
    Prepare(Box<Prepare>),
    /// Start after so many microseconds.
    Go(u64),
    /// Answered at once, to learn how long a message takes.
    Echo,
}

/// One agent's part of a run.
#[derive(Debug, Serialize, Deserialize)]
pub(super) struct Prepare {
    pub(super) settings: Settings,
    pub(super) run: u32,
    pub(super) server: String,
    pub(super) event_base: BaseChoice,
    pub(super) spin: bool,
    pub(super) cpus: Vec<usize>,
    pub(super) interval_ms: u64,
    pub(super) machine: (u64, u64),
}

/// What an agent sends.
#[derive(Debug, Serialize, Deserialize)]
pub(super) enum Report {
    Echo,
    /// Nothing new, every second: keys may take minutes to be written.
    Alive,
    Connected,
    Prefilled(f64),
    Ready,
    Interval(u64, Box<RemoteRecord>),
    End(Box<Result<RunEnd, String>>),
}

/// The longest line that is read.
const LINE_SIZE_MAX: usize = 64 << 20;
/// How often signals and the other side are looked at.
pub(super) const LOOK: Duration = Duration::from_millis(50);
/// Who does not answer a first word for so long is no agent.
pub(super) const PATIENCE: Duration = Duration::from_secs(5);
/// Who says nothing for so long, and should, is gone or hangs.
pub(super) const SILENCE_MAX: Duration = Duration::from_secs(10);

/// Opens a connection to an agent.
pub(super) fn connect(name: &str) -> io::Result<TcpStream> {
    let mut why = io::Error::new(ErrorKind::NotFound, "the name has no address");
    for address in name.to_socket_addrs()? {
        match TcpStream::connect_timeout(&address, PATIENCE) {
            Ok(stream) => return Ok(stream),
            Err(error) => why = error,
        }
    }
    Err(why)
}

/// Sends one message.
pub(super) fn send<T: Serialize>(mut stream: &TcpStream, message: &T) -> Result<(), String> {
    let mut line = serde_json::to_vec(message).expect("messages are plain data");
    line.push(b'\n');
    stream.write_all(&line).map_err(|error| error.to_string())
}

/// What the other side says.
#[derive(Debug)]
pub(super) struct Inbox {
    reader: BufReader<TcpStream>,
    /// The beginning of a message.
    line: Vec<u8>,
}

impl Inbox {
    /// Sets the stream up for both directions: a machine that is gone is noticed though it says
    /// nothing, and one that does not read holds nobody up for long.
    pub(super) fn new(stream: TcpStream) -> io::Result<Inbox> {
        const ALIVE: Duration = Duration::from_secs(5);
        let keepalive = socket2::TcpKeepalive::new().with_time(ALIVE).with_interval(ALIVE);
        socket2::SockRef::from(&stream).set_tcp_keepalive(&keepalive)?;
        stream.set_nonblocking(false)?;
        stream.set_nodelay(true)?;
        stream.set_read_timeout(Some(LOOK))?;
        stream.set_write_timeout(Some(SILENCE_MAX))?;
        Ok(Inbox { reader: BufReader::new(stream), line: Vec::new() })
    }

    /// The next message; waits `patience` for it, and not when `stop` is set.
    pub(super) fn receive<T: for<'a> Deserialize<'a>>(
        &mut self,
        patience: Duration,
        stop: &AtomicBool,
    ) -> Result<T, String> {
        let began = Instant::now();
        loop {
            let room = LINE_SIZE_MAX.saturating_sub(self.line.len()) as u64;
            match self.reader.by_ref().take(room).read_until(b'\n', &mut self.line) {
                Ok(_) if self.line.ends_with(b"\n") => break,
                Ok(_) if room == 0 => return Err("a message without an end".to_owned()),
                Ok(0) => return Err("the other side has gone away".to_owned()),
                Ok(_) => {}
                Err(error) if is_nothing_yet(error.kind()) => {
                    if stop.load(Ordering::Relaxed) {
                        return Err("interrupted".to_owned());
                    }
                    if began.elapsed() >= patience {
                        return Err(format!("has said nothing for {} s", patience.as_secs()));
                    }
                }
                Err(error) => return Err(error.to_string()),
            }
        }
        let message = serde_json::from_slice(&self.line);
        self.line.clear();
        message.map_err(|error| format!("a bad message: {error}"))
    }
}

fn is_nothing_yet(kind: ErrorKind) -> bool {
    matches!(kind, ErrorKind::WouldBlock | ErrorKind::TimedOut | ErrorKind::Interrupted)
}
