//! Conversations with a memcached pool: as `redis.rs`. Keys `k0` to `k9` are of one server, `k10`
//! to `k19` of the other.

use super::State::{Healthy, Refusing};
use super::{Row, State};

/// Lines, separated by bars.
#[rustfmt::skip]
const SAID: &[Row] = &[
    // Storing.
    ("set k0 0 0 3|one|get k0", ""),
    ("set k0 4294967295 0 1|a|get k0", ""),
    ("set k0 0 0 0||get k0", ""),
    ("set k0 0 0 11|END|STORED|get k0", ""),
    ("add k0 0 0 1|a|add k0 0 0 1|b|get k0", ""),
    ("replace k0 0 0 1|a|set k0 0 0 1|b|replace k0 1 0 1|c|get k0", ""),
    ("append k0 0 0 1|a|set k0 5 0 1|b|append k0 0 0 1|c|prepend k0 0 0 2|aa|get k0", ""),
    ("cas k0 0 0 1 1|a|set k0 0 0 1|a|cas k0 0 0 1 18446744073709551615|b|get k0", ""),
    ("set k0 0 100 1|a|touch k0 100|touch k0 -1|get k0", ""),
    ("set k0 0 0 1|a|touch k1 0|touch k0 0|get k0", ""),
    ("delete k0|set k0 0 0 1|a|delete k0|delete k0|get k0", ""),
    ("  set k0 0 0 1|a|  get   k0", ""),
    ("set k0  0  0  1 |a|get k0 ", ""),
    ("set k0 00 0 01|a|get k0", ""),
    // Reading.
    ("get k0|gets k0|get k10", ""),
    ("set k0 0 0 1|a|set k10 0 0 1|b|get k0 k10|get k10 k0", ""),
    ("set k0 0 0 1|a|set k1 0 0 1|b|get k0 k1 k2", ""),
    ("get k0 k10 k1 k11", ""),
    ("set k10 0 0 1|a|set k1 0 0 1|b|get k0 k10 k1", "D15"),
    // Numbers.
    ("set k0 0 0 2|10|incr k0 5|decr k0 100|incr k1 1|get k0", ""),
    ("set k0 0 0 1|x|incr k0 1|decr k0 1", ""),
    ("set k0 0 0 1|1|incr k0 -1|incr k0 18446744073709551615", ""),
    // In silence.
    ("set k0 0 0 1 noreply|a|get k0", ""),
    ("set k0 0 0 1 noreply|1|incr k0 4 noreply|get k0", ""),
    ("set k0 0 0 1 noreply|1|delete k0 noreply|get k0", ""),
    ("set k0 0 0 1 noreply|1|touch k0 100 noreply|add k0 0 0 1 noreply|x|get k0", ""),
    ("append k0 0 0 1 noreply|x|get k0", ""),
    ("cas k0 0 0 1 5 noreply|x|get k0", ""),
    // About the server and the connection.
    ("version", ""),
    ("quit", ""),
    ("set k0 0 0 1|a|quit|get k0", ""),
    ("get k0|version|get k10", ""),
    // What only Weir takes.
    ("set k0 0 -1 1|a|get k0", "B21"),
    ("delete k0 0", "B21"),
    ("delete k0 0 noreply|get k0", "B21"),
    ("gat 100 k0", "D13"),
    ("gats 100 k0", "D13"),
    ("gat 100 k0 k10", "D13"),
    // What Weir answers itself.
    ("flush_all", "D1"),
    ("flush_all 0 noreply|get k0", "D1"),
    ("verbosity 1", "D1"),
    ("stats", "D1"),
    ("stats items", "D1"),
    ("mn", "D38"),
    ("mg k0 v", "D38"),
    ("ms k0 1|a", "D38"),
    ("md k0", "D38"),
    ("ma k0", "D38"),
    ("me k0", "D38"),
    ("slabs reassign 1 2", "D1"),
    ("lru mode flat", "D1"),
    ("cache_memlimit 64", "D1"),
    ("watch", "D1"),
    ("shutdown", "D1"),
    ("GET k0", "D1"),
    ("Set k0 0 0 1|a", "D1"),
    ("nonsense", "D1"),
    ("", "D1"),
    // Mistakes.
    ("get", "D2"),
    ("gets", "D2"),
    ("set", "D2"),
    ("set k0", "D2"),
    ("set k0 0 0", "D2"),
    ("add k0 0", "D2"),
    ("cas k0 0 0 1|a", "D2"),
    ("delete", "D2"),
    ("delete k0 1 2 3", "D2"),
    ("incr k0", "D2"),
    ("incr", "D2"),
    ("decr k0", "D2"),
    ("touch k0", "D2"),
    ("set k0 x 0 1|a", "D16"),
    ("set k0 -1 0 1|a", "D16"),
    ("set k0 0 x 1|a", "D16"),
    ("set k0 0 0 x", "D16"),
    ("set k0 0 0 -1", "D16"),
    ("set k0 0 0 1|ab", "D16"),
    ("set k0 0 0 2|abc", "D16"),
    ("delete k0 5", "D16"),
    ("incr k0 x", "D16"),
    ("touch k0 x", "D16"),
    ("cas k0 0 0 1 x|a", "D16"),
    ("set k0 0 0 4294967297|a", "B2"),
    ("set k0 0 0 99999999999999999999", "B2"),
];

/// The same when the first server refuses connections.
#[rustfmt::skip]
const REFUSED: &[Row] = &[
    ("set k10 0 0 1|a|get k10", ""),
    ("get k0", ""),
    ("set k0 0 0 1|a|incr k0 1|delete k0|touch k0 1", ""),
    ("get k10|get k0|get k11", ""),
    ("set k0 0 0 1 noreply|a|get k10", ""),
    ("get k0 k10", "B8"),
    ("get k0 k1", "B8"),
];

/// Bytes.
#[rustfmt::skip]
const RAW: &[Row] = &[
    ("set k0 0 0 1\na\r\nget k0\r\n", "D17"),
    ("get k0\tx\r\n", "B22"),
    ("get k\x01\r\n", "B22"),
    ("get k\x7f\r\n", "B22"),
    ("get k0\0\r\n", "B22"),
    ("get schl\u{fc}ssel\r\n", ""),
    ("\u{0}\r\n", "D1"),
];

/// All conversations: the state of the servers, what is said, and the row of the table.
pub(crate) fn all() -> Vec<(State, String, Vec<u8>, &'static str)> {
    let said = |state: State, (text, row): &Row| {
        (state, (*text).to_owned(), (text.replace('|', "\r\n") + "\r\n").into_bytes(), *row)
    };
    let mut all: Vec<_> = SAID.iter().map(|row| said(Healthy, row)).collect();
    all.extend(REFUSED.iter().map(|row| said(Refusing, row)));
    all.extend(RAW.iter().map(|(bytes, row)| {
        (Healthy, bytes.escape_debug().to_string(), bytes.as_bytes().to_vec(), *row)
    }));
    for (size, row) in [(250, ""), (251, "D18"), (5000, "D18")] {
        let bytes = format!("get {}\r\n", "k".repeat(size)).into_bytes();
        all.push((Healthy, format!("get a key of {size} bytes"), bytes, row));
    }
    let value = "v".repeat(500_000);
    let value = format!("set k0 0 0 {}\r\n{value}\r\nget k0\r\n", value.len()).into_bytes();
    all.push((Healthy, "a value of 500 kB".to_owned(), value, ""));
    let too_large = format!("set k0 0 0 2000000\r\n{}\r\nget k0\r\n", "v".repeat(2_000_000));
    all.push((Healthy, "a value too large".to_owned(), too_large.into_bytes(), ""));
    all
}
