//! The files that the rules look at: every manifest, Rust source and document of the repository.
//!
//! It judges nothing. Invariant: paths are relative to the root and use `/`, and whether a source
//! is test code already takes the modules that declare it into account.

use std::collections::BTreeMap;
use std::path::Path;
use std::{env, fs};

use crate::modules;
use crate::source::Source;

/// A repository's files.
#[derive(Debug)]
pub struct Tree {
    /// Rust sources by path.
    pub sources: BTreeMap<String, Source>,
    /// The text of `Cargo.toml` files and of documents (`.md`) by path.
    pub texts: BTreeMap<String, String>,
}

impl Tree {
    /// This repository. For tests that Cargo runs.
    ///
    /// # Panics
    /// If a file or folder cannot be read.
    pub fn of_this_repository() -> Tree {
        // Asked for when it runs: clones that share a target folder share the compiled test too.
        let folder = env::var_os("CARGO_MANIFEST_DIR").expect("Cargo sets it for tests");
        let root = Path::new(&folder).join("../..");
        let mut files = Vec::new();
        collect(&root, "", &mut files);
        Tree::new(files)
    }

    /// A tree of these files, each a path and a text.
    pub fn new(files: impl IntoIterator<Item = (String, String)>) -> Tree {
        let mut tree = Tree { sources: BTreeMap::new(), texts: BTreeMap::new() };
        for (path, text) in files {
            if path.ends_with(".rs") {
                tree.sources.insert(path.clone(), Source::new(&path, &text));
            } else {
                tree.texts.insert(path, text);
            }
        }
        for path in modules::test_files(&tree) {
            if let Some(source) = tree.sources.get_mut(&path) {
                source.is_test = true;
            }
        }
        tree
    }

    /// A small tree, for the tests of the rules.
    #[cfg(test)]
    pub(crate) fn of(files: &[(&str, &str)]) -> Tree {
        Tree::new(files.iter().map(|&(path, text)| (path.to_owned(), text.to_owned())))
    }
}

/// Adds the files below `folder`; hidden ones, build outputs and installed packages excepted.
fn collect(root: &Path, folder: &str, files: &mut Vec<(String, String)>) {
    let entries = fs::read_dir(root.join(folder)).expect("the repository's folders are readable");
    for entry in entries {
        let entry = entry.expect("the repository's folders are readable");
        let name = entry.file_name().into_string().expect("names are UTF-8");
        if name.starts_with('.') || name == "target" || name == "node_modules" {
            continue;
        }
        let path = if folder.is_empty() { name.clone() } else { format!("{folder}/{name}") };
        let kind = entry.file_type().expect("the repository's folders are readable");
        if kind.is_dir() {
            collect(root, &path, files);
        } else if name.ends_with(".rs") || name.ends_with(".md") || name == "Cargo.toml" {
            let text = fs::read_to_string(entry.path()).expect("sources and documents are UTF-8");
            files.push((path, text));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn this_repository_is_found() {
        let tree = Tree::of_this_repository();
        assert!(tree.sources.contains_key("crates/tidy/src/tree.rs"));
        assert!(tree.texts.contains_key("crates/tidy/Cargo.toml"));
        assert!(tree.texts.contains_key("Cargo.toml"));
    }
}
