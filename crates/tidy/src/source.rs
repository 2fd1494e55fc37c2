//! One Rust source file, split, with the parts of it that only tests compile.
//!
//! It does not know which module declares it: whether a whole file is test code is told to it by
//! `modules`. Invariant: an offset is test code exactly when no build that is shipped contains it,
//! as far as `#[cfg(test)]`, `#[test]` and the file's folder say so.

use std::ops::Range;

use crate::scanner::{self, Split};
use crate::{Rule, Violation};

/// A source file.
#[derive(Debug)]
pub struct Source {
    /// Path from the root of the repository.
    pub path: String,
    /// The text as it is.
    pub text: String,
    /// The text without comments and literals.
    pub code: String,
    /// The comments.
    pub comments: String,
    /// Whether all of it is test code.
    pub is_test: bool,
    test_ranges: Vec<Range<usize>>,
}

impl Source {
    /// Takes the text of the file at `path`.
    pub fn new(path: &str, text: &str) -> Source {
        let Split { code, comments } = scanner::split(text);
        let in_test_folder =
            path.split('/').any(|part| matches!(part, "tests" | "benches" | "examples"));
        let (test_ranges, is_test) = test_ranges(&code);
        Source {
            path: path.to_owned(),
            text: text.to_owned(),
            code,
            comments,
            is_test: is_test || in_test_folder,
            test_ranges,
        }
    }

    /// The crate under `crates/` that the file belongs to; empty for other files.
    pub fn crate_name(&self) -> &str {
        self.path.strip_prefix("crates/").and_then(|rest| rest.split('/').next()).unwrap_or("")
    }

    /// Whether only tests contain the code at `offset`.
    pub fn is_test_at(&self, offset: usize) -> bool {
        self.is_test || self.test_ranges.iter().any(|range| range.contains(&offset))
    }

    /// A violation at `offset` of this file.
    pub fn violation(&self, rule: Rule, offset: usize, item: &str, message: String) -> Violation {
        Violation {
            rule,
            path: self.path.clone(),
            line: scanner::line_of(&self.text, offset),
            item: item.to_owned(),
            message,
        }
    }
}

/// The items that only tests compile, and whether an inner attribute says so of the whole file.
fn test_ranges(code: &str) -> (Vec<Range<usize>>, bool) {
    let mut ranges = Vec::new();
    let mut whole = false;
    for (start, _) in code.match_indices('#') {
        let open = start + 1;
        let inner = code[open..].starts_with("![");
        if !inner && !code[open..].starts_with('[') {
            continue;
        }
        let open = open + usize::from(inner);
        let end = scanner::closing_end(code, open);
        if !is_test_attribute(&code[open..end]) {
            continue;
        }
        if inner {
            whole = true;
        } else {
            ranges.push(start..item_end(code, end));
        }
    }
    (ranges, whole)
}

/// Whether `attribute`, with its brackets, keeps its item out of every build but that of tests.
fn is_test_attribute(attribute: &str) -> bool {
    let compact: String = attribute.chars().filter(|c| !c.is_whitespace()).collect();
    matches!(compact.as_str(), "[test]" | "[cfg(test)]") || compact.starts_with("[cfg(all(test,")
}

/// Where the item whose attribute ends at `start` ends.
fn item_end(code: &str, start: usize) -> usize {
    let mut at = start;
    // Further attributes may stand between this one and the item.
    while let Some(skipped) = code[at..].find(|c: char| !c.is_whitespace())
        && code[at + skipped..].starts_with("#[")
    {
        at = scanner::closing_end(code, at + skipped + 1);
    }
    let body = scanner::body_start(code, at);
    if code[body..].starts_with('{') { scanner::closing_end(code, body) } else { body }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Which of the words w1 to w9 of `text` are test code.
    fn tested(path: &str, text: &str) -> Vec<String> {
        let source = Source::new(path, text);
        scanner::words(&source.code)
            .filter(|(_, word)| word.len() == 2 && word.starts_with('w'))
            .filter(|(range, _)| source.is_test_at(range.start))
            .map(|(_, word)| word.to_owned())
            .collect()
    }

    #[test]
    fn only_items_for_tests_are_test_code() {
        for (text, want) in [
            ("w1 #[cfg(test)] mod a { fn b() { w2 } } w3", vec!["w2"]),
            ("#[test]\n#[should_panic]\nfn a(b: [u8; 2]) { w1 } w2", vec!["w1"]),
            ("#[cfg(test)] use w1; use w2;", vec!["w1"]),
            ("#[cfg( all(test, unix) )] mod a { w1 }", vec!["w1"]),
            ("#[cfg(not(test))] mod a { w1 }", vec![]),
            ("#[cfg(any(test, unix))] mod a { w1 }", vec![]),
            ("#[derive(Debug)] struct A { w1: u8 }", vec![]),
            ("#![cfg(test)]\nw1", vec!["w1"]),
            ("// #![cfg(test)]\nw1", vec![]),
        ] {
            assert_eq!(tested("crates/a/src/lib.rs", text), want, "{text}");
        }
    }

    #[test]
    fn files_in_test_folders_are_test_code() {
        assert_eq!(tested("crates/a/tests/b.rs", "w1"), ["w1"]);
        assert_eq!(tested("crates/a/src/tests.rs", "w1"), [""; 0]);
    }
}
