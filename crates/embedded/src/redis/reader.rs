//! Finds the requests in a Redis client's bytes: arrays of bulk strings, or inline words.
//!
//! It does not know what they mean. Invariants: each byte is looked at a bounded number of times
//! however the stream is cut, and a size is checked when it is declared, before it has come.

use std::ops::Range;

use super::parse_integer;
use super::reply::Refusal;

/// A whole request, in bytes. Redis itself has no such limit, but one of 512 MiB an argument.
pub const REQUEST_SIZE_MAX: usize = 64 << 20;

/// Arguments of one request.
pub const ARGUMENTS_MAX: usize = 1 << 20;

/// An inline request, or the line that declares a count or a size, in bytes.
pub const HEADER_SIZE_MAX: usize = 64 << 10;

/// Arguments, and bytes of one argument, of a client that has not shown the password.
const LOGIN_ARGUMENTS_MAX: usize = 10;
const LOGIN_ARGUMENT_SIZE_MAX: usize = 16_384;

/// Spans that are kept allocated for the next request.
const SPANS_KEPT_MAX: usize = 64;

/// What stands at the beginning of a client's bytes.
#[derive(Debug)]
pub(super) enum Read {
    /// Not yet a whole request.
    Incomplete,
    /// An empty request of `size` bytes, which gets no reply.
    Nothing { size: usize },
    /// A request of `size` bytes; see [`Reader::arguments`].
    Request { size: usize },
    /// Not a request. The connection is closed after this reply.
    Broken(Refusal),
}

/// What is known of a request of which only the beginning has come.
#[derive(Debug, Default)]
pub(super) struct Reader {
    /// Bytes that are parsed: complete headers and arguments. 0 at the start of a request.
    parsed: usize,
    /// Bytes in which no line end is, or only the first byte of one.
    searched: usize,
    arguments_left: usize,
    /// Size of the argument whose bytes come next, once it is declared.
    argument_size: Option<usize>,
    spans: Vec<Range<usize>>,
}

/// The arguments of a request; the first is the command's name.
#[derive(Clone, Copy)]
pub(super) struct Args<'a> {
    bytes: &'a [u8],
    spans: &'a [Range<usize>],
}

impl<'a> Args<'a> {
    /// How many there are, the name included. At least 1.
    pub(super) fn len(self) -> usize {
        self.spans.len()
    }

    /// The argument at this index, which must exist.
    pub(super) fn get(self, index: usize) -> &'a [u8] {
        &self.bytes[self.spans[index].clone()]
    }

    /// The arguments from this index on.
    pub(super) fn from(self, index: usize) -> impl ExactSizeIterator<Item = &'a [u8]> {
        self.spans[index..].iter().map(move |span| &self.bytes[span.clone()])
    }
}

impl Reader {
    /// Looks at `bytes`, whose first byte is the first of a request. After `Incomplete`, call again
    /// with the same bytes and more. `before_login` lowers the limits.
    pub(super) fn read(&mut self, bytes: &[u8], before_login: bool) -> Read {
        let read = match bytes.first() {
            None => Ok(Read::Incomplete),
            Some(b'*') => self.read_array(bytes, before_login),
            Some(_) => self.read_inline(bytes),
        };
        let read = read.unwrap_or_else(Read::Broken);
        if !matches!(read, Read::Incomplete) {
            (self.parsed, self.searched) = (0, 0);
        }
        read
    }

    /// The arguments of the request that was just read, whose bytes these are.
    pub(super) fn arguments<'a>(&'a self, bytes: &'a [u8]) -> Args<'a> {
        Args { bytes, spans: &self.spans }
    }

    fn start(&mut self) {
        self.spans.clear();
        self.spans.shrink_to(SPANS_KEPT_MAX);
        self.argument_size = None;
    }

    fn read_array(&mut self, bytes: &[u8], before_login: bool) -> Result<Read, Refusal> {
        if self.parsed == 0 {
            let Some(line) = self.line(bytes, b'\r', 2, "too big mbulk count string")? else {
                return Ok(Read::Incomplete);
            };
            let count = parse_integer(&bytes[line.start + 1..line.end])
                .filter(|count| *count <= ARGUMENTS_MAX as i64)
                .ok_or_else(|| protocol_error("invalid multibulk length"))?;
            if count > LOGIN_ARGUMENTS_MAX as i64 && before_login {
                return Err(protocol_error("unauthenticated multibulk length"));
            }
            self.start();
            self.parsed = line.end + 2;
            self.arguments_left = usize::try_from(count).unwrap_or(0);
            if self.arguments_left == 0 {
                return Ok(Read::Nothing { size: self.parsed });
            }
        }
        while self.arguments_left > 0 {
            let Some(size) = self.argument_size(bytes, before_login)? else {
                return Ok(Read::Incomplete);
            };
            let end = self.parsed + size;
            if bytes.len() < end + 2 {
                return Ok(Read::Incomplete);
            }
            // Like Redis, do not look at the two bytes that end an argument.
            self.spans.push(self.parsed..end);
            self.parsed = end + 2;
            self.argument_size = None;
            self.arguments_left -= 1;
        }
        Ok(Read::Request { size: self.parsed })
    }

    /// The declared size of the next argument; none as long as its line is incomplete.
    fn argument_size(
        &mut self,
        bytes: &[u8],
        before_login: bool,
    ) -> Result<Option<usize>, Refusal> {
        if self.argument_size.is_some() {
            return Ok(self.argument_size);
        }
        let Some(line) = self.line(bytes, b'\r', 2, "too big bulk count string")? else {
            return Ok(None);
        };
        let first = bytes[line.start];
        if first != b'$' {
            return Err(Refusal::from_parts(&[
                b"ERR Protocol error: expected '$', got '",
                &[first],
                b"'",
            ]));
        }
        let size = parse_integer(&bytes[line.start + 1..line.end])
            .and_then(|size| usize::try_from(size).ok())
            .filter(|size| size.saturating_add(line.end + 4) <= REQUEST_SIZE_MAX)
            .ok_or_else(|| protocol_error("invalid bulk length"))?;
        if size > LOGIN_ARGUMENT_SIZE_MAX && before_login {
            return Err(protocol_error("unauthenticated bulk length"));
        }
        self.parsed = line.end + 2;
        self.argument_size = Some(size);
        Ok(self.argument_size)
    }

    fn read_inline(&mut self, bytes: &[u8]) -> Result<Read, Refusal> {
        let Some(line) = self.line(bytes, b'\n', 1, "too big inline request")? else {
            return Ok(Read::Incomplete);
        };
        self.start();
        let mut at = 0;
        for word in bytes[line.clone()].split(u8::is_ascii_whitespace) {
            if !word.is_empty() {
                self.spans.push(at..at + word.len());
            }
            at += word.len() + 1;
        }
        let size = line.end + 1;
        Ok(if self.spans.is_empty() { Read::Nothing { size } } else { Read::Request { size } })
    }

    /// The line that starts at `parsed`, without its end, which is `end_size` bytes that start with
    /// `end`; none when it has not come.
    fn line(
        &mut self,
        bytes: &[u8],
        end: u8,
        end_size: usize,
        too_big: &str,
    ) -> Result<Option<Range<usize>>, Refusal> {
        let from = self.searched.max(self.parsed);
        let found = bytes[from..].iter().position(|byte| *byte == end).map(|at| from + at);
        let seen = found.unwrap_or(bytes.len());
        if seen - self.parsed > HEADER_SIZE_MAX {
            return Err(protocol_error(too_big));
        }
        self.searched = seen;
        let complete = found.filter(|at| at + end_size <= bytes.len());
        Ok(complete.map(|at| self.parsed..at))
    }
}

fn protocol_error(text: &str) -> Refusal {
    Refusal::from_parts(&[b"ERR Protocol error: ", text.as_bytes()])
}

#[cfg(test)]
mod tests {
    use super::*;

    /// What is read of `bytes` when they come at once.
    fn read(bytes: &[u8], before_login: bool) -> String {
        let mut reader = Reader::default();
        match reader.read(bytes, before_login) {
            Read::Incomplete => "incomplete".to_owned(),
            Read::Nothing { size } => format!("nothing {size}"),
            Read::Broken(refusal) => refusal.text(),
            Read::Request { size } => {
                let words = reader.arguments(&bytes[..size]).from(0);
                let words: Vec<_> = words.map(|word| word.escape_ascii().to_string()).collect();
                format!("{size} {}", words.join("|"))
            }
        }
    }

    #[test]
    fn requests_are_found_and_broken_ones_named() {
        let invalid_count = "ERR Protocol error: invalid multibulk length";
        let invalid_size = "ERR Protocol error: invalid bulk length";
        let cases: [(&[u8], &str); 22] = [
            (b"", "incomplete"),
            (b"*", "incomplete"),
            (b"*1\r", "incomplete"),
            (b"*1\r\n$4\r\nPING\r", "incomplete"),
            (b"*1\r\n$4\r\nPING\r\n*", "14 PING"),
            (b"*2\r\n$3\r\nGET\r\n$0\r\n\r\n", "19 GET|"),
            (b"*1\r\n$3\r\na\r\n\r\n", "13 a\\r\\n"),
            (b"*0\r\nPING", "nothing 4"),
            (b"*-1\r\n", "nothing 5"),
            (b"*x\r\n", invalid_count),
            (b"*01\r\n", invalid_count),
            (b"*1048577\r\n", invalid_count),
            (b"*1048576\r\n", "incomplete"),
            (b"*1\r\nx\r\n", "ERR Protocol error: expected '$', got 'x'"),
            (b"*1\r\n$-1\r\n", invalid_size),
            (b"*1\r\n$67108864\r\n", invalid_size),
            (b"*1\r\n$67108848\r\n", invalid_size),
            (b"*1\r\n$67108847\r\n", "incomplete"),
            (b"\r\nx", "nothing 2"),
            (b"\n", "nothing 1"),
            (b" SET  a\t\"b c\" \r\nx", "16 SET|a|\\\"b|c\\\""),
            (b"PING", "incomplete"),
        ];
        for (bytes, expected) in cases {
            assert_eq!(read(bytes, false), expected, "{}", bytes.escape_ascii());
        }
    }

    #[test]
    fn a_client_without_the_password_may_send_less() {
        assert_eq!(read(b"*10\r\n", true), "incomplete");
        assert_eq!(read(b"*11\r\n", true), "ERR Protocol error: unauthenticated multibulk length");
        assert_eq!(read(b"*1\r\n$16384\r\n", true), "incomplete");
        let expected = "ERR Protocol error: unauthenticated bulk length";
        assert_eq!(read(b"*1\r\n$16385\r\n", true), expected);
    }

    #[test]
    fn a_line_that_does_not_end_is_refused() {
        for (start, name) in [("*", "mbulk count string"), ("*1\r\n$", "bulk count string")] {
            let line = format!("{start}{}", "1".repeat(HEADER_SIZE_MAX));
            let expected = format!("ERR Protocol error: too big {name}");
            assert_eq!(read(line.as_bytes(), false), expected);
            assert_eq!(read(format!("{line}\r\n").as_bytes(), false), expected);
            assert_eq!(read(&line.as_bytes()[..line.len() - 1], false), "incomplete");
        }
        let line = vec![b'x'; HEADER_SIZE_MAX + 1];
        assert_eq!(read(&line, false), "ERR Protocol error: too big inline request");
        assert_eq!(read(&line[1..], false), "incomplete");
    }
}
