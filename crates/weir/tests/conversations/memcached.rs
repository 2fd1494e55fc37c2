//! Conversations with memcached: what clients say, right and wrong. Not what is answered: a server
//! is asked for that. Keys `k0` to `k9` are of one server, `k10` to `k19` of the other.

use super::Conversation;

/// Lines, each with its end.
fn said(lines: &str) -> Vec<u8> {
    (lines.replace('|', "\r\n") + "\r\n").into_bytes()
}

/// Everything that Weir promises to pass on, or to answer, as a server does.
pub(crate) fn all() -> Vec<Conversation> {
    [storing(), reading(), numbers(), silent(), forms(), mistakes(), long()]
        .into_iter()
        .flatten()
        .collect()
}

fn storing() -> Vec<Conversation> {
    vec![
        ("a value that was stored", said("set k0 0 0 3|one|get k0")),
        ("flags", said("set k0 4294967295 0 1|a|get k0|set k0 7 0 1|b|get k0")),
        ("an empty value", said("set k0 0 0 0||get k0")),
        ("a value like commands", said("set k0 0 0 21|get k0|END|flush_all|get k0")),
        ("any bytes", b"set k0 0 0 8\r\n\0\r\n\xff \r\n!\r\nget k0\r\n".to_vec()),
        ("only if absent", said("add k0 0 0 1|a|add k0 0 0 1|b|get k0")),
        ("only if there", said("replace k0 0 0 1|a|set k0 0 0 1|b|replace k0 1 0 1|c|get k0")),
        (
            "more of it",
            said(
                "append k0 0 0 1|a|set k0 5 0 1|b|append k0 0 0 1|c|prepend k0 0 0 2|aa|\
             get k0",
            ),
        ),
        (
            "compare and swap",
            said("cas k0 0 0 1 1|a|set k0 0 0 1|a|cas k0 0 0 1 18446744073709551615|b|get k0"),
        ),
        ("deleting", said("delete k0|set k0 0 0 1|a|delete k0|delete k0|get k0|delete k0 0")),
        (
            "times to live",
            said(
                "touch k0 100|set k0 0 -1 1|a|get k0|set k0 0 100 1|a|touch k0 0|get k0|\
             touch k0 -1|get k0",
            ),
        ),
    ]
}

fn reading() -> Vec<Conversation> {
    let many: String = (0..20).map(|i| format!("set k{i} {i} 0 2|v{}|", i % 10)).collect();
    let many = many + "get k19 k0 k18 k1 k17 k2 k16 k3 k15 k4 k14 k5 k13 k6 k12 k7 k11 k8 k10 k9";
    vec![
        ("a value that is not there", said("get k0|get k10 k0")),
        ("values of both servers", said(&many)),
        ("some are not there", said("set k10 0 0 1|a|set k1 0 0 1|b|get k0 k10 k11 k1 k12")),
        ("the same key again", said("set k0 0 0 1|a|set k10 0 0 1|b|get k0 k10 k0 k0 k10")),
        (
            "reading and touching",
            said(
                "gat 100 k0|set k0 3 0 1|a|set k10 4 0 1|b|gat 100 k0|gat 0 k10 k0 k1|\
             gat -1 k0|get k0",
            ),
        ),
        ("the longest key", said(&format!("set {0} 0 0 1|a|get {0}|delete {0}", "k".repeat(250)))),
        ("the version", said("version|get k0")),
        (
            "a pipeline over both servers",
            said(
                "set k0 0 0 1|1|set k10 0 0 2|10|get k0|incr k10 1|get k10 k0|nosuch|\
             delete k0|get k0|get k10",
            ),
        ),
    ]
}

fn numbers() -> Vec<Conversation> {
    vec![
        (
            "counting",
            said(
                "incr k0 1|set k0 0 0 1|9|incr k0 1|incr k0 90|decr k0 1|get k0|\
             decr k0 1000|get k0",
            ),
        ),
        ("counting down to fewer digits", said("set k0 0 0 2|10|decr k0 1|get k0")),
        (
            "counting past the end",
            said("set k0 0 0 20|18446744073709551615|incr k0 2|incr k0 18446744073709551615"),
        ),
        (
            "counting what is no number",
            said(
                "set k0 0 0 1|a|incr k0 1|decr k0 1|incr k0 x|incr k0 -1|\
             incr k0 18446744073709551616",
            ),
        ),
    ]
}

fn silent() -> Vec<Conversation> {
    vec![
        (
            "storing in silence",
            said(
                "set k0 0 0 1 noreply|a|get k0|add k0 0 0 1 noreply|b|\
             append k0 0 0 1 noreply|c|get k0",
            ),
        ),
        (
            "counting in silence",
            said(
                "set k10 0 0 1 noreply|1|incr k10 5 noreply|decr k10 2 noreply|get k10|\
             touch k10 0 noreply|delete k10 noreply|get k10",
            ),
        ),
        (
            "silence and both servers",
            said(
                "set k0 0 0 1 noreply|a|set k10 0 0 1|b|delete k0 noreply|get k10 k0|\
             delete k10 noreply|get k10",
            ),
        ),
    ]
}

fn forms() -> Vec<Conversation> {
    vec![
        ("more spaces", said("set  k0   0 0 1 |a|get   k0 |  get k0|incr k0  1")),
        ("a bare LF", b"set k0 0 0 3\nabc\r\nget k0\ndelete k0\n".to_vec()),
        ("leading zeros", said("set k0 007 00 003|abc|get k0|set k0 0 0 1|5|incr k0 010|get k0")),
        ("leaving", said("set k0 0 0 1|a|quit|get k0")),
    ]
}

fn mistakes() -> Vec<Conversation> {
    vec![
        ("unknown commands", said("nosuch|nosuch k0 1|GET k0||get k0")),
        ("too few words", said("get|gets|set k0|delete|incr k0|touch k0|gat|get k0")),
        ("a key that is too long", said(&format!("get {}|get k0", "k".repeat(251)))),
        ("a long key among others", said(&format!("get k0 {}|get k0", "k".repeat(251)))),
        ("a block that is too long", said("set k0 0 0 3|abcdef|get k0")),
        ("numbers that are none", said("incr k0 x|touch k0 x|gat x k0|decr k0 ")),
        ("a time for deleting", said("delete k0 5|delete k0 0 noreply|get k0")),
    ]
}

fn long() -> Vec<Conversation> {
    vec![
        (
            "a value of 70,000 bytes",
            said(&format!("set k0 0 0 70000|{}|get k0", "v".repeat(70_000))),
        ),
        (
            "a value that is too large",
            said(&format!("set k0 0 0 2000000|{}|get k0", "v".repeat(2_000_000))),
        ),
    ]
}
