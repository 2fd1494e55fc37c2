//! What it costs to parse a request and to frame a response, in nanoseconds each. Prints a table;
//! says nothing about a proxy as a whole.
//!
//! `cargo run --release -p protocol --example parse_cost`

use protocol::{Framed, Limits, Parsed, Protocol, RequestState, ResponseState, Scratch};
use std::hint::black_box;
use std::time::{Duration, Instant};

/// Messages in a buffer, as of a client that pipelines.
const PIPELINED: usize = 16;
/// The best of so many runs counts.
const RUNS: usize = 30;
const RUN_TIME: Duration = Duration::from_millis(10);

fn main() {
    let value = "v".repeat(64);
    for (protocol, name, request) in [
        (Protocol::Redis, "GET", "*2\r\n$3\r\nGET\r\n$10\r\nkey:000001\r\n".to_owned()),
        (
            Protocol::Redis,
            "SET 64",
            format!("*3\r\n$3\r\nSET\r\n$10\r\nkey:000001\r\n$64\r\n{value}\r\n"),
        ),
        (
            Protocol::Redis,
            "MGET 10",
            format!("*11\r\n$4\r\nMGET\r\n{}", "$10\r\nkey:000001\r\n".repeat(10)),
        ),
        (Protocol::Redis, "HINCRBYFLOAT", {
            "*4\r\n$12\r\nHINCRBYFLOAT\r\n$1\r\nk\r\n$1\r\nf\r\n$1\r\n1\r\n".to_owned()
        }),
        (Protocol::Redis, "inline get", "get key:000001\r\n".to_owned()),
        (Protocol::Memcache, "get", "get key:000001\r\n".to_owned()),
        (Protocol::Memcache, "set 64", format!("set key:000001 0 0 64\r\n{value}\r\n")),
        (Protocol::Memcache, "get of 10", format!("get{}\r\n", " key:000001".repeat(10))),
        (Protocol::Memcache, "incr", "incr key:000001 1\r\n".to_owned()),
    ] {
        let stream = request.repeat(PIPELINED);
        let mut scratch = Scratch::default();
        let limits = Limits::default();
        let cost = best(|| parse(protocol, stream.as_bytes(), &limits, &mut scratch));
        println!("{protocol:?} request  {name:<14} {cost:>7.1} ns");
    }
    for (protocol, name, response) in [
        (Protocol::Redis, "+OK", "+OK\r\n".to_owned()),
        (Protocol::Redis, "bulk 64", format!("$64\r\n{value}\r\n")),
        (
            Protocol::Redis,
            "10 bulks",
            format!("*10\r\n{}", format!("$64\r\n{value}\r\n").repeat(10)),
        ),
        (Protocol::Memcache, "STORED", "STORED\r\n".to_owned()),
        (Protocol::Memcache, "value 64", format!("VALUE key:000001 0 64\r\n{value}\r\nEND\r\n")),
    ] {
        let stream = response.repeat(PIPELINED);
        let cost = best(|| frame(protocol, stream.as_bytes(), &Limits::default()));
        println!("{protocol:?} response {name:<14} {cost:>7.1} ns");
    }
}

fn best(mut pass: impl FnMut()) -> f64 {
    let mut best = f64::MAX;
    for _ in 0..RUNS {
        let start = Instant::now();
        let mut passes = 0;
        while start.elapsed() < RUN_TIME {
            (0..100).for_each(|_| pass());
            passes += 100;
        }
        let ns = start.elapsed().as_nanos() as f64;
        best = best.min(ns / (passes * PIPELINED) as f64);
    }
    best
}

fn parse(protocol: Protocol, stream: &[u8], limits: &Limits, scratch: &mut Scratch) {
    let mut state = RequestState::default();
    let mut rest = black_box(stream);
    while !rest.is_empty() {
        match protocol.parse_request(&mut state, rest, limits, scratch) {
            Parsed::Request(request) => {
                black_box(&request);
                rest = &rest[request.size..];
            }
            other => panic!("the requests here are all good: {other:?}"),
        }
    }
}

fn frame(protocol: Protocol, stream: &[u8], limits: &Limits) {
    let mut state = ResponseState::default();
    let mut rest = black_box(stream);
    while !rest.is_empty() {
        match protocol.frame_response(&mut state, rest, limits) {
            Framed::Complete { size } => rest = &rest[size..],
            other => panic!("the responses here are all good: {other:?}"),
        }
    }
}
