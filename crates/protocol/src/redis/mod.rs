//! RESP2: what a Redis or Valkey server speaks with its clients, unless they ask for more.

pub mod commands;
mod inline;
pub mod join;
mod reply;
pub mod request;
pub mod response;
mod usual;

/// Appends an array of bulk strings, which is what every request is.
fn push_request(out: &mut Vec<u8>, arguments: &[&[u8]]) {
    push_header(out, b'*', arguments.len());
    for argument in arguments {
        push_bulk(out, argument);
    }
}

/// Appends a bulk string.
fn push_bulk(out: &mut Vec<u8>, bytes: &[u8]) {
    push_header(out, b'$', bytes.len());
    out.extend_from_slice(bytes);
    out.extend_from_slice(b"\r\n");
}

/// Appends the line that begins an array or a bulk string.
fn push_header(out: &mut Vec<u8>, kind: u8, count: usize) {
    out.push(kind);
    crate::decimal::push(out, count);
    out.extend_from_slice(b"\r\n");
}
