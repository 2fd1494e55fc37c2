//! Whether io_uring may be used here, and which of its features work: found by trying them on a
//! socket pair, since versions say little where vendors carry fixes backwards.
//!
//! It decides nothing about which back end runs. Invariant: a feature is reported only if the very
//! thing that the event base does with it was seen to work.

use std::fmt;
use std::io::{self, Read, Write};
use std::os::fd::AsRawFd;
use std::os::unix::net::UnixStream;
use std::sync::OnceLock;
use std::time::Duration;

use base::{Chain, Kind, Token};

use super::buffer_ring::BufferRing;
use super::operation::{self, Code, Completion, RecvLimit};
use super::queue::{Queue, Sizes};
use super::send::{Send, Spare};
use crate::options::ReceiveBuffers;

/// What works. The texts are for the log.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Tier {
    /// The submission queue needs no array of indices (Linux 6.6).
    pub no_sqarray: bool,
    /// Receives of many connections fill one buffer one behind the other (6.12): fewer cold cache
    /// lines than with a buffer each.
    pub incremental: bool,
    /// A receive operation can be told when to end (6.17). Otherwise a receive with a credit is
    /// started again after each buffer.
    pub recv_limits: bool,
    /// SEND takes an array (6.17), otherwise SENDMSG does.
    pub vectored_send: bool,
    /// The descriptor is registered with its thread (5.18). Not a choice: for the log only.
    pub registered: bool,
    /// An idle worker does not count as waiting for a disk (6.15). Not a choice: for the log only.
    pub no_iowait: bool,
}

impl fmt::Display for Tier {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let word = |has, yes: &'static str, no: &'static str| if has { yes } else { no };
        write!(
            f,
            "multishot accept and receive, {} buffers, {}, {}, {}, {}, {}",
            word(self.incremental, "incremental", "plain"),
            word(self.recv_limits, "receive limits", "no receive limits"),
            word(self.vectored_send, "vectored send", "sendmsg"),
            word(self.no_sqarray, "no index array", "index array"),
            word(self.registered, "registered descriptor", "plain descriptor"),
            word(self.no_iowait, "no iowait", "counts as iowait"),
        )
    }
}

/// Why io_uring is not used, in one line.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Refused(String);

impl fmt::Display for Refused {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl std::error::Error for Refused {}

/// Tries io_uring out, once a process; takes about a millisecond. Call it before threads are
/// started or from any one of them.
pub fn uring_supported() -> Result<Tier, Refused> {
    static RESULT: OnceLock<Result<Tier, Refused>> = OnceLock::new();
    RESULT.get_or_init(self_test).clone()
}

const GROUP: u16 = 0;
const SIZES: Sizes = Sizes { submissions: 16, completions: 64, no_sqarray: true };
const PLAIN: ReceiveBuffers = ReceiveBuffers { count: 8, size: 1024 };

fn self_test() -> Result<Tier, Refused> {
    let (queue, no_sqarray) = set_up()?;
    for code in [io_uring::opcode::AcceptMulti::CODE, io_uring::opcode::Connect::CODE] {
        let known = queue.supports(code).map_err(|error| failed("probing", &error))?;
        if !known {
            return Err(Refused(format!("io_uring does not know operation {code}")));
        }
    }
    let works = |test: fn(&mut SelfTest) -> io::Result<()>| SelfTest::run(no_sqarray, test);
    works(|test| test.multishot(false)).map_err(|error| failed("multishot receive", &error))?;
    Ok(Tier {
        no_sqarray,
        // The order of completions matters here, which Linux before 6.16 could get wrong.
        incremental: works(|test| test.multishot(true)).is_ok()
            && works(SelfTest::incremental_order).is_ok(),
        recv_limits: works(SelfTest::recv_limits).is_ok(),
        vectored_send: works(SelfTest::vectored_send).is_ok(),
        registered: queue.is_descriptor_registered(),
        no_iowait: queue.is_iowait_avoided(),
    })
}

fn failed(what: &str, error: &io::Error) -> Refused {
    Refused(format!("io_uring is there, but {what} does not work ({error}); Linux 6.1 is needed"))
}

fn set_up() -> Result<(Queue, bool), Refused> {
    match Queue::new(SIZES) {
        Ok(queue) => return Ok((queue, true)),
        Err(error) if error.raw_os_error() == Some(libc::EINVAL) => {}
        Err(error) => return Err(refused(&error)),
    }
    match Queue::new(Sizes { no_sqarray: false, ..SIZES }) {
        Ok(queue) => Ok((queue, false)),
        Err(error) => Err(refused(&error)),
    }
}

/// Says why `io_uring_setup` failed.
fn refused(error: &io::Error) -> Refused {
    let sysctl = std::fs::read_to_string("/proc/sys/kernel/io_uring_disabled");
    let disabled = sysctl.as_deref().map(str::trim).unwrap_or("not set");
    let why = match error.raw_os_error() {
        Some(libc::EPERM | libc::EACCES) if matches!(disabled, "1" | "2") => {
            format!("switched off by kernel.io_uring_disabled = {disabled}")
        }
        Some(libc::EPERM | libc::EACCES) => "forbidden by a filter of system calls (seccomp, as \
             container run-times set it) or a security module"
            .to_owned(),
        Some(libc::ENOSYS) => {
            "the kernel does not have it, or a filter of system calls hides it".to_owned()
        }
        Some(libc::ENOMEM) => "no memory for it (see RLIMIT_MEMLOCK, ulimit -l)".to_owned(),
        Some(libc::EINVAL) => "the kernel is too old; Linux 6.1 is needed".to_owned(),
        Some(libc::EMFILE | libc::ENFILE) => "too many open files".to_owned(),
        _ => "unexpected".to_owned(),
    };
    Refused(format!("io_uring_setup failed: {why} ({error})"))
}

struct SelfTest {
    queue: Queue,
}

/// What the tests receive.
struct Got {
    bytes: Vec<u8>,
    more: bool,
}

impl SelfTest {
    /// Each test has an instance of its own, so that what one leaves behind harms no other.
    fn run(no_sqarray: bool, test: fn(&mut SelfTest) -> io::Result<()>) -> io::Result<()> {
        test(&mut SelfTest { queue: Queue::new(Sizes { no_sqarray, ..SIZES })? })
    }

    /// Two messages come out of one operation, and a cancel ends it.
    fn multishot(&mut self, incremental: bool) -> io::Result<()> {
        let mut buffers = BufferRing::new(&self.queue, GROUP, PLAIN, incremental)?;
        let result = self.multishot_with(&mut buffers);
        self.queue.unregister_buffers(GROUP);
        result
    }

    fn multishot_with(&mut self, buffers: &mut BufferRing) -> io::Result<()> {
        let (ours, mut theirs) = UnixStream::pair()?;
        self.recv(&ours, RecvLimit::None, 1);
        for message in [&b"one"[..], b"three"] {
            theirs.write_all(message)?;
            let got = self.received(buffers, 1)?;
            check(got.more && got.bytes == message, "a multishot receive")?;
        }
        self.queue.push(operation::cancel(user_data(1)));
        let last = self.complete(1)?;
        check(last.result == -libc::ECANCELED && !last.more(), "a cancel")
    }

    /// Two operations that fill one buffer complete in the order in which they filled it, also
    /// when one of them ends.
    fn incremental_order(&mut self) -> io::Result<()> {
        let mut buffers = BufferRing::new(&self.queue, GROUP, PLAIN, true)?;
        let result = self.incremental_order_with(&mut buffers);
        self.queue.unregister_buffers(GROUP);
        result
    }

    fn incremental_order_with(&mut self, buffers: &mut BufferRing) -> io::Result<()> {
        let (single, mut to_single) = UnixStream::pair()?;
        let (multi, mut to_multi) = UnixStream::pair()?;
        self.recv(&single, RecvLimit::Once(100), 1);
        self.recv(&multi, RecvLimit::None, 2);
        self.queue.flush()?;
        to_single.write_all(b"first")?;
        to_multi.write_all(b"second!")?;
        self.queue.enter(2, Some(TIMEOUT))?;
        for _ in 0..2 {
            let completion = self.next()?;
            let (_, token, _) = Code::parse(completion.user_data);
            let got = take(buffers, completion)?;
            let expected: &[u8] = if token.index() == 1 { b"first" } else { b"second!" };
            check(got.bytes == expected, "the order of incremental buffers")?;
        }
        self.queue.push(operation::cancel(user_data(2)));
        self.complete(2).map(drop)
    }

    /// An operation that takes 100 at a time and 250 in all takes 300 of 400.
    fn recv_limits(&mut self) -> io::Result<()> {
        let mut buffers = BufferRing::new(&self.queue, GROUP, PLAIN, false)?;
        let result = self.recv_limits_with(&mut buffers);
        self.queue.unregister_buffers(GROUP);
        result
    }

    fn recv_limits_with(&mut self, buffers: &mut BufferRing) -> io::Result<()> {
        let (ours, mut theirs) = UnixStream::pair()?;
        theirs.write_all(&[7; 400])?;
        self.recv(&ours, RecvLimit::Total { each: 100, total: 250 }, 1);
        for more in [true, true, false] {
            let got = self.received(buffers, 1)?;
            check(got.bytes.len() == 100 && got.more == more, "a limited receive")?;
        }
        Ok(())
    }

    fn vectored_send(&mut self) -> io::Result<()> {
        let (ours, mut theirs) = UnixStream::pair()?;
        theirs.set_read_timeout(Some(TIMEOUT))?;
        let mut buffers = base::Buffers::new();
        let mut chain = Chain::new();
        chain.push(b"head", &mut buffers);
        chain.push_owned(vec![b'x'; base::chain::OWNED_SIZE_MIN], &mut buffers);
        let expected = chain.to_vec();
        let (mut send, mut spare) = (Send::new(chain), Spare::default());
        self.queue.push(send.entry(ours.as_raw_fd(), true, &mut spare, user_data(1)));
        let result = self.complete(1)?.result;
        check(result == expected.len() as i32, "a vectored send")?;
        let mut got = vec![0; expected.len()];
        theirs.read_exact(&mut got)?;
        check(got == expected, "a vectored send")
    }

    fn recv(&mut self, socket: &UnixStream, limit: RecvLimit, index: u32) {
        self.queue.push(operation::recv(socket.as_raw_fd(), GROUP, limit, user_data(index)));
    }

    fn received(&mut self, buffers: &mut BufferRing, index: u32) -> io::Result<Got> {
        let completion = self.complete(index)?;
        take(buffers, completion)
    }

    /// The next completion, which must be of the given operation.
    fn complete(&mut self, index: u32) -> io::Result<Completion> {
        let completion = self.next()?;
        check(completion.user_data == user_data(index), "the order of completions")?;
        Ok(completion)
    }

    fn next(&mut self) -> io::Result<Completion> {
        if self.queue.ready() == 0 {
            self.queue.enter(1, Some(TIMEOUT))?;
        }
        self.queue.next().ok_or_else(|| io::Error::other("nothing happened"))
    }
}

/// Everything here happens at once or not at all.
const TIMEOUT: Duration = Duration::from_secs(1);

fn user_data(index: u32) -> u64 {
    Code::Recv.user_data(Token::new(Kind::Client, index, 0))
}

fn take(buffers: &mut BufferRing, completion: Completion) -> io::Result<Got> {
    if completion.result < 0 {
        return Err(io::Error::from_raw_os_error(-completion.result));
    }
    let (id, more) = completion.buffer().ok_or_else(|| io::Error::other("no buffer"))?;
    let size = completion.result as u32;
    let offset = buffers.take(id, size, more);
    let bytes = buffers.bytes(id, offset, size).to_vec();
    buffers.release(id);
    Ok(Got { bytes, more: completion.more() })
}

fn check(right: bool, what: &str) -> io::Result<()> {
    if right { Ok(()) } else { Err(io::Error::other(format!("{what} went wrong"))) }
}
