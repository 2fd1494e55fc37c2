//! The unix socket of `weir ctl`: one request a line, one answer a line, both JSON.
//!
//! A request is `{"command": "..."}` with the command's own fields; an answer is
//! `{"ok": true, "data": ...}` or `{"ok": false, "error": "..."}`. What changes the process goes
//! the way of signals, so that it happens in one place. Invariant: each whole line gets one answer.

use std::io::{self, BufRead, BufReader, Write};
use std::time::{Duration, Instant};

use rustix::process::{Signal, getpid, kill_process};
use serde::Deserialize;
use serde_json::{Value, json};

use super::{CheckConfiguration, Context, report};
use crate::control_listener::Stream;

/// Bytes of a request.
const LINE_SIZE_MAX: usize = 64 << 10;
/// How long a caller may take to send one, however slowly it writes.
const LINE_LIMIT: Duration = Duration::from_secs(10);
/// Requests of a connection.
const LINES_MAX: usize = 100;

/// Clients that are told of, of each worker: it does nothing else while it looks them up.
const CLIENTS_MAX: usize = 1000;

#[derive(Debug, Deserialize)]
#[serde(tag = "command", rename_all = "lowercase", deny_unknown_fields)]
enum Request {
    Status {},
    Servers {},
    Clients { max: Option<usize> },
    SlowLog { max: Option<usize> },
    Explain { key: String, pool: Option<String> },
    Reload {},
    Drain {},
    Upgrade {},
}

/// Serves one caller: the lines that it sends.
pub(super) fn serve(
    stream: Stream,
    context: &Context,
    check: &CheckConfiguration,
) -> io::Result<()> {
    let mut reader = BufReader::new(stream);
    for _ in 0..LINES_MAX {
        let line = read_line(&mut reader)?;
        if line.is_empty() {
            return Ok(());
        }
        let is_whole = line.ends_with(b"\n");
        let result = if is_whole {
            answer(&line, context, check)
        } else {
            Err(format!("a request is one line of at most {LINE_SIZE_MAX} bytes"))
        };
        let answer = match result {
            Ok(data) => json!({ "ok": true, "data": data }),
            Err(error) => json!({ "ok": false, "error": error }),
        };
        reader.get_mut().write_all(format!("{answer}\n").as_bytes())?;
        if !is_whole {
            return Ok(());
        }
    }
    Ok(())
}

/// The bytes up to and with the next LF; without one at the end of the stream, of the patience, or
/// of the room.
fn read_line(reader: &mut impl BufRead) -> io::Result<Vec<u8>> {
    let deadline = Instant::now() + LINE_LIMIT;
    let mut line = Vec::new();
    loop {
        let bytes = reader.fill_buf()?;
        let end = bytes.iter().position(|byte| *byte == b'\n').map(|end| end + 1);
        let size = end.unwrap_or(bytes.len());
        line.extend_from_slice(&bytes[..size]);
        reader.consume(size);
        let is_over = size == 0 || line.len() >= LINE_SIZE_MAX || Instant::now() > deadline;
        if end.is_some() || is_over {
            return Ok(line);
        }
    }
}

fn answer(line: &[u8], context: &Context, check: &CheckConfiguration) -> Result<Value, String> {
    let request: Request =
        serde_json::from_slice(line).map_err(|error| format!("not understood: {error}"))?;
    let shared = &context.shared;
    match request {
        Request::Status {} => Ok(report::status(context)),
        Request::Servers {} => Ok(report::servers(shared)),
        Request::Clients { max } => {
            Ok(report::clients(shared, max.unwrap_or(CLIENTS_MAX).min(CLIENTS_MAX)))
        }
        Request::SlowLog { max } => Ok(report::slow_log(shared, max.unwrap_or(usize::MAX))),
        Request::Explain { key, pool } => report::explain(shared, pool.as_deref(), &key),
        Request::Reload {} => {
            check()?;
            signal(Signal::USR1, "the file is right and is being loaded; the log tells the rest")
        }
        Request::Drain {} => signal(Signal::TERM, "clients are let go, then the process ends"),
        Request::Upgrade {} => {
            signal(Signal::USR2, "a new process is asked for; the log tells what becomes of it")
        }
    }
}

/// Does what the signal does when it comes from outside.
fn signal(signal: Signal, done: &str) -> Result<Value, String> {
    kill_process(getpid(), signal).map_err(|error| format!("no signal: {error}"))?;
    Ok(json!({ "done": done }))
}
