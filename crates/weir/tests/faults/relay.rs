//! A stretch of network that can be cut: bytes that pass through this process, or don't.
//!
//! It is for systems on which a test may not make a network of its own. Unlike a cut cable it
//! still takes connections and some bytes, as the kernel does for any process that stands still.
//! Invariant: while it is cut nothing comes out of it.

use std::io::{Read, Write};
use std::net::{Ipv4Addr, Shutdown, SocketAddr, TcpListener, TcpStream};
use std::sync::{Arc, Condvar, Mutex};

pub(crate) struct Relay {
    pub(crate) address: SocketAddr,
    gate: Arc<(Mutex<bool>, Condvar)>,
}

impl Relay {
    /// One that leads to this address.
    pub(crate) fn to(target: SocketAddr) -> Relay {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).expect("there is a free port");
        let address = listener.local_addr().expect("it is bound");
        let gate = Arc::new((Mutex::new(true), Condvar::new()));
        let relay = Relay { address, gate: Arc::clone(&gate) };
        std::thread::spawn(move || {
            for near in listener.incoming().flatten() {
                let Ok(far) = TcpStream::connect(target) else { continue };
                pass(&near, &far, &gate);
                pass(&far, &near, &gate);
            }
        });
        relay
    }

    /// Whether bytes pass from here on.
    pub(crate) fn set_open(&self, is_open: bool) {
        *self.gate.0.lock().unwrap() = is_open;
        self.gate.1.notify_all();
    }
}

/// Passes on bytes of one direction until it ends.
fn pass(from: &TcpStream, to: &TcpStream, gate: &Arc<(Mutex<bool>, Condvar)>) {
    let mut from = from.try_clone().expect("there are descriptors left");
    let mut to = to.try_clone().expect("there are descriptors left");
    let gate = Arc::clone(gate);
    std::thread::spawn(move || {
        let mut bytes = vec![0; 64 << 10];
        while let Ok(size @ 1..) = from.read(&mut bytes) {
            drop(gate.1.wait_while(gate.0.lock().unwrap(), |is_open| !*is_open).unwrap());
            if to.write_all(&bytes[..size]).is_err() {
                break;
            }
        }
        // Either may be gone already.
        let _ = to.shutdown(Shutdown::Both);
        let _ = from.shutdown(Shutdown::Both);
    });
}
