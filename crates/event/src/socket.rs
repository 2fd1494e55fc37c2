//! Sockets: making them, their options, and the few calls that the standard library lacks.
//!
//! No operation here waits, except for the time that a system call takes. Invariant: every
//! descriptor is close-on-exec, and connections stay in blocking mode, since io_uring fails an
//! operation on a non-blocking one where it would wait; the readiness back end says
//! `MSG_DONTWAIT` a call instead.

use std::io;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, FromRawFd, OwnedFd};
use std::os::unix::fs::{FileTypeExt, PermissionsExt};
use std::path::Path;
use std::sync::atomic::{AtomicBool, Ordering};

use base::{Address, SocketError};
use socket2::{Domain, SockAddr, SockRef, Socket, Type};

/// The most sockets that a process may be started with.
const SOCKETS_FROM_START_MAX: i32 = 1024;

/// How to listen.
#[derive(Debug, Clone, Copy)]
pub struct ListenOptions {
    /// Connections that the kernel keeps until they are accepted. 1 to `net.core.somaxconn`.
    pub backlog: u32,
    /// Whether several listeners share the address, each with its own queue. TCP only.
    pub reuse_port: bool,
    /// Whether accepted connections are probed when idle. TCP only.
    pub keepalive: bool,
    /// Access rights of a unix socket's path; `None` leaves what the umask gives.
    pub unix_mode: Option<u32>,
}

impl Default for ListenOptions {
    fn default() -> Self {
        ListenOptions { backlog: 1024, reuse_port: false, keepalive: false, unix_mode: None }
    }
}

/// A listening socket. On Linux accepted connections inherit TCP_NODELAY and keep-alive from it.
///
/// The path of a unix socket is removed first when nobody listens there any more. Errors are
/// those of the system; `AddrInUse` when the path is something else than a dead socket.
pub fn listen_socket(address: &Address, options: ListenOptions) -> io::Result<OwnedFd> {
    let socket = new_socket(address)?;
    match address {
        Address::Inet(_) => {
            socket.set_reuse_address(true)?;
            if options.reuse_port {
                socket.set_reuse_port(true)?;
            }
            socket.set_tcp_nodelay(true)?;
            socket.set_keepalive(options.keepalive)?;
        }
        Address::Unix(path) => remove_stale(path)?,
    }
    socket.bind(&sock_addr(address)?)?;
    if let Address::Unix(path) = address {
        set_mode(path, options.unix_mode)?;
    }
    socket.listen(i32::try_from(options.backlog).unwrap_or(i32::MAX))?;
    Ok(socket.into())
}

/// Listening sockets that whoever started this process has left open for it, from descriptor 3 on,
/// as service managers do. What is no listening socket stays as it is. To be called before anything
/// listens; only the first call gives any.
pub fn sockets_from_start(count: u32) -> Vec<OwnedFd> {
    static CALLED: AtomicBool = AtomicBool::new(false);
    if CALLED.swap(true, Ordering::Relaxed) {
        return Vec::new();
    }
    let take = |number: i32| {
        // SAFETY: only looked at, and not kept, should it be somebody's.
        let seen = unsafe { libc::fcntl(number, libc::F_GETFD) };
        if seen < 0 {
            return None;
        }
        // SAFETY: it is open, and stays so while it is looked at.
        let looked_at = unsafe { BorrowedFd::borrow_raw(number) };
        if !matches!(SockRef::from(&looked_at).is_listener(), Ok(true)) {
            return None;
        }
        // SAFETY: this process has not opened a listening socket yet, so it is one that was left
        // open for it; nobody else here owns it, and it is taken once.
        let socket = unsafe { OwnedFd::from_raw_fd(number) };
        SockRef::from(&socket).set_cloexec(true).ok().map(|()| socket)
    };
    let end = i32::try_from(count).unwrap_or(i32::MAX - 3).saturating_add(3);
    (3..end.min(3 + SOCKETS_FROM_START_MAX)).filter_map(take).collect()
}

/// Where a stream socket listens; `None` for anything else.
pub fn listening_address(socket: &impl AsFd) -> Option<Address> {
    let socket_ref = SockRef::from(socket);
    let listens = matches!(socket_ref.r#type(), Ok(Type::STREAM))
        && matches!(socket_ref.is_listener(), Ok(true));
    if listens { local_address(socket).ok() } else { None }
}

/// Sets the options of a socket that listens on the address already and was opened by another
/// process: what accepted connections inherit, the backlog, and the mode of a path.
pub fn take_over(socket: &impl AsFd, address: &Address, options: ListenOptions) -> io::Result<()> {
    let socket = SockRef::from(socket);
    match address {
        Address::Inet(_) => {
            socket.set_tcp_nodelay(true)?;
            socket.set_keepalive(options.keepalive)?;
        }
        Address::Unix(path) => set_mode(path, options.unix_mode)?,
    }
    socket.listen(i32::try_from(options.backlog).unwrap_or(i32::MAX))
}

fn set_mode(path: &Path, mode: Option<u32>) -> io::Result<()> {
    match mode {
        Some(mode) => std::fs::set_permissions(path, std::fs::Permissions::from_mode(mode)),
        None => Ok(()),
    }
}

/// Where a socket is bound: for listeners on port 0.
pub fn local_address(socket: &impl AsFd) -> io::Result<Address> {
    address_of(SockRef::from(socket).local_addr()?)
}

/// Who is at the other end. A client of a unix socket has no path.
pub fn peer_address(socket: &impl AsFd) -> io::Result<Address> {
    address_of(SockRef::from(socket).peer_addr()?)
}

fn address_of(address: SockAddr) -> io::Result<Address> {
    if let Some(inet) = address.as_socket() {
        return Ok(Address::Inet(inet));
    }
    Ok(Address::Unix(address.as_pathname().unwrap_or(Path::new("")).to_owned()))
}

/// The system's form of an address.
pub(crate) fn sock_addr(address: &Address) -> io::Result<SockAddr> {
    match address {
        Address::Inet(inet) => Ok(SockAddr::from(*inet)),
        Address::Unix(path) => SockAddr::unix(path),
    }
}

/// A socket for a connection to the address, in blocking mode.
pub(crate) fn connection_socket(address: &Address) -> io::Result<OwnedFd> {
    let socket = new_socket(address)?;
    if matches!(address, Address::Inet(_)) {
        socket.set_tcp_nodelay(true)?;
    }
    Ok(socket.into())
}

fn new_socket(address: &Address) -> io::Result<Socket> {
    let domain = match address {
        Address::Inet(inet) => Domain::for_address(*inet),
        Address::Unix(_) => Domain::UNIX,
    };
    // `Socket::new` sets close-on-exec and, where writing to a dead connection raises a signal that
    // no flag of a call prevents, switches the signal off.
    Socket::new(domain, Type::STREAM, None)
}

/// Removes a socket that a dead process left. Anything else stays, and `bind` fails.
fn remove_stale(path: &Path) -> io::Result<()> {
    let Ok(metadata) = std::fs::symlink_metadata(path) else {
        return Ok(());
    };
    if !metadata.file_type().is_socket() {
        return Ok(());
    }
    let probe = Socket::new(Domain::UNIX, Type::STREAM, None)?;
    probe.set_nonblocking(true)?;
    match probe.connect(&SockAddr::unix(path)?) {
        Err(error) if error.kind() == io::ErrorKind::ConnectionRefused => {
            std::fs::remove_file(path)
        }
        _ => Ok(()),
    }
}

/// Accepts one connection. It is in blocking mode.
pub(crate) fn accept(listener: &SockRef<'_>) -> io::Result<OwnedFd> {
    let (socket, _) = listener.accept()?;
    #[cfg(not(target_os = "linux"))]
    {
        socket.set_nonblocking(false)?;
        let _ = socket.set_tcp_nodelay(true);
    }
    Ok(socket.into())
}

/// Accepts whoever waits in the queue of a listener that is about to be closed, and closes it:
/// they would get a reset otherwise. Some may be left when there is no descriptor for them.
pub(crate) fn accept_and_close(listener: OwnedFd, mut accepted: impl FnMut(OwnedFd)) {
    /// More than a queue holds, but clients may come as fast as they are accepted.
    const ACCEPTS_MAX: usize = 1 << 17;
    let socket = SockRef::from(&listener);
    if socket.set_nonblocking(true).is_err() {
        return;
    }
    for _ in 0..ACCEPTS_MAX {
        match accept(&socket) {
            Ok(socket) => accepted(socket),
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => return,
            Err(error) if accept_error(error.raw_os_error().unwrap_or(0)).is_some() => return,
            // This connection's fault only.
            Err(_) => {}
        }
    }
}

/// What to say when accepting fails for good, or `None` when it is only this connection's fault
/// and the next may be accepted at once.
pub(crate) fn accept_error(errno: i32) -> Option<SocketError> {
    match errno {
        libc::ECONNABORTED | libc::EINTR | libc::EAGAIN | libc::EPROTO | libc::EPERM => None,
        // Pending errors of the new connection's network, which accept(2) passes on.
        libc::ENETDOWN | libc::EHOSTDOWN | libc::EHOSTUNREACH | libc::ENETUNREACH => None,
        libc::ENOMEM | libc::ENOBUFS => Some(SocketError::TooManyFiles),
        other => Some(SocketError::from_errno(other)),
    }
}

/// Whether both ends are one socket. When nobody listens on a port of this host, the kernel may
/// give that very port to the socket that connects to it, and the connection succeeds: whoever uses
/// it would read its own requests as responses.
pub(crate) fn is_connected_to_itself(socket: &OwnedFd) -> bool {
    match (local_address(socket), peer_address(socket)) {
        (Ok(Address::Inet(local)), Ok(Address::Inet(peer))) => local == peer,
        _ => false,
    }
}

/// Makes every call that waits on the connection return.
#[cfg(target_os = "linux")]
pub(crate) fn shutdown(socket: &OwnedFd) {
    // It fails when the connection is already gone.
    let _ = SockRef::from(socket).shutdown(std::net::Shutdown::Both);
}

/// To be called before the socket is closed, so that the peer sees the end in good order: a TCP
/// socket that is closed with unread bytes sends a reset, which can destroy the last reply on its
/// way. What has arrived is taken, a bounded amount. What comes later gets a reset all the same,
/// but behind the end of the stream, where the peer's system tells it of the end alone.
pub(crate) fn end_in_order(socket: &OwnedFd) {
    const ROUNDS_MAX: usize = 16;
    // Fails when the peer is gone.
    let _ = SockRef::from(socket).shutdown(std::net::Shutdown::Write);
    let mut scratch = [0; 16 << 10];
    for _ in 0..ROUNDS_MAX {
        match recv(socket.as_fd(), &mut scratch) {
            Ok(size) if size == scratch.len() => {}
            _ => return,
        }
    }
}

/// Receives what is there, without waiting.
pub(crate) fn recv(socket: BorrowedFd<'_>, into: &mut [u8]) -> io::Result<usize> {
    // SAFETY: the pointer and the length are those of a slice that may be written to.
    let result = unsafe {
        libc::recv(socket.as_raw_fd(), into.as_mut_ptr().cast(), into.len(), libc::MSG_DONTWAIT)
    };
    if result < 0 { Err(io::Error::last_os_error()) } else { Ok(result as usize) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_connection_to_itself_is_seen() {
        let socket = Socket::new(Domain::IPV4, Type::STREAM, None).expect("a socket");
        let any_port: std::net::SocketAddr = ([127, 0, 0, 1], 0).into();
        socket.bind(&any_port.into()).expect("a free port");
        let own = socket.local_addr().expect("it is bound");
        socket.connect(&own).expect("the kernel lets it");
        assert!(is_connected_to_itself(&socket.into()));
    }

    #[test]
    fn a_connection_to_another_is_not() {
        let listener = std::net::TcpListener::bind(("127.0.0.1", 0)).expect("a free port");
        let address = listener.local_addr().expect("it is bound");
        let stream = std::net::TcpStream::connect(address).expect("somebody listens");
        assert!(!is_connected_to_itself(&stream.into()));
    }
}
