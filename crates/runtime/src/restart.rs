//! One process takes the place of another: the listening sockets go to a new process of the
//! program, and when that one accepts clients, this one may end.
//!
//! The new process has one end of a socket pair for its stdin. It is sent the listening sockets,
//! and answers, once it serves, with which of them it has taken. Both processes accept from the
//! same queues in between, so that there is no moment without a listener. What is not here: which
//! program is started, and what becomes of the old process afterwards. Invariant: whatever goes
//! wrong with the new process, it is gone in the end, and the old one has lost nothing.

use std::fmt;
use std::io::{self, ErrorKind, IoSlice, IoSliceMut, Read, Write};
use std::mem::MaybeUninit;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::unix::net::UnixStream;
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use rustix::net::{
    RecvAncillaryBuffer, RecvAncillaryMessage, RecvFlags, SendAncillaryBuffer,
    SendAncillaryMessage, SendFlags, recvmsg, sendmsg,
};
use rustix::process::{Pid, Signal, kill_process};
use tracing::info;

pub use crate::listeners::Inherited;
pub use event::socket::sockets_from_start;

/// What both sides begin with; the last byte is the version of what follows.
const MAGIC: [u8; 4] = *b"wei\x01";
/// Sockets of one message. The kernel's limit is 253.
const BATCH_MAX: usize = 64;
/// The most sockets in all: 1024 workers and 64 pools.
const SOCKETS_MAX: usize = 1 << 16;
/// How long the other process may take to send what it has at hand.
const SOCKETS_TIMEOUT: Duration = Duration::from_secs(10);
/// How long a process that has let go of its end may take to be gone by itself.
const EXIT_TIMEOUT: Duration = Duration::from_secs(1);

/// What a listening socket serves.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Purpose {
    /// Clients of the pool with this index.
    Pool(usize),
    /// Statistics.
    Statistics,
    /// HTTP for monitoring.
    Admin,
    /// `weir ctl`.
    Ctl,
}

/// The listening sockets of a process, for its successor.
#[derive(Debug)]
pub struct Offer {
    pub(crate) sockets: Vec<(Purpose, OwnedFd)>,
}

/// A process that serves in the place of this one.
#[derive(Debug)]
pub struct Successor {
    /// Its process id.
    pub pid: u32,
    taken: Vec<Purpose>,
}

impl Successor {
    /// The pools whose listeners it has, by index.
    pub(crate) fn pools(&self) -> Arc<[usize]> {
        let pool_of = |purpose: &Purpose| match purpose {
            Purpose::Pool(pool) => Some(*pool),
            _ => None,
        };
        self.taken.iter().filter_map(pool_of).collect()
    }

    pub(crate) fn has(&self, purpose: Purpose) -> bool {
        self.taken.contains(&purpose)
    }
}

/// Why there is no successor. The process that tried has lost nothing.
#[non_exhaustive]
#[derive(Debug)]
pub enum RestartError {
    /// The program can't be started.
    Start(io::Error),
    /// It ended before it served; it has logged why.
    Ended(ExitStatus),
    /// It did not serve in time, and was killed.
    Late(Duration),
    /// It is no program that can take the place of this one, and was killed.
    Nonsense,
    /// It could not be talked to, and was killed.
    Talk(io::Error),
}

impl fmt::Display for RestartError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            RestartError::Start(error) => write!(f, "the new process can't be started: {error}"),
            RestartError::Ended(status) => {
                write!(f, "the new process ended before it served: {status}")
            }
            RestartError::Late(limit) => {
                write!(f, "the new process did not serve within {limit:?}; it was killed")
            }
            RestartError::Nonsense => {
                f.write_str("the new process does not answer as weir does; it was killed")
            }
            RestartError::Talk(error) => {
                write!(f, "the new process can't be talked to, it was killed: {error}")
            }
        }
    }
}

impl std::error::Error for RestartError {}

/// A new process that may become the successor.
#[derive(Debug)]
pub struct Attempt {
    child: Arc<Mutex<Option<Child>>>,
}

impl Attempt {
    /// Tells the new process to end, since this one is to end, too, and not to be replaced.
    pub fn abandon(&self) {
        if let Some(child) = &*lock(&self.child)
            && let Some(pid) = Pid::from_raw(child.id() as i32)
        {
            // It may be gone already.
            let _ = kill_process(pid, Signal::TERM);
        }
    }
}

/// Starts a process and offers it the sockets. `ended` is called on another thread with what came
/// of it, at the latest a moment after `limit`.
pub fn begin(
    offer: Offer,
    mut command: Command,
    limit: Duration,
    ended: impl FnOnce(Result<Successor, RestartError>) + Send + 'static,
) -> Result<Attempt, RestartError> {
    let deadline = Instant::now() + limit;
    let (ours, theirs) = UnixStream::pair().map_err(RestartError::Start)?;
    command.stdin(Stdio::from(OwnedFd::from(theirs)));
    let child = command.spawn().map_err(RestartError::Start)?;
    // The command holds the other end, and this one would never see that the child has let go.
    drop(command);
    let pid = child.id();
    info!(pid, "a new process starts, to take the place of this one");
    let child = Arc::new(Mutex::new(Some(child)));
    let watched = Arc::clone(&child);
    let watch = move || {
        let result = match offer_to(&ours, offer, deadline) {
            Ok(taken) => Ok(Successor { pid, taken }),
            Err(error) => Err(bury(&watched, error, limit)),
        };
        ended(result);
    };
    let spawned = std::thread::Builder::new().name("weir-restart".to_owned()).spawn(watch);
    match spawned {
        Ok(_) => Ok(Attempt { child }),
        Err(error) => Err(bury(&child, error, limit)),
    }
}

fn lock(child: &Mutex<Option<Child>>) -> std::sync::MutexGuard<'_, Option<Child>> {
    child.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Sends the sockets and waits for the answer, which comes when the new process serves.
fn offer_to(mut stream: &UnixStream, offer: Offer, deadline: Instant) -> io::Result<Vec<Purpose>> {
    stream.set_write_timeout(Some(left_until(deadline)?))?;
    stream.write_all(&header(offer.sockets.len()))?;
    for batch in offer.sockets.chunks(BATCH_MAX) {
        let sockets: Vec<BorrowedFd<'_>> = batch.iter().map(|(_, socket)| socket.as_fd()).collect();
        send_sockets(stream, &sockets)?;
    }
    let mut answer = vec![0; MAGIC.len() + 4 + offer.sockets.len()];
    let mut size = 0;
    while size < answer.len() {
        stream.set_read_timeout(Some(left_until(deadline)?))?;
        match stream.read(&mut answer[size..]) {
            Ok(0) => return Err(ErrorKind::UnexpectedEof.into()),
            Ok(read) => size += read,
            Err(error) if error.kind() == ErrorKind::Interrupted => {}
            Err(error) => return Err(error),
        }
    }
    let (said, flags) = answer.split_at(MAGIC.len() + 4);
    if said != header(offer.sockets.len()) {
        return Err(ErrorKind::InvalidData.into());
    }
    let taken = offer.sockets.iter().zip(flags).filter(|(_, flag)| **flag == 1);
    Ok(taken.map(|((purpose, _), _)| *purpose).collect())
}

fn left_until(deadline: Instant) -> io::Result<Duration> {
    let left = deadline.saturating_duration_since(Instant::now());
    if left.is_zero() { Err(ErrorKind::TimedOut.into()) } else { Ok(left) }
}

fn header(count: usize) -> [u8; 8] {
    let mut header = [0; 8];
    header[..4].copy_from_slice(&MAGIC);
    header[4..].copy_from_slice(&(count as u32).to_le_bytes());
    header
}

/// Sees to it that a process that failed is gone, and says how it failed.
fn bury(child: &Mutex<Option<Child>>, error: io::Error, limit: Duration) -> RestartError {
    let taken = lock(child).take();
    let mut child = taken.expect("it is buried once");
    let has_let_go = matches!(
        error.kind(),
        ErrorKind::UnexpectedEof | ErrorKind::BrokenPipe | ErrorKind::ConnectionReset
    );
    // Mostly because it has ended, or is about to.
    if has_let_go && let Some(status) = wait_briefly(&mut child) {
        return RestartError::Ended(status);
    }
    // Both fail only when it was waited for, which happens here alone.
    let _ = child.kill();
    let _ = child.wait();
    match error.kind() {
        // What a time-out of a socket is called depends on the system.
        ErrorKind::TimedOut | ErrorKind::WouldBlock => RestartError::Late(limit),
        _ if has_let_go || error.kind() == ErrorKind::InvalidData => RestartError::Nonsense,
        _ => RestartError::Talk(error),
    }
}

fn wait_briefly(child: &mut Child) -> Option<ExitStatus> {
    let deadline = Instant::now() + EXIT_TIMEOUT;
    loop {
        match child.try_wait() {
            Ok(Some(status)) => return Some(status),
            Ok(None) if Instant::now() < deadline => {
                std::thread::park_timeout(Duration::from_millis(10));
            }
            _ => return None,
        }
    }
}

fn send_sockets(stream: &UnixStream, sockets: &[BorrowedFd<'_>]) -> io::Result<()> {
    let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(BATCH_MAX))];
    let mut control = SendAncillaryBuffer::new(&mut space);
    let fits = control.push(SendAncillaryMessage::ScmRights(sockets));
    assert!(fits, "there is space for a batch");
    // Sockets travel with a byte.
    sendmsg(stream, &[IoSlice::new(b"s")], &mut control, SendFlags::empty())?;
    Ok(())
}

fn receive_sockets(stream: &UnixStream, into: &mut Vec<OwnedFd>) -> io::Result<()> {
    let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(BATCH_MAX))];
    let mut control = RecvAncillaryBuffer::new(&mut space);
    let mut byte = [0];
    let received =
        recvmsg(stream, &mut [IoSliceMut::new(&mut byte)], &mut control, RecvFlags::CMSG_CLOEXEC)?;
    if received.bytes == 0 {
        return Err(ErrorKind::UnexpectedEof.into());
    }
    let before = into.len();
    for message in control.drain() {
        if let RecvAncillaryMessage::ScmRights(sockets) = message {
            into.extend(sockets);
        }
    }
    if into.len() == before {
        // The kernel gives none when there is no descriptor left.
        return Err(io::Error::other("a message without the sockets that belong to it"));
    }
    Ok(())
}

/// The process whose place this one takes.
#[derive(Debug)]
pub struct Predecessor {
    stream: UnixStream,
}

/// Takes the sockets that the predecessor offers. `stream` is this process's end of the pair.
pub fn inherit(stream: OwnedFd) -> io::Result<(Inherited, Predecessor)> {
    let mut stream = UnixStream::from(stream);
    stream.set_read_timeout(Some(SOCKETS_TIMEOUT))?;
    let mut said = [0; 8];
    stream.read_exact(&mut said)?;
    let count = u32::from_le_bytes([said[4], said[5], said[6], said[7]]) as usize;
    if said[..4] != MAGIC || count > SOCKETS_MAX {
        return Err(ErrorKind::InvalidData.into());
    }
    let mut sockets = Vec::new();
    while sockets.len() < count {
        receive_sockets(&stream, &mut sockets)?;
    }
    Ok((Inherited::new(sockets), Predecessor { stream }))
}

impl Predecessor {
    /// Says that this process serves, and which of the sockets it has: the other one ends.
    pub fn say_ready(mut self, inherited: &Inherited) -> io::Result<()> {
        let mut answer: Vec<u8> = inherited.taken().map(u8::from).collect();
        answer.splice(0..0, header(answer.len()));
        self.stream.write_all(&answer)
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use super::*;
    use base::Address;
    use std::net::TcpListener;

    const LIMIT: Duration = Duration::from_secs(20);

    fn listeners(count: usize) -> (Vec<Address>, Offer) {
        let sockets: Vec<TcpListener> =
            (0..count).map(|_| TcpListener::bind("127.0.0.1:0").unwrap()).collect();
        let addresses = sockets.iter().map(|s| Address::Inet(s.local_addr().unwrap())).collect();
        let purpose = |(pool, socket): (usize, TcpListener)| (Purpose::Pool(pool), socket.into());
        (addresses, Offer { sockets: sockets.into_iter().enumerate().map(purpose).collect() })
    }

    /// More than one message holds, and one that is not wanted.
    #[test]
    fn every_socket_arrives_and_those_not_taken_are_told() {
        let count = BATCH_MAX + 7;
        let (addresses, offer) = listeners(count);
        let (ours, theirs) = UnixStream::pair().unwrap();
        let heir = std::thread::spawn(move || {
            let (mut inherited, predecessor) = inherit(theirs.into()).unwrap();
            let unwanted = &addresses[3];
            for address in addresses.iter().filter(|address| *address != unwanted) {
                assert_eq!(inherited.take(address).len(), 1, "{address}");
                assert!(inherited.take(address).is_empty());
            }
            assert_eq!(inherited.close_rest(), [unwanted.to_string()]);
            predecessor.say_ready(&inherited).unwrap();
        });
        let taken = offer_to(&ours, offer, Instant::now() + LIMIT).unwrap();
        heir.join().unwrap();
        let successor = Successor { pid: 1, taken };
        let wanted: Vec<usize> = (0..count).filter(|index| *index != 3).collect();
        assert_eq!(&*successor.pools(), wanted);
        assert!(!successor.has(Purpose::Statistics));
    }

    fn attempt(program: &str, arguments: &[&str], limit: Duration) -> RestartError {
        let (sender, result) = std::sync::mpsc::channel();
        let mut command = Command::new(program);
        command.args(arguments).stdout(Stdio::null());
        let begun = begin(listeners(1).1, command, limit, move |result| {
            sender.send(result.map(|successor| successor.pid)).unwrap();
        });
        match begun {
            Ok(_) => result.recv_timeout(LIMIT).unwrap().expect_err("it is no successor"),
            Err(error) => error,
        }
    }

    #[test]
    fn a_process_that_does_not_serve_is_told_apart_and_gone() {
        let ended = attempt("sh", &["-c", "exit 7"], LIMIT);
        assert!(matches!(ended, RestartError::Ended(status) if status.code() == Some(7)));
        let absent = attempt("/nonexistent/weir", &[], LIMIT);
        assert!(matches!(absent, RestartError::Start(_)), "{absent}");
        let late = attempt("sleep", &["1000"], Duration::from_millis(50));
        assert!(matches!(late, RestartError::Late(_)), "{late}");
        // It closes its end and goes on.
        let deaf = attempt("sh", &["-c", "exec <&-; exec sleep 1000"], LIMIT);
        assert!(matches!(deaf, RestartError::Nonsense), "{deaf}");
        // It writes to where it should only answer.
        let text = attempt("sh", &["-c", "echo 'listening at last' >&0; exec sleep 1000"], LIMIT);
        assert!(matches!(text, RestartError::Nonsense), "{text}");
    }
}
