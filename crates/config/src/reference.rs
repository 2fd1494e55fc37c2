//! The reference: a configuration with every key, its unit, range, default and reason, made from
//! the table of keys so that it can't differ from it.
//!
//! `configs/reference.yml` holds this text. Invariant: it loads, and gives exactly the defaults.

use crate::keys::{self, Default, Row};

const HEAD: &str = "\
Every key of a pool. This text is made from the table of keys, crates/config/src/keys.rs: change \
it there, and run the tests of the crate with UPDATE_REFERENCE=1 to write it anew.";

const SHAPE: &str = "\
A configuration is a mapping of pools. The name of a pool is free. Every value below, `listen` and \
`servers` excepted, is the default, so that a pool needs no more than these two; keys behind # are \
those whose default is not to be there. Options of the process are given on the command line.";

/// The text of `configs/reference.yml`.
pub fn reference() -> String {
    let mut out = String::new();
    comment("", "", HEAD, &mut out);
    out.push_str("#\n");
    comment("", "", SHAPE, &mut out);
    out.push_str("\nreference:\n  # ---- twemproxy's keys ----\n");
    for row in keys::TWEMPROXY_ROWS {
        describe(row, &mut out);
    }
    out.push_str("\n  # ---- Weir's own keys ----\n");
    for row in keys::OWN_ROWS {
        describe(row, &mut out);
    }
    out
}

fn describe(row: &Row, out: &mut String) {
    let default = match row.default {
        Default::Required(_) => "none, the key must be there",
        Default::Value(value) => value,
        Default::Absent { meaning, .. } => meaning,
    };
    let mut doc = row.doc.to_owned();
    doc[..1].make_ascii_uppercase();
    out.push('\n');
    comment("  ", "", &format!("{doc}."), out);
    comment("  ", "  unit:    ", row.kind.unit().unwrap_or("none"), out);
    comment("  ", "  range:   ", &row.kind.range(), out);
    comment("  ", "  default: ", default, out);
    comment("  ", "  reason:  ", row.reason, out);
    let name = row.name;
    out.push_str(&match row.default {
        Default::Required(example) if name == "servers" => format!("  {name}:\n    - {example}\n"),
        Default::Required(value) | Default::Value(value) => format!("  {name}: {value}\n"),
        Default::Absent { example, .. } => format!("  # {name}: {example}\n"),
    });
}

/// A comment that is broken at `COLUMNS`, its lines aligned behind `label`.
fn comment(indent: &str, label: &str, text: &str, out: &mut String) {
    const COLUMNS: usize = 100;
    let mut line = format!("{indent}# {label}");
    let mut empty = true;
    for word in text.split(' ') {
        if !empty && line.len() + 1 + word.len() > COLUMNS {
            out.push_str(&line);
            out.push('\n');
            line = format!("{indent}# {}", " ".repeat(label.len()));
            empty = true;
        }
        if !empty {
            line.push(' ');
        }
        line.push_str(word);
        empty = false;
    }
    out.push_str(&line);
    out.push('\n');
}
