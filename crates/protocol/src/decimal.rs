//! Decimal numbers on the wire. There are two kinds: lengths and counts, which have one spelling
//! and are refused in any other; and fields of a text line, which a server would accept in several
//! spellings and which are rewritten in the one. Invariant: no arithmetic here can wrap.

/// A line of the form `<number> CR LF`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum NumberLine {
    /// The number, and the offset of the byte after the line.
    Whole { value: i64, next: usize },
    /// The bytes end before the line does.
    Short,
    /// It is not such a line, whatever may follow.
    Bad,
}

/// Digits that a number may have: any such number fits an `i64`.
const DIGITS_MAX: usize = 18;

/// Reads the number that starts at `at`. A leading zero, a plus sign, minus zero, no digit at all,
/// and any line end but CR LF are bad: a server might read them as another number, or wait for
/// more.
#[inline]
pub(crate) fn number_line(bytes: &[u8], at: usize) -> NumberLine {
    // Nearly all lengths and counts have one digit or two.
    if let Some(&[a, b, c]) = bytes.get(at..at + 3)
        && a.is_ascii_digit()
    {
        if b == b'\r' && c == b'\n' {
            return NumberLine::Whole { value: i64::from(a - b'0'), next: at + 3 };
        }
        if c == b'\r' && b.is_ascii_digit() && a != b'0' && bytes.get(at + 3) == Some(&b'\n') {
            let value = i64::from(a - b'0') * 10 + i64::from(b - b'0');
            return NumberLine::Whole { value, next: at + 4 };
        }
    }
    number_line_any(bytes, at)
}

/// Reads a number without a sign, of six digits at most, and its CR LF from one word of eight
/// bytes: the number, and bytes of the line. `None` when it is anything else, or there are not so
/// many bytes. It takes 40 instructions for any number of digits; a loop takes 10 for each.
#[inline]
pub(crate) fn short_line(bytes: &[u8]) -> Option<(u64, usize)> {
    const EACH: u64 = 0x0101_0101_0101_0101;
    let word = u64::from_le_bytes(*bytes.first_chunk()?);
    // A byte that is a digit is 0 to 9 now, and has no bit 7 after the addition. The first one
    // that is none is found exactly: a carry goes to later bytes only.
    let values = word ^ (EACH * b'0' as u64);
    let others = (values.wrapping_add(EACH * 0x76) | values) & (EACH * 0x80);
    let bits = others.trailing_zeros() & !7;
    let line_ends = (word >> (bits & 63)) as u16 == u16::from_le_bytes(*b"\r\n");
    if bits == 0 || bits > 48 || !line_ends || (bits > 8 && word as u8 == b'0') {
        return None;
    }
    // The digits in the high bytes, the last one highest, are eight of which the first are zeros.
    // Each step makes half as many numbers of two neighbours: of two digits, of four, of eight.
    let digits = values << (64 - bits);
    let pairs = (digits.wrapping_mul(10 << 8 | 1) >> 8) & 0x00ff_00ff_00ff_00ff;
    let fours = (pairs.wrapping_mul(100 << 16 | 1) >> 16) & 0x0000_ffff_0000_ffff;
    let value = fours.wrapping_mul(10_000 << 32 | 1) >> 32;
    Some((value, (bits / 8) as usize + 2))
}

fn number_line_any(bytes: &[u8], at: usize) -> NumberLine {
    let rest = &bytes[at.min(bytes.len())..];
    if let Some((value, size)) = short_line(rest) {
        return NumberLine::Whole { value: value as i64, next: at + size };
    }
    let negative = rest.first() == Some(&b'-');
    let digits = &rest[usize::from(negative)..];
    let mut value = 0i64;
    for (i, &byte) in digits.iter().enumerate() {
        match byte {
            b'0' if i == 0 => match digits.get(1) {
                // Zero is the whole number, and has no sign.
                Some(b'\r') if !negative => {}
                Some(_) => return NumberLine::Bad,
                None if negative => return NumberLine::Bad,
                None => return NumberLine::Short,
            },
            b'0'..=b'9' if i < DIGITS_MAX => value = value * 10 + i64::from(byte - b'0'),
            b'\r' if i > 0 => {
                return match digits.get(i + 1) {
                    Some(b'\n') => NumberLine::Whole {
                        value: if negative { -value } else { value },
                        next: at + usize::from(negative) + i + 2,
                    },
                    Some(_) => NumberLine::Bad,
                    None => NumberLine::Short,
                };
            }
            _ => return NumberLine::Bad,
        }
    }
    NumberLine::Short
}

/// Reads the digits that start at `at`, up to the first byte that is none: the number, and where
/// that byte is. `None` when there are no digits, when the first of several is zero, and when the
/// number does not fit.
#[inline]
pub(crate) fn number(bytes: &[u8], at: usize) -> Option<(u64, usize)> {
    let digits = bytes.get(at..)?;
    let mut value = 0u64;
    let mut count = 0;
    for byte in digits {
        let digit = byte.wrapping_sub(b'0');
        if digit > 9 {
            break;
        }
        value = value.wrapping_mul(10).wrapping_add(u64::from(digit));
        count += 1;
    }
    match count {
        1 => {}
        2..=DIGITS_MAX if digits[0] != b'0' => {}
        // What may not fit is read again with care.
        _ => value = unsigned_field(&digits[..count]).filter(|field| field.canonical)?.value,
    }
    Some((value, at + count))
}

/// A field of a text line, and whether it is spelt as [`push`] would spell it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Field<T> {
    pub(crate) value: T,
    pub(crate) canonical: bool,
}

/// Reads digits with any number of leading zeros and perhaps a plus sign. `None` when it is
/// something else, or does not fit.
#[inline]
pub(crate) fn unsigned_field(token: &[u8]) -> Option<Field<u64>> {
    let digits = token.strip_prefix(b"+").unwrap_or(token);
    let mut value = 0u64;
    for &byte in digits {
        let digit = byte.wrapping_sub(b'0');
        if digit > 9 {
            return None;
        }
        value = value.checked_mul(10)?.checked_add(u64::from(digit))?;
    }
    let zero_first = digits.len() > 1 && digits[0] == b'0';
    let canonical = digits.len() == token.len() && !zero_first;
    (!digits.is_empty()).then_some(Field { value, canonical })
}

/// The same with a minus sign allowed.
#[inline]
pub(crate) fn signed_field(token: &[u8]) -> Option<Field<i32>> {
    let Some(digits) = token.strip_prefix(b"-") else {
        let field = unsigned_field(token)?;
        return Some(Field { value: i32::try_from(field.value).ok()?, canonical: field.canonical });
    };
    if digits.first() == Some(&b'+') {
        return None;
    }
    let field = unsigned_field(digits)?;
    let value = i32::try_from(-i64::try_from(field.value).ok()?).ok()?;
    Some(Field { value, canonical: field.canonical && value != 0 })
}

/// A whole argument that is an integer, as a server reads it: one spelling only.
pub(crate) fn integer(token: &[u8]) -> Option<i64> {
    let negative = token.first() == Some(&b'-');
    let field = unsigned_field(&token[usize::from(negative)..])?;
    if !field.canonical || (negative && field.value == 0) {
        return None;
    }
    let value = i128::from(field.value);
    i64::try_from(if negative { -value } else { value }).ok()
}

/// Appends a number.
#[inline]
pub(crate) fn push(out: &mut Vec<u8>, value: impl itoa::Integer) {
    out.extend_from_slice(itoa::Buffer::new().format(value).as_bytes());
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_length_has_one_spelling() {
        for (text, value) in [
            ("0\r\n", 0),
            ("7\r\n", 7),
            ("10\r\nx", 10),
            ("99\r\n", 99),
            ("100\r\n", 100),
            ("-1\r\n", -1),
            ("-10\r\n", -10),
            ("999999999999999999\r\n", 999_999_999_999_999_999),
        ] {
            let next = text.find('\n').expect("each has one") + 1;
            assert_eq!(
                number_line(text.as_bytes(), 0),
                NumberLine::Whole { value, next },
                "{text:?}"
            );
        }
        for text in [
            "00\r\n",
            "01\r\n",
            "007\r\n",
            "+1\r\n",
            "-0\r\n",
            "-01\r\n",
            "--1\r\n",
            "\r\n",
            "-\r\n",
            "\n",
            "1\n",
            "1\rx",
            "12\rx",
            "1 \r\n",
            " 1\r\n",
            "1x",
            "123x",
            "1000000000000000000\r\n",
            "18446744073709551617\r\n",
            "0x",
            "00",
            "-0",
        ] {
            assert_eq!(number_line(text.as_bytes(), 0), NumberLine::Bad, "{text:?}");
        }
    }

    #[test]
    fn a_length_is_read_from_a_word_as_it_is_byte_by_byte() {
        let bytes = b"01259:/\r\n -\xb0\xff\0";
        let mut seed = 1u64;
        for _ in 0..200_000 {
            let text: [u8; 10] = std::array::from_fn(|_| {
                seed = seed.wrapping_mul(0x5851_F42D_4C95_7F2D).wrapping_add(1);
                // Half of them are digits.
                bytes[(seed >> 33) as usize % (bytes.len() + 8) % bytes.len()]
            });
            let line = text.split(|&byte| byte == b'\r').next().expect("there is a first");
            let value =
                std::str::from_utf8(line).ok().and_then(|digits| digits.parse::<u64>().ok());
            let wanted = value.filter(|value| {
                line.len() <= 6
                    && text[line.len()..].starts_with(b"\r\n")
                    && value.to_string().as_bytes() == line
            });
            let wanted = wanted.map(|value| (value, line.len() + 2));
            assert_eq!(short_line(&text), wanted, "{text:?}");
        }
        for value in (0..1_000_000).step_by(7).chain([9, 10, 99, 100, 999_999]) {
            let text = format!("{value}\r\nabcdefg");
            let next = value.to_string().len() + 2;
            assert_eq!(short_line(text.as_bytes()), Some((value, next)));
        }
    }

    #[test]
    fn a_length_that_is_cut_is_short() {
        for text in ["0\r\n", "12\r\n", "123\r\n", "-12\r\n", "999999999999999999\r\n"] {
            for end in 0..text.len() {
                let cut = &text.as_bytes()[..end];
                assert_eq!(number_line(cut, 0), NumberLine::Short, "{cut:?}");
            }
            assert_eq!(number_line(text.as_bytes(), text.len()), NumberLine::Short);
            assert_eq!(number_line(text.as_bytes(), text.len() + 9), NumberLine::Short);
        }
    }

    #[test]
    fn a_number_among_other_bytes_has_one_spelling() {
        let read = |text: &str| number(text.as_bytes(), 1);
        assert_eq!(read(" 0"), Some((0, 2)));
        assert_eq!(read(" 7\r\n"), Some((7, 2)));
        assert_eq!(read(" 120 3"), Some((120, 4)));
        assert_eq!(read(" 18446744073709551615/"), Some((u64::MAX, 21)));
        for text in
            ["", " ", " x", " -1", " +1", "  1", " 00", " 01 ", " 18446744073709551616", " :"]
        {
            assert_eq!(read(text), None, "{text:?}");
        }
        for value in ["99999999999999999999", "100000000000000000000000000000000000000000"] {
            assert_eq!(number(value.as_bytes(), 0), None);
        }
    }

    #[test]
    fn fields_keep_their_value_and_know_their_spelling() {
        let unsigned = |text: &str| unsigned_field(text.as_bytes()).map(|f| (f.value, f.canonical));
        assert_eq!(unsigned("0"), Some((0, true)));
        assert_eq!(unsigned("10"), Some((10, true)));
        assert_eq!(unsigned("010"), Some((10, false)));
        assert_eq!(unsigned("00"), Some((0, false)));
        assert_eq!(unsigned("+1"), Some((1, false)));
        assert_eq!(unsigned("18446744073709551615"), Some((u64::MAX, true)));
        for text in
            ["", "+", "-1", "1x", "x", "++1", "18446744073709551616", "99999999999999999999"]
        {
            assert_eq!(unsigned(text), None, "{text:?}");
        }
        let signed = |text: &str| signed_field(text.as_bytes()).map(|f| (f.value, f.canonical));
        assert_eq!(signed("-1"), Some((-1, true)));
        assert_eq!(signed("-0"), Some((0, false)));
        assert_eq!(signed("-01"), Some((-1, false)));
        assert_eq!(signed("-2147483648"), Some((i32::MIN, true)));
        assert_eq!(signed("2147483647"), Some((i32::MAX, true)));
        for text in ["-", "-+1", "--1", "2147483648", "-2147483649", "1-"] {
            assert_eq!(signed(text), None, "{text:?}");
        }
    }

    #[test]
    fn an_integer_argument_has_one_spelling() {
        assert_eq!(integer(b"0"), Some(0));
        assert_eq!(integer(b"-9223372036854775808"), Some(i64::MIN));
        assert_eq!(integer(b"9223372036854775807"), Some(i64::MAX));
        for text in ["", "-", "-0", "01", "+1", "1 ", "x", "9223372036854775808"] {
            assert_eq!(integer(text.as_bytes()), None, "{text:?}");
        }
    }
}
