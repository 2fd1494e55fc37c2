//! One epoll wait on a poller's own descriptor; why is said in [`super::waiter`].
//!
//! It registers nothing. Invariant: it is used only if the self-test in [`Direct::new`] has seen
//! a key come back as the event's data.

use std::io::{self, Write};
use std::os::fd::AsRawFd;
use std::os::unix::net::UnixStream;
use std::time::Duration;

use base::{Kind, Token};
use polling::{Event, PollMode, Poller};

use super::waiter::Notice;

/// The key that polling uses for its own descriptors, and refuses for others.
const NOTIFIER: u64 = usize::MAX as u64;

pub(super) struct Direct {
    ready: Box<[libc::epoll_event]>,
    /// Whether the kernel has epoll_pwait2 (5.11) and no filter of system calls forbids it.
    precise: bool,
}

impl Direct {
    /// `None` when the poller's registrations are not what we expect.
    pub(super) fn new(poller: &Poller, notices_max: usize) -> Option<Direct> {
        let empty = libc::epoll_event { events: 0, u64: 0 };
        let ready = vec![empty; notices_max].into_boxed_slice();
        let mut direct = Direct { ready, precise: true };
        direct.self_test(poller).ok().flatten().map(|()| direct)
    }

    fn self_test(&mut self, poller: &Poller) -> io::Result<Option<()>> {
        let (ours, mut theirs) = UnixStream::pair()?;
        let token = Token::new(Kind::Server, 0x1234_5678, 0x9_abcd);
        // SAFETY: removed below, before it is closed.
        unsafe {
            let interest = Event::readable(token.to_bits() as usize);
            poller.add_with_mode(&ours, interest, PollMode::Level)?;
        }
        theirs.write_all(b"x")?;
        let mut notices = Vec::new();
        let result = self.wait(poller, Some(Duration::ZERO), &mut notices);
        poller.delete(&ours)?;
        let notified = result?;
        let [Notice { token: got, readable: true, writable: false }] = notices[..] else {
            return Ok(None);
        };
        Ok((got == token && !notified).then_some(()))
    }

    /// Waits once. Whether the notifier was used, which has to be cleared then.
    pub(super) fn wait(
        &mut self,
        poller: &Poller,
        timeout: Option<Duration>,
        notices: &mut Vec<Notice>,
    ) -> io::Result<bool> {
        let mut timeout = timeout;
        let count = loop {
            match self.wait_call(poller.as_raw_fd(), timeout) {
                Ok(count) => break count,
                // The process may have been stopped for long: what came meanwhile is told.
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {
                    timeout = Some(Duration::ZERO);
                }
                Err(error) => return Err(error),
            }
        };
        const READABLE: u32 =
            (libc::EPOLLIN | libc::EPOLLPRI | libc::EPOLLHUP | libc::EPOLLERR) as u32;
        const WRITABLE: u32 = (libc::EPOLLOUT | libc::EPOLLHUP | libc::EPOLLERR) as u32;
        let mut notified = false;
        for event in &self.ready[..count] {
            let (key, events) = (event.u64, event.events);
            if key == NOTIFIER {
                notified = true;
                continue;
            }
            notices.push(Notice {
                token: Token::from_bits(key),
                readable: events & READABLE != 0,
                writable: events & WRITABLE != 0,
            });
        }
        Ok(notified)
    }

    fn wait_call(&mut self, fd: i32, timeout: Option<Duration>) -> io::Result<usize> {
        if self.precise {
            let time = timeout.map(|timeout| libc::timespec {
                tv_sec: timeout.as_secs().min(i32::MAX as u64) as _,
                tv_nsec: timeout.subsec_nanos() as _,
            });
            let time_pointer = time.as_ref().map_or(std::ptr::null(), std::ptr::from_ref);
            // SAFETY: the array has room for as many events as are asked for; the time is on the
            // stack; the mask is absent.
            let result = unsafe {
                libc::syscall(
                    libc::SYS_epoll_pwait2,
                    fd,
                    self.ready.as_mut_ptr(),
                    self.ready.len() as i32,
                    time_pointer,
                    std::ptr::null::<libc::sigset_t>(),
                    0usize,
                )
            };
            if result >= 0 {
                return Ok(result as usize);
            }
            let error = io::Error::last_os_error();
            if !matches!(error.raw_os_error(), Some(libc::ENOSYS | libc::EPERM)) {
                return Err(error);
            }
            self.precise = false;
        }
        // Rounded up: a turn that comes too early would come again and again.
        let milliseconds = timeout.map_or(-1, |timeout| {
            timeout.as_nanos().div_ceil(1_000_000).min(i32::MAX as u128) as i32
        });
        // SAFETY: the array has room for as many events as are asked for.
        let result = unsafe {
            libc::epoll_wait(fd, self.ready.as_mut_ptr(), self.ready.len() as i32, milliseconds)
        };
        if result < 0 { Err(io::Error::last_os_error()) } else { Ok(result as usize) }
    }
}
