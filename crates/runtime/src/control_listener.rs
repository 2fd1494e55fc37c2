//! A listening socket of the control side (statistics, monitoring, `weir ctl`), and the threads
//! that serve who connects, some at a time: one that dawdles must not keep others from learning
//! that the process is well.
//!
//! Invariant: a thread ends when it is told to, once the caller that it serves is done with.

use std::io::{self, ErrorKind, Read, Write};
use std::net::{Shutdown, TcpListener, TcpStream};
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::unix::net::{UnixListener, UnixStream};
use std::sync::Arc;
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use base::Address;
use event::{ListenOptions, listen_socket, socket};
use rustix::event::{PollFd, PollFlags, poll};
use tracing::debug;

use crate::listeners::Inherited;

/// A caller may keep the thread waiting for so long at a time.
pub(crate) const PATIENCE: Duration = Duration::from_secs(2);

/// How long a caller may take to take its answer, however slowly it reads.
pub(crate) const WRITE_LIMIT: Duration = Duration::from_secs(10);
/// Bytes that are handed to the system at a time.
const WRITE_SIZE_MAX: usize = 64 << 10;

/// Callers of a listener that are served at a time.
const CALLERS_MAX: usize = 4;

/// Bytes of a caller that are read and thrown away behind an answer.
const REST_SIZE_MAX: usize = 64 << 10;

/// How to listen for operators: only the owner of a unix socket may connect.
pub(crate) const OPERATORS: ListenOptions =
    ListenOptions { backlog: 64, reuse_port: false, keepalive: false, unix_mode: Some(0o600) };

/// A listening socket of either kind.
#[derive(Debug)]
pub(crate) struct Listener {
    address: Address,
    socket: Socket,
}

#[derive(Debug)]
enum Socket {
    Inet(TcpListener),
    Unix(UnixListener),
}

/// Somebody who has connected; reading and writing end after [`PATIENCE`].
pub(crate) enum Stream {
    Inet(TcpStream),
    Unix(UnixStream),
}

impl Listener {
    /// Takes it over, or opens it.
    pub(crate) fn take_or_bind(
        address: &Address,
        options: ListenOptions,
        inherited: &mut Inherited,
    ) -> io::Result<Listener> {
        let socket = match inherited.take(address).pop() {
            Some(socket) => {
                socket::take_over(&socket, address, options)?;
                socket
            }
            None => listen_socket(address, options)?,
        };
        Listener::on(socket)
    }

    /// A socket that listens already.
    pub(crate) fn on(socket: OwnedFd) -> io::Result<Listener> {
        let address = socket::local_address(&socket)?;
        let socket = match address {
            Address::Inet(_) => Socket::Inet(TcpListener::from(socket)),
            Address::Unix(_) => Socket::Unix(UnixListener::from(socket)),
        };
        Ok(Listener { address, socket })
    }

    /// Where it listens.
    pub(crate) fn address(&self) -> &Address {
        &self.address
    }

    fn accept(&self) -> io::Result<Stream> {
        match &self.socket {
            Socket::Inet(socket) => {
                let (stream, _) = socket.accept()?;
                stream.set_nonblocking(false)?;
                stream.set_read_timeout(Some(PATIENCE))?;
                stream.set_write_timeout(Some(PATIENCE))?;
                Ok(Stream::Inet(stream))
            }
            Socket::Unix(socket) => {
                let (stream, _) = socket.accept()?;
                stream.set_nonblocking(false)?;
                stream.set_read_timeout(Some(PATIENCE))?;
                stream.set_write_timeout(Some(PATIENCE))?;
                Ok(Stream::Unix(stream))
            }
        }
    }
}

impl AsFd for Listener {
    fn as_fd(&self) -> BorrowedFd<'_> {
        match &self.socket {
            Socket::Inet(socket) => socket.as_fd(),
            Socket::Unix(socket) => socket.as_fd(),
        }
    }
}

impl Stream {
    /// Writes all of it. Fails when the caller reads nothing for [`PATIENCE`], and when it has not
    /// read enough within `limit`: by a few bytes at a time it could keep the thread for hours.
    pub(crate) fn write_whole(&mut self, mut bytes: &[u8], limit: Duration) -> io::Result<()> {
        let deadline = Instant::now() + limit;
        while !bytes.is_empty() {
            if Instant::now() > deadline {
                return Err(ErrorKind::TimedOut.into());
            }
            match self.write(&bytes[..bytes.len().min(WRITE_SIZE_MAX)])? {
                0 => return Err(ErrorKind::WriteZero.into()),
                size => bytes = &bytes[size..],
            }
        }
        Ok(())
    }

    /// Says that nothing more comes, and throws away what the caller still sends until he closes,
    /// for so long at most: unread bytes would reset the connection, and what was written might be
    /// lost.
    pub(crate) fn finish(&mut self, limit: Duration) -> io::Result<()> {
        self.end()?;
        let deadline = Instant::now() + limit;
        let mut chunk = [0; 4096];
        let mut rest = REST_SIZE_MAX;
        while rest > 0 {
            let left = deadline.saturating_duration_since(Instant::now());
            if left.is_zero() {
                break;
            }
            self.set_read_timeout(left)?;
            match self.read(&mut chunk) {
                Ok(0) => break,
                Ok(size) => rest = rest.saturating_sub(size),
                Err(error) if is_timeout(&error) => break,
                Err(error) => return Err(error),
            }
        }
        Ok(())
    }

    fn end(&self) -> io::Result<()> {
        match self {
            Stream::Inet(stream) => stream.shutdown(Shutdown::Write),
            Stream::Unix(stream) => stream.shutdown(Shutdown::Write),
        }
    }

    fn set_read_timeout(&self, timeout: Duration) -> io::Result<()> {
        match self {
            Stream::Inet(stream) => stream.set_read_timeout(Some(timeout)),
            Stream::Unix(stream) => stream.set_read_timeout(Some(timeout)),
        }
    }
}

/// Whether a read or a write took too long; what that is called depends on the system.
pub(crate) fn is_timeout(error: &io::Error) -> bool {
    matches!(error.kind(), ErrorKind::WouldBlock | ErrorKind::TimedOut)
}

impl Read for Stream {
    fn read(&mut self, bytes: &mut [u8]) -> io::Result<usize> {
        match self {
            Stream::Inet(stream) => stream.read(bytes),
            Stream::Unix(stream) => stream.read(bytes),
        }
    }
}

impl Write for Stream {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        match self {
            Stream::Inet(stream) => stream.write(bytes),
            Stream::Unix(stream) => stream.write(bytes),
        }
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

/// The threads of a listener.
pub(crate) struct Server {
    listener: Arc<Listener>,
    threads: Vec<JoinHandle<()>>,
    /// Closed to end the threads.
    stop: UnixStream,
}

impl Server {
    /// Serves callers from now on. Fails for want of a thread or of descriptors.
    pub(crate) fn start(
        name: &str,
        listener: Listener,
        serve: impl Fn(Stream) -> io::Result<()> + Clone + Send + 'static,
    ) -> io::Result<Server> {
        let (stop, stopped) = UnixStream::pair()?;
        let stopped = Arc::new(stopped);
        // Another process may take the caller that a notice told of.
        match &listener.socket {
            Socket::Inet(socket) => socket.set_nonblocking(true)?,
            Socket::Unix(socket) => socket.set_nonblocking(true)?,
        }
        let listener = Arc::new(listener);
        // Those that run end with `stop` when a further one can't be started.
        let threads = (0..CALLERS_MAX).map(|_| {
            let (watched, stopped) = (Arc::clone(&listener), Arc::clone(&stopped));
            let serve = serve.clone();
            let thread = std::thread::Builder::new().name(name.to_owned());
            thread.spawn(move || run(&watched, &stopped, &serve))
        });
        let threads = threads.collect::<io::Result<_>>()?;
        Ok(Server { listener, threads, stop })
    }

    /// Another hold on the listening socket.
    pub(crate) fn socket(&self) -> io::Result<OwnedFd> {
        self.listener.as_fd().try_clone_to_owned()
    }

    /// Ends it and closes the socket. The path of a unix socket goes, too, unless another process
    /// listens there.
    pub(crate) fn stop(self, handed_over: bool) {
        drop(self.stop);
        for thread in self.threads {
            // If it panicked it has said so.
            let _ = thread.join();
        }
        if let (Address::Unix(path), false) = (&self.listener.address, handed_over) {
            // Somebody may have removed it already.
            let _ = std::fs::remove_file(path);
        }
    }
}

fn run(listener: &Listener, stopped: &UnixStream, serve: &dyn Fn(Stream) -> io::Result<()>) {
    loop {
        let mut watched =
            [PollFd::new(listener, PollFlags::IN), PollFd::new(stopped, PollFlags::IN)];
        let polled = poll(&mut watched, None);
        if !watched[1].revents().is_empty() {
            return;
        }
        let served = polled.map_err(io::Error::from).and_then(|_| serve(listener.accept()?));
        match served {
            Ok(()) => {}
            // Another thread has the caller, or it was gone before it was accepted.
            Err(error) if error.kind() == ErrorKind::WouldBlock => {}
            Err(error) => {
                debug!(%error, "a connection of the control side ended early");
                // Out of descriptors, say: no reason to spin.
                std::thread::park_timeout(Duration::from_millis(10));
            }
        }
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use super::*;

    /// Bytes of the answer: somebody who reads them one by one is busy for a long time.
    const ANSWER_SIZE: usize = 16 << 20;

    #[test]
    fn who_reads_an_answer_byte_by_byte_is_given_up() {
        let (ours, mut callers) = UnixStream::pair().unwrap();
        let reading = std::thread::spawn(move || {
            let mut count = 0;
            while callers.read(&mut [0]).is_ok_and(|size| size > 0) {
                count += 1;
            }
            count
        });
        let mut stream = Stream::Unix(ours);
        let written = stream.write_whole(&vec![b'a'; ANSWER_SIZE], Duration::from_millis(20));
        assert_eq!(written.map_err(|error| error.kind()), Err(ErrorKind::TimedOut));
        drop(stream);
        let count = reading.join().unwrap();
        assert!((1..ANSWER_SIZE).contains(&count), "{count} bytes were read");
    }
}
