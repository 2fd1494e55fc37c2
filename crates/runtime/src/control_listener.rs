//! A listening socket of the control side (statistics, monitoring, `weir ctl`), and the thread that
//! serves who connects, one after the other.
//!
//! Invariant: the thread ends when it is told to, once the caller that it serves is done with.

use std::io::{self, ErrorKind, Read, Write};
use std::net::{TcpListener, TcpStream};
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::unix::net::{UnixListener, UnixStream};
use std::sync::Arc;
use std::thread::JoinHandle;
use std::time::Duration;

use base::Address;
use event::{ListenOptions, listen_socket, socket};
use rustix::event::{PollFd, PollFlags, poll};
use tracing::debug;

use crate::listeners::Inherited;

/// A caller may keep the thread waiting for so long at a time.
pub(crate) const PATIENCE: Duration = Duration::from_secs(2);

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
    listener: Arc<Listener>,
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
        // Another process may take the caller that a notice told of.
        match &listener.socket {
            Socket::Inet(socket) => socket.set_nonblocking(true)?,
            Socket::Unix(socket) => socket.set_nonblocking(true)?,
        }
        let listener = Arc::new(listener);
        let watched = Arc::clone(&listener);
        let thread = std::thread::Builder::new()
            .name(name.to_owned())
            .spawn(move || run(&watched, &stopped, &mut serve))?;
        Ok(Server { listener, thread, stop })
    }

    /// Another hold on the listening socket.
    pub(crate) fn socket(&self) -> io::Result<OwnedFd> {
        self.listener.as_fd().try_clone_to_owned()
    }

    /// Ends it and closes the socket. The path of a unix socket goes, too, unless another process
    /// listens there.
    pub(crate) fn stop(self, handed_over: bool) {
        drop(self.stop);
        // If it panicked it has said so.
        let _ = self.thread.join();
        if let (Address::Unix(path), false) = (&self.listener.address, handed_over) {
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
                debug!(%error, "a connection of the control side ended early");
                // Out of descriptors, say: no reason to spin.
                std::thread::park_timeout(Duration::from_millis(10));
            }
        }
    }
}
