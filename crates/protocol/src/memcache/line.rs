//! A command line cut into its words. Not what they mean. Invariant: only the space separates
//! words, as in memcached, so that a line has here the words that it has there.

use crate::Span;

/// Words that any command but those of many keys may have. memcached itself stops at 24.
pub(super) const WORDS_MAX: usize = 8;

/// The words of a line.
#[derive(Debug, Clone, Copy)]
pub(super) struct Line {
    /// The first words.
    words: [Span; WORDS_MAX],
    /// How many there are; may be more than are kept, by one.
    pub(super) count: usize,
    /// Whether single spaces separate the words, none stand at the ends, and CR LF ends the line.
    pub(super) canonical: bool,
    /// Bytes of the line with its end.
    pub(super) size: usize,
}

impl Line {
    /// Cuts the line whose LF is at `end`. Stops behind the first word too many.
    #[inline]
    pub(super) fn cut(bytes: &[u8], end: usize) -> Line {
        let mut words = Words::new(bytes, end);
        let mut line =
            Line { words: [Span::default(); WORDS_MAX], count: 0, canonical: false, size: end + 1 };
        for word in words.by_ref() {
            if line.count == WORDS_MAX {
                line.count += 1;
                return line;
            }
            line.words[line.count] = word;
            line.count += 1;
        }
        line.canonical = words.canonical();
        line
    }

    /// The i-th word; nothing when there are not so many.
    #[inline]
    pub(super) fn word<'a>(&self, bytes: &'a [u8], i: usize) -> &'a [u8] {
        if i < self.count.min(WORDS_MAX) { &bytes[self.words[i].range()] } else { &[] }
    }

    pub(super) fn span(&self, i: usize) -> Span {
        self.words[i]
    }

    /// Whether the last word asks for silence. A line of too many words asks for nothing.
    pub(super) fn is_quiet(&self, bytes: &[u8]) -> bool {
        (1..=WORDS_MAX).contains(&self.count) && self.word(bytes, self.count - 1) == b"noreply"
    }
}

/// Gives the words of a line one by one.
#[derive(Debug, Clone)]
pub(super) struct Words<'a> {
    line: &'a [u8],
    at: usize,
    /// Every gap so far was as it should be.
    gaps_single: bool,
    crlf: bool,
}

impl<'a> Words<'a> {
    /// Of the line whose LF is at `end`.
    #[inline]
    pub(super) fn new(bytes: &'a [u8], end: usize) -> Words<'a> {
        let line = &bytes[..end];
        let stripped = line.strip_suffix(b"\r");
        let crlf = stripped.is_some();
        Words { line: stripped.unwrap_or(line), at: 0, gaps_single: true, crlf }
    }

    /// Bytes of the line with its end.
    #[inline]
    pub(super) fn size(&self) -> usize {
        self.line.len() + usize::from(self.crlf) + 1
    }

    /// Whether the line, all of whose words were given, is in its canonical form.
    #[inline]
    pub(super) fn canonical(&self) -> bool {
        self.gaps_single && self.crlf
    }
}

impl Iterator for Words<'_> {
    type Item = Span;

    #[inline]
    fn next(&mut self) -> Option<Span> {
        let before = self.at;
        while self.line.get(self.at) == Some(&b' ') {
            self.at += 1;
        }
        let gap = self.at - before;
        let start = self.at;
        let rest = &self.line[start..];
        let size = rest.iter().position(|&byte| byte == b' ').unwrap_or(rest.len());
        self.at += size;
        if size == 0 {
            self.gaps_single &= gap == 0;
            return None;
        }
        self.gaps_single &= gap == usize::from(before > 0);
        Some(Span { start: start as u32, end: self.at as u32 })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn words(text: &str) -> (Vec<&str>, bool) {
        let end = text.find('\n').expect("the line ends");
        let line = Line::cut(text.as_bytes(), end);
        let count = line.count.min(WORDS_MAX);
        ((0..count).map(|i| &text[line.span(i).range()]).collect(), line.canonical)
    }

    #[test]
    fn only_a_line_with_single_spaces_and_crlf_is_canonical() {
        assert_eq!(words("get a\r\n"), (vec!["get", "a"], true));
        assert_eq!(words("get\r\n"), (vec!["get"], true));
        for text in ["get a\n", " get a\r\n", "get  a\r\n", "get a \r\n", "  get   a  \n"] {
            assert_eq!(words(text), (vec!["get", "a"], false), "{text:?}");
        }
        assert_eq!(words("\n").0, Vec::<&str>::new());
        assert_eq!(words("   \r\n").0, Vec::<&str>::new());
        assert_eq!(words("get\ta\r\n"), (vec!["get\ta"], true));
        assert_eq!(words("get a\rb\r\r\n"), (vec!["get", "a\rb\r"], true));
    }

    #[test]
    fn a_line_of_too_many_words_is_not_canonical() {
        assert_eq!(words("a b c d e f g h\r\n").0.len(), WORDS_MAX);
        let text = "a b c d e f g h i j k\r\n";
        let line = Line::cut(text.as_bytes(), text.len() - 1);
        assert_eq!((line.count, line.canonical), (WORDS_MAX + 1, false));
    }
}
