//! How long files, functions and lines may be, and how a file begins.
//!
//! Data counts like code: a table that is too long belongs in a file of its own format or in the
//! list of exemptions. Invariant: test code is measured like any other.

use crate::source::Source;
use crate::{Rule, Tree, Violation, scanner};

/// Lines of a source file. Aim at 400.
pub const FILE_LINES_MAX: usize = 1000;

/// Lines of a function, from the one with `fn` to the one with its closing brace.
pub const FUNCTION_LINES_MAX: usize = 70;

/// Characters of a line.
pub const LINE_COLUMNS_MAX: usize = 100;

/// Files that are too long or do not say what they are, long functions and wide lines.
pub fn check(tree: &Tree) -> Vec<Violation> {
    let mut violations = Vec::new();
    for source in tree.sources.values() {
        let lines = source.text.lines().count();
        if lines > FILE_LINES_MAX {
            let message = format!("{lines} lines, at most {FILE_LINES_MAX}");
            violations.push(source.violation(Rule::FileLines, 0, "", message));
        }
        if !source.text.starts_with("//! ") {
            let message = "must begin with `//!` and say what it is and is not".to_owned();
            violations.push(source.violation(Rule::Header, 0, "", message));
        }
        for (index, line) in source.text.lines().enumerate() {
            let columns = line.chars().count();
            if columns > LINE_COLUMNS_MAX {
                violations.push(Violation {
                    rule: Rule::LineColumns,
                    path: source.path.clone(),
                    line: index + 1,
                    item: String::new(),
                    message: format!("{columns} columns, at most {LINE_COLUMNS_MAX}"),
                });
            }
        }
        violations.extend(long_functions(source));
    }
    violations
}

fn long_functions(source: &Source) -> Vec<Violation> {
    let mut violations = Vec::new();
    for start in scanner::word_starts(&source.code, "fn") {
        let rest = &source.code[start + "fn".len()..];
        if rest.trim_start().starts_with('(') {
            continue; // The type of a function pointer.
        }
        let open = scanner::body_start(&source.code, start);
        if !source.code[open..].starts_with('{') {
            continue; // A declaration without a body.
        }
        let end = scanner::closing_end(&source.code, open);
        let lines = 1 + source.code[start..end].matches('\n').count();
        if lines > FUNCTION_LINES_MAX {
            let name = scanner::words(rest).next().map_or("", |(_, word)| word);
            let message = format!("`{name}` has {lines} lines, at most {FUNCTION_LINES_MAX}");
            violations.push(source.violation(Rule::FunctionLines, start, name, message));
        }
    }
    violations
}

#[cfg(test)]
mod tests {
    use super::*;

    fn found(text: &str) -> Vec<(Rule, usize, String)> {
        let tree = Tree::of(&[("crates/a/src/a.rs", text)]);
        check(&tree).into_iter().map(|one| (one.rule, one.line, one.item)).collect()
    }

    #[test]
    fn long_files_are_told_at_the_limit() {
        let text = |lines| format!("//! A.\n{}", "\n".repeat(lines - 1));
        assert_eq!(found(&text(FILE_LINES_MAX)), []);
        assert_eq!(found(&text(FILE_LINES_MAX + 1)), [(Rule::FileLines, 1, String::new())]);
    }

    #[test]
    fn long_functions_are_told_at_the_limit_in_tests_too() {
        for before in ["", "#[test]\n"] {
            let text = |lines| {
                let body = "    b(\"}\"); // }\n".repeat(lines - 4);
                format!("//! A.\n{before}fn a(\n    c: [u8; 2],\n) {{\n{body}}}\nfn d() {{}}\n")
            };
            assert_eq!(found(&text(FUNCTION_LINES_MAX)), []);
            let line = if before.is_empty() { 2 } else { 3 };
            let want = [(Rule::FunctionLines, line, "a".to_owned())];
            assert_eq!(found(&text(FUNCTION_LINES_MAX + 1)), want);
        }
    }

    #[test]
    fn function_types_and_declarations_have_no_length() {
        let lines = "\n".repeat(FUNCTION_LINES_MAX);
        assert_eq!(found(&format!("//! A.\nstruct A {{ b: fn(u8) -> u8, {lines} }}")), []);
        assert_eq!(found(&format!("//! A.\ntrait A {{ fn b(); {lines} }}")), []);
    }

    #[test]
    fn wide_lines_are_told_by_characters() {
        let text = |columns| format!("//! A.\n//{}\n", "é".repeat(columns - 2));
        assert_eq!(found(&text(LINE_COLUMNS_MAX)), []);
        assert_eq!(found(&text(LINE_COLUMNS_MAX + 1)), [(Rule::LineColumns, 2, String::new())]);
    }

    #[test]
    fn a_file_begins_by_saying_what_it_is() {
        for text in ["", "// A.\n", "\n//! A.\n", "#![a]\n//! A.\n", "//!\n"] {
            assert_eq!(found(text), [(Rule::Header, 1, String::new())], "{text}");
        }
    }
}
