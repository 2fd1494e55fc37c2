//! The suite's world for back ends on the kernel: real sockets, over loopback or in the file
//! system.
//!
//! Invariant: addresses are never used twice, so that tests may run side by side.

use std::io::{self, Read, Write};
use std::net::{Ipv4Addr, SocketAddr};
use std::os::fd::OwnedFd;
use std::path::PathBuf;
use std::sync::Once;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

use base::Address;
use socket2::{Domain, SockRef, Socket, Type};

use super::{BaseOptions, Harness, Peer};
use crate::{Counters, EventBase, ListenOptions, listen_socket, socket};

/// Over which kind of socket.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Family {
    /// TCP over loopback.
    Inet,
    /// Unix-domain stream sockets.
    Unix,
}

/// A harness for event bases whose sockets are descriptors.
pub struct Kernel<B> {
    /// Makes the event base.
    pub make: fn(BaseOptions) -> B,
    /// Asks it for its counters.
    pub counters: fn(&B) -> Counters,
    /// Which sockets.
    pub family: Family,
}

impl<B: EventBase<Socket = OwnedFd>> Harness for Kernel<B> {
    type Base = B;
    type Peer = Socket;

    fn base(&self, options: BaseOptions) -> B {
        raise_descriptor_limit();
        (self.make)(options)
    }

    fn pair(&self, small_buffers: bool) -> (OwnedFd, Socket) {
        let (listener, address) = self.listener();
        if small_buffers {
            // Accepted connections inherit it, and the window is chosen when they connect.
            SockRef::from(&listener).set_send_buffer_size(4096).expect("sockets work here");
        }
        let peer = new_socket(&address);
        if small_buffers {
            peer.set_recv_buffer_size(4096).expect("sockets work here");
        }
        peer.connect(&socket::sock_addr(&address).expect("sockets work here"))
            .expect("sockets work here");
        let (ours, _) = SockRef::from(&listener).accept().expect("sockets work here");
        if small_buffers {
            ours.set_send_buffer_size(4096).expect("sockets work here");
        }
        peer.set_nonblocking(true).expect("sockets work here");
        remove(&address);
        (ours.into(), peer)
    }

    fn listener(&self) -> (OwnedFd, Address) {
        let address = match self.family {
            Family::Inet => Address::Inet(SocketAddr::from((Ipv4Addr::LOCALHOST, 0))),
            Family::Unix => Address::Unix(new_path()),
        };
        let listener =
            listen_socket(&address, ListenOptions::default()).expect("sockets work here");
        let address = socket::local_address(&listener).expect("sockets work here");
        (listener, address)
    }

    fn dial(&self, address: &Address) -> Socket {
        let peer = new_socket(address);
        peer.connect(&socket::sock_addr(address).expect("sockets work here"))
            .expect("sockets work here");
        peer.set_nonblocking(true).expect("sockets work here");
        peer
    }

    fn nowhere(&self) -> Address {
        let (listener, address) = self.listener();
        drop(listener);
        address
    }

    fn starved(&self, base: &B) -> u64 {
        (self.counters)(base).starved
    }
}

impl Peer for Socket {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        Write::write(self, bytes)
    }

    fn read(&mut self, into: &mut [u8]) -> io::Result<usize> {
        Read::read(self, into)
    }

    fn end(&mut self) {
        self.shutdown(std::net::Shutdown::Write).expect("sockets work here");
    }

    fn reset(self) {
        // A unix socket does the same when it has unread bytes.
        let _ = self.set_linger(Some(Duration::ZERO));
    }
}

/// Some cases need a thousand descriptors, and they run side by side.
fn raise_descriptor_limit() {
    static ONCE: Once = Once::new();
    ONCE.call_once(|| {
        let mut limit = libc::rlimit { rlim_cur: 0, rlim_max: 0 };
        // SAFETY: `limit` is a valid place to write to, then to read from.
        unsafe {
            libc::getrlimit(libc::RLIMIT_NOFILE, &mut limit);
            limit.rlim_cur = limit.rlim_max.min(1 << 16);
            libc::setrlimit(libc::RLIMIT_NOFILE, &limit);
        }
    });
}

fn new_socket(address: &Address) -> Socket {
    let domain = match address {
        Address::Inet(inet) => Domain::for_address(*inet),
        Address::Unix(_) => Domain::UNIX,
    };
    Socket::new(domain, Type::STREAM, None).expect("sockets work here")
}

fn new_path() -> PathBuf {
    static SERIAL: AtomicU32 = AtomicU32::new(0);
    let serial = SERIAL.fetch_add(1, Ordering::Relaxed);
    let name = format!("weir-conformance-{}-{serial}.socket", std::process::id());
    let path = std::env::temp_dir().join(name);
    let _ = std::fs::remove_file(&path);
    path
}

/// Removes the path that a unix listener leaves.
fn remove(address: &Address) {
    if let Address::Unix(path) = address {
        let _ = std::fs::remove_file(path);
    }
}
