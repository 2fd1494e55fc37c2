//! The house rules as tests. Each rule is a function from a [`Tree`] (the text of every manifest,
//! source and document) to the [`Violation`]s that it finds; `tests/house_rules.rs` runs them on
//! this repository, and each rule's own tests run it on small bad snippets.
//!
//! It is not a compiler: what rustc and clippy check is left to them. Invariant: a rule looks at
//! nothing but the tree that it is given, so that it can be shown a tree which breaks it.

#![forbid(unsafe_code)]

pub mod decisions;
pub mod edges;
pub mod exemptions;
pub mod modules;
pub mod scanner;
pub mod sizes;
pub mod source;
pub mod tree;
pub mod unsafety;
pub mod words;

pub use exemptions::{EXEMPTIONS, Exemption, judge};
pub use tree::Tree;

/// Which house rule was broken. An exemption names one of them.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Rule {
    /// A crate depends on another one that the design does not let it know.
    Edges,
    /// Only the crates named in [`edges::SERDE_USERS`] depend on serde.
    Serde,
    /// Unsafe code outside its crates, unexplained, or not forbidden.
    Unsafe,
    /// A source file is too long.
    FileLines,
    /// A function is too long.
    FunctionLines,
    /// A line is too wide.
    LineColumns,
    /// A source file does not begin by saying what it is.
    Header,
    /// A source file that no `mod` reaches, or a `mod` without a file.
    DeadFile,
    /// A word that is banned from the whole house, or from one crate.
    BannedWord,
    /// Code that was left unfinished or panics without saying why.
    Unfinished,
    /// A pure crate reads a clock, starts a thread, opens a socket or draws random numbers.
    Impure,
    /// A program reads the clock on the wall, which jumps.
    WallClock,
    /// A test that sleeps instead of waiting for what it needs.
    SleepInTest,
    /// A decision record without a number of its own.
    Decisions,
}

/// One breach of one rule.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Violation {
    /// Which rule.
    pub rule: Rule,
    /// Path from the root of the repository, with `/`.
    pub path: String,
    /// Line in that file, from 1.
    pub line: usize,
    /// What an exemption must name: a function, a word, or nothing when the rule is about the
    /// whole file.
    pub item: String,
    /// What is wrong and what would be right.
    pub message: String,
}
