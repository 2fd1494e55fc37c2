//! What must hold while connections are open. Each function is one case; its name says what holds.

use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

use base::{Address, Kind, RecvEnd, SocketError};

use super::driver::{Driver, chain_of, pattern};
use super::{BaseOptions, Harness, Peer};
use crate::{AcceptEnd, Event, EventBase, ReceiveBuffers, Waker};

const ONE: usize = usize::MAX;

fn driver<H: Harness>(harness: &H) -> Driver<H::Base> {
    Driver::new(harness.base(BaseOptions::default()))
}

/// Bytes of writes of many sizes come in stream order.
pub fn received_bytes_keep_their_order<H: Harness>(harness: &H) {
    let mut driver = driver(harness);
    let (token, mut peer) = driver.pair(harness, Kind::Client, false);
    driver.recv_start(token, usize::MAX);
    let mut all = Vec::new();
    for size in [1, 2, 63, 64, 65, 1000, 4095, 4096, 4097, 16_384, 16_385, 70_000, 500_000, 1] {
        let bytes = pattern(size, size as u32);
        driver.peer_writes(&mut peer, &bytes);
        all.extend_from_slice(&bytes);
        driver.until_received(token, all.len());
    }
    assert!(driver.received[&token] == all);
    assert!(driver.is_running(token, "recv"), "{:?}", driver.recv_ends);
}

/// 32 MiB through a small socket buffer.
pub fn a_large_send_arrives_whole<H: Harness>(harness: &H) {
    let mut driver = driver(harness);
    let (token, mut peer) = driver.pair(harness, Kind::Client, false);
    let bytes = pattern(32 << 20, 1);
    driver.send(token, &bytes, ONE);
    assert!(driver.peer_reads(&mut peer, bytes.len()) == bytes);
    driver.until("the send ends", |driver| !driver.is_running(token, "send"));
    assert_eq!(driver.sent[0].1.len(), bytes.len());
}

/// More slices than one system call takes.
pub fn a_send_of_many_slices_arrives_in_order<H: Harness>(harness: &H) {
    let mut driver = driver(harness);
    let (token, mut peer) = driver.pair(harness, Kind::Server, false);
    let bytes = pattern(2500 * 4096 + 4097, 1);
    driver.send(token, &bytes, 4096);
    assert!(driver.peer_reads(&mut peer, bytes.len()) == bytes);
    driver.until("the send ends", |driver| !driver.is_running(token, "send"));
    assert!(driver.sent[0].1.to_vec() == bytes, "the chain comes back as it was given");
}

/// One after the other, in one slice and in several.
pub fn sends_of_many_sizes_arrive_in_order<H: Harness>(harness: &H) {
    let mut driver = driver(harness);
    let (token, mut peer) = driver.pair(harness, Kind::Client, true);
    for (serial, size) in [1, 10, 4096, 4097, 8192, 20_000, 100_001, 1].into_iter().enumerate() {
        let bytes = pattern(size, serial as u32);
        driver.send(token, &bytes, if serial % 2 == 0 { 4096 } else { ONE });
        assert!(driver.peer_reads(&mut peer, size) == bytes);
        driver.until("the send ends", |driver| !driver.is_running(token, "send"));
        assert_eq!(driver.sent.len(), serial + 1);
    }
}

/// A send waits while the peer reads nothing, other connections do not, and it ends when the peer
/// reads.
pub fn a_send_that_is_blocked_goes_on<H: Harness>(harness: &H) {
    let mut driver = driver(harness);
    let (blocked, mut slow_peer) = driver.pair(harness, Kind::Client, true);
    let (other, mut other_peer) = driver.pair(harness, Kind::Client, true);
    let bytes = pattern(4 << 20, 3);
    driver.send(blocked, &bytes, 64 << 10);
    for serial in 0..10 {
        let small = pattern(100, serial);
        driver.send(other, &small, ONE);
        assert!(driver.peer_reads(&mut other_peer, 100) == small);
        driver.until("the small send ends", |driver| !driver.is_running(other, "send"));
    }
    assert!(driver.is_running(blocked, "send"), "4 MiB do not fit the socket's buffers");
    assert!(driver.peer_reads(&mut slow_peer, bytes.len()) == bytes);
    driver.until("the send ends", |driver| !driver.is_running(blocked, "send"));
    assert!(driver.send_failed.is_empty());
}

/// A peer that writes no more can still be answered.
pub fn the_end_of_the_stream_is_told_once_and_sending_still_works<H: Harness>(harness: &H) {
    let mut driver = driver(harness);
    let (token, mut peer) = driver.pair(harness, Kind::Client, false);
    driver.recv_start(token, usize::MAX);
    driver.peer_writes(&mut peer, b"last words");
    peer.end();
    driver.until("the end is told", |driver| !driver.recv_ends.is_empty());
    assert_eq!(driver.received[&token], b"last words");
    assert_eq!(driver.recv_ends, [(token, RecvEnd::Eof)]);
    for answer in [&b"first"[..], b"second"] {
        driver.send(token, answer, ONE);
        assert_eq!(driver.peer_reads(&mut peer, answer.len()), answer);
        driver.until("the send ends", |driver| !driver.is_running(token, "send"));
    }
    driver.recv_start(token, usize::MAX);
    driver.until("the end is told again", |driver| driver.recv_ends.len() == 2);
    assert_eq!(driver.recv_ends[1], (token, RecvEnd::Eof));
}

/// A peer that goes away by force.
pub fn a_reset_ends_a_blocked_send_and_a_receive<H: Harness>(harness: &H) {
    let mut driver = driver(harness);
    let (token, mut peer) = driver.pair(harness, Kind::Server, true);
    driver.recv_start(token, usize::MAX);
    driver.send(token, &pattern(8 << 20, 3), 1 << 20);
    driver.peer_reads(&mut peer, 1);
    peer.reset();
    driver.until("both end", |driver| {
        !driver.is_running(token, "send") && !driver.is_running(token, "recv")
    });
    let error = driver.send_failed[0].1;
    assert!(matches!(error, SocketError::ConnectionReset | SocketError::BrokenPipe), "{error:?}");
    assert!(driver.sent.is_empty());
    let end = driver.recv_ends[0].1;
    assert!(matches!(end, RecvEnd::Error(SocketError::ConnectionReset) | RecvEnd::Eof), "{end:?}");
    driver.close(token);
    driver.until_closed(token);
}

/// To a listener, and bytes pass both ways.
pub fn connecting_succeeds<H: Harness>(harness: &H) {
    let mut driver = driver(harness);
    let (socket, address) = harness.listener();
    let listener = driver.token(Kind::Listener);
    driver.base.listen(listener, socket).expect("the listener is new");
    driver.accept_start(listener);
    let near = driver.token(Kind::Server);
    driver.connect(near, &address);
    driver.until("both are connected", |driver| {
        !driver.connects.is_empty() && !driver.accepted.is_empty()
    });
    assert_eq!(driver.connects, [(near, Ok(()))]);
    let socket = driver.accepted.pop().expect("it has ended");
    let far = driver.adopt(Kind::Client, socket);
    driver.recv_start(near, usize::MAX);
    driver.recv_start(far, usize::MAX);
    driver.send(near, b"ping", ONE);
    driver.until_received(far, 4);
    driver.send(far, b"pong!", ONE);
    driver.until_received(near, 5);
    assert_eq!(driver.received[&far], b"ping");
    assert_eq!(driver.received[&near], b"pong!");
}

/// The failure is told, and the token must still be closed.
pub fn connecting_to_nobody_fails<H: Harness>(harness: &H) {
    let mut driver = driver(harness);
    let token = driver.token(Kind::Server);
    driver.connect(token, &harness.nowhere());
    driver.until("connecting ends", |driver| !driver.connects.is_empty());
    assert_eq!(driver.connects, [(token, Err(SocketError::ConnectionRefused))]);
    driver.close(token);
    driver.until_closed(token);
}

/// As if nobody listened.
pub fn connecting_to_a_path_that_does_not_exist_fails<H: Harness>(harness: &H) {
    let mut driver = driver(harness);
    let token = driver.token(Kind::Server);
    driver.connect(token, &Address::Unix("/nowhere/at/all.socket".into()));
    driver.until("connecting ends", |driver| !driver.connects.is_empty());
    assert_eq!(driver.connects, [(token, Err(SocketError::ConnectionRefused))]);
    driver.close(token);
    driver.until_closed(token);
}

/// What was asked for is received to the byte, whether it comes at once or in pieces, and the next
/// credit takes up where it ended.
pub fn a_credit_that_ends_with_the_bytes_ends_exactly<H: Harness>(harness: &H) {
    let mut driver = driver(harness);
    let (token, mut peer) = driver.pair(harness, Kind::Client, false);
    let mut all = Vec::new();
    for (serial, size) in [1, 100, 4096, 16_384, 50_000, 16_384, 3].into_iter().enumerate() {
        let bytes = pattern(size, serial as u32);
        let before_the_bytes = serial % 2 == 0;
        if before_the_bytes {
            driver.recv_start(token, size);
            driver.turn();
        }
        let (head, tail) = bytes.split_at(size / 2);
        driver.peer_writes(&mut peer, head);
        driver.peer_writes(&mut peer, tail);
        if !before_the_bytes {
            driver.recv_start(token, size);
        }
        driver.until("the credit ends", |driver| driver.recv_ends.len() == serial + 1);
        all.extend_from_slice(&bytes);
        assert_eq!(driver.recv_ends[serial], (token, RecvEnd::Credit));
        assert!(driver.received[&token] == all, "credit {size}");
    }
}

/// It takes the credit and less than one buffer more; then nothing until the next one.
pub fn a_credit_smaller_than_what_is_there_stops_in_time<H: Harness>(harness: &H) {
    let options = BaseOptions::default();
    let mut driver = Driver::new(harness.base(options));
    let (token, mut peer) = driver.pair(harness, Kind::Client, false);
    let bytes = pattern(200_000, 9);
    driver.peer_writes(&mut peer, &bytes);
    let mut rounds = 0;
    while driver.received_size(token) < bytes.len() {
        let credit = [1, 1000, 20_000][rounds % 3].min(bytes.len() - driver.received_size(token));
        let before = driver.received_size(token);
        driver.recv_start(token, credit);
        driver.until("the credit ends", |driver| driver.recv_ends.len() == rounds + 1);
        let got = driver.received_size(token) - before;
        assert_eq!(driver.recv_ends[rounds], (token, RecvEnd::Credit));
        assert!(got >= credit, "{got} of {credit}");
        assert!(got <= credit + options.client_buffers.size as usize, "{got} of {credit}");
        driver.turn();
        assert_eq!(driver.received_size(token), before + got, "nothing without a credit");
        rounds += 1;
    }
    assert!(driver.received[&token] == bytes);
}

/// Bytes that are there or come while the operation is stopped are received by the next one.
pub fn stopping_a_receive_loses_nothing<H: Harness>(harness: &H) {
    let mut driver = driver(harness);
    let (token, mut peer) = driver.pair(harness, Kind::Client, false);
    let mut all = Vec::new();
    for serial in 0..100 {
        driver.recv_start(token, usize::MAX);
        if serial % 3 > 0 {
            driver.turn_until(Some(driver.base.now()));
        }
        let bytes = pattern(1 + serial * 37, serial as u32);
        driver.peer_writes(&mut peer, &bytes);
        all.extend_from_slice(&bytes);
        driver.base.recv_stop(token);
        driver.base.recv_stop(token);
        driver.until("the receive ends", |driver| driver.recv_ends.len() == serial + 1);
        assert_eq!(driver.recv_ends[serial], (token, RecvEnd::Stopped));
    }
    driver.recv_start(token, usize::MAX);
    driver.until_received(token, all.len());
    assert!(driver.received[&token] == all);
}

/// When the clients' buffers are used up, all clients get their bytes nevertheless, and a server's
/// reply waits for none of them.
pub fn starved_clients_are_served_in_turn_and_servers_do_not_wait<H: Harness>(harness: &H) {
    let client_buffers = ReceiveBuffers { count: 2, size: 1024 };
    let options = BaseOptions { client_buffers, ..BaseOptions::default() };
    let mut driver = Driver::new(harness.base(options));
    let (server, mut server_peer) = driver.pair(harness, Kind::Server, false);
    driver.recv_start(server, usize::MAX);
    let mut clients = Vec::new();
    for serial in 0..30 {
        let (token, mut peer) = driver.pair(harness, Kind::Client, false);
        let bytes = pattern(5000, serial);
        driver.peer_writes(&mut peer, &bytes);
        clients.push((token, peer, bytes));
    }
    for (token, ..) in &clients {
        driver.recv_start(*token, usize::MAX);
    }
    server_peer.write(b"reply").expect("a few bytes fit");
    let turns = driver.turns;
    driver.until_received(server, 5);
    let turns = driver.turns - turns;
    assert!(turns <= 4, "the reply took {turns} turns");
    for (token, _, bytes) in &clients {
        driver.until_received(*token, bytes.len());
        assert!(driver.received[token] == *bytes);
    }
    assert!(harness.starved(&driver.base) > 0, "the case found no shortage");
    assert!(driver.recv_ends.is_empty(), "{:?}", driver.recv_ends);
}

/// 500 sockets that become readable at once.
pub fn many_ready_sockets_are_served_in_few_waits<H: Harness>(harness: &H) {
    let buffers = ReceiveBuffers { count: 256, size: 4096 };
    let options = BaseOptions { client_buffers: buffers, server_buffers: buffers };
    let mut driver = Driver::new(harness.base(options));
    let mut connections = Vec::new();
    for _ in 0..500 {
        let (token, peer) = driver.pair(harness, Kind::Client, false);
        driver.recv_start(token, usize::MAX);
        connections.push((token, peer));
    }
    driver.turn();
    driver.turn();
    for round in 1..=3 {
        for (_, peer) in &mut connections {
            peer.write(b"x").expect("a few bytes fit");
        }
        let turns = driver.turns;
        driver.until("all are served", |driver| {
            connections.iter().all(|(token, _)| driver.received_size(*token) == round)
        });
        let turns = driver.turns - turns;
        assert!(turns <= 20, "500 sockets took {turns} turns");
    }
}

/// `Woken` that stood for wakes of the case.
fn own_wakes<H: Harness>(harness: &H, driver: &Driver<H::Base>) -> usize {
    driver.woken_count - harness.foreign_wakes(&driver.base)
}

/// The wait does not sleep then.
pub fn a_wake_before_the_wait_is_told<H: Harness>(harness: &H) {
    let mut driver = driver(harness);
    let waker = driver.base.waker();
    for count in 1..=3 {
        waker.wake();
        driver.until("the wake is told", |driver| own_wakes(harness, driver) == count);
    }
}

/// However many were made, also on several handles.
pub fn wakes_are_told_once<H: Harness>(harness: &H) {
    let mut driver = driver(harness);
    let wakers = [driver.base.waker(), driver.base.waker().clone()];
    for _ in 0..100 {
        wakers.iter().for_each(Waker::wake);
    }
    driver.until("the wake is told", |driver| own_wakes(harness, driver) > 0);
    for _ in 0..3 {
        driver.turn();
    }
    assert_eq!(own_wakes(harness, &driver), 1);
}

/// Threads write a number and wake; after `Woken` the number is seen. A wake that is lost makes the
/// wait, which has no deadline, hang.
pub fn no_wake_is_lost<H: Harness>(harness: &H) {
    const THREADS: u32 = 2;
    const ROUNDS: u32 = 2000;
    let mut driver = driver(harness);
    let written = Arc::new(AtomicU32::new(0));
    let seen = Arc::new(AtomicU32::new(0));
    std::thread::scope(|scope| {
        for _ in 0..THREADS {
            let (waker, written, seen) =
                (driver.base.waker(), Arc::clone(&written), Arc::clone(&seen));
            scope.spawn(move || {
                for _ in 0..ROUNDS {
                    let mine = written.fetch_add(1, Ordering::Relaxed) + 1;
                    waker.wake();
                    // At most a few ahead, so that the event base goes to sleep often.
                    while mine > seen.load(Ordering::Relaxed) + 2 {
                        std::thread::yield_now();
                    }
                }
            });
        }
        while seen.load(Ordering::Relaxed) < THREADS * ROUNDS {
            let woken = driver.woken_count;
            while driver.woken_count == woken {
                driver.turn_until(None);
            }
            seen.store(written.load(Ordering::Relaxed), Ordering::Relaxed);
        }
    });
}

/// It does nothing then.
pub fn a_waker_outlives_its_base<H: Harness>(harness: &H) {
    let waker = driver(harness).base.waker();
    waker.wake();
    waker.wake();
}

/// `wait` ends, not before the deadline, and says nothing.
pub fn a_deadline_passes_without_events<H: Harness>(harness: &H) {
    let mut driver = driver(harness);
    let (token, _peer) = driver.pair(harness, Kind::Client, false);
    driver.recv_start(token, usize::MAX);
    for duration in [Duration::ZERO, Duration::from_micros(300), Duration::from_millis(3)] {
        let deadline = driver.base.now() + duration;
        let mut turns = 0;
        while driver.base.now() < deadline || turns == 0 {
            let foreign = harness.foreign_wakes(&driver.base);
            let events_count = driver.turn_until(Some(deadline));
            assert_eq!(events_count, harness.foreign_wakes(&driver.base) - foreign);
            turns += 1;
            assert!(turns < 10, "a wait that does not wait");
        }
    }
}

/// However many are wanted, those that come are told, and a deadline ends the call.
pub fn events_that_are_let_gather_all_come<H: Harness>(harness: &H) {
    let mut driver = driver(harness);
    let mut connections: Vec<_> =
        (0..20).map(|_| driver.pair(harness, Kind::Client, false)).collect();
    for (token, _) in &connections {
        driver.recv_start(*token, usize::MAX);
    }
    for (round, wanted) in [1, 2, 20, 1000].into_iter().enumerate() {
        for (token, peer) in &mut connections {
            driver.send(*token, b"y", ONE);
            driver.peer_writes(peer, b"x");
        }
        let mut turns = 0;
        let is_done = |driver: &Driver<H::Base>| {
            connections.iter().all(|(token, _)| {
                driver.received_size(*token) == round + 1 && !driver.is_running(*token, "send")
            })
        };
        while !is_done(&driver) {
            driver.turn_for(wanted);
            turns += 1;
            assert!(turns < 2000, "with {wanted} wanted not all have come");
        }
        assert_eq!(driver.sent.len(), 20 * (round + 1));
    }
}

/// However they come.
pub fn accepting_gives_every_connection<H: Harness>(harness: &H) {
    let mut driver = driver(harness);
    let (socket, address) = harness.listener();
    let listener = driver.token(Kind::Listener);
    driver.base.listen(listener, socket).expect("the listener is new");
    let mut peers: Vec<H::Peer> = (0..20).map(|_| harness.dial(&address)).collect();
    driver.accept_start(listener);
    driver.turn();
    peers.extend((0..80).map(|_| harness.dial(&address)));
    driver.until("all are accepted", |driver| driver.accepted.len() == 100);
    assert!(driver.accept_ends.is_empty());
}

/// They are accepted when it is started again; the end is told once a start.
pub fn a_stopped_listener_leaves_connections_in_its_queue<H: Harness>(harness: &H) {
    let mut driver = driver(harness);
    let (socket, address) = harness.listener();
    let listener = driver.token(Kind::Listener);
    driver.base.listen(listener, socket).expect("the listener is new");
    let mut peers = Vec::new();
    for round in 1..=3 {
        driver.accept_start(listener);
        driver.until("the queue is accepted", |driver| driver.accepted.len() == peers.len());
        driver.base.accept_stop(listener);
        driver.base.accept_stop(listener);
        driver.until("accepting ends", |driver| driver.accept_ends.len() == round);
        assert_eq!(driver.accept_ends[round - 1], (listener, AcceptEnd::Stopped));
        let before = driver.accepted.len();
        peers.extend((0..5).map(|_| harness.dial(&address)));
        for _ in 0..3 {
            driver.turn();
        }
        assert_eq!(driver.accepted.len(), before, "accepted although it was stopped");
    }
}

/// Bytes that came in between are received there.
pub fn an_exported_connection_goes_on_in_another_base<H: Harness>(harness: &H) {
    let mut first = driver(harness);
    let mut second = driver(harness);
    let (token, mut peer) = first.pair(harness, Kind::Client, false);
    first.recv_start(token, usize::MAX);
    first.peer_writes(&mut peer, b"one");
    first.until_received(token, 3);
    first.base.recv_stop(token);
    first.until("the receive ends", |driver| !driver.is_running(token, "recv"));
    first.peer_writes(&mut peer, b"two");
    let socket = first.base.export(token).expect("nothing is under way");
    assert!(first.base.export(token).is_none(), "it is gone");
    first.turn();
    let moved = second.adopt(Kind::Client, socket);
    second.recv_start(moved, usize::MAX);
    second.until_received(moved, 3);
    second.send(moved, b"three", ONE);
    assert_eq!(second.peer_reads(&mut peer, 5), b"three");
    assert_eq!(second.received[&moved], b"two");
    // The slot is free at once.
    let (socket, mut peer) = harness.pair(false);
    first
        .base
        .adopt(base::Token::new(Kind::Client, token.index(), 1), socket)
        .expect("the socket is new");
    peer.write(b"x").expect("a few bytes fit");
    first.turn();
}

/// With its queue; and not while it accepts.
pub fn an_exported_listener_goes_on_in_another_base<H: Harness>(harness: &H) {
    let mut first = driver(harness);
    let mut second = driver(harness);
    let (socket, address) = harness.listener();
    let listener = first.token(Kind::Listener);
    first.base.listen(listener, socket).expect("the listener is new");
    first.accept_start(listener);
    first.turn();
    assert!(first.base.export(listener).is_none(), "it accepts");
    first.base.accept_stop(listener);
    first.until("accepting ends", |driver| !driver.accept_ends.is_empty());
    let _early = harness.dial(&address);
    first.turn();
    let socket = first.base.export(listener).expect("nothing is under way");
    assert!(first.base.export(listener).is_none(), "it is gone");
    let moved = second.token(Kind::Listener);
    second.base.listen(moved, socket).expect("the listener is new");
    second.accept_start(moved);
    let _late = harness.dial(&address);
    second.until("both are accepted", |driver| driver.accepted.len() == 2);
    assert!(first.accepted.is_empty());
}

/// An operation under way would be lost.
pub fn a_busy_connection_is_not_exported<H: Harness>(harness: &H) {
    let mut driver = driver(harness);
    let (token, mut peer) = driver.pair(harness, Kind::Client, false);
    driver.recv_start(token, usize::MAX);
    assert!(driver.base.export(token).is_none());
    driver.turn();
    assert!(driver.base.export(token).is_none());
    driver.peer_writes(&mut peer, b"x");
    driver.until_received(token, 1);
    driver.close(token);
    assert!(driver.base.export(token).is_none(), "it is being closed");
    driver.until_closed(token);
}

/// They are copied for each operation.
pub fn events_stay_small<H: Harness>(_: &H) {
    let size = size_of::<Event<super::Socket<H>>>();
    assert!(size <= 80, "{size} bytes");
    assert!(!chain_of(b"x", 1).is_empty());
}
