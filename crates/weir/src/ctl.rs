//! `weir ctl`: asks a proxy that runs, through its unix socket, and prints tables or JSON.
//!
//! It decides nothing; the proxy does. Invariant: exit code 0 means that the proxy did what was
//! asked.

use std::io::{self, BufRead, BufReader, ErrorKind, Write};
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::process::ExitCode;
use std::time::Duration;

use serde_json::{Value, json};

use crate::arguments::{CtlOptions, CtlRequest};
use crate::terminal::say;

/// How long the proxy may take. It waits for names and for slow workers itself, for some seconds.
const ANSWER_TIMEOUT: Duration = Duration::from_secs(10);

/// A column of a table: its title, and the field that it shows.
type Column = (&'static str, &'static str);

const POOLS: &[Column] = &[
    ("POOL", "pool"),
    ("LISTEN", "listen"),
    ("CLIENTS", "clients"),
    ("REQUESTS", "requests"),
    ("ERRORS", "errors"),
    ("FAULTS", "faults"),
    ("SERVERS", "servers"),
    ("EJECTED", "ejected"),
];

const SERVERS: &[Column] = &[
    ("POOL", "pool"),
    ("SERVER", "server"),
    ("ADDRESS", "address"),
    ("STATE", "state"),
    ("EJECTS", "ejects"),
    ("PROBES", "probes"),
    ("CONNECTIONS", "connections"),
    ("REQUESTS", "requests"),
    ("WAITING", "waiting"),
    ("ERRORS", "errors"),
    ("TIMED OUT", "timed_out"),
    ("P50 MS <", "below_ms_p50"),
    ("P99 MS <", "below_ms_p99"),
];

const CLIENTS: &[Column] = &[
    ("CLIENT", "client"),
    ("ADDRESS", "address"),
    ("NAME", "name"),
    ("LIBRARY", "library"),
    ("RESP", "resp"),
    ("POOL", "pool"),
    ("AGE S", "age_seconds"),
    ("IDLE S", "idle_seconds"),
    ("REQUESTS", "requests"),
    ("OUTPUT B", "output_bytes"),
    ("INPUT B", "input_bytes"),
    ("PAUSED", "paused"),
];

const SLOW: &[Column] = &[
    ("AGO S", "seconds_ago"),
    ("POOL", "pool"),
    ("CLIENT", "client"),
    ("ADDRESS", "address"),
    ("NAME", "name"),
    ("COMMAND", "command"),
    ("KEY HASH", "key_hash"),
    ("SERVER", "server"),
    ("TOTAL MS", "total_ms"),
    ("QUEUED", "queued_ms"),
    ("SERVER", "server_ms"),
    ("UNWRITTEN", "unwritten_ms"),
];

/// Does what the command line asks for.
pub(crate) fn run(options: &CtlOptions) -> ExitCode {
    let printed = ask(&options.socket, &request(&options.request)).and_then(|data| {
        let text =
            if options.json { format!("{data:#}\n") } else { shown(&options.request, &data) };
        io::stdout().write_all(text.as_bytes()).map_err(|error| error.to_string())
    });
    match printed {
        Ok(()) => ExitCode::SUCCESS,
        Err(text) => {
            say(format_args!("weir ctl: {text}"));
            ExitCode::FAILURE
        }
    }
}

fn request(request: &CtlRequest) -> Value {
    match request {
        CtlRequest::Status => json!({ "command": "status" }),
        CtlRequest::Servers => json!({ "command": "servers" }),
        CtlRequest::Clients { max } => json!({ "command": "clients", "max": max }),
        CtlRequest::Slowlog { max } => json!({ "command": "slowlog", "max": max }),
        CtlRequest::Explain { key, pool } => {
            json!({ "command": "explain", "key": key, "pool": pool })
        }
        CtlRequest::Reload => json!({ "command": "reload" }),
        CtlRequest::Drain => json!({ "command": "drain" }),
        CtlRequest::Upgrade => json!({ "command": "upgrade" }),
    }
}

/// What the proxy answers, or why it does not.
fn ask(path: &Path, request: &Value) -> Result<Value, String> {
    let socket = path.display();
    let stream = UnixStream::connect(path).map_err(|error| match error.kind() {
        ErrorKind::NotFound => format!(
            "there is no socket {socket}: is the proxy running, with --ctl-socket {socket}?"
        ),
        ErrorKind::ConnectionRefused => format!("no proxy listens at {socket}: it has ended"),
        ErrorKind::PermissionDenied => format!("{socket}: only the proxy's own user may connect"),
        _ => format!("{socket}: {error}"),
    })?;
    let answer = converse(stream, request).map_err(|error| match error.kind() {
        ErrorKind::WouldBlock => format!("{socket}: no answer within {ANSWER_TIMEOUT:?}"),
        _ => format!("{socket}: {error}"),
    })?;
    let mut answer: Value = serde_json::from_str(&answer)
        .map_err(|error| format!("{socket}: the answer is not understood: {error}"))?;
    match (answer["ok"].as_bool(), answer["error"].as_str()) {
        (Some(true), _) => Ok(answer["data"].take()),
        (_, Some(error)) => Err(error.to_owned()),
        _ => Err(format!("{socket}: the answer is not understood")),
    }
}

fn converse(mut stream: UnixStream, request: &Value) -> io::Result<String> {
    stream.set_read_timeout(Some(ANSWER_TIMEOUT))?;
    stream.set_write_timeout(Some(ANSWER_TIMEOUT))?;
    stream.write_all(format!("{request}\n").as_bytes())?;
    let mut answer = String::new();
    BufReader::new(stream).read_line(&mut answer)?;
    if answer.is_empty() {
        return Err(io::Error::other("the proxy has closed the connection"));
    }
    Ok(answer)
}

/// An answer for people.
fn shown(request: &CtlRequest, data: &Value) -> String {
    match request {
        CtlRequest::Status => {
            let rest = data["pools"].as_array().map(|rows| table(POOLS, rows)).unwrap_or_default();
            format!("{}\n{rest}", fields(data))
        }
        CtlRequest::Servers => data.as_array().map(|rows| table(SERVERS, rows)).unwrap_or_default(),
        CtlRequest::Clients { .. } => {
            let rows = data["clients"].as_array().map_or(&[][..], Vec::as_slice);
            let total = &data["total"];
            format!("{}{} of {total} clients\n", table(CLIENTS, rows), rows.len())
        }
        CtlRequest::Slowlog { .. } => {
            data.as_array().map(|rows| table(SLOW, rows)).unwrap_or_default()
        }
        CtlRequest::Explain { .. } => fields(data),
        CtlRequest::Reload | CtlRequest::Drain | CtlRequest::Upgrade => {
            format!("{}\n", cell(&data["done"]))
        }
    }
}

/// The plain fields of an object, each on a line.
fn fields(data: &Value) -> String {
    let Some(fields) = data.as_object() else { return String::new() };
    let is_table = |value: &Value| value.as_array().is_some_and(|a| a.iter().any(Value::is_object));
    let shown = fields.iter().filter(|(_, value)| !is_table(value));
    shown.map(|(name, value)| format!("{:<28}{}\n", name.replace('_', " "), cell(value))).collect()
}

fn table(columns: &[Column], rows: &[Value]) -> String {
    let cells =
        rows.iter().map(|row| columns.iter().map(|(_, field)| cell(&row[*field])).collect());
    let titles = columns.iter().map(|(title, _)| (*title).to_owned()).collect();
    let lines: Vec<Vec<String>> = std::iter::once(titles).chain(cells).collect();
    let width =
        |column: usize| lines.iter().map(|line| line[column].chars().count()).max().unwrap_or(0);
    let widths: Vec<usize> = (0..columns.len()).map(width).collect();
    let mut text = String::new();
    for line in &lines {
        let padded = line.iter().zip(&widths).map(|(cell, width)| format!("{cell:<width$}"));
        text.push_str(padded.collect::<Vec<_>>().join("  ").trim_end());
        text.push('\n');
    }
    text
}

fn cell(value: &Value) -> String {
    match value {
        Value::Null => "-".to_owned(),
        Value::String(text) => text.clone(),
        Value::Bool(is_so) => if *is_so { "yes" } else { "no" }.to_owned(),
        Value::Array(values) if values.is_empty() => "none".to_owned(),
        Value::Array(values) => values.iter().map(cell).collect::<Vec<_>>().join(", "),
        other => other.to_string(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_table_is_as_wide_as_its_widest_cells() {
        let rows = [json!({ "pool": "a", "clients": 12345678 }), json!({ "pool": null })];
        let text = table(&[("POOL", "pool"), ("CLIENTS", "clients")], &rows);
        assert_eq!(text, "POOL  CLIENTS\na     12345678\n-     -\n");
    }

    #[test]
    fn fields_leave_tables_out() {
        let data = json!({ "a_b": [1, 2], "c": true, "rows": [{ "x": 1 }], "none": [] });
        let text = fields(&data);
        assert_eq!(text.lines().count(), 3, "{text}");
        assert!(text.contains("1, 2") && text.contains("yes") && text.contains("none"));
    }
}
