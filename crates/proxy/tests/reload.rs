//! New pools in the place of old ones, while requests are on their way.

#![allow(clippy::unwrap_used)]

mod rig;

use std::time::Duration;

use base::{Address, RecvEnd, SocketError};
use protocol::Protocol;
use proxy::options::PoolOptions;
use rig::{Rig, address_of, pool};

fn get(key: &str) -> Vec<u8> {
    format!("*2\r\n$3\r\nGET\r\n${}\r\n{key}\r\n", key.len()).into_bytes()
}

/// Gives the proxy these options for its one pool, with the addresses of its servers.
fn reload(rig: &mut Rig, options: Option<PoolOptions>) {
    let ports: Vec<Address> = options
        .iter()
        .flat_map(|options| &options.servers)
        .map(|server| address_of(server.name[1..].parse().unwrap()))
        .collect();
    rig.proxy.reload(vec![options]);
    for (index, address) in ports.into_iter().enumerate() {
        rig.proxy.set_address(0, index, Some(address));
    }
    rig.advance(Duration::ZERO);
}

/// The pool of the servers with these numbers.
fn servers(numbers: &[usize]) -> PoolOptions {
    let mut options = pool(Protocol::Redis, 10);
    let all = std::mem::take(&mut options.servers);
    options.servers = numbers.iter().map(|number| all[*number].clone()).collect();
    options
}

/// A key that moves to server 1 when it joins server 0, and one that stays.
fn moving_keys() -> (String, String) {
    let [stays, moves] = rig::keys(Protocol::Redis, 2).try_into().unwrap();
    (moves, stays)
}

#[test]
fn a_server_that_joins_gets_its_keys_and_the_others_keep_their_connections() {
    let (moves, stays) = moving_keys();
    let mut rig = Rig::new(servers(&[0]));
    let client = rig.client();
    rig.feed(client, &get(&moves));
    let first = rig.server(0);
    reload(&mut rig, Some(servers(&[0, 1])));
    assert!(!rig.is_closed(client) && !rig.is_closed(first));
    rig.take(first);
    // What was on its way finishes where it was sent; the next request is routed anew.
    rig.feed(client, &[get(&moves), get(&stays)].concat());
    let second = rig.server(1);
    assert_eq!(rig.take(second).into_bytes(), get(&moves));
    assert_eq!(rig.take(first).into_bytes(), get(&stays));
    rig.feed(second, b"$1\r\n2\r\n");
    rig.feed(first, b"$1\r\n1\r\n$1\r\n3\r\n");
    assert_eq!(rig.take(client), "$1\r\n1\r\n$1\r\n2\r\n$1\r\n3\r\n");
}

#[test]
fn a_server_that_leaves_answers_what_it_owes_and_is_let_go() {
    let (moves, stays) = moving_keys();
    let mut rig = Rig::new(servers(&[0, 1]));
    let client = rig.client();
    rig.feed(client, &[get(&moves), get(&stays)].concat());
    let (first, second) = (rig.server(0), rig.server(1));
    reload(&mut rig, Some(servers(&[0])));
    assert!(!rig.is_closed(second));
    rig.feed(second, b"$1\r\n2\r\n");
    assert!(rig.is_closed(second) && !rig.is_closed(first));
    rig.feed(first, b"$1\r\n1\r\n");
    assert_eq!(rig.take(client), "$1\r\n2\r\n$1\r\n1\r\n");
    assert_eq!(rig.proxy.stats().pools[0].servers.len(), 1);
    assert_eq!(rig.proxy.stats().pools[0].servers[0].connections, 1);
    assert_eq!(rig.proxy.requests_count(), 0);
}

#[test]
fn a_server_that_leaves_and_owes_nothing_is_let_go_at_once() {
    let (moves, _) = moving_keys();
    let mut rig = Rig::new(servers(&[0, 1]));
    let client = rig.client();
    rig.feed(client, &get(&moves));
    let second = rig.server(1);
    rig.feed(second, b"$-1\r\n");
    reload(&mut rig, Some(servers(&[0])));
    assert!(rig.is_closed(second));
}

#[test]
fn a_retired_connection_that_breaks_fails_what_it_owed_and_nothing_else() {
    let (moves, stays) = moving_keys();
    let mut rig = Rig::new(servers(&[0, 1]));
    let client = rig.client();
    rig.feed(client, &[get(&moves), get(&stays)].concat());
    let (first, second) = (rig.server(0), rig.server(1));
    reload(&mut rig, Some(servers(&[0])));
    rig.end_receiving(second, RecvEnd::Eof);
    rig.feed(first, b"$1\r\n1\r\n");
    assert_eq!(rig.take(client), "-ERR unknown\r\n$1\r\n1\r\n");
    // Its server may come back, and is connected to anew.
    reload(&mut rig, Some(servers(&[0, 1])));
    rig.feed(client, &get(&moves));
    assert_ne!(rig.server(1), second);
}

#[test]
fn a_new_password_or_database_means_new_connections() {
    let password = PoolOptions { password: Some(b"p".to_vec()), ..servers(&[0]) };
    let database = PoolOptions { database: 5, ..servers(&[0]) };
    for options in [password, database] {
        let mut rig = Rig::new(servers(&[0]));
        let client = rig.client();
        rig.feed(client, &get("a"));
        let before = rig.server(0);
        reload(&mut rig, Some(options.clone()));
        if options.password.is_some() {
            // What was asked before is answered; from now on the client must say it, too.
            rig.feed(client, b"*2\r\n$4\r\nAUTH\r\n$1\r\np\r\n");
        }
        rig.feed(client, &get("a"));
        let after = rig.server(0);
        assert_ne!(before, after);
        rig.feed(before, b"$1\r\n1\r\n");
        rig.feed(after, b"+OK\r\n$1\r\n2\r\n");
        assert_eq!(rig.take(client).replace("+OK\r\n", ""), "$1\r\n1\r\n$1\r\n2\r\n");
        assert!(rig.is_closed(before));
    }
}

#[test]
fn a_pool_that_is_gone_lets_its_clients_go_when_they_are_owed_nothing() {
    let mut rig = Rig::new(servers(&[0]));
    let (idle, busy) = (rig.client(), rig.client());
    rig.feed(busy, &get("a"));
    rig.feed(idle, b"PING\r\n");
    assert_eq!(rig.take(idle), "+PONG\r\n");
    reload(&mut rig, None);
    rig.advance(Duration::from_millis(11));
    assert!(rig.is_closed(idle) && !rig.is_closed(busy));
    let server = rig.server(0);
    rig.feed(server, b"$1\r\n1\r\n");
    assert_eq!(rig.take(busy), "$1\r\n1\r\n");
    assert!(rig.is_closed(busy));
    assert!(rig.is_closed(server));
    assert_eq!(rig.proxy.server_connections_count(), 0);
}

#[test]
fn the_same_options_change_nothing() {
    let mut rig = Rig::new(servers(&[0]));
    let client = rig.client();
    rig.feed(client, &get("a"));
    let server = rig.server(0);
    reload(&mut rig, Some(servers(&[0])));
    rig.feed(server, b"$1\r\n1\r\n");
    assert_eq!(rig.take(client), "$1\r\n1\r\n");
    assert!(!rig.is_closed(server) && !rig.is_closed(client));
}

#[test]
fn fewer_connections_to_a_server_are_as_good_as_more() {
    let options = PoolOptions { server_connections_per_worker: 2, ..servers(&[0]) };
    let mut rig = Rig::new(options);
    let (one, two) = (rig.client(), rig.client());
    rig.feed(one, &get("a"));
    rig.feed(two, &get("a"));
    assert_eq!(rig.connected.len(), 2);
    reload(&mut rig, Some(servers(&[0])));
    let [first, second] = [rig.connected[0].0, rig.connected[1].0];
    rig.feed(second, b"$1\r\n2\r\n");
    assert!(rig.is_closed(second) && !rig.is_closed(first));
    assert_eq!(rig.take(two), "$1\r\n2\r\n");
    rig.feed(two, &get("b"));
    rig.feed(first, b"$1\r\n1\r\n$1\r\n3\r\n");
    assert_eq!((rig.take(one).as_str(), rig.take(two).as_str()), ("$1\r\n1\r\n", "$1\r\n3\r\n"));
    assert_eq!(rig.proxy.stats().pools[0].servers[0].connections, 1);
}

#[test]
fn a_shorter_time_out_holds_for_what_is_on_its_way() {
    let slow = PoolOptions { request_timeout: Some(Duration::from_secs(60)), ..servers(&[0]) };
    let mut rig = Rig::new(slow);
    let client = rig.client();
    rig.feed(client, &get("a"));
    let quick = PoolOptions { request_timeout: Some(Duration::from_secs(1)), ..servers(&[0]) };
    reload(&mut rig, Some(quick));
    rig.feed(client, &get("b"));
    rig.advance(Duration::from_millis(1001));
    assert_eq!(rig.take(client), "-ERR Connection timed out\r\n".repeat(2));
}

/// It connected before the listener was closed, and waited in its queue.
#[test]
fn a_client_of_a_pool_that_is_gone_may_ask_once_and_is_not_waited_for() {
    let mut rig = Rig::new(servers(&[0]));
    let early = rig.client();
    rig.feed(early, &get("a"));
    let server = rig.server(0);
    rig.feed(server, b"$1\r\n1\r\n");
    reload(&mut rig, None);
    rig.advance(Duration::from_millis(11));
    assert!(rig.is_closed(early) && rig.is_closed(server));
    let (silent, asking) = (rig.client(), rig.client());
    rig.feed(asking, &get("a"));
    let server = rig.server(0);
    rig.feed(server, b"$1\r\n1\r\n");
    assert_eq!(rig.take(asking), "$1\r\n1\r\n");
    assert!(rig.is_closed(asking) && !rig.is_closed(silent));
    rig.advance(Duration::from_millis(1001));
    assert!(rig.is_closed(silent));
    assert_eq!(rig.proxy.server_connections_count(), 0);
}

#[test]
fn a_client_stays_when_its_pool_comes_back_before_it_has_asked() {
    let mut rig = Rig::new(servers(&[0]));
    reload(&mut rig, None);
    let client = rig.client();
    reload(&mut rig, Some(servers(&[0])));
    rig.advance(Duration::from_millis(1001));
    assert!(!rig.is_closed(client));
    for _ in 0..2 {
        rig.feed(client, &get("a"));
        let server = rig.server(0);
        rig.feed(server, b"$1\r\n1\r\n");
        assert_eq!(rig.take(client), "$1\r\n1\r\n");
    }
}

#[test]
fn an_ejected_server_is_back_as_soon_as_servers_are_ejected_no_longer() {
    let mut ejecting = servers(&[0, 1]);
    ejecting.health.eject = true;
    ejecting.health.failure_limit = 1;
    let mut rig = Rig::new(ejecting);
    let (_, key) = moving_keys();
    let client = rig.client();
    rig.feed(client, &get(&key));
    let first = rig.server(0);
    rig.end_receiving(first, RecvEnd::Error(SocketError::ConnectionReset));
    assert_eq!(rig.take(client), "-ERR Connection reset by peer\r\n");
    reload(&mut rig, Some(servers(&[0, 1])));
    rig.feed(client, &get(&key));
    let back = rig.server(0);
    assert_eq!(rig.take(back).into_bytes(), get(&key));
}
