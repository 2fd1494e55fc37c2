//! The command table of memcached: one row a command. Adding a command of a known shape is adding a
//! row. Invariant: names are in lower case, the only one that memcached knows.

use crate::Command;

/// What the fields of a command line are.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Shape {
    /// `name [exptime] key...`
    Keys { exptime: bool },
    /// `name key flags exptime bytes [unique] [noreply]`, and a data block.
    Store { unique: bool },
    /// `name key [0] [noreply]`
    Delete,
    /// `name key delta [noreply]`
    Arithmetic,
    /// `name key exptime [noreply]`
    Touch,
    /// `name`, to any server.
    Version,
    /// `name [delay] [noreply]`, to every server.
    Flush,
    /// `name key [bytes] flag...`, and a data block where there are bytes.
    Meta { block: bool },
}

/// What a response may be, as bits. Errors may always be.
pub(crate) mod class {
    /// VALUE blocks and END.
    pub(crate) const VALUES: u16 = 1;
    /// STORED, NOT_STORED, EXISTS, NOT_FOUND.
    pub(crate) const STORED: u16 = 2;
    /// DELETED, NOT_FOUND.
    pub(crate) const DELETED: u16 = 4;
    /// TOUCHED, NOT_FOUND.
    pub(crate) const TOUCHED: u16 = 8;
    /// A number, NOT_FOUND.
    pub(crate) const NUMBER: u16 = 16;
    /// VERSION.
    pub(crate) const VERSION: u16 = 32;
    /// OK.
    pub(crate) const OK: u16 = 64;
    /// HD, VA, EN.
    pub(crate) const META_GET: u16 = 128;
    /// HD, NS, EX, NF.
    pub(crate) const META_SET: u16 = 256;
    /// HD, NF, EX.
    pub(crate) const META_DELETE: u16 = 512;
    /// HD, VA, NF, NS, EX.
    pub(crate) const META_ARITHMETIC: u16 = 1024;
    /// ME, EN.
    pub(crate) const META_DEBUG: u16 = 2048;
    /// An error.
    pub(crate) const ALL: u16 = u16::MAX;
}

/// A command, as this protocol's own modules see it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Row {
    pub(crate) name: &'static str,
    pub(crate) shape: Shape,
    /// One of [`class`].
    pub(crate) class: u16,
    writes: bool,
}

/// The table, as the rest of Weir sees it.
pub fn all() -> &'static [Command] {
    &COMMANDS
}

/// The index of a name in [`all`] and `ROWS`. So few rows need no better search.
#[inline]
pub(crate) fn find(name: &[u8]) -> Option<usize> {
    ROWS.iter().position(|row| row.name.as_bytes() == name)
}

/// The rows, in the order of [`all`].
pub(crate) static ROWS: [Row; ROWS_COUNT] = TABLE;

static COMMANDS: [Command; ROWS_COUNT] = {
    const NONE: Command = Command { name: "", index: 0, writes: false, flushes: false };
    let mut commands = [NONE; ROWS_COUNT];
    let mut i = 0;
    while i < ROWS_COUNT {
        let Row { name, writes, shape, .. } = TABLE[i];
        let flushes = matches!(shape, Shape::Flush);
        commands[i] = Command { name, index: i as u16, writes, flushes };
        i += 1;
    }
    commands
};

const fn row(name: &'static str, shape: Shape, class: u16, writes: bool) -> Row {
    Row { name, shape, class, writes }
}

const READ: bool = false;
const WRITE: bool = true;
const ROWS_COUNT: usize = 21;

#[rustfmt::skip]
pub(crate) const TABLE: [Row; ROWS_COUNT] = [
    row("get", Shape::Keys { exptime: false }, class::VALUES, READ),
    row("set", Shape::Store { unique: false }, class::STORED, WRITE),
    row("gets", Shape::Keys { exptime: false }, class::VALUES, READ),
    row("delete", Shape::Delete, class::DELETED, WRITE),
    row("add", Shape::Store { unique: false }, class::STORED, WRITE),
    row("cas", Shape::Store { unique: true }, class::STORED, WRITE),
    row("incr", Shape::Arithmetic, class::NUMBER, WRITE),
    row("decr", Shape::Arithmetic, class::NUMBER, WRITE),
    row("touch", Shape::Touch, class::TOUCHED, WRITE),
    row("gat", Shape::Keys { exptime: true }, class::VALUES, WRITE),
    row("gats", Shape::Keys { exptime: true }, class::VALUES, WRITE),
    row("replace", Shape::Store { unique: false }, class::STORED, WRITE),
    row("append", Shape::Store { unique: false }, class::STORED, WRITE),
    row("prepend", Shape::Store { unique: false }, class::STORED, WRITE),
    row("version", Shape::Version, class::VERSION, READ),
    row("mg", Shape::Meta { block: false }, class::META_GET, WRITE),
    row("ms", Shape::Meta { block: true }, class::META_SET, WRITE),
    row("md", Shape::Meta { block: false }, class::META_DELETE, WRITE),
    row("ma", Shape::Meta { block: false }, class::META_ARITHMETIC, WRITE),
    row("me", Shape::Meta { block: false }, class::META_DEBUG, READ),
    row("flush_all", Shape::Flush, class::OK, WRITE),
];

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_row_is_found_by_its_name_in_lower_case_only() {
        for (i, row) in ROWS.iter().enumerate() {
            assert_eq!(find(row.name.as_bytes()), Some(i));
            assert_eq!(find(row.name.to_uppercase().as_bytes()), None);
            assert_eq!((all()[i].name, all()[i].index as usize), (row.name, i));
        }
        assert_eq!(find(b""), None);
        assert_eq!(find(b"ge"), None);
        assert_eq!(find(b"getss"), None);
    }
}
