//! Inline commands: a line of words, as a person types it. Not the usual form of a request; it is
//! rewritten into that form, and everything after this file sees only the rewritten one.
//! Invariant: the line is cut into words as the server does it, or refused.

use crate::redis::push_header;
use crate::redis::request::{broken, dispatch};
use crate::{Forward, Limits, Parsed, RequestState, Scratch, Span, Then};

/// Parses a request whose first byte is not that of an array.
pub(super) fn parse(
    state: &mut RequestState,
    bytes: &[u8],
    limits: &Limits,
    scratch: &mut Scratch,
) -> Parsed {
    let from = state.scanned as usize;
    let end = memchr::memchr(b'\n', &bytes[from..]).map(|offset| from + offset);
    if end.unwrap_or(bytes.len()) > limits.line_size_max {
        return broken(scratch, 1, "too big inline request");
    }
    let Some(end) = end else {
        state.scanned = bytes.len() as u32;
        return Parsed::Incomplete { need: 1 };
    };
    let line = bytes[..end].strip_suffix(b"\r").unwrap_or(&bytes[..end]);
    // A server takes NUL for the end of the line, and waits for another.
    if line.contains(&0) {
        return broken(scratch, 1, "invalid character in inline request");
    }
    if !cut(line, scratch) {
        return broken(scratch, 1, "unbalanced quotes in request");
    }
    let size = end + 1;
    match scratch.arguments.len() {
        0 => return Parsed::Reply { size, then: Then::Continue, fault: false },
        count if count > limits.arguments_max => {
            return broken(scratch, 1, "invalid multibulk length");
        }
        _ => {}
    }
    rewrite(scratch);
    let rewritten = std::mem::take(&mut scratch.rewritten);
    let mut parsed = dispatch(&rewritten, size, scratch);
    scratch.rewritten = rewritten;
    scratch.rewritten_whole = true;
    if let Parsed::Request(request) = &mut parsed {
        request.forward = Forward::Rewritten { tail: Span::default() };
    }
    parsed
}

/// Puts the words one after the other into `reply`, which is free until there is a reply, and their
/// places into `arguments`.
fn cut(line: &[u8], scratch: &mut Scratch) -> bool {
    let mut at = 0;
    loop {
        at += line[at..].iter().take_while(|&&byte| is_space(byte)).count();
        if at == line.len() {
            return true;
        }
        let start = scratch.reply.len() as u32;
        let Some(next) = cut_word(line, at, &mut scratch.reply) else {
            return false;
        };
        at = next;
        scratch.arguments.push(Span { start, end: scratch.reply.len() as u32 });
    }
}

/// What C calls space, in its own locale.
fn is_space(byte: u8) -> bool {
    matches!(byte, b' ' | b'\t'..=b'\r')
}

/// Appends the word that starts at `at`, without its quotes. Gives the offset behind it; `None`
/// when a quote is not closed, or closed in the middle of a word.
fn cut_word(line: &[u8], mut at: usize, out: &mut Vec<u8>) -> Option<usize> {
    while let Some(&byte) = line.get(at) {
        match byte {
            b' ' | b'\n' | b'\r' | b'\t' => break,
            b'"' | b'\'' => {
                at = cut_quoted(line, at, out)?;
                return match line.get(at) {
                    Some(&byte) if !is_space(byte) => None,
                    _ => Some(at),
                };
            }
            _ => out.push(byte),
        }
        at += 1;
    }
    Some(at)
}

/// Appends what stands between the quote at `at` and the next of its kind, and gives the offset
/// behind that one.
fn cut_quoted(line: &[u8], at: usize, out: &mut Vec<u8>) -> Option<usize> {
    let quote = line[at];
    let mut at = at + 1;
    loop {
        let rest = &line[at..];
        at += match (quote, rest) {
            (_, []) => return None,
            (b'"', &[b'\\', b'x', high, low, ..])
                if high.is_ascii_hexdigit() && low.is_ascii_hexdigit() =>
            {
                out.push(hex_value(high) << 4 | hex_value(low));
                4
            }
            (b'"', &[b'\\', byte, ..]) => {
                out.push(unescaped(byte));
                2
            }
            (b'\'', b"\\'" | &[b'\\', b'\'', ..]) => {
                out.push(b'\'');
                2
            }
            (_, &[byte, ..]) if byte == quote => return Some(at + 1),
            (_, &[byte, ..]) => {
                out.push(byte);
                1
            }
        };
    }
}

fn hex_value(digit: u8) -> u8 {
    match digit {
        b'0'..=b'9' => digit - b'0',
        _ => (digit | 0x20) - b'a' + 10,
    }
}

fn unescaped(byte: u8) -> u8 {
    match byte {
        b'n' => b'\n',
        b'r' => b'\r',
        b't' => b'\t',
        b'b' => 8,
        b'a' => 7,
        other => other,
    }
}

/// Makes the usual form of the words that `cut` has found.
fn rewrite(scratch: &mut Scratch) {
    let Scratch { reply, rewritten, arguments, .. } = scratch;
    push_header(rewritten, b'*', arguments.len());
    for argument in arguments.iter_mut() {
        let word = &reply[argument.range()];
        push_header(rewritten, b'$', word.len());
        let start = rewritten.len() as u32;
        rewritten.extend_from_slice(word);
        *argument = Span { start, end: rewritten.len() as u32 };
        rewritten.extend_from_slice(b"\r\n");
    }
    reply.clear();
}
