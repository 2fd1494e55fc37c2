//! A listening socket of the control side, and the thread that serves who connects, one after the
//! other.
//!
//! Invariant: the thread ends when it is told to, once the caller that it serves is done with.

use std::io::{self, ErrorKind, Read, Write};
use std::net::{TcpListener, TcpStream};
use std::os::fd::{AsFd, BorrowedFd};
use std::os::unix::net::{UnixListener, UnixStream};
use std::thread::JoinHandle;
use std::time::Duration;

use base::Address;
use event::{ListenOptions, listen_socket};
use rustix::event::{PollFd, PollFlags, poll};
use tracing::debug;

/// A caller may keep the thread waiting for so long at a time.
pub(crate) const PATIENCE: Duration = Duration::from_secs(2);

/// Callers that the kernel holds until they are accepted.
const BACKLOG: u32 = 64;

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
    /// Opens it. A unix socket lets only its owner connect.
    pub(crate) fn bind(address: &Address) -> io::Result<Listener> {
        let options =
            ListenOptions { backlog: BACKLOG, unix_mode: Some(0o600), ..ListenOptions::default() };
        let socket = listen_socket(address, options)?;
        let address = event::socket::local_address(&socket)?;
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
    /// Says that nothing more comes.
    pub(crate) fn end(&self) -> io::Result<()> {
        match self {
            Stream::Inet(stream) => stream.shutdown(std::net::Shutdown::Write),
            Stream::Unix(stream) => stream.shutdown(std::net::Shutdown::Write),
        }
    }
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

/// The thread of a listener.
pub(crate) struct Server {
    address: Address,
    thread: JoinHandle<()>,
    /// Closed to end the thread.
    stop: UnixStream,
}

impl Server {
    /// Serves callers from now on. Fails for want of a thread or of descriptors.
    pub(crate) fn start(
        name: &str,
        listener: Listener,
        mut serve: impl FnMut(Stream) -> io::Result<()> + Send + 'static,
    ) -> io::Result<Server> {
        let (stop, stopped) = UnixStream::pair()?;
        match &listener.socket {
            Socket::Inet(socket) => socket.set_nonblocking(true)?,
            Socket::Unix(socket) => socket.set_nonblocking(true)?,
        }
        let address = listener.address.clone();
        let thread = std::thread::Builder::new()
            .name(name.to_owned())
            .spawn(move || run(&listener, &stopped, &mut serve))?;
        Ok(Server { address, thread, stop })
    }

    /// Ends it and closes the socket.
    pub(crate) fn stop(self) {
        drop(self.stop);
        // If it panicked it has said so.
        let _ = self.thread.join();
        if let Address::Unix(path) = &self.address {
            // Somebody may have removed it already.
            let _ = std::fs::remove_file(path);
        }
    }
}

fn run(listener: &Listener, stopped: &UnixStream, serve: &mut dyn FnMut(Stream) -> io::Result<()>) {
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
            // The caller was gone before it was accepted.
            Err(error) if error.kind() == ErrorKind::WouldBlock => {}
            Err(error) => {
                debug!(%error, "an operator's connection ended early");
                // Out of descriptors, say: no reason to spin.
                std::thread::park_timeout(Duration::from_millis(10));
            }
        }
    }
}
