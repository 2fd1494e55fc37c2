//! The statistics port: whoever connects gets one line of JSON, fresh at that moment.
//!
//! It runs on a thread of its own and asks the workers; a reader that dawdles holds up the next
//! reader only. Invariant: a reader costs at most [`WRITE_TIMEOUT`].

use std::io::{self, Write};
use std::net::{TcpListener, TcpStream};
use std::os::unix::net::{UnixListener, UnixStream};
use std::sync::Arc;
use std::time::Duration;

use base::Address;
use event::{ListenOptions, listen_socket};
use tracing::debug;

use crate::process::Shared;

/// How long a reader may take to take its line.
pub const WRITE_TIMEOUT: Duration = Duration::from_secs(2);

/// A listening socket of either kind.
#[derive(Debug)]
pub(crate) struct StatsListener {
    address: Address,
    socket: Socket,
}

#[derive(Debug)]
enum Socket {
    Inet(TcpListener),
    Unix(UnixListener),
}

impl StatsListener {
    /// Opens it. The path of a unix socket may be one that a dead process has left.
    pub(crate) fn bind(address: &Address) -> io::Result<StatsListener> {
        let (address, socket) = match address {
            Address::Inet(inet) => {
                let listener = TcpListener::bind(inet)?;
                (Address::Inet(listener.local_addr()?), Socket::Inet(listener))
            }
            Address::Unix(_) => {
                let listener = listen_socket(address, ListenOptions::default())?;
                (address.clone(), Socket::Unix(UnixListener::from(listener)))
            }
        };
        Ok(StatsListener { address, socket })
    }

    /// Where it listens.
    pub(crate) fn address(&self) -> &Address {
        &self.address
    }
}

/// Serves readers until the process stops.
pub(crate) fn run(listener: &StatsListener, shared: &Arc<Shared>) {
    loop {
        let served = match &listener.socket {
            Socket::Inet(socket) => socket.accept().and_then(|(reader, _)| {
                reader.set_write_timeout(Some(WRITE_TIMEOUT))?;
                serve(reader, shared)
            }),
            Socket::Unix(socket) => socket.accept().and_then(|(reader, _)| {
                reader.set_write_timeout(Some(WRITE_TIMEOUT))?;
                serve(reader, shared)
            }),
        };
        if shared.is_stopping() {
            if let Address::Unix(path) = &listener.address {
                // Somebody may have removed it already.
                let _ = std::fs::remove_file(path);
            }
            return;
        }
        if let Err(error) = served {
            debug!(%error, "a reader of the statistics left early");
            // Out of descriptors, say: no reason to spin.
            std::thread::park_timeout(Duration::from_millis(10));
        }
    }
}

fn serve(mut reader: impl Write, shared: &Arc<Shared>) -> io::Result<()> {
    if shared.is_stopping() {
        return Ok(());
    }
    reader.write_all(&shared.stats_json())
}

/// Makes a listener that waits for a reader look whether the process stops.
pub(crate) fn wake(address: &Address) {
    // It looks after any connection, also one that could not be made.
    let _ = match address {
        Address::Inet(address) => TcpStream::connect_timeout(address, WRITE_TIMEOUT).map(drop),
        Address::Unix(path) => UnixStream::connect(path).map(drop),
    };
}
