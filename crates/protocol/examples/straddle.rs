//! What a request that straddles two receive buffers costs, handled in three ways: the prototype
//! behind `docs/decisions/001-straddling-requests.md`. Prints times and copied bytes for each.
//!
//! `cargo run --release -p protocol --example straddle`

#![allow(missing_docs)]

use std::hint::black_box;
use std::time::Instant;

use protocol::{Limits, Parsed, Protocol, RequestState, Scratch};

/// Parses the beginning of `bytes`: the size of the request, or how many bytes are missing.
fn parse(bytes: &[u8], state: &mut RequestState, scratch: &mut Scratch) -> Result<usize, usize> {
    match Protocol::Redis.parse_request(state, bytes, &Limits::default(), scratch) {
        Parsed::Request(request) => Ok(request.size),
        Parsed::Incomplete { need } => Err(need),
        other => panic!("the stream holds requests only: {other:?}"),
    }
}

#[derive(Default)]
struct Tally {
    requests: usize,
    copied: usize,
}

/// Every received byte is appended to the connection's buffer and parsed there.
fn always_append(stream: &[u8], cut: usize, scratch: &mut Scratch, tally: &mut Tally) {
    let (mut buffer, mut state) = (Vec::new(), RequestState::default());
    for piece in stream.chunks(cut) {
        buffer.extend_from_slice(piece);
        tally.copied += piece.len();
        let mut start = 0;
        while start < buffer.len()
            && let Ok(size) = parse(&buffer[start..], &mut state, scratch)
        {
            tally.requests += 1;
            start += size;
        }
        tally.copied += buffer.len() - start;
        buffer.drain(..start);
    }
}

/// Whole requests are parsed where they lie; when one is not whole, the rest of its buffer and all
/// of the next are appended.
fn append_when_straddling(stream: &[u8], cut: usize, scratch: &mut Scratch, tally: &mut Tally) {
    let (mut buffer, mut state) = (Vec::new(), RequestState::default());
    for piece in stream.chunks(cut) {
        let in_place = buffer.is_empty();
        if !in_place {
            buffer.extend_from_slice(piece);
            tally.copied += piece.len();
        }
        let bytes = if in_place { piece } else { buffer.as_slice() };
        let mut start = 0;
        while start < bytes.len()
            && let Ok(size) = parse(&bytes[start..], &mut state, scratch)
        {
            tally.requests += 1;
            start += size;
        }
        let rest = bytes[start..].to_vec();
        tally.copied += rest.len();
        buffer = rest;
    }
}

/// As shipped: only the request that straddles is gathered, with the bytes that the parser asks
/// for; parsing goes on in place behind it.
fn gather_what_is_needed(stream: &[u8], cut: usize, scratch: &mut Scratch, tally: &mut Tally) {
    let (mut buffer, mut state, mut need) = (Vec::new(), RequestState::default(), 0usize);
    for piece in stream.chunks(cut) {
        let mut rest = piece;
        while !buffer.is_empty() && !rest.is_empty() {
            let before = buffer.len();
            let size = need.max(64).min(rest.len());
            buffer.extend_from_slice(&rest[..size]);
            tally.copied += size;
            match parse(&buffer, &mut state, scratch) {
                Ok(request_size) => {
                    tally.requests += 1;
                    rest = &rest[request_size - before..];
                    buffer.clear();
                }
                Err(missing) => (need, rest) = (missing, &rest[size..]),
            }
        }
        while !rest.is_empty() {
            match parse(rest, &mut state, scratch) {
                Ok(size) => {
                    tally.requests += 1;
                    rest = &rest[size..];
                }
                Err(missing) => {
                    need = missing;
                    buffer.extend_from_slice(rest);
                    tally.copied += rest.len();
                    break;
                }
            }
        }
    }
}

type Strategy = (&'static str, fn(&[u8], usize, &mut Scratch, &mut Tally));

const STRATEGIES: [Strategy; 3] = [
    ("always append", always_append),
    ("append when straddling", append_when_straddling),
    ("gather what is needed", gather_what_is_needed),
];

fn main() {
    let small = b"*2\r\n$3\r\nGET\r\n$16\r\nkey:000000000123\r\n".repeat(100_000);
    let mut large = b"*3\r\n$3\r\nSET\r\n$16\r\nkey:000000000123\r\n$100000\r\n".to_vec();
    large.extend_from_slice(&[b'v'; 100_000]);
    large.extend_from_slice(b"\r\n");
    let large = large.repeat(200);
    for (name, stream, cut) in [
        ("GET, cut at 640 B", &small, 640),
        ("GET, cut at 4 KiB", &small, 4 << 10),
        ("GET, cut at 64 KiB", &small, 64 << 10),
        ("SET 100 KB, cut at 16 KiB", &large, 16 << 10),
        ("SET 100 KB, cut at 64 KiB", &large, 64 << 10),
    ] {
        println!("{name}");
        measure(stream, cut);
    }
}

/// Interleaved rounds; the median of each strategy.
fn measure(stream: &[u8], cut: usize) {
    let mut scratch = Scratch::default();
    let mut times: [Vec<f64>; 3] = Default::default();
    let mut copied = [0; 3];
    for _ in 0..15 {
        for (index, (_, strategy)) in STRATEGIES.iter().enumerate() {
            let mut tally = Tally::default();
            let started = Instant::now();
            strategy(black_box(stream), cut, &mut scratch, &mut tally);
            times[index].push(started.elapsed().as_nanos() as f64 / tally.requests as f64);
            copied[index] = tally.copied / tally.requests;
        }
    }
    for (index, (name, _)) in STRATEGIES.iter().enumerate() {
        times[index].sort_by(f64::total_cmp);
        println!("  {name:<24} {:>9.1} ns  {:>7} bytes copied", times[index][7], copied[index]);
    }
}
