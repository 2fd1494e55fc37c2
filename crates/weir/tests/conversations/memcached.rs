//! Conversations with memcached: what clients say, right and wrong. Not what is answered: a server
//! is asked for that. Keys `k0` to `k9` are of one server, `k10` to `k19` of the other.

use super::Conversation;

/// Lines, each with its end.
fn said(lines: &str) -> Vec<u8> {
    (lines.replace('|', "\r\n") + "\r\n").into_bytes()
}

/// Everything that Weir promises to pass on, or to answer, as a server does.
pub(crate) fn all() -> Vec<Conversation> {
    [storing(), reading(), numbers(), silent(), forms(), mistakes(), long(), meta(), meta_wrong()]
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

/// The unique numbers of items differ between servers, so none is asked for.
fn meta() -> Vec<Conversation> {
    vec![
        (
            "meta: values and misses",
            said(
                "mg k0|mg k0 v|ms k0 2 F5|ab|mg k0|mg k0 v|mg k0 s f t v k Oabc|mg k10 k O1|\
                 ms k10 0||mg k10 v f|mg k0 v T100 t|mg k0 t",
            ),
        ),
        (
            "meta: modes",
            said(
                "ms k0 1 ME|a|ms k0 1 ME O9|b|ms k0 1 MA|c|ms k0 1 MP k|d|ms k10 1 MR|x|\
                 ms k10 1 MA|x|mg k0 v|ms k0 1 MZ|e|ms k0 1 Mappend|e|mg k0 v",
            ),
        ),
        (
            "meta: deleting",
            said("md k0|md k0 k O1|ms k0 1|a|md k0 O1 k|mg k0|ms k0 1|a|md k0 C0|md k0"),
        ),
        (
            "meta: stale items",
            said(
                "ms k0 1 T100|a|md k0 I T30|mg k0 v|mg k0 v|ms k0 1|b|mg k0 v|mg k1 N30 v|\
                 mg k1 N30 v k|mg k10 N30 R60 v O5|mg k10 R60 v",
            ),
        ),
        (
            "meta: numbers",
            said(
                "ma k0|ma k0 N0 J13 v|ma k0 v|ma k0 D10 v k O2|ma k0 MD D100 v|ma k0 MI|\
                 ma k10 N0|mg k10 v|ms k1 1|x|ma k1 v|ma k1 D|ma k0 Mx",
            ),
        ),
        (
            "meta: in silence",
            said(
                "mg k0 v q|mg k10 v q k|ms k0 1 q|a|ms k10 2 q O1|ab|mg k0 v q|mg k1 q O7|\
                 mg k10 q k|md k1 q|md k0 q|ma k1 q|ma k1 N0 v|ma k1 v q|ma k1 q|ma k1 v|\
                 ms k0 1 q ME|a|ms k0 1 q ME|b|ms k0 1 C1 q|c|mn|mg k0 v q|mn",
            ),
        ),
        (
            "meta: a batch over both servers",
            said(
                "ms k0 1|0|ms k10 2|10|mg k10 v k q|mg k1 v k q|mg k0 v k q|mg k11 v k q|\
                 get k0 k1 k10|mg k10 v k q|mn|get k0",
            ),
        ),
        (
            "meta: keys in base64",
            said(
                "ms azA= 2 b k O1|ab|mg azA= b k v|mg k0 k v|get k0|md azA= b k|mg k0|\
                 ms AP/+ 1 b|x|mg AP/+ b v k|mg AP/+ b k q v|md AP/+ b q|mg AP/+ b k q|mn|\
                 ma azE= b N0 J5 v k|mg k1 v k|ma azE= b v|ms DQpB 1 b|x|mg DQpB b k v|\
                 md DQpB b k",
            ),
        ),
        ("meta: nothing to do", said("mn|mn foo|mn q|get k0|mn")),
        (
            "meta: a value of 70,000 bytes",
            said(&format!("ms k0 70000 T0|{}|mg k0 v s", "v".repeat(70_000))),
        ),
        ("meta: a value like commands", said("ms k0 15|mn|md k0|mg k0||mg k0 v|mn")),
        ("meta: more spaces and a bare LF", b"ms  k0  02  T0 \nab\r\nmg  k0   v\nmn\n".to_vec()),
    ]
}

fn meta_wrong() -> Vec<Conversation> {
    let many = "z ".repeat(17);
    vec![
        ("meta: too few words", said("mg|ms|md|ma|me|ms k0|get k0")),
        (
            "meta: flags that are none",
            said("mg k0 z|ms k0 1 z|a|md k0 z|ma k0 z|mg k0 1|mg k0 noreply|get k0"),
        ),
        ("meta: flags twice", said("mg k0 v v|mg k0 q q|ms k0 1 q q|a|md k0 q q|ma k0 q v q|mn")),
        (
            "meta: tokens that are none",
            said("mg k0 Tx|mg k0 T|ms k0 1 T|a|ms k0 1 Cx q|a|ma k0 Dx|ma k0 Jx|md k0 Cx q|mn"),
        ),
        (
            "meta: opaque tokens",
            said(&format!("mg k0 O{}|mg k0 O{}|mg k0 q O|mn", "o".repeat(31), "o".repeat(32))),
        ),
        (
            "meta: many flags",
            said(&format!(
                "mg k0 {many}|mg k0 {many} z|mg k0 {many} z z z z z z|md k0 {many} z|ma k0 {many} z"
            )),
        ),
        (
            "meta: no base64",
            said("mg !!! b|mg azA b v|mg azA=x b|ms azA 1 b|a|ma azA b|md azA b q|me azA b|mn"),
        ),
        (
            "meta: long keys",
            said(&format!(
                "mg {0} v|md {0}|ma {0}|me {0}|mg {1} k",
                "k".repeat(251),
                "k".repeat(250)
            )),
        ),
        ("meta: no length", said("ms k0 S2|ab|ms k0 x|ab|ms k0 -1|ab|ms k0 T0 2|ab|mn")),
        ("meta: another length", said("ms k0 2|abc|ms k0 2 q|abcd|ms k0 5 q|abc|mn|mn")),
        (
            "meta: a value that is too large",
            said(&format!("ms k0 2000000 q|{}|mg k0 v|mn", "v".repeat(2_000_000))),
        ),
        ("meta: debugging", said("me k0|me k10 b|me k0 q k|mn")),
        ("meta: capitals", said("MG k0|Mg k0|mG k0|mx k0|MN")),
    ]
}
