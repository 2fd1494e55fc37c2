//! Which file declares which: follows `mod` declarations from each crate's roots.
//!
//! It knows nothing of what a module contains. Invariant: a source under `crates/` is alive only if
//! a chain of declarations leads to it from a file that Cargo compiles by itself.

use std::collections::{BTreeMap, BTreeSet};

use crate::scanner;
use crate::source::Source;
use crate::{Rule, Tree, Violation};

/// A declaration `mod name;` (or an `include!`) in a file.
#[derive(Debug, PartialEq, Eq)]
struct Declaration {
    offset: usize,
    /// Where its file may be, the usual place first.
    paths: Vec<String>,
    is_test: bool,
}

/// Files that no declaration reaches, and declarations without a file.
pub fn check(tree: &Tree) -> Vec<Violation> {
    let mut walk = Walk::through(tree);
    for source in tree.sources.values() {
        if source.path.starts_with("crates/") && !walk.alive.contains_key(&source.path) {
            let message = "no `mod` reaches this file: declare it or delete it".to_owned();
            walk.violations.push(source.violation(Rule::DeadFile, 0, "", message));
        }
    }
    walk.violations
}

/// Files that are test code because only `#[cfg(test)]` declarations lead to them.
pub fn test_files(tree: &Tree) -> Vec<String> {
    let alive = Walk::through(tree).alive;
    alive.into_iter().filter(|(_, is_test)| *is_test).map(|(path, _)| path).collect()
}

/// Files under `crates/` that Cargo compiles by itself.
pub fn roots(tree: &Tree) -> BTreeSet<String> {
    let usual = tree.sources.keys().filter(|path| {
        let parts: Vec<&str> = path.split('/').collect();
        matches!(
            parts[..],
            ["crates", _, "build.rs"]
                | ["crates", _, "src", "lib.rs" | "main.rs"]
                | ["crates", _, "src", "bin", _]
                | ["crates", _, "src", "bin", _, "main.rs"]
                | ["crates", _, "tests" | "benches" | "examples", _]
                | ["crates", _, "tests" | "benches" | "examples", _, "main.rs"]
        )
    });
    let mut roots: BTreeSet<String> = usual.cloned().collect();
    for (path, text) in &tree.texts {
        let Some(folder) = path.strip_suffix("/Cargo.toml") else { continue };
        roots.extend(text.lines().filter_map(|line| {
            let value = line.trim().strip_prefix("path")?.trim_start().strip_prefix('=')?;
            let value = value.trim().trim_matches('"');
            value.ends_with(".rs").then(|| format!("{folder}/{value}"))
        }));
    }
    roots
}

/// A walk along the declarations, from every root.
struct Walk<'a> {
    tree: &'a Tree,
    roots: BTreeSet<String>,
    /// The files that were reached; `true` while only test code has led to them.
    alive: BTreeMap<String, bool>,
    /// Declarations without a file.
    violations: Vec<Violation>,
}

impl Walk<'_> {
    fn through(tree: &Tree) -> Walk<'_> {
        let roots = roots(tree);
        let mut walk = Walk { tree, roots, alive: BTreeMap::new(), violations: Vec::new() };
        for root in walk.roots.clone() {
            walk.visit(&root, false);
        }
        walk
    }

    fn visit(&mut self, path: &str, is_test: bool) {
        let Some(source) = self.tree.sources.get(path) else { return };
        let is_test = is_test || source.is_test;
        let seen = self.alive.get(path);
        if seen.is_some_and(|&was_test| is_test || !was_test) {
            return;
        }
        let first = seen.is_none();
        self.alive.insert(path.to_owned(), is_test);
        for Declaration { offset, paths, is_test: for_test } in
            declarations(source, self.roots.contains(path))
        {
            match paths.iter().find(|path| self.tree.sources.contains_key(*path)) {
                Some(path) => self.visit(path, is_test || for_test),
                None if first => {
                    let message = format!("no file for this module: {}", paths.join(", "));
                    self.violations.push(source.violation(Rule::DeadFile, offset, "", message));
                }
                None => {}
            }
        }
    }
}

/// What `source` declares.
fn declarations(source: &Source, is_root: bool) -> Vec<Declaration> {
    let (folder, file) = source.path.rsplit_once('/').unwrap_or(("", &source.path));
    let own_folder = match file.strip_suffix(".rs") {
        Some(stem) if !is_root && stem != "mod" => format!("{folder}/{stem}"),
        _ => folder.to_owned(),
    };
    let mut found = Vec::new();
    // Bodies of inline modules around the place that is looked at: their end and their folder.
    let mut around: Vec<(usize, String)> = Vec::new();
    for (range, word) in scanner::words(&source.code) {
        around.retain(|(end, _)| range.start < *end);
        let rest = &source.code[range.end..];
        if word == "include" && rest.trim_start().starts_with('!') {
            let paths = literal_after(source, range.end).into_iter();
            let paths = paths.map(|name| format!("{folder}/{name}")).collect();
            found.push(Declaration { offset: range.start, paths, is_test: false });
        }
        if word != "mod" {
            continue;
        }
        let Some((name_range, name)) = scanner::words(rest).next() else { continue };
        let inside = around.last().map_or(own_folder.as_str(), |(_, folder)| folder.as_str());
        let after = range.end + name_range.end;
        let next = source.code[after..].trim_start();
        let inside_named = format!("{inside}/{name}");
        if next.starts_with('{') {
            let open = after + source.code[after..].find('{').unwrap_or(0);
            around.push((scanner::closing_end(&source.code, open), inside_named));
        } else if next.starts_with(';') {
            let paths = match path_attribute(source, range.start) {
                Some(path) => vec![format!("{folder}/{path}")],
                None => vec![format!("{inside_named}.rs"), format!("{inside_named}/mod.rs")],
            };
            let is_test = source.is_test_at(range.start);
            found.push(Declaration { offset: range.start, paths, is_test });
        }
    }
    found
}

/// The value of `#[path = "…"]` among the attributes of the item at `offset`.
fn path_attribute(source: &Source, offset: usize) -> Option<String> {
    let start = source.code[..offset].rfind([';', '{', '}']).map_or(0, |at| at + 1);
    let at = scanner::word_starts(&source.code[start..offset], "path").pop()?;
    literal_after(source, start + at)
}

/// The first string literal after `offset`.
fn literal_after(source: &Source, offset: usize) -> Option<String> {
    source.text[offset..].split('"').nth(1).map(str::to_owned)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn found(files: &[(&str, &str)]) -> Vec<String> {
        check(&Tree::of(files)).into_iter().map(|violation| violation.path).collect()
    }

    #[test]
    fn files_that_are_declared_are_alive() {
        let files = [
            ("crates/a/src/lib.rs", "pub mod b; mod c { mod d; } #[path = \"x/odd.rs\"] mod e;"),
            ("crates/a/src/b.rs", "mod f;"),
            ("crates/a/src/b/f.rs", "include!(\"g.rs\");"),
            ("crates/a/src/b/g.rs", ""),
            ("crates/a/src/c/d/mod.rs", "mod h;"),
            ("crates/a/src/c/d/h.rs", ""),
            ("crates/a/src/x/odd.rs", ""),
            ("crates/a/src/bin/i.rs", ""),
            ("crates/a/src/j.rs", ""),
            ("crates/a/Cargo.toml", "[[bin]]\nname = \"j\"\npath = \"src/j.rs\"\n"),
            ("crates/a/tests/k.rs", "mod common;"),
            ("crates/a/tests/common/mod.rs", ""),
        ];
        assert_eq!(found(&files), [""; 0]);
    }

    #[test]
    fn files_that_nothing_declares_are_dead() {
        let files = [
            ("crates/a/src/lib.rs", "// mod b;\nconst A: &str = \"mod b;\";"),
            ("crates/a/src/b.rs", "mod c;"),
            ("crates/a/src/b/c.rs", ""),
        ];
        assert_eq!(found(&files), ["crates/a/src/b.rs", "crates/a/src/b/c.rs"]);
    }

    #[test]
    fn a_module_without_a_file_is_told() {
        assert_eq!(found(&[("crates/a/src/lib.rs", "mod b;")]), ["crates/a/src/lib.rs"]);
    }

    #[test]
    fn files_declared_for_tests_are_test_code() {
        let tree = Tree::of(&[
            ("crates/a/src/lib.rs", "#[cfg(test)] mod tests; mod b;"),
            ("crates/a/src/tests.rs", "mod c;"),
            ("crates/a/src/tests/c.rs", ""),
            ("crates/a/src/b.rs", ""),
        ]);
        let tests: Vec<_> = tree.sources.values().filter(|source| source.is_test).collect();
        let tests: Vec<_> = tests.iter().map(|source| source.path.as_str()).collect();
        assert_eq!(tests, ["crates/a/src/tests.rs", "crates/a/src/tests/c.rs"]);
    }
}
