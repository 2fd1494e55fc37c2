//! Splits Rust text into code and comments, so that the rules can look for words in either without
//! being misled by the other or by string literals; and finds words and matching brackets.
//!
//! It is not a lexer: it knows only where comments, literals and words begin and end. Invariant:
//! both halves have the same length and the same line ends as the text, so that an offset means
//! the same place in all three.

use std::ops::Range;

/// A text as two: in each, everything that belongs to the other, and every literal, is spaces.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Split {
    /// The code, without string and character literals.
    pub code: String,
    /// The comments, with their `//` and `/*`.
    pub comments: String,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Part {
    Code,
    Comment,
    Literal,
}

/// Splits `text`. A comment or literal that is not closed reaches to the end.
pub fn split(text: &str) -> Split {
    let bytes = text.as_bytes();
    let mut halves = Split { code: String::new(), comments: String::new() };
    let mut start = 0;
    while start < bytes.len() {
        let (end, part) = next_piece(bytes, start);
        let piece = &text[start..end];
        let blank: String =
            piece.bytes().map(|byte| if byte == b'\n' { '\n' } else { ' ' }).collect();
        halves.code += if part == Part::Code { piece } else { &blank };
        halves.comments += if part == Part::Comment { piece } else { &blank };
        start = end;
    }
    halves
}

/// Where the piece that begins at `start` ends, and what it is.
fn next_piece(bytes: &[u8], start: usize) -> (usize, Part) {
    let rest = &bytes[start..];
    match rest[0] {
        b'/' if rest.starts_with(b"//") => (start + line_length(rest), Part::Comment),
        b'/' if rest.starts_with(b"/*") => (start + block_comment_length(rest), Part::Comment),
        b'"' => (start + quoted_length(rest, b'"'), Part::Literal),
        b'\'' => match character_length(rest) {
            Some(length) => (start + length, Part::Literal),
            None => (start + 1, Part::Code), // A lifetime or a label.
        },
        byte if is_word_byte(byte) => {
            let word = rest.iter().take_while(|&&byte| is_word_byte(byte)).count();
            match prefixed_literal_length(&rest[..word], &rest[word..]) {
                Some(length) => (start + word + length, Part::Literal),
                None => (start + word, Part::Code),
            }
        }
        _ => (start + 1, Part::Code),
    }
}

fn line_length(bytes: &[u8]) -> usize {
    bytes.iter().position(|&byte| byte == b'\n').unwrap_or(bytes.len())
}

/// Block comments nest.
fn block_comment_length(bytes: &[u8]) -> usize {
    let (mut at, mut depth) = (0, 0);
    while at < bytes.len() {
        if bytes[at..].starts_with(b"/*") {
            depth += 1;
            at += 2;
        } else if bytes[at..].starts_with(b"*/") {
            depth -= 1;
            at += 2;
            if depth == 0 {
                return at;
            }
        } else {
            at += 1;
        }
    }
    at
}

/// The length of a literal with escapes that begins with `quote`.
fn quoted_length(bytes: &[u8], quote: u8) -> usize {
    let mut at = 1;
    while at < bytes.len() {
        match bytes[at] {
            b'\\' => at += 2,
            byte if byte == quote => return at + 1,
            _ => at += 1,
        }
    }
    bytes.len()
}

/// The length of a character literal, or `None` for a lifetime: only a literal has an escape, or
/// its closing quote right behind one character.
fn character_length(bytes: &[u8]) -> Option<usize> {
    if bytes.get(1) == Some(&b'\\') {
        return Some(quoted_length(bytes, b'\''));
    }
    let continued = bytes.get(2..)?.iter().take_while(|&&byte| byte & 0xc0 == 0x80).count();
    (bytes.get(2 + continued) == Some(&b'\'')).then_some(3 + continued)
}

/// The length of what follows `word` when the two are one literal: `b"…"`, `r#"…"#`, `b'…'`.
fn prefixed_literal_length(word: &[u8], rest: &[u8]) -> Option<usize> {
    match (word, rest.first()?) {
        (b"b" | b"c", b'"') => Some(quoted_length(rest, b'"')),
        (b"b", b'\'') => character_length(rest),
        (b"r" | b"br" | b"cr", b'"' | b'#') => {
            let hashes = rest.iter().take_while(|&&byte| byte == b'#').count();
            if rest.get(hashes) != Some(&b'"') {
                return None; // A raw identifier.
            }
            let mut end = vec![b'#'; hashes + 1];
            end[0] = b'"';
            let body = &rest[hashes + 1..];
            let length = body.windows(end.len()).position(|bytes| bytes == end);
            Some(length.map_or(rest.len(), |length| hashes + 1 + length + end.len()))
        }
        _ => None,
    }
}

/// Letters, digits, `_` and everything outside ASCII.
fn is_word_byte(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || byte == b'_' || !byte.is_ascii()
}

/// The words of `text`, each with its place.
pub fn words(text: &str) -> impl Iterator<Item = (Range<usize>, &str)> {
    let bytes = text.as_bytes();
    let mut at = 0;
    std::iter::from_fn(move || {
        let start = at + bytes[at..].iter().position(|&byte| is_word_byte(byte))?;
        let length = bytes[start..].iter().take_while(|&&byte| is_word_byte(byte)).count();
        at = start + length;
        Some((start..at, &text[start..at]))
    })
}

/// The places of the word `word` in `text`.
pub fn word_starts(text: &str, word: &str) -> Vec<usize> {
    words(text).filter(|(_, found)| *found == word).map(|(range, _)| range.start).collect()
}

/// One past the bracket that closes the one at `open` in `code`; the end when there is none.
pub fn closing_end(code: &str, open: usize) -> usize {
    let mut depth = 0;
    for (offset, byte) in code.bytes().enumerate().skip(open) {
        match byte {
            b'(' | b'[' | b'{' => depth += 1,
            b')' | b']' | b'}' => depth -= 1,
            _ => {}
        }
        if depth == 0 {
            return offset + 1;
        }
    }
    code.len()
}

/// From `start`, the first of `;` and `{` that is not inside brackets: where an item's body, or the
/// item itself, ends or begins. The end when the enclosing block ends first.
pub fn body_start(code: &str, start: usize) -> usize {
    let mut depth = 0;
    for (offset, byte) in code.bytes().enumerate().skip(start) {
        match byte {
            b'{' | b';' if depth == 0 => return offset,
            b'(' | b'[' | b'{' => depth += 1,
            b')' | b']' | b'}' if depth == 0 => return offset,
            b')' | b']' | b'}' => depth -= 1,
            _ => {}
        }
    }
    code.len()
}

/// The line of `offset`, from 1.
pub fn line_of(text: &str, offset: usize) -> usize {
    1 + text.as_bytes()[..offset].iter().filter(|&&byte| byte == b'\n').count()
}

#[cfg(test)]
mod tests {
    use super::*;

    /// What is left as code, with runs of blanks made one space.
    fn code(text: &str) -> String {
        split(text).code.split_whitespace().collect::<Vec<_>>().join(" ")
    }

    #[test]
    fn code_is_what_is_neither_comment_nor_literal() {
        for (text, want) in [
            ("a // b", "a"),
            ("a /* b */ c", "a c"),
            ("a /* b /* c */ d */ e", "a e"),
            ("a /* \" */ b // \" \n c", "a b c"),
            (r#"a("b // c"); d"#, "a( ); d"),
            (r#"a("\"b"); d"#, "a( ); d"),
            (r#"a("\\"); d"#, "a( ); d"),
            ("a(\"b\n\\\nc\") d", "a( ) d"),
            (r##"a(r#"b " c"#); d"##, "a( ); d"),
            (r###"a(br##"b "# c"##); d"###, "a( ); d"),
            (r#"a(r"\"); d"#, "a( ); d"),
            (r#"a(b"x", c"y") d"#, "a( , ) d"),
            ("r#type = 1", "r#type = 1"),
            ("bar\"x\"", "bar"),
            (
                "match a { '\"' => b, '\\'' => c, b'\"' => d, '{' => e }",
                "match a { => b, => c, => d, => e }",
            ),
            ("fn a<'b, 'c>(d: &'b str) -> &'c str", "fn a<'b, 'c>(d: &'b str) -> &'c str"),
            ("'outer: loop { break 'outer; }", "'outer: loop { break 'outer; }"),
            ("a('é', '→', '\\u{e9}') b", "a( , , ) b"),
            ("a(\"é", "a("),
            ("/* a", ""),
            ("'", "'"),
        ] {
            assert_eq!(code(text), want, "{text}");
        }
    }

    #[test]
    fn comments_are_kept_apart_from_strings_that_look_like_them() {
        let text = "a(\"// no\"); // yes é\n/* also */ b '/' // end";
        let comments = split(text).comments;
        let found: Vec<_> = comments.split_whitespace().collect();
        assert_eq!(found, ["//", "yes", "é", "/*", "also", "*/", "//", "end"]);
    }

    #[test]
    fn both_halves_keep_every_offset_and_line() {
        let text = "a \"é\n\" // é\n/*\n é */ 'é' b\n";
        let halves = split(text);
        let lines = |text: &str| text.match_indices('\n').map(|found| found.0).collect::<Vec<_>>();
        for half in [&halves.code, &halves.comments] {
            assert_eq!(half.len(), text.len());
            assert_eq!(lines(half), lines(text));
        }
        assert_eq!(text.find('b'), halves.code.find('b'));
    }

    #[test]
    fn words_are_whole() {
        let found: Vec<_> = words("a_b c1::d-é! ").map(|(_, word)| word).collect();
        assert_eq!(found, ["a_b", "c1", "d", "é"]);
        assert_eq!(word_starts("ab a_b b ab_ ab", "ab"), [0, 13]);
    }

    #[test]
    fn brackets_match_across_kinds() {
        assert_eq!(closing_end("a{b(c[d]){}} e", 1), 12);
        assert_eq!(closing_end("{", 0), 1);
        assert_eq!(body_start("fn a(b: [u8; 4]) -> c { d; }", 0), 22);
        assert_eq!(body_start("fn a(b: [u8; 4]);", 0), 16);
        assert_eq!(body_start("a }", 0), 2);
    }

    #[test]
    fn lines_count_from_one() {
        assert_eq!([0, 1, 2, 3].map(|offset| line_of("a\nb\n", offset)), [1, 1, 2, 2]);
    }
}
