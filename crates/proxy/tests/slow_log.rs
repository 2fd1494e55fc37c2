//! The slow log: what is remembered, and where the time went.

#![allow(clippy::unwrap_used)]

mod rig;

use std::time::Duration;

use base::{Address, Token};
use protocol::Protocol;
use proxy::options::PoolOptions;
use proxy::slow_log::{ENTRIES_MAX, SlowEntry};
use rig::{Rig, keys, pool};

const THRESHOLD: Duration = ms(10);

const fn ms(ms: u64) -> Duration {
    Duration::from_millis(ms)
}

fn slow(protocol: Protocol) -> PoolOptions {
    PoolOptions { slow_threshold: Some(THRESHOLD), ..pool(protocol, 2) }
}

fn get(key: &str) -> Vec<u8> {
    format!("*2\r\n$3\r\nGET\r\n${}\r\n{key}\r\n", key.len()).into_bytes()
}

fn mget(keys: &[String]) -> Vec<u8> {
    let words = keys.iter().map(|key| format!("${}\r\n{key}\r\n", key.len()));
    let words: String = words.collect();
    format!("*{}\r\n$4\r\nMGET\r\n{words}", keys.len() + 1).into_bytes()
}

fn entries(rig: &Rig) -> Vec<SlowEntry> {
    rig.proxy.slow_log().cloned().collect()
}

/// Queued, with the server, unwritten.
fn times(entry: &SlowEntry) -> (Duration, Duration, Option<Duration>) {
    (entry.queued, entry.server_time, entry.unwritten)
}

fn command(entry: &SlowEntry) -> &'static str {
    Protocol::Redis.commands()[entry.command].name
}

/// A request of `key` that its server answers after `wait`.
fn ask(rig: &mut Rig, client: Token, key: &str, server: usize, wait: Duration) {
    rig.feed(client, &get(key));
    rig.advance(wait);
    let server = rig.server(server);
    rig.feed(server, b"$-1\r\n");
}

#[test]
fn a_request_is_remembered_from_the_threshold_on() {
    let options = slow(Protocol::Redis);
    let hash = options.hash;
    let keys = keys(Protocol::Redis, 2);
    let mut rig = Rig::new(options);
    let client = rig.client();
    ask(&mut rig, client, &keys[1], 1, THRESHOLD - ms(1));
    assert_eq!(entries(&rig), []);
    ask(&mut rig, client, &keys[1], 1, THRESHOLD);
    let all = entries(&rig);
    assert_eq!(all.len(), 1);
    assert_eq!(times(&all[0]), (ms(0), THRESHOLD, Some(ms(0))));
    assert_eq!((command(&all[0]), all[0].client, all[0].server), ("get", client, Some(1)));
    assert_eq!(all[0].key_hash, hash.hash(keys[1].as_bytes()));
}

#[test]
fn without_a_threshold_nothing_is_remembered() {
    let key = keys(Protocol::Redis, 2).swap_remove(0);
    let mut rig = Rig::new(pool(Protocol::Redis, 2));
    let client = rig.client();
    ask(&mut rig, client, &key, 0, Duration::from_secs(100));
    assert_eq!(entries(&rig), []);
}

#[test]
fn waiting_for_a_connection_is_time_in_the_queue() {
    let key = keys(Protocol::Redis, 2).swap_remove(0);
    let mut rig = Rig::new(slow(Protocol::Redis));
    let client = rig.client();
    rig.hold_connects = true;
    rig.feed(client, &[get(&key), get(&key)].concat());
    rig.advance(ms(7));
    rig.connect_held();
    rig.advance(ms(5));
    let server = rig.server(0);
    rig.feed(server, b"$-1\r\n$-1\r\n");
    let all = entries(&rig);
    assert_eq!(all.len(), 2);
    for entry in &all {
        assert_eq!(times(entry), (ms(7), ms(5), Some(ms(0))));
    }
}

#[test]
fn waiting_for_an_earlier_reply_is_time_unwritten() {
    let keys = keys(Protocol::Redis, 2);
    let mut rig = Rig::new(slow(Protocol::Redis));
    let client = rig.client();
    rig.feed(client, &[get(&keys[0]), get(&keys[1])].concat());
    rig.advance(ms(4));
    let (first, second) = (rig.server(0), rig.server(1));
    rig.feed(second, b"$-1\r\n");
    rig.advance(ms(30));
    rig.feed(first, b"$-1\r\n");
    let all = entries(&rig);
    assert_eq!(times(&all[0]), (ms(0), ms(34), Some(ms(0))));
    assert_eq!(times(&all[1]), (ms(0), ms(4), Some(ms(30))));
    assert_eq!((all[0].server, all[1].server), (Some(0), Some(1)));
}

#[test]
fn waiting_for_a_client_that_does_not_read_is_time_unwritten() {
    let key = keys(Protocol::Redis, 2).swap_remove(0);
    let mut rig = Rig::new(slow(Protocol::Redis));
    let client = rig.client();
    rig.hold_client_sends = true;
    ask(&mut rig, client, &key, 0, ms(0));
    ask(&mut rig, client, &key, 0, ms(20));
    assert_eq!(times(&entries(&rig)[0]), (ms(0), ms(20), None));
    rig.advance(ms(50));
    rig.release_held();
    assert_eq!(times(&entries(&rig)[0]), (ms(0), ms(20), Some(ms(50))));
}

#[test]
fn the_part_that_came_last_stands_for_a_split_request() {
    let keys = keys(Protocol::Redis, 2);
    let mut rig = Rig::new(slow(Protocol::Redis));
    let client = rig.client();
    rig.feed(client, &mget(&keys));
    let (first, second) = (rig.server(0), rig.server(1));
    rig.advance(ms(3));
    rig.feed(second, b"*1\r\n$-1\r\n");
    rig.advance(ms(20));
    rig.feed(first, b"*1\r\n$-1\r\n");
    let all = entries(&rig);
    assert_eq!(all.len(), 1);
    assert_eq!(times(&all[0]), (ms(0), ms(23), Some(ms(0))));
    assert_eq!((command(&all[0]), all[0].server), ("mget", Some(0)));
    assert_eq!(all[0].key_hash, slow(Protocol::Redis).hash.hash(keys[0].as_bytes()));
}

#[test]
fn a_time_out_is_time_with_the_server() {
    let key = keys(Protocol::Redis, 2).swap_remove(0);
    let options = PoolOptions { request_timeout: Some(ms(100)), ..slow(Protocol::Redis) };
    let mut rig = Rig::new(options);
    let client = rig.client();
    rig.feed(client, &get(&key));
    rig.advance(ms(100));
    assert_eq!(rig.take(client), "-ERR Connection timed out\r\n");
    let all = entries(&rig);
    assert_eq!(all.len(), 1);
    assert_eq!(times(&all[0]), (ms(0), ms(100), Some(ms(0))));
    assert_eq!(all[0].server, Some(0));
}

#[test]
fn the_last_ones_are_kept() {
    let key = keys(Protocol::Redis, 2).swap_remove(0);
    let mut rig = Rig::new(slow(Protocol::Redis));
    let client = rig.client();
    for round in 0..ENTRIES_MAX as u64 + 5 {
        ask(&mut rig, client, &key, 0, ms(10 + round));
    }
    let all = entries(&rig);
    assert_eq!(all.len(), ENTRIES_MAX);
    assert_eq!((all[0].server_time, all.last().unwrap().server_time), (ms(15), ms(142)));
}

#[test]
fn what_the_proxy_answers_itself_is_never_slow() {
    let key = keys(Protocol::Redis, 2).swap_remove(0);
    let mut rig = Rig::new(slow(Protocol::Redis));
    let client = rig.client();
    rig.feed(client, &[get(&key), b"*1\r\n$4\r\nPING\r\n".to_vec()].concat());
    rig.advance(ms(20));
    let server = rig.server(0);
    rig.feed(server, b"$-1\r\n");
    assert_eq!(rig.take(client), "$-1\r\n+PONG\r\n");
    assert_eq!(entries(&rig).len(), 1);
}

#[test]
fn clients_are_named_in_the_turn_in_which_they_were_slow() {
    let key = keys(Protocol::Redis, 2).swap_remove(0);
    let mut rig = Rig::new(slow(Protocol::Redis));
    let client = rig.client();
    ask(&mut rig, client, &key, 0, ms(20));
    let address = Address::Inet("127.0.0.1:7".parse().unwrap());
    rig.proxy.name_slow_clients(|token| (token == client).then(|| address.clone()));
    assert_eq!(entries(&rig)[0].address, Some(address));
    rig.proxy.name_slow_clients(|_| panic!("nobody is to be named"));
}

#[test]
fn a_reload_sets_the_threshold_and_knows_the_servers_by_their_new_places() {
    let keys = keys(Protocol::Redis, 2);
    let mut rig = Rig::new(pool(Protocol::Redis, 2));
    let client = rig.client();
    rig.feed(client, &get(&keys[1]));
    rig.proxy.reload(vec![Some(slow(Protocol::Redis))]);
    rig.advance(ms(20));
    let server = rig.server(1);
    rig.feed(server, b"$-1\r\n");
    // Nobody noted when it was sent.
    let all = entries(&rig);
    assert_eq!(times(&all[0]), (ms(0), ms(20), Some(ms(0))));
    ask(&mut rig, client, &keys[1], 1, ms(30));
    assert_eq!(entries(&rig)[1].server, Some(1));
    let mut fewer = slow(Protocol::Redis);
    fewer.servers.remove(0);
    rig.proxy.reload(vec![Some(fewer)]);
    assert_eq!(entries(&rig)[1].server, Some(0));
    rig.proxy.reload(vec![Some(pool(Protocol::Redis, 1))]);
    assert_eq!(entries(&rig)[1].server, None, "that server is gone");
}
