//! Addresses that swallow what they are sent: sockets of this process that nobody serves.
//!
//! Invariant: a [`Hole`] is what its name says when the constructor returns, and gone when dropped.

use std::io;
use std::net::{SocketAddr, TcpStream};
use std::time::Duration;

use socket2::{Domain, Socket, Type};

use crate::support::until;

/// Connections that are enough to fill the shortest queue.
const FILLERS_MAX: usize = 8;
/// An open port of this machine answers a SYN far sooner.
const UNANSWERED: Duration = Duration::from_millis(900);

pub(crate) struct Hole {
    _listener: Socket,
    _fillers: Vec<TcpStream>,
}

impl Hole {
    /// Accepts connections, since the kernel does, and never reads.
    pub(crate) fn silent(address: SocketAddr) -> Hole {
        Hole { _listener: listen(address, 1024), _fillers: Vec::new() }
    }

    /// Leaves SYNs unanswered, since its queue of connections is full.
    pub(crate) fn deaf(address: SocketAddr) -> Hole {
        let listener = listen(address, 0);
        let mut fillers = Vec::new();
        for _ in 0..FILLERS_MAX {
            match TcpStream::connect_timeout(&address, UNANSWERED) {
                Ok(filler) => fillers.push(filler),
                Err(error) if error.kind() == io::ErrorKind::TimedOut => {
                    return Hole { _listener: listener, _fillers: fillers };
                }
                Err(error) => panic!("a full queue is to be silent: {error}"),
            }
        }
        panic!("the queue has room for more than {FILLERS_MAX} connections");
    }
}

/// Its last user may just have been killed.
fn listen(address: SocketAddr, backlog: i32) -> Socket {
    until(&format!("{address} is free"), || {
        let socket = Socket::new(Domain::IPV4, Type::STREAM, None).expect("a socket is to be had");
        socket.set_reuse_address(true).expect("the socket is good");
        socket.bind(&address.into()).ok()?;
        socket.listen(backlog).expect("it is bound");
        Some(socket)
    })
}
