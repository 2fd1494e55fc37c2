//! A scripted server: to each request it says what it was told to say, right or wrong.
//!
//! It takes whatever comes in one read for one request, so it is for clients that wait for each
//! reply. Invariant: its port is its own from the start, also while it refuses connections.

use std::io::{Read, Write};
use std::net::{Ipv4Addr, Shutdown, SocketAddr, TcpListener, TcpStream};
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use socket2::{Domain, Socket, Type};

use super::servers::Kind;

/// What it does with a request.
#[derive(Debug, Clone)]
pub(crate) struct Act {
    /// Sent as it is.
    pub(crate) says: Vec<u8>,
    /// What becomes of the connection then.
    pub(crate) then: Then,
    /// Whether each byte is sent on its own.
    pub(crate) trickles: bool,
}

/// What becomes of a connection.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Then {
    GoesOn,
    Closes,
    /// It says no more, and reads on.
    ClosesItsHalf,
    /// It is torn down, and what is on its way is lost.
    Resets,
}

impl Act {
    pub(crate) fn says(bytes: impl Into<Vec<u8>>) -> Act {
        Act::says_and(bytes, Then::GoesOn)
    }

    pub(crate) fn says_and_closes(bytes: impl Into<Vec<u8>>) -> Act {
        Act::says_and(bytes, Then::Closes)
    }

    pub(crate) fn says_and(bytes: impl Into<Vec<u8>>, then: Then) -> Act {
        Act { says: bytes.into(), then, trickles: false }
    }

    pub(crate) fn trickles(bytes: impl Into<Vec<u8>>) -> Act {
        Act { trickles: true, ..Act::says(bytes) }
    }

    /// It reads the request, and that is all.
    pub(crate) fn hangs() -> Act {
        Act::says("")
    }

    /// As a good server answers a `get` of a key that it does not have.
    pub(crate) fn is_well(kind: Kind) -> Act {
        Act::says(kind.missing())
    }
}

struct Shared {
    act: Mutex<Act>,
    /// What it does with a connection that it accepts.
    greeting: Mutex<Act>,
    connections: Mutex<Vec<TcpStream>>,
    requests_count: AtomicUsize,
    bytes_count: AtomicUsize,
    stop: AtomicBool,
}

pub(crate) struct Fake {
    pub(crate) address: SocketAddr,
    shared: Arc<Shared>,
    /// Bound, and not listening yet.
    refusing: Option<Socket>,
}

impl Fake {
    /// One that serves.
    pub(crate) fn start(act: Act) -> Fake {
        let mut fake = Fake::refusing(act);
        fake.listen();
        fake
    }

    /// One that refuses connections until [`Fake::listen`].
    pub(crate) fn refusing(act: Act) -> Fake {
        let socket = Socket::new(Domain::IPV4, Type::STREAM, None).expect("a socket is to be had");
        let any = SocketAddr::from((Ipv4Addr::LOCALHOST, 0));
        socket.bind(&any.into()).expect("there is a free port");
        let address = socket.local_addr().expect("it is bound").as_socket().expect("inet");
        let shared = Arc::new(Shared {
            act: Mutex::new(act),
            greeting: Mutex::new(Act::says("")),
            connections: Mutex::default(),
            requests_count: AtomicUsize::new(0),
            bytes_count: AtomicUsize::new(0),
            stop: AtomicBool::new(false),
        });
        Fake { address, shared, refusing: Some(socket) }
    }

    /// Accepts connections from here on.
    pub(crate) fn listen(&mut self) {
        let socket = self.refusing.take().expect("it refused so far");
        socket.listen(64).expect("it is bound");
        let listener = TcpListener::from(socket);
        let shared = Arc::clone(&self.shared);
        std::thread::spawn(move || {
            for stream in listener.incoming().flatten() {
                if shared.stop.load(Ordering::Relaxed) {
                    return;
                }
                let copy = stream.try_clone().expect("there are descriptors left");
                shared.connections.lock().unwrap().push(copy);
                let shared = Arc::clone(&shared);
                std::thread::spawn(move || serve(stream, &shared));
            }
        });
    }

    /// What it does from here on, on connections that are open too.
    pub(crate) fn now(&self, act: Act) {
        *self.shared.act.lock().unwrap() = act;
    }

    /// What it does from here on with each connection before anything is asked there.
    pub(crate) fn greets_with(&self, act: Act) {
        *self.shared.greeting.lock().unwrap() = act;
    }

    /// Requests that have come so far.
    pub(crate) fn requests_count(&self) -> usize {
        self.shared.requests_count.load(Ordering::Relaxed)
    }

    /// Bytes that have been asked so far.
    pub(crate) fn bytes_count(&self) -> usize {
        self.shared.bytes_count.load(Ordering::Relaxed)
    }

    /// Connections that it has accepted since it was started anew.
    pub(crate) fn connections_count(&self) -> usize {
        self.shared.connections.lock().unwrap().len()
    }

    /// As a server that was started anew: its connections are gone.
    pub(crate) fn restart(&self, act: Act) {
        self.now(act);
        for stream in self.shared.connections.lock().unwrap().drain(..) {
            // The peer may have closed it.
            let _ = stream.shutdown(Shutdown::Both);
        }
    }

    /// Says something that nobody has asked for just now, on every connection.
    pub(crate) fn says_late(&self, bytes: &[u8]) {
        for mut stream in self.shared.connections.lock().unwrap().iter() {
            // The peer may have closed it.
            let _ = stream.write_all(bytes);
        }
    }
}

impl Drop for Fake {
    fn drop(&mut self) {
        self.shared.stop.store(true, Ordering::Relaxed);
        // Wakes the thread that accepts, if there is one.
        let _ = TcpStream::connect(self.address);
    }
}

fn serve(mut stream: TcpStream, shared: &Shared) {
    let greeting = shared.greeting.lock().unwrap().clone();
    if !does(&mut stream, &greeting, shared) {
        return;
    }
    let mut request = vec![0; 64 << 10];
    while let Ok(size @ 1..) = stream.read(&mut request) {
        shared.bytes_count.fetch_add(size, Ordering::Relaxed);
        shared.requests_count.fetch_add(1, Ordering::Relaxed);
        let act = shared.act.lock().unwrap().clone();
        if !does(&mut stream, &act, shared) {
            return;
        }
    }
}

/// Whether the connection can go on.
fn does(stream: &mut TcpStream, act: &Act, shared: &Shared) -> bool {
    let size = if act.trickles { 1 } else { act.says.len().max(1) };
    stream.set_nodelay(true).expect("the socket lives");
    // The peer may close at any word that it does not like.
    let is_taken = act.says.chunks(size).all(|piece| stream.write_all(piece).is_ok());
    match act.then {
        Then::GoesOn => return is_taken,
        Then::Closes => drop(stream.shutdown(Shutdown::Both)),
        Then::ClosesItsHalf => return stream.shutdown(Shutdown::Write).is_ok(),
        Then::Resets => {
            let peer = stream.peer_addr().ok();
            shared.connections.lock().unwrap().retain(|copy| copy.peer_addr().ok() != peer);
            // Without lingering the last copy is closed with a reset.
            let _ = socket2::SockRef::from(&*stream).set_linger(Some(Duration::ZERO));
        }
    }
    false
}
