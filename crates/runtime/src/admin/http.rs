//! HTTP for monitoring: `/metrics`, `/healthz`, `/readyz`, `/config`, `/servers`.
//!
//! One request a connection; its head is bounded in size and time, and a body is not read. Whoever
//! may connect may read everything here, so secrets are left out. Invariant: each whole request
//! gets one response, and the connection is closed behind it.

use std::io::{self, Read};
use std::time::Instant;

use serde_json::Value;

use super::{Context, config, metrics, report};
use crate::control_listener::{PATIENCE, Stream, WRITE_LIMIT, is_timeout};

/// Bytes of a request's head.
const HEAD_SIZE_MAX: usize = 8 << 10;
/// Lines of a request's head.
const HEADERS_MAX: usize = 64;

#[derive(Debug, PartialEq, Eq)]
struct Response {
    status: &'static str,
    kind: &'static str,
    body: Vec<u8>,
}

impl Response {
    fn text(status: &'static str, text: &str) -> Response {
        let body = format!("{text}\n").into_bytes();
        Response { status, kind: "text/plain; charset=utf-8", body }
    }

    fn json(value: &Value) -> Response {
        let body = format!("{value:#}\n").into_bytes();
        Response { status: "200 OK", kind: "application/json", body }
    }
}

/// What stands at the beginning of a caller's bytes.
#[derive(Debug, PartialEq, Eq)]
enum Head {
    More,
    Bad(&'static str),
    Whole { method: String, path: String },
}

/// Serves one caller.
pub(super) fn serve(mut stream: Stream, context: &Context) -> io::Result<()> {
    let head = read_head(&mut stream)?;
    let is_head = matches!(&head, Head::Whole { method, .. } if method == "HEAD");
    let response = answer(head, context);
    let Response { status, kind, body } = &response;
    let mut bytes = format!(
        "HTTP/1.1 {status}\r\nContent-Type: {kind}\r\nContent-Length: {}\r\n\
         Cache-Control: no-store\r\nConnection: close\r\n",
        body.len()
    );
    if status.starts_with("405") {
        bytes.push_str("Allow: GET, HEAD\r\n");
    }
    let mut bytes = (bytes + "\r\n").into_bytes();
    if !is_head {
        bytes.extend_from_slice(body);
    }
    stream.write_whole(&bytes, WRITE_LIMIT)?;
    stream.finish(PATIENCE)
}

fn read_head(stream: &mut Stream) -> io::Result<Head> {
    let deadline = Instant::now() + PATIENCE;
    let mut bytes = Vec::new();
    let mut chunk = [0; 1024];
    loop {
        match parse_head(&bytes) {
            Head::More if bytes.len() >= HEAD_SIZE_MAX => return Ok(Head::Bad("too large")),
            Head::More if Instant::now() > deadline => return Ok(Head::Bad("too slow")),
            Head::More => {}
            head => return Ok(head),
        }
        match stream.read(&mut chunk) {
            Ok(0) => return Ok(Head::Bad("not whole")),
            Ok(size) => bytes.extend_from_slice(&chunk[..size]),
            Err(error) if is_timeout(&error) => return Ok(Head::Bad("too slow")),
            Err(error) => return Err(error),
        }
    }
}

fn parse_head(bytes: &[u8]) -> Head {
    let mut headers = [httparse::EMPTY_HEADER; HEADERS_MAX];
    let mut request = httparse::Request::new(&mut headers);
    match request.parse(bytes) {
        Ok(httparse::Status::Partial) => Head::More,
        Ok(httparse::Status::Complete(_)) => {
            let path = request.path.unwrap_or_default();
            let path = path.split_once('?').map_or(path, |(path, _)| path);
            Head::Whole {
                method: request.method.unwrap_or_default().to_owned(),
                path: path.to_owned(),
            }
        }
        Err(_) => Head::Bad("no HTTP request"),
    }
}

fn answer(head: Head, context: &Context) -> Response {
    let (method, path) = match head {
        Head::Whole { method, path } => (method, path),
        Head::Bad(why) => return Response::text("400 Bad Request", why),
        Head::More => return Response::text("400 Bad Request", "not whole"),
    };
    let page: fn(&Context) -> Response = match path.as_str() {
        "/metrics" => |context| Response {
            status: "200 OK",
            kind: "text/plain; version=0.0.4; charset=utf-8",
            body: metrics::text(context).into_bytes(),
        },
        "/healthz" => health,
        "/readyz" => readiness,
        "/config" => |context| Response::json(&config::pools(&context.shared)),
        "/servers" => |context| Response::json(&report::servers(&context.shared)),
        _ => return Response::text("404 Not Found", "no such page"),
    };
    match method.as_str() {
        "GET" | "HEAD" => page(context),
        _ => Response::text("405 Method Not Allowed", "only GET and HEAD"),
    }
}

/// Whether the process works: every worker answers. One that drains has workers that end.
fn health(context: &Context) -> Response {
    let silent = if context.is_draining() { Vec::new() } else { context.shared.silent_workers() };
    if silent.is_empty() {
        return Response::text("200 OK", "ok");
    }
    Response::text("503 Service Unavailable", &format!("workers that do not answer: {silent:?}"))
}

/// Whether new clients should be sent here.
fn readiness(context: &Context) -> Response {
    if context.is_draining() {
        return Response::text("503 Service Unavailable", "draining");
    }
    health(context)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn whole(method: &str, path: &str) -> Head {
        Head::Whole { method: method.to_owned(), path: path.to_owned() }
    }

    #[test]
    fn a_head_is_read_however_it_comes() {
        let request = b"GET /metrics?a=b HTTP/1.1\r\nHost: weir\r\n\r\n";
        for size in 0..request.len() {
            assert_eq!(parse_head(&request[..size]), Head::More, "{size}");
        }
        assert_eq!(parse_head(request), whole("GET", "/metrics"));
        assert_eq!(parse_head(b"HEAD / HTTP/1.0\n\n"), whole("HEAD", "/"));
    }

    #[test]
    fn what_is_no_request_is_refused() {
        let many = format!("GET / HTTP/1.1\r\n{}\r\n", "a: b\r\n".repeat(HEADERS_MAX + 1));
        for bytes in
            [b"\0\0".as_slice(), b"GET / HTTP/9\r\n\r\n", b"get me\r\n\r\n", many.as_bytes()]
        {
            assert!(matches!(parse_head(bytes), Head::Bad(_)), "{}", bytes.escape_ascii());
        }
    }
}
