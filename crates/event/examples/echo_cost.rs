//! What one small message costs a server on each back end: an echo server in one thread, and a
//! client in another that writes to all connections and then reads from all.
//!
//! Not a benchmark of the proxy. It prints the server thread's processor time a message, and the
//! calls that it took. Usage: `echo_cost uring|readiness|oneshot [CONNECTIONS] [ROUNDS]`.

use std::io::{Read, Write};
use std::net::{Ipv4Addr, SocketAddr, TcpStream};
use std::os::fd::OwnedFd;

use base::{Address, Buffers, Chain, Kind, RecvEnd, Token};
use event::{Counters, Event, EventBase, ListenOptions, Readiness, ReadinessOptions};

fn main() {
    let mut arguments = std::env::args().skip(1);
    let back_end = arguments.next().unwrap_or_else(|| "readiness".to_owned());
    let mut number = |default| {
        arguments.next().map_or(default, |text| text.parse().expect("a number is expected"))
    };
    let (connections, rounds) = (number(16), number(20_000));
    let listener = {
        let address = Address::Inet(SocketAddr::from((Ipv4Addr::LOCALHOST, 0)));
        event::listen_socket(&address, ListenOptions::default()).expect("loopback is there")
    };
    let address = event::socket::local_address(&listener).expect("it is bound");
    let client = std::thread::spawn(move || ping(&address, connections, rounds));
    let counters = match back_end.as_str() {
        #[cfg(target_os = "linux")]
        "uring" => {
            let tier = event::uring_supported().unwrap_or_else(|refused| panic!("{refused}"));
            println!("{tier}");
            let base = event::Uring::new(event::UringOptions::new(tier)).expect("it is supported");
            serve(base, listener, event::Uring::counters)
        }
        "readiness" | "oneshot" => {
            let oneshot = back_end == "oneshot";
            let options = ReadinessOptions { oneshot, ..ReadinessOptions::default() };
            let base = Readiness::new(options).expect("there are descriptors left");
            serve(base, listener, Readiness::counters)
        }
        other => panic!("{other} is no back end here"),
    };
    client.join().expect("the client ends well");
    let messages = (connections * rounds) as f64;
    println!(
        "{back_end}, {connections} connections: {:.2} us of the server a message, {:.3} waits, \
         {:.3} enters",
        thread_time_ns() as f64 / messages / 1000.0,
        counters.waits as f64 / messages,
        counters.enters as f64 / messages,
    );
}

/// Answers until every client is gone.
fn serve<B: EventBase<Socket = OwnedFd>>(
    mut base: B,
    listener: OwnedFd,
    counters: fn(&B) -> Counters,
) -> Counters {
    let mut buffers = Buffers::new();
    let mut pending: Vec<Chain> = Vec::new();
    let mut events = Vec::new();
    let mut open = 0;
    let token = Token::new(Kind::Listener, 0, 0);
    base.listen(token, listener).expect("the listener is new");
    base.accept_start(token);
    loop {
        base.wait(1, None, &mut events).expect("waiting works");
        for event in events.drain(..) {
            match event {
                Event::Accepted { socket, .. } => {
                    let token = Token::new(Kind::Client, pending.len() as u32, 0);
                    pending.push(Chain::new());
                    open += 1;
                    base.adopt(token, socket).expect("the socket is new");
                    base.recv_start(token, usize::MAX);
                }
                Event::Received(token, received) => {
                    let chain = &mut pending[token.index() as usize];
                    chain.push(base.bytes(received), &mut buffers);
                    base.release(received);
                    let chain = std::mem::take(chain);
                    base.send(token, chain);
                }
                Event::Sent(_, mut chain) => chain.recycle(&mut buffers),
                Event::RecvEnd(token, RecvEnd::Eof) => base.close(token),
                Event::Closed(_) => {
                    open -= 1;
                    if open == 0 {
                        return counters(&base);
                    }
                }
                other => panic!("not expected: {other:?}"),
            }
        }
    }
}

fn ping(address: &Address, connections: usize, rounds: usize) {
    let Address::Inet(address) = address else { panic!("it listens on TCP") };
    let mut streams: Vec<TcpStream> = (0..connections)
        .map(|_| TcpStream::connect(address).expect("the server listens"))
        .collect();
    for stream in &streams {
        stream.set_nodelay(true).expect("TCP has it");
    }
    let message = [b'x'; 64];
    let mut got = [0; 64];
    for _ in 0..rounds {
        for stream in &mut streams {
            stream.write_all(&message).expect("the server reads");
        }
        for stream in &mut streams {
            stream.read_exact(&mut got).expect("the server answers");
        }
    }
}

fn thread_time_ns() -> u64 {
    let mut time = libc::timespec { tv_sec: 0, tv_nsec: 0 };
    // SAFETY: `time` is a valid place for the result.
    let result = unsafe { libc::clock_gettime(libc::CLOCK_THREAD_CPUTIME_ID, &mut time) };
    assert_eq!(result, 0, "every supported platform has it");
    time.tv_sec as u64 * 1_000_000_000 + time.tv_nsec as u64
}
