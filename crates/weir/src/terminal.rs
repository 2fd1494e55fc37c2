//! What is printed for people, beside the log.
//!
//! Invariant: that nobody can read it, as behind `| head`, ends nothing and changes no exit code.

use std::fmt::Display;
use std::io::{self, Write};

/// Prints a line to stderr.
pub(crate) fn say(line: impl Display) {
    print(format_args!("{line}\n"));
}

/// Prints to stderr.
pub(crate) fn print(text: impl Display) {
    // The macros of the standard library panic when this fails, and there is nobody to be told.
    let _ = write!(io::stderr(), "{text}");
}
