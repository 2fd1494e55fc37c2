//! The low form: what was typed, each scalar with its line. YAML becomes pools with entries.
//!
//! It knows the shape of the file (a mapping of pools, each a mapping of keys to a value or a list)
//! but no key and no value. Invariant: whatever does not fit the shape is reported here and stands
//! as [`Value::Refused`], so that the next step neither uses it nor takes it for missing.

use granit_parser::{ErrorKind, Event, Parser, ScalarStyle, ScanError, Span, StrInput};

use crate::error::Report;

/// Mappings and lists inside each other. The file needs three (root, pool, servers); some more are
/// let through so that the error can name the key.
const NESTING_MAX: usize = 8;

/// One value as it was typed, without quotes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Scalar {
    pub(crate) text: String,
    /// From 1.
    pub(crate) line: u32,
}

/// What stands behind a key.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Value {
    Scalar(Scalar),
    List(Vec<Scalar>),
    /// Reported already.
    Refused,
}

/// One line of a pool.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Entry {
    pub(crate) key: Scalar,
    pub(crate) value: Value,
}

/// One pool.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Pool {
    pub(crate) name: Scalar,
    pub(crate) entries: Vec<Entry>,
}

/// Reads the pools of a file, in the order in which they were typed. After a syntax error there
/// is nothing to go on with, and no pool is returned.
pub(crate) fn read(text: &str, report: &mut Report) -> Vec<Pool> {
    let options = granit_parser::options! {
        disallow_directives: true,
        emit_unresolved_aliases: true,
        flow_nesting_limit: NESTING_MAX,
        block_nesting_limit: NESTING_MAX,
    };
    let parser = Parser::new_from_str_with_options(text, options);
    let mut reader = Reader { parser, report };
    match reader.document() {
        Some(root) => pools(root, report),
        None => Vec::new(),
    }
}

/// A YAML node.
struct Node {
    line: u32,
    kind: NodeKind,
}

enum NodeKind {
    Scalar(String),
    List(Vec<Node>),
    Mapping(Vec<(Node, Node)>),
    /// Reported already.
    Refused,
}

struct Reader<'a> {
    parser: Parser<'a, StrInput<'a>>,
    report: &'a mut Report,
}

impl<'a> Reader<'a> {
    /// The root of the only document; `None` if there is none or it can't be read.
    fn document(&mut self) -> Option<Node> {
        let mut root = None;
        loop {
            let (event, span) = self.next()?;
            match event {
                Event::StreamEnd => break,
                Event::DocumentStart(..) if root.is_some() => {
                    let text = "a second document begins here: a configuration is one document";
                    self.report.at(line(&span), text);
                    return None;
                }
                Event::StreamStart | Event::DocumentStart(..) | Event::DocumentEnd => {}
                event => root = Some(self.node(event, &span)?),
            }
        }
        if root.is_none() {
            self.report.file("is empty: at least one pool is needed");
        }
        root
    }

    /// The next event; `None` after a syntax error, which is reported.
    fn next(&mut self) -> Option<(Event<'a>, Span)> {
        match self.parser.next_event()? {
            Ok(next) => Some(next),
            Err(error) => {
                self.report.at(marker_line(error.marker().line()), syntax_message(&error));
                None
            }
        }
    }

    /// The node that begins with `event`. Its depth is bounded by the parser's limits.
    fn node(&mut self, event: Event<'a>, span: &Span) -> Option<Node> {
        let line = line(span);
        let allowed = self.properties_allowed(&event, line);
        let kind = match event {
            Event::Scalar(text, style, ..) => {
                // The parser gives `~` for nothing at all; a typed `~` takes a place.
                let nothing = style == ScalarStyle::Plain && span.is_empty();
                NodeKind::Scalar(if nothing { String::new() } else { text.into_owned() })
            }
            Event::SequenceStart(..) => {
                let mut items = Vec::new();
                loop {
                    match self.next()? {
                        (Event::SequenceEnd, _) => break NodeKind::List(items),
                        (event, span) => items.push(self.node(event, &span)?),
                    }
                }
            }
            Event::MappingStart(..) => {
                let mut entries = Vec::new();
                loop {
                    let key = match self.next()? {
                        (Event::MappingEnd, _) => break NodeKind::Mapping(entries),
                        (event, span) => self.node(event, &span)?,
                    };
                    let (event, span) = self.next()?;
                    entries.push((key, self.node(event, &span)?));
                }
            }
            _ => NodeKind::Refused,
        };
        Some(Node { line, kind: if allowed { kind } else { NodeKind::Refused } })
    }

    /// Anchors, aliases and tags are refused, as twemproxy does: a file without them can't grow
    /// while it is read.
    fn properties_allowed(&mut self, event: &Event<'a>, line: u32) -> bool {
        let found = if event.is_alias() {
            "an alias (*): write the value itself"
        } else if event.anchor_id().is_some() {
            "an anchor (&): write the value where it is needed, or quote a text that begins with &"
        } else if event.tag().is_some() {
            "a tag (!): leave it out, or quote a text that begins with !"
        } else {
            return true;
        };
        self.report.at(line, format!("{found}; anchors, aliases and tags are not supported"));
        false
    }
}

fn syntax_message(error: &ScanError) -> String {
    match error.kind() {
        ErrorKind::TabNotAllowed
        | ErrorKind::TabInBlockIndentation
        | ErrorKind::TabInIndentation
        | ErrorKind::TabAtBlockScalarStart => {
            "a tab is used as indentation: indent with spaces".to_owned()
        }
        ErrorKind::RecursionLimitExceeded => format!(
            "mappings or lists are nested more than {NESTING_MAX} deep: a configuration is a \
             mapping of pools, each a mapping of keys"
        ),
        ErrorKind::DirectiveDisallowed => {
            "a directive (%): leave it out; directives are not supported".to_owned()
        }
        _ => format!("is not YAML: {}", error.info()),
    }
}

fn pools(root: Node, report: &mut Report) -> Vec<Pool> {
    let entries = match root.kind {
        NodeKind::Mapping(entries) if !entries.is_empty() => entries,
        NodeKind::Refused => return Vec::new(),
        _ => {
            let text = "must be a mapping of pools: `name:`, with the pool's keys indented below";
            report.at(root.line, text);
            return Vec::new();
        }
    };
    entries.into_iter().filter_map(|(name, body)| pool(name, body, report)).collect()
}

fn pool(name: Node, body: Node, report: &mut Report) -> Option<Pool> {
    let name = scalar(name, "the name of a pool", report)?;
    let entries = match body.kind {
        NodeKind::Mapping(entries) => entries
            .into_iter()
            .filter_map(|(key, value)| entry(&name, key, value, report))
            .collect(),
        NodeKind::Refused => return None,
        NodeKind::Scalar(_) | NodeKind::List(_) => {
            let text = format!(
                "pool '{}': must be a mapping of keys, such as `listen: 127.0.0.1:22121`; process \
                 options belong on the command line",
                name.text
            );
            report.at(name.line, text);
            return None;
        }
    };
    Some(Pool { name, entries })
}

fn entry(pool: &Scalar, key: Node, value: Node, report: &mut Report) -> Option<Entry> {
    let key = scalar(key, "a key", report)?;
    let value = match value.kind {
        // Nothing at all has its place behind the next line's end; the key's line is meant.
        NodeKind::Scalar(text) if text.is_empty() => Value::Scalar(Scalar { text, line: key.line }),
        NodeKind::Scalar(text) => Value::Scalar(Scalar { text, line: value.line }),
        NodeKind::List(items) => list(&pool.text, &key.text, items, report),
        NodeKind::Mapping(_) => {
            let text = format!(
                "pool '{}': {} is a mapping: must be one value (a text with braces needs quotes)",
                pool.text, key.text
            );
            report.at(value.line, text);
            Value::Refused
        }
        NodeKind::Refused => Value::Refused,
    };
    Some(Entry { key, value })
}

fn list(pool: &str, key: &str, items: Vec<Node>, report: &mut Report) -> Value {
    let errors_count = report.count();
    let what = format!("pool '{pool}': an entry of {key}");
    let items = items.into_iter().filter_map(|item| scalar(item, &what, report)).collect();
    if report.count() > errors_count { Value::Refused } else { Value::List(items) }
}

fn scalar(node: Node, what: &str, report: &mut Report) -> Option<Scalar> {
    match node.kind {
        NodeKind::Scalar(text) => return Some(Scalar { text, line: node.line }),
        NodeKind::List(_) | NodeKind::Mapping(_) => {
            report.at(node.line, format!("{what} must be one value, not a list or a mapping"));
        }
        NodeKind::Refused => {}
    }
    None
}

fn line(span: &Span) -> u32 {
    marker_line(span.start.line())
}

fn marker_line(line: usize) -> u32 {
    u32::try_from(line.max(1)).expect("a file has fewer lines than its bounded size has bytes")
}
