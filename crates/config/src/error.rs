//! What is wrong with a configuration: all of it at once, each fault with its place.
//!
//! Nothing here decides what is wrong. Invariant: an [`Errors`] holds at least one error, and its
//! errors stand in the order of their lines.

use std::fmt;

/// One fault of a configuration.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct ConfigError {
    /// The file, as it was named by the caller.
    pub file: String,
    /// The line, from 1; `None` when the file as a whole is meant.
    pub line: Option<u32>,
    /// What is wrong, and what would be right.
    pub message: String,
}

impl fmt::Display for ConfigError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.line {
            Some(line) => write!(f, "{}:{line}: {}", self.file, self.message),
            None => write!(f, "{}: {}", self.file, self.message),
        }
    }
}

impl std::error::Error for ConfigError {}

/// Everything that is wrong with a configuration; never empty. Displayed as one line an error.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Errors(Vec<ConfigError>);

impl Errors {
    /// The errors, in the order of their lines.
    pub fn iter(&self) -> impl Iterator<Item = &ConfigError> {
        self.0.iter()
    }
}

impl fmt::Display for Errors {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (index, error) in self.0.iter().enumerate() {
            let separator = if index == 0 { "" } else { "\n" };
            write!(f, "{separator}{error}")?;
        }
        Ok(())
    }
}

impl std::error::Error for Errors {}

/// Where the steps of loading put what they find.
pub(crate) struct Report {
    file: String,
    errors: Vec<ConfigError>,
}

impl Report {
    pub(crate) fn new(file: &str) -> Report {
        Report { file: file.to_owned(), errors: Vec::new() }
    }

    /// A fault at a line.
    pub(crate) fn at(&mut self, line: u32, message: impl Into<String>) {
        self.push(Some(line), message.into());
    }

    /// A fault of the file as a whole.
    pub(crate) fn file(&mut self, message: impl Into<String>) {
        self.push(None, message.into());
    }

    fn push(&mut self, line: Option<u32>, message: String) {
        // A line end inside a quoted value would make two lines of one error.
        let message = if message.contains(char::is_control) {
            message.chars().map(|c| if c.is_control() { '\u{fffd}' } else { c }).collect()
        } else {
            message
        };
        self.errors.push(ConfigError { file: self.file.clone(), line, message });
    }

    /// How many faults were found so far.
    pub(crate) fn count(&self) -> usize {
        self.errors.len()
    }

    /// `value` if nothing is wrong, else everything that is.
    pub(crate) fn finish<T>(mut self, value: T) -> Result<T, Errors> {
        if self.errors.is_empty() {
            return Ok(value);
        }
        self.errors.sort_by_key(|error| error.line);
        Err(Errors(self.errors))
    }
}
