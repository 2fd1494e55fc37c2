//! Words and calls that do not belong in the house, or not in some of its crates.
//!
//! It looks at names only and resolves nothing. Invariant: what a string literal says is never
//! counted as code.

use crate::source::Source;
use crate::{Rule, Tree, Violation, scanner};

/// Crates that take time as an argument and bytes as a parameter, so that a test or the simulation
/// decides what they see: layers 1 and 2 but for `event`.
pub const PURE_CRATES: &[&str] = &["protocol", "routing", "proxy", "embedded"];

/// What a pure crate must not name outside its tests. Maps and sets are a matter of their hasher:
/// see [`random_hasher`].
const IMPURE: &[&str] = &[
    "Instant::now",
    "SystemTime",
    "std::thread",
    "thread::sleep",
    "thread::spawn",
    "RandomState",
    "TcpListener",
    "TcpStream",
    "UdpSocket",
    "UnixListener",
    "UnixStream",
];

/// What reads the time of day, in the libraries that the house uses.
const WALL_CLOCK: &[&str] =
    &["SystemTime", "CLOCK_REALTIME", "CLOCK_REALTIME_COARSE", "Realtime", "gettimeofday"];

/// Banned words, unfinished code, impure calls, clocks that jump, and sleeps in tests.
pub fn check(tree: &Tree) -> Vec<Violation> {
    let mut violations = Vec::new();
    for source in tree.sources.values() {
        violations.extend(bare_ring(source));
        violations.extend(unfinished(source));
        violations.extend(sleeps_in_tests(source));
        violations.extend(wall_clock(source));
        if source.crate_name() == "proxy" {
            violations.extend(protocol_names(source));
        }
        if PURE_CRATES.contains(&source.crate_name()) {
            violations.extend(impure(source));
        }
    }
    violations
}

/// The bare word means five things in this trade; say Continuum, Uring, mailbox or buffer ring.
fn bare_ring(source: &Source) -> Vec<Violation> {
    let mut violations = Vec::new();
    for half in [&source.code, &source.comments] {
        let mut before = "";
        for (range, word) in scanner::words(half) {
            let banned = ["ring", "rings"].iter().any(|bare| word.eq_ignore_ascii_case(bare));
            if banned && !before.eq_ignore_ascii_case("buffer") {
                let message = "say which kind: Continuum, Uring, mailbox or buffer ring".to_owned();
                violations.push(source.violation(Rule::BannedWord, range.start, word, message));
            }
            before = word;
        }
    }
    violations
}

/// The proxy core knows a `Protocol`, not the protocols; that is why strings count here as well.
fn protocol_names(source: &Source) -> Vec<Violation> {
    let mut violations = Vec::new();
    let text = source.text.to_ascii_lowercase();
    for name in ["redis", "memcache"] {
        for (offset, _) in text.match_indices(name).filter(|(at, _)| !source.is_test_at(*at)) {
            let message = format!("`{name}` belongs in the tables of `protocol`");
            violations.push(source.violation(Rule::BannedWord, offset, name, message));
        }
    }
    violations
}

fn unfinished(source: &Source) -> Vec<Violation> {
    let mut violations = Vec::new();
    for (range, word) in scanner::words(&source.code) {
        let is_macro = source.code[range.end..].starts_with('!');
        if is_macro && matches!(word, "todo" | "unimplemented" | "dbg") {
            let message = format!("`{word}!` is not for code that is kept");
            violations.push(source.violation(Rule::Unfinished, range.start, word, message));
        }
    }
    for (offset, _) in source.code.match_indices(".unwrap()") {
        if !source.is_test_at(offset) {
            let message = "say with `expect` why it cannot fail, or return the error".to_owned();
            violations.push(source.violation(Rule::Unfinished, offset, "unwrap", message));
        }
    }
    violations
}

fn impure(source: &Source) -> Vec<Violation> {
    let mut violations = Vec::new();
    let mut found: Vec<(usize, &str)> = Vec::new();
    for name in IMPURE {
        let last = name.rsplit("::").next().unwrap_or(name);
        for start in scanner::word_starts(&source.code, last) {
            let begin = (start + last.len()).saturating_sub(name.len());
            if source.code.is_char_boundary(begin) && source.code[begin..].starts_with(name) {
                found.push((begin, name));
            }
        }
    }
    found.extend(random_hasher(&source.code).map(|offset| (offset, "random hasher")));
    for (offset, name) in found {
        if !source.is_test_at(offset) {
            let message = format!("{name}: this crate is pure; take it as an argument");
            violations.push(source.violation(Rule::Impure, offset, name, message));
        }
    }
    violations
}

/// The time of day jumps when somebody sets it. Time-outs, ages and rates by it would all be wrong
/// at once, so it is for people to read and nothing else. Pure crates may not have any clock.
fn wall_clock(source: &Source) -> Vec<Violation> {
    let mut violations = Vec::new();
    for (range, word) in scanner::words(&source.code) {
        let may_have_clocks = !PURE_CRATES.contains(&source.crate_name());
        if may_have_clocks && WALL_CLOCK.contains(&word) && !source.is_test_at(range.start) {
            let message = format!("{word} jumps: measure by `Instant` or `event`'s clock");
            violations.push(source.violation(Rule::WallClock, range.start, word, message));
        }
    }
    violations
}

/// Places where a `HashMap` or `HashSet` gets the standard library's hasher, which is seeded at
/// random: a constructor that only that hasher has, or a type that names no hasher.
fn random_hasher(code: &str) -> impl Iterator<Item = usize> {
    scanner::words(code).filter_map(move |(range, word)| {
        let types = match word {
            "HashMap" => 2,
            "HashSet" => 1,
            _ => return None,
        };
        let mut rest = code[range.end..].trim_start();
        rest = rest.strip_prefix("::").unwrap_or(rest).trim_start();
        let random = if rest.starts_with('<') {
            type_arguments(rest) <= types
        } else {
            let call = scanner::words(rest).next().map_or("", |(_, word)| word);
            rest.starts_with(call) && matches!(call, "new" | "with_capacity" | "from")
        };
        random.then_some(range.start)
    })
}

/// How many arguments the list at the start of `text` has; lifetimes count.
fn type_arguments(text: &str) -> usize {
    let (mut depth, mut count, mut some) = (0, 0, false);
    let mut before = ' ';
    for c in text.chars() {
        match c {
            '<' | '(' | '[' => depth += 1,
            '>' if before == '-' => {}
            '>' | ')' | ']' => depth -= 1,
            ',' if depth == 1 => {
                count += usize::from(some);
                some = false;
            }
            c if !c.is_whitespace() => some = true,
            _ => {}
        }
        before = c;
        if depth == 0 {
            break;
        }
    }
    count + usize::from(some)
}

/// A test that sleeps is slow when all is well and fails when the machine is slow.
fn sleeps_in_tests(source: &Source) -> Vec<Violation> {
    let mut violations = Vec::new();
    for (range, word) in scanner::words(&source.code) {
        let is_call = source.code[range.end..].trim_start().starts_with('(');
        let declares = source.code[..range.start].trim_end().ends_with("fn");
        let sleeps = matches!(word, "sleep" | "sleep_ms" | "park_timeout") && is_call && !declares;
        if sleeps && source.is_test_at(range.start) {
            let message = "wait for what the test needs, not for time".to_owned();
            violations.push(source.violation(Rule::SleepInTest, range.start, word, message));
        }
    }
    violations
}

#[cfg(test)]
mod tests {
    use super::*;

    fn found(path: &str, text: &str) -> Vec<String> {
        check(&Tree::of(&[(path, text)])).into_iter().map(|violation| violation.item).collect()
    }

    #[test]
    fn the_bare_word_is_told_in_code_and_comments() {
        for (text, want) in [
            ("let ring = 1;", vec!["ring"]),
            ("// The ring, the Rings.", vec!["ring", "Rings"]),
            ("struct Ring;", vec!["Ring"]),
            ("/// A buffer\n/// ring of a Uring, io_uring, BufferRing, buffer_ring.", vec![]),
            ("let a = \"ring\"; let string = b; // string, bring", vec![]),
        ] {
            assert_eq!(found("crates/event/src/a.rs", text), want, "{text}");
        }
    }

    #[test]
    fn protocols_have_no_name_in_the_proxy_core() {
        for text in ["a(Redis)", "// memcached", "a(\"redis\")", "let is_redis = 1;"] {
            assert_eq!(found("crates/proxy/src/a.rs", text).len(), 1, "{text}");
            assert_eq!(found("crates/proxy/tests/a.rs", text), [""; 0]);
            assert_eq!(found("crates/embedded/src/a.rs", text), [""; 0]);
            let test = format!("#[cfg(test)]\nmod tests {{\n{text}\n}}");
            assert_eq!(found("crates/proxy/src/a.rs", &test), [""; 0]);
        }
    }

    #[test]
    fn unfinished_code_is_told_even_in_tests() {
        for name in ["todo", "unimplemented", "dbg"] {
            for text in [format!("{name}!(a)"), format!("#[test] fn a() {{ {name}!() }}")] {
                assert_eq!(found("crates/weir/src/a.rs", &text).len(), 1, "{text}");
            }
            let harmless = format!("// {name}!()\nlet {name} = \"{name}!(\";");
            assert_eq!(found("crates/weir/src/a.rs", &harmless), [""; 0]);
        }
    }

    #[test]
    fn unwrap_is_for_tests() {
        assert_eq!(found("crates/weir/src/a.rs", "a.unwrap()"), ["unwrap"]);
        assert_eq!(found("crates/weir/src/a.rs", "a.unwrap_or(b) // .unwrap()"), [""; 0]);
        assert_eq!(found("crates/weir/src/a.rs", "#[test] fn b() { a.unwrap() }"), [""; 0]);
        assert_eq!(found("crates/weir/tests/a.rs", "a.unwrap()"), [""; 0]);
    }

    #[test]
    fn pure_crates_read_no_clock_and_start_no_thread() {
        for (text, item) in [
            ("let a = Instant::now();", "Instant::now"),
            ("use std::thread;", "std::thread"),
            ("use std::collections::hash_map::RandomState;", "RandomState"),
            ("use std::net::TcpStream;", "TcpStream"),
        ] {
            assert_eq!(found("crates/routing/src/a.rs", text), [item]);
            assert_eq!(found("crates/event/src/a.rs", text), [""; 0]);
            assert_eq!(found("crates/routing/tests/a.rs", text), [""; 0]);
        }
        assert_eq!(found("crates/routing/src/a.rs", "use std::time::Instant; b::now()"), [""; 0]);
    }

    #[test]
    fn the_clock_on_the_wall_is_read_by_tests_alone() {
        for (text, item) in [
            ("let a = SystemTime::now();", "SystemTime"),
            ("libc::clock_gettime(libc::CLOCK_REALTIME, &mut a)", "CLOCK_REALTIME"),
            ("clock_gettime(ClockId::Realtime)", "Realtime"),
        ] {
            assert_eq!(found("crates/runtime/src/a.rs", text), [item]);
            assert_eq!(found("crates/event/tests/a.rs", text), [""; 0]);
        }
        assert_eq!(found("crates/proxy/src/a.rs", "SystemTime::now()"), ["SystemTime"], "impure");
        for text in ["Instant::now()", "libc::CLOCK_MONOTONIC", "// SystemTime"] {
            assert_eq!(found("crates/event/src/a.rs", text), [""; 0], "{text}");
        }
    }

    #[test]
    fn pure_crates_name_the_hasher_of_a_map() {
        for (text, count) in [
            ("HashMap::new()", 1),
            ("HashSet::with_capacity(1)", 1),
            ("let a: HashMap<u8, (u8, u8)> = b;", 1),
            ("b.collect::<HashSet<Vec<u8>>>()", 1),
            ("HashMap::<u8, fn(u8) -> u8>::default()", 1),
            ("let a: HashMap<u8, u8, FixedState> = HashMap::default();", 0),
            ("let a: HashSet<u8, FixedState,> = HashSet::with_hasher(b);", 0),
            ("use std::collections::HashMap;", 0),
            ("// HashMap::new()", 0),
        ] {
            assert_eq!(found("crates/proxy/src/a.rs", text).len(), count, "{text}");
        }
    }

    #[test]
    fn tests_do_not_sleep() {
        for text in ["std::thread::sleep(a);", "sleep(a);", "thread::park_timeout(a);"] {
            assert_eq!(found("crates/weir/tests/a.rs", text).len(), 1, "{text}");
            let test = format!("#[test] fn b() {{ {text} }}");
            assert_eq!(found("crates/event/src/a.rs", &test).len(), 1, "{text}");
            assert_eq!(found("crates/event/src/a.rs", text), [""; 0]);
        }
        assert_eq!(found("crates/weir/tests/a.rs", "fn sleep() {} // sleep(a)"), [""; 0]);
    }
}
