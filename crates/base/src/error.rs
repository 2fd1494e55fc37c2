//! What can go wrong with a socket, in words that do not depend on the platform or its language.

use std::fmt;
use std::io;

/// A failed socket operation. The texts are those of glibc in the C locale, which twemproxy sends
/// to its clients; programs match on them.
#[non_exhaustive]
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum SocketError {
    /// Nobody listens there.
    ConnectionRefused,
    /// The peer ended the connection by force.
    ConnectionReset,
    /// Sent to a connection that the peer has closed.
    BrokenPipe,
    /// The kernel, or our own deadline, gave up.
    TimedOut,
    /// No route to the network.
    NetworkUnreachable,
    /// No route to the host.
    HostUnreachable,
    /// The name could not be resolved.
    HostDown,
    /// The process or the system has no file descriptor left.
    TooManyFiles,
    /// The operation was cancelled because the connection is being closed.
    Cancelled,
    /// Any other error, by its number on this platform.
    Other(i32),
}

impl SocketError {
    /// The text that a client sees.
    pub fn text(self) -> &'static str {
        match self {
            SocketError::ConnectionRefused => "Connection refused",
            SocketError::ConnectionReset => "Connection reset by peer",
            SocketError::BrokenPipe => "Broken pipe",
            SocketError::TimedOut => "Connection timed out",
            SocketError::NetworkUnreachable => "Network is unreachable",
            SocketError::HostUnreachable => "No route to host",
            SocketError::HostDown => "Host is down",
            SocketError::TooManyFiles => "Too many open files",
            SocketError::Cancelled => "Operation canceled",
            SocketError::Other(_) => "unknown",
        }
    }
}

impl From<&io::Error> for SocketError {
    fn from(error: &io::Error) -> SocketError {
        let Some(number) = error.raw_os_error() else {
            return SocketError::Other(0);
        };
        SocketError::from_errno(number)
    }
}

impl SocketError {
    /// The error that has this number on this platform.
    pub fn from_errno(number: i32) -> SocketError {
        match number {
            libc::ECONNREFUSED | libc::ENOENT => SocketError::ConnectionRefused,
            libc::ECONNRESET | libc::ECONNABORTED => SocketError::ConnectionReset,
            libc::EPIPE => SocketError::BrokenPipe,
            libc::ETIMEDOUT => SocketError::TimedOut,
            libc::ENETUNREACH | libc::ENETDOWN => SocketError::NetworkUnreachable,
            libc::EHOSTUNREACH => SocketError::HostUnreachable,
            libc::EHOSTDOWN => SocketError::HostDown,
            libc::EMFILE | libc::ENFILE => SocketError::TooManyFiles,
            libc::ECANCELED => SocketError::Cancelled,
            other => SocketError::Other(other),
        }
    }
}

impl fmt::Display for SocketError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            SocketError::Other(number) => write!(f, "socket error {number}"),
            known => f.write_str(known.text()),
        }
    }
}

impl std::error::Error for SocketError {}
