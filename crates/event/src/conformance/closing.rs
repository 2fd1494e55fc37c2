//! What must hold when connections and listeners are closed. Each function is one case; its name
//! says what holds.

use std::time::Duration;

use base::{Kind, RecvEnd, SocketError, Token};

use super::driver::{Driver, chain_of, pattern};
use super::{BaseOptions, Harness, Peer};
use crate::{AcceptEnd, EventBase, ReceiveBuffers};

fn driver<H: Harness>(harness: &H) -> Driver<H::Base> {
    Driver::new(harness.base(BaseOptions::default()))
}

/// The receive ends, then `Closed`, and the peer sees the end.
pub fn closing_ends_a_receive<H: Harness>(harness: &H) {
    for turn_before in [false, true] {
        let mut driver = driver(harness);
        let (token, mut peer) = driver.pair(harness, Kind::Client, false);
        driver.recv_start(token, usize::MAX);
        if turn_before {
            driver.turn();
        }
        driver.close(token);
        driver.until_closed(token);
        assert_eq!(driver.recv_ends, [(token, RecvEnd::Stopped)]);
        assert_eq!(driver.peer_reads_to_end(&mut peer), (Vec::new(), true));
    }
}

/// The send fails, then `Closed`.
pub fn closing_ends_a_blocked_send<H: Harness>(harness: &H) {
    let mut driver = driver(harness);
    let (token, mut peer) = driver.pair(harness, Kind::Client, true);
    let bytes = pattern(8 << 20, 5);
    driver.send(token, &bytes, 1 << 20);
    driver.turn();
    driver.close(token);
    driver.until_closed(token);
    assert_eq!(driver.send_failed, [(token, SocketError::Cancelled)]);
    let (got, _) = driver.peer_reads_to_end(&mut peer);
    assert!(got.len() < bytes.len() && got == bytes[..got.len()], "a part, and the right one");
}

/// Whether or not it would have succeeded.
pub fn closing_ends_a_connect<H: Harness>(harness: &H) {
    let mut driver = driver(harness);
    let (_socket, address) = harness.listener();
    for address in [address, harness.nowhere()] {
        let token = driver.token(Kind::Server);
        driver.connect(token, &address);
        driver.close(token);
        driver.until_closed(token);
        let (_, result) = driver.connects.pop().expect("it has ended");
        assert!(result.is_err());
    }
}

/// Accepting ends, then `Closed`, and nobody can connect any more.
pub fn closing_a_listener_ends_accepting<H: Harness>(harness: &H) {
    let mut driver = driver(harness);
    let (socket, address) = harness.listener();
    let listener = driver.token(Kind::Listener);
    driver.base.listen(listener, socket).expect("the listener is new");
    driver.accept_start(listener);
    let _peer = harness.dial(&address);
    driver.until("it is accepted", |driver| driver.accepted.len() == 1);
    driver.close(listener);
    driver.until_closed(listener);
    assert_eq!(driver.accept_ends, [(listener, AcceptEnd::Stopped)]);
    let token = driver.token(Kind::Server);
    driver.connect(token, &address);
    driver.until("connecting ends", |driver| !driver.connects.is_empty());
    assert_eq!(driver.connects, [(token, Err(SocketError::ConnectionRefused))]);
}

/// Whoever has connected is not turned away, whether accepting was started, stopped or never begun.
pub fn closing_a_listener_gives_those_who_wait<H: Harness>(harness: &H) {
    const PEERS_COUNT: usize = 100;
    /// In a world with delays nobody has connected at once.
    const ARRIVAL: Duration = Duration::from_millis(20);
    for (started, stopped) in [(false, false), (true, false), (true, true)] {
        let mut driver = driver(harness);
        let (socket, address) = harness.listener();
        let listener = driver.token(Kind::Listener);
        driver.base.listen(listener, socket).expect("the listener is new");
        if started {
            driver.accept_start(listener);
        }
        if stopped {
            driver.base.accept_stop(listener);
            driver.until("accepting ends", |driver| !driver.accept_ends.is_empty());
        }
        let mut peers: Vec<_> = (0..PEERS_COUNT).map(|_| harness.dial(&address)).collect();
        let arrived = driver.base.now() + ARRIVAL;
        while driver.base.now() < arrived {
            driver.turn_until(Some(arrived));
        }
        assert!(driver.accepted.is_empty() || started && !stopped);
        driver.close(listener);
        driver.until_closed(listener);
        assert_eq!(driver.accepted.len(), PEERS_COUNT, "{started} {stopped}");
        // They are connections of these peers, and whole.
        for (index, peer) in peers.iter_mut().enumerate() {
            assert_eq!(peer.write(&[index as u8]).ok(), Some(1));
        }
        for socket in std::mem::take(&mut driver.accepted) {
            let token = driver.token(Kind::Client);
            driver.base.adopt(token, socket).expect("the connection is new");
            driver.recv_start(token, usize::MAX);
        }
        driver.until("every byte comes", |driver| driver.received.len() == PEERS_COUNT);
        let mut bytes: Vec<u8> = driver.received.values().flatten().copied().collect();
        bytes.sort_unstable();
        assert_eq!(bytes, (0..PEERS_COUNT as u8).collect::<Vec<u8>>());
    }
}

/// Without any operation, and before anything was done with it.
pub fn closing_a_quiet_connection_is_told<H: Harness>(harness: &H) {
    let mut driver = driver(harness);
    let (token, mut peer) = driver.pair(harness, Kind::Client, false);
    driver.close(token);
    assert!(!driver.closed.contains(&token));
    driver.until_closed(token);
    assert_eq!(driver.peer_reads_to_end(&mut peer), (Vec::new(), true));
}

/// The second call does nothing.
pub fn closing_twice_is_told_once<H: Harness>(harness: &H) {
    let mut driver = driver(harness);
    let (token, _peer) = driver.pair(harness, Kind::Client, false);
    driver.recv_start(token, usize::MAX);
    driver.close(token);
    driver.close(token);
    driver.turn();
    driver.close(token);
    driver.until_closed(token);
    driver.close(token);
    for _ in 0..3 {
        driver.turn();
    }
}

/// A client that sent more than we care to read gets its reply all the same.
pub fn closing_after_sent_delivers_although_input_is_unread<H: Harness>(harness: &H) {
    let mut driver = driver(harness);
    let (token, mut peer) = driver.pair(harness, Kind::Client, false);
    driver.peer_writes(&mut peer, &pattern(20_000, 1));
    let reply = pattern(30_000, 2);
    driver.send(token, &reply, 4096);
    driver.until("the reply is sent", |driver| !driver.is_running(token, "send"));
    driver.close(token);
    driver.until_closed(token);
    let (got, proper) = driver.peer_reads_to_end(&mut peer);
    assert!(got == reply, "{} of {} bytes", got.len(), reply.len());
    assert!(proper, "a reset");
}

/// In the same turn: what fits the socket's buffer is sent.
pub fn closing_at_once_after_send_delivers<H: Harness>(harness: &H) {
    let mut driver = driver(harness);
    let (token, mut peer) = driver.pair(harness, Kind::Client, false);
    driver.recv_start(token, usize::MAX);
    driver.send(token, b"-ERR go away\r\n", usize::MAX);
    driver.close(token);
    driver.until_closed(token);
    assert_eq!(driver.sent.len(), 1);
    assert_eq!(driver.peer_reads_to_end(&mut peer), (b"-ERR go away\r\n".to_vec(), true));
}

/// Its receive is not with the kernel then.
pub fn closing_a_starved_connection<H: Harness>(harness: &H) {
    let client_buffers = ReceiveBuffers { count: 1, size: 1024 };
    let options = BaseOptions { client_buffers, ..BaseOptions::default() };
    let mut driver = Driver::new(harness.base(options));
    let mut clients = Vec::new();
    for serial in 0..10 {
        let (token, mut peer) = driver.pair(harness, Kind::Client, false);
        driver.peer_writes(&mut peer, &pattern(5000, serial));
        driver.recv_start(token, usize::MAX);
        clients.push((token, peer));
    }
    driver.until("some are starved", |driver| harness.starved(&driver.base) > 0);
    // Half are stopped, half are closed.
    for (serial, (token, _)) in clients.iter().enumerate() {
        if serial % 2 == 0 {
            driver.base.recv_stop(*token);
        } else {
            driver.close(*token);
        }
    }
    driver.until("all receives end", |driver| driver.recv_ends.len() == clients.len());
    for (serial, (token, _)) in clients.iter().enumerate() {
        if serial % 2 == 0 {
            assert!(driver.recv_ends.contains(&(*token, RecvEnd::Stopped)));
            driver.recv_start(*token, usize::MAX);
            driver.until_received(*token, 5000);
            assert!(driver.received[token] == pattern(5000, serial as u32));
        } else {
            driver.until_closed(*token);
        }
    }
}

/// Stops and starts while bytes arrive: each byte comes once, in order.
pub fn a_cancel_that_races_with_bytes_loses_nothing<H: Harness>(harness: &H) {
    let mut driver = driver(harness);
    let (token, mut peer) = driver.pair(harness, Kind::Client, false);
    let bytes = pattern(40_000, 1);
    let mut written = 0;
    let mut round = 0;
    while written < bytes.len() {
        round += 1;
        assert!(round < 10_000, "nothing is received");
        if !driver.is_running(token, "recv") {
            driver.recv_start(token, if round % 3 == 0 { 150 } else { usize::MAX });
        }
        let end = (written + 97).min(bytes.len());
        if let Ok(size) = peer.write(&bytes[written..end]) {
            written += size;
        }
        if round % 2 == 0 {
            driver.turn_until(Some(driver.base.now()));
        }
        driver.base.recv_stop(token);
        driver.turn_until(Some(driver.base.now()));
    }
    driver.until("the receive ends", |driver| !driver.is_running(token, "recv"));
    driver.recv_start(token, usize::MAX);
    driver.until_received(token, bytes.len());
    assert!(driver.received[&token] == bytes);
}

/// A close with a receive, a send and bytes under way, at different moments. [`Driver`] checks
/// that each operation ends once, before the only `Closed`.
pub fn a_close_that_races_with_everything_ends_everything_once<H: Harness>(harness: &H) {
    let mut driver = driver(harness);
    for round in 0..150 {
        let (token, mut peer) = driver.pair(harness, Kind::Client, round % 2 == 0);
        driver.recv_start(token, if round % 5 == 0 { 10 } else { usize::MAX });
        driver.send(token, &pattern(if round % 3 == 0 { 3 << 20 } else { 100 }, 1), 64 << 10);
        if round % 7 < 3 {
            driver.turn_until(Some(driver.base.now()));
        }
        peer.write(&pattern(1 + round * 13, 2)).expect("a few bytes fit");
        if round % 4 == 0 {
            peer.end();
        }
        if round % 2 == 0 {
            driver.base.recv_stop(token);
        }
        driver.close(token);
        if round % 11 == 0 {
            peer.reset();
        }
        driver.until_closed(token);
    }
}

/// The descriptor's number and the slot are used again at once, while the old peer still writes.
pub fn a_slot_that_is_used_again_gets_no_stale_event<H: Harness>(harness: &H) {
    let mut driver = driver(harness);
    let mut old_peers = Vec::new();
    for generation in 0..50 {
        let token = Token::new(Kind::Client, 7, generation);
        let (socket, mut peer) = harness.pair(false);
        driver.base.adopt(token, socket).expect("the socket is new");
        driver.recv_start(token, usize::MAX);
        driver.turn_until(Some(driver.base.now()));
        for old in &mut old_peers {
            // It is closed, and says so or not.
            let _ = H::Peer::write(old, b"stale");
        }
        let bytes = pattern(10 + generation as usize, generation);
        driver.peer_writes(&mut peer, &bytes);
        driver.until_received(token, bytes.len());
        assert_eq!(driver.received[&token], bytes);
        // More that is never read.
        peer.write(b"late").expect("a few bytes fit");
        driver.close(token);
        driver.until_closed(token);
        old_peers.push(peer);
    }
}

/// Every call with a token whose slot is empty, or used by another generation.
pub fn stale_tokens_are_ignored<H: Harness>(harness: &H) {
    let mut driver = driver(harness);
    let (token, mut peer) = driver.pair(harness, Kind::Client, false);
    driver.recv_start(token, usize::MAX);
    let stale_generation = Token::new(Kind::Client, token.index(), 5);
    let no_slot = Token::new(Kind::Server, 999, 0);
    for stale in [stale_generation, no_slot] {
        driver.base.recv_start(stale, usize::MAX);
        driver.base.recv_stop(stale);
        driver.base.send(stale, chain_of(b"to nobody", 100));
        driver.base.close(stale);
        assert!(driver.base.export(stale).is_none());
    }
    let stale = Token::new(Kind::Listener, 3, 0);
    driver.base.accept_start(stale);
    driver.base.accept_stop(stale);
    driver.base.close(stale);
    driver.peer_writes(&mut peer, b"still here");
    driver.until_received(token, 10);
    driver.send(token, b"so am I", usize::MAX);
    assert_eq!(driver.peer_reads(&mut peer, 7), b"so am I");
}

/// With receives and sends under way.
pub fn dropping_a_base_closes_its_connections<H: Harness>(harness: &H) {
    let mut driver = driver(harness);
    let mut peers = Vec::new();
    for serial in 0..10 {
        let (token, peer) = driver.pair(harness, Kind::Client, true);
        driver.recv_start(token, usize::MAX);
        if serial % 2 == 0 {
            driver.send(token, &pattern(4 << 20, 1), 1 << 20);
        }
        peers.push(peer);
    }
    driver.turn();
    drop(driver);
    let mut other = self::driver(harness);
    for peer in &mut peers {
        let (got, _) = other.peer_reads_to_end(peer);
        assert!(got.len() < 4 << 20);
    }
}
