//! Where a socket listens or connects to.

use std::fmt;
use std::net::SocketAddr;
use std::path::PathBuf;

/// An internet or a unix-domain address. Names are resolved before it is made.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub enum Address {
    /// TCP over IPv4 or IPv6.
    Inet(SocketAddr),
    /// A path in the file system, below [`Address::PATH_SIZE_MAX`] bytes.
    Unix(PathBuf),
}

impl Address {
    /// `sun_path` holds 108 bytes on Linux, the last of them a NUL.
    pub const PATH_SIZE_MAX: usize = 107;
}

/// The host of an address as it is typed, `[::1]` or `::1`.
pub fn without_brackets(host: &str) -> &str {
    host.strip_prefix('[').and_then(|rest| rest.strip_suffix(']')).unwrap_or(host)
}

impl fmt::Display for Address {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Address::Inet(address) => write!(f, "{address}"),
            Address::Unix(path) => write!(f, "{}", path.display()),
        }
    }
}
