//! Decision records: `docs/decisions/NNN-what.md`, each with a number of its own.
//!
//! It does not read the records. Invariant: a number, once used, names one record.

use std::collections::BTreeMap;

use crate::{Rule, Tree, Violation};

const FOLDER: &str = "docs/decisions/";

/// Records with a wrong name, with a number that another one has, or listed twice in one document.
pub fn check(tree: &Tree) -> Vec<Violation> {
    let mut violations = Vec::new();
    let mut numbers = BTreeMap::new();
    let mut broken = |path: &str, line, message| {
        let (path, item) = (path.to_owned(), String::new());
        violations.push(Violation { rule: Rule::Decisions, path, line, item, message });
    };
    for path in tree.texts.keys() {
        let Some(name) = path.strip_prefix(FOLDER).filter(|name| *name != "README.md") else {
            continue;
        };
        match number(name) {
            None => broken(path, 1, "must be named NNN-words-in-lower-case.md".to_owned()),
            Some(number) => {
                if let Some(other) = numbers.insert(number, path) {
                    broken(path, 1, format!("has the number of {other}"));
                }
            }
        }
    }
    for (path, text) in &tree.texts {
        let mut listed = BTreeMap::new();
        let rows = text.lines().enumerate();
        for (index, row) in rows.filter(|(_, row)| row.trim_start().starts_with(['-', '*', '|'])) {
            let Some(name) = listed_name(row) else { continue };
            if let Some(first) = listed.insert(name, index + 1) {
                broken(path, index + 1, format!("lists {name} again, first in line {first}"));
            }
        }
    }
    violations
}

/// The record that a row of a list or table is about: the first that it names.
fn listed_name(row: &str) -> Option<&str> {
    row.split(|c: char| !(c.is_ascii_alphanumeric() || c == '-' || c == '.'))
        .find(|word| number(word).is_some())
}

fn number(name: &str) -> Option<&str> {
    let (number, words) = name.strip_suffix(".md")?.split_once('-')?;
    let digits = number.len() == 3 && number.bytes().all(|byte| byte.is_ascii_digit());
    let plain = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '-';
    (digits && !words.is_empty() && words.chars().all(plain)).then_some(number)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn found(files: &[(&str, &str)]) -> Vec<(String, usize)> {
        check(&Tree::of(files)).into_iter().map(|one| (one.path, one.line)).collect()
    }

    #[test]
    fn each_record_has_its_own_number() {
        let files = [
            ("docs/decisions/001-a.md", ""),
            ("docs/decisions/002-b-c2.md", ""),
            ("docs/decisions/002-d.md", ""),
            ("docs/decisions/README.md", ""),
            ("docs/other.md", ""),
        ];
        assert_eq!(found(&files), [("docs/decisions/002-d.md".to_owned(), 1)]);
    }

    #[test]
    fn names_are_a_number_and_words() {
        for name in ["a.md", "01-a.md", "0001-a.md", "001.md", "001-.md", "001-A.md", "001_a.md"] {
            assert_eq!(found(&[(&format!("docs/decisions/{name}"), "")]).len(), 1, "{name}");
        }
    }

    #[test]
    fn a_list_names_a_record_once() {
        let list = "- [a](decisions/001-a.md)\n- 002-b.md, which replaces 001-a.md\n- 001-a.md\n";
        assert_eq!(found(&[("docs/list.md", list)]), [("docs/list.md".to_owned(), 3)]);
        assert_eq!(found(&[("docs/text.md", "See 001-a.md.\nSee 001-a.md.\n")]), []);
    }
}
