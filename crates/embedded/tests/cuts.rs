//! However the input is cut into pieces, the output is the same.

use base::Time;
use embedded::{Outcome, Session, Store, StoreOptions};
use proptest::prelude::*;
use protocol::Protocol;

/// Pieces of conversations, sound and broken.
const REDIS: &[&str] = &[
    "*3\r\n$3\r\nSET\r\n$1\r\na\r\n$12\r\nline\r\n\r\nline\r\n",
    "*2\r\n$3\r\nGET\r\n$1\r\na\r\n",
    "*1\r\n$4\r\nPING\r\n",
    "*4\r\n$5\r\nRPUSH\r\n$1\r\nl\r\n$0\r\n\r\n$1\r\nx\r\n",
    "*4\r\n$6\r\nLRANGE\r\n$1\r\nl\r\n$1\r\n0\r\n$2\r\n-1\r\n",
    "*2\r\n$4\r\nINCR\r\n$1\r\nn\r\n",
    "*0\r\n",
    "*-1\r\n",
    "\r\n",
    "PING inline\n",
    "  SET  n 10 \r\n",
    "*2\r\n$3\r\nFOO\r\n$3\r\n\r\nx\r\n",
    "*1\r\n$3\r\nGET\r\n",
];
const REDIS_ENDS: &[&str] =
    &["", "*1\r\n$4\r\nPI", "*x\r\n", "*1\r\n+\r\n", "*1\r\n$x\r\n", "QUIT\r\nPING\r\n"];

const MEMCACHE: &[&str] = &[
    "set a 1 0 12\r\nline\r\n\r\nline\r\n",
    "get a b\r\n",
    "gets a\n",
    "set b 0 0 0\r\n\r\n",
    "append b 0 0 2\r\n12\r\n",
    "incr b 1\r\n",
    "set a 0 0 3\r\ntoo long\r\n",
    "set a 0 0\r\n",
    "set a 0 0 2 noreply\r\n\r\n\r\n",
    "set c 0 0 1048600\r\n",
    "\r\n",
    "foo  bar\r\n",
    "delete a\r\n",
];
const MEMCACHE_ENDS: &[&str] = &["", "set a 0 0 4\r\nab", "get ", "quit\r\nget a\r\n"];

/// The output for `input` in pieces that end at `cuts`, and whether the connection is open.
fn run(protocol: Protocol, input: &[u8], cuts: &[usize]) -> (String, Outcome, usize) {
    let mut store = Store::new(StoreOptions::default());
    let mut session = Session::new(protocol);
    let mut out = Vec::new();
    let mut outcome = Outcome::Open;
    let mut start = 0;
    for end in cuts.iter().copied().chain([input.len()]) {
        outcome = session.handle(&mut store, &input[start..end], Time::ZERO, &mut out);
        start = end;
    }
    (out.escape_ascii().to_string(), outcome, store.bytes())
}

/// Inputs: some pieces, one end, and where to cut them.
fn inputs(
    pieces: &'static [&'static str],
    ends: &'static [&'static str],
) -> impl Strategy<Value = (Vec<u8>, Vec<usize>)> {
    let pieces = prop::collection::vec(prop::sample::select(pieces), 0..12);
    (pieces, prop::sample::select(ends)).prop_flat_map(|(pieces, end)| {
        let input = [pieces.concat(), end.to_owned()].concat().into_bytes();
        let cuts = prop::collection::vec(0..=input.len(), 0..8).prop_map(|mut cuts| {
            cuts.sort_unstable();
            cuts
        });
        (Just(input), cuts)
    })
}

fn assert_same(protocol: Protocol, input: &[u8], cuts: &[usize]) {
    let whole = run(protocol, input, &[]);
    assert_eq!(run(protocol, input, cuts), whole, "cut at {cuts:?}");
    let every_byte: Vec<usize> = (0..input.len()).collect();
    assert_eq!(run(protocol, input, &every_byte), whole, "byte by byte");
}

proptest! {
    #![proptest_config(ProptestConfig {
        cases: 200,
        failure_persistence: None,
        ..ProptestConfig::default()
    })]

    #[test]
    fn redis_output_does_not_depend_on_cuts((input, cuts) in inputs(REDIS, REDIS_ENDS)) {
        assert_same(Protocol::Redis, &input, &cuts);
    }

    #[test]
    fn memcache_output_does_not_depend_on_cuts(
        (input, cuts) in inputs(MEMCACHE, MEMCACHE_ENDS),
    ) {
        assert_same(Protocol::Memcache, &input, &cuts);
    }

    #[test]
    fn any_bytes_are_survived(
        input in prop::collection::vec(any::<u8>(), 0..300),
        cut in 0_usize..300,
    ) {
        for protocol in [Protocol::Redis, Protocol::Memcache] {
            let cut = cut.min(input.len());
            assert_same(protocol, &input, &[cut]);
        }
    }
}

/// A long request in many pieces must not be looked at from its start each time: that would be
/// 64 GiB of work here, which no one would wait for.
#[test]
fn a_large_value_in_small_pieces_is_read_once() {
    let size = 16 << 20;
    let value = vec![b'v'; size];
    let head = format!("*3\r\n$3\r\nSET\r\n$1\r\na\r\n${size}\r\n");
    let input = [head.as_bytes(), &value, b"\r\n"].concat();
    let cuts: Vec<usize> = (0..input.len()).step_by(2048).collect();
    let (out, _, _) = run(Protocol::Redis, &input, &cuts);
    assert_eq!(out, "+OK\\r\\n");
}
