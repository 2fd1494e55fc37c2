//! The proxy's errors, in the words that a server has for them. They are the same in RESP2 and
//! RESP3. Invariant: each function leaves exactly one reply in `Scratch::reply`.

use crate::{Parsed, Scratch, Then};

/// Bytes of a name, and of all arguments together, that an error repeats.
pub(super) const ECHO_SIZE_MAX: usize = 128;

/// Answers `-ERR ` and the pieces of a text.
#[cold]
pub(super) fn error(pieces: &[&[u8]], size: usize, scratch: &mut Scratch) -> Parsed {
    error_of_kind("ERR", pieces, size, scratch)
}

/// The same with another word in place of `ERR`.
#[cold]
pub(super) fn error_of_kind(
    kind: &str,
    pieces: &[&[u8]],
    size: usize,
    scratch: &mut Scratch,
) -> Parsed {
    let reply = &mut scratch.reply;
    reply.clear();
    reply.push(b'-');
    reply.extend_from_slice(kind.as_bytes());
    reply.push(b' ');
    let start = reply.len();
    pieces.iter().for_each(|piece| reply.extend_from_slice(piece));
    for byte in &mut reply[start..] {
        if matches!(byte, b'\r' | b'\n') {
            *byte = b' ';
        }
    }
    reply.extend_from_slice(b"\r\n");
    Parsed::Reply { size, then: Then::Continue, fault: true }
}

#[cold]
pub(super) fn wrong_arity(name: &str, size: usize, scratch: &mut Scratch) -> Parsed {
    error(&[b"wrong number of arguments for '", name.as_bytes(), b"' command"], size, scratch)
}

#[cold]
pub(super) fn refused(name: &str, size: usize, scratch: &mut Scratch) -> Parsed {
    error(&[b"'", name.as_bytes(), b"' is not supported by the proxy"], size, scratch)
}

/// Answers a command that is not in the table.
#[cold]
pub(super) fn unknown(bytes: &[u8], size: usize, scratch: &mut Scratch) -> Parsed {
    let arguments = std::mem::take(&mut scratch.arguments);
    let name = &bytes[arguments[0].range()];
    // A browser was made to send this; it must not be led on to send more.
    let parsed = if name.eq_ignore_ascii_case(b"post") || name.eq_ignore_ascii_case(b"host:") {
        Parsed::Reply { size, then: Then::Close, fault: true }
    } else {
        let mut echo = Vec::with_capacity(2 * ECHO_SIZE_MAX);
        for argument in &arguments[1..] {
            if echo.len() >= ECHO_SIZE_MAX {
                break;
            }
            let room = ECHO_SIZE_MAX - echo.len();
            echo.push(b'\'');
            echo.extend_from_slice(printable(&bytes[argument.range()], room));
            echo.extend_from_slice(b"' ");
        }
        let name = printable(name, ECHO_SIZE_MAX);
        let pieces = [b"unknown command '", name, b"', with args beginning with: ", &echo];
        error(&pieces, size, scratch)
    };
    scratch.arguments = arguments;
    parsed
}

/// The first bytes of a word, as far as a server would repeat them.
pub(super) fn printable(word: &[u8], size_max: usize) -> &[u8] {
    let word = &word[..word.len().min(size_max)];
    &word[..word.iter().position(|&byte| byte == 0).unwrap_or(word.len())]
}
