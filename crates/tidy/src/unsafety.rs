//! Where unsafe code may be, and that it says why it is sound.
//!
//! It does not judge the reasons. Invariant: outside [`UNSAFE_CRATES`] the compiler itself refuses
//! unsafe code, because every root of a crate says so.

use crate::source::Source;
use crate::{Rule, Tree, Violation, modules, scanner};

/// Crates that may contain unsafe code: `base` for memory and `event` for the kernel.
pub const UNSAFE_CRATES: &[&str] = &["base", "event"];

/// Unsafe code elsewhere, roots that do not forbid it, and blocks without a reason.
pub fn check(tree: &Tree) -> Vec<Violation> {
    let mut violations = Vec::new();
    let roots = modules::roots(tree);
    for source in tree.sources.values() {
        let allowed = UNSAFE_CRATES.contains(&source.crate_name());
        // Tests and benches are crates of their own; the token rule covers them.
        let is_root = roots.contains(&source.path) && source.path.contains("/src/");
        if is_root && !allowed && !forbids_unsafe(source) {
            let message = "must say `#![forbid(unsafe_code)]`".to_owned();
            violations.push(source.violation(Rule::Unsafe, 0, "", message));
        }
        for offset in scanner::word_starts(&source.code, "unsafe") {
            let message = if !allowed {
                format!("unsafe code belongs in {UNSAFE_CRATES:?} only")
            } else if needs_reason(source, offset) && !has_reason(source, offset) {
                "needs a `// SAFETY:` comment right above it".to_owned()
            } else {
                continue;
            };
            violations.push(source.violation(Rule::Unsafe, offset, "", message));
        }
    }
    violations
}

fn forbids_unsafe(source: &Source) -> bool {
    let compact: String = source.code.chars().filter(|c| !c.is_whitespace()).collect();
    compact.contains("#![forbid(unsafe_code)]")
}

/// Blocks and implementations claim that something is sound; an `unsafe fn` passes the claim on.
fn needs_reason(source: &Source, offset: usize) -> bool {
    let rest = source.code[offset + "unsafe".len()..].trim_start();
    rest.starts_with('{') || scanner::words(rest).next().is_some_and(|(_, word)| word == "impl")
}

/// Whether a comment on the line of `offset`, or above the statement that it is in, gives a reason.
fn has_reason(source: &Source, offset: usize) -> bool {
    let code: Vec<&str> = source.code.lines().collect();
    let comments: Vec<&str> = source.comments.lines().collect();
    let mut line = scanner::line_of(&source.text, offset) - 1;
    loop {
        if comments[line].contains("SAFETY:") {
            return true;
        }
        if line == 0 {
            return false;
        }
        line -= 1;
        let above = code[line].trim_end();
        let blank = above.trim().is_empty();
        // Go on through comments, attributes and the earlier lines of the same statement.
        if (blank && comments[line].trim().is_empty()) || above.ends_with([';', '{', '}', ',']) {
            return false;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn messages(files: &[(&str, &str)]) -> Vec<String> {
        check(&Tree::of(files)).into_iter().map(|violation| violation.message).collect()
    }

    #[test]
    fn unsafe_code_is_told_outside_its_crates() {
        let elsewhere = [("crates/proxy/src/a.rs", "// SAFETY: x\nunsafe { b() }")];
        assert_eq!(messages(&elsewhere).len(), 1);
        let in_tests = [("crates/weir/tests/a.rs", "unsafe { b() }")];
        assert_eq!(messages(&in_tests).len(), 1);
        let only_words = [("crates/proxy/src/a.rs", "// unsafe\nlet unsafe_code = \"unsafe\";")];
        assert_eq!(messages(&only_words), [""; 0]);
    }

    #[test]
    fn every_root_forbids_unsafe_code() {
        for path in ["src/lib.rs", "src/main.rs", "src/bin/b.rs"] {
            let path = format!("crates/a/{path}");
            assert_eq!(messages(&[(&path, "//! A.\n// #![forbid(unsafe_code)]\n")]).len(), 1);
            assert_eq!(messages(&[(&path, "//! A.\n#![forbid(unsafe_code)]\n")]), [""; 0]);
        }
        assert_eq!(messages(&[("crates/base/src/lib.rs", "//! A.")]), [""; 0]);
    }

    #[test]
    fn every_unsafe_block_says_why() {
        for (text, count) in [
            ("fn a() {\n    // SAFETY: b\n    unsafe { c() }\n}", 0),
            ("// SAFETY: b,\n// d.\n#[e]\nlet f =\n    unsafe { c() };\n", 0),
            ("unsafe { c() } // SAFETY: b", 0),
            ("// SAFETY: b\nunsafe impl Send for A {}", 0),
            ("unsafe fn a() {}", 0),
            ("unsafe impl Send for A {}", 1),
            ("fn a() {\n    unsafe { c() }\n}", 1),
            ("// SAFETY: b\nlet a = 1;\nunsafe { c() }", 1),
            ("// SAFETY: b\n\nunsafe { c() }", 1),
            ("let a = \"SAFETY:\";\nunsafe { c() }", 1),
        ] {
            assert_eq!(messages(&[("crates/event/src/a.rs", text)]).len(), count, "{text}");
        }
    }
}
