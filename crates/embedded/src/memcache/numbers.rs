//! Numbers as memcached reads them, which is as the C library does.
//!
//! Invariant: only a sign and digits make a number; what follows them must be nothing or a blank.

/// The sign and the digits at the beginning, after blanks; none when there are no digits, when
/// they are too many, or when anything but a blank follows.
fn parse(bytes: &[u8]) -> Option<(bool, u64)> {
    let blank = |byte: &u8| matches!(byte, b' ' | b'\t'..=b'\r');
    let start = bytes.iter().position(|byte| !blank(byte))?;
    let (negative, digits) = match &bytes[start..] {
        [b'-', digits @ ..] => (true, digits),
        [b'+', digits @ ..] => (false, digits),
        digits => (false, digits),
    };
    let count = digits.iter().take_while(|byte| byte.is_ascii_digit()).count();
    if count == 0 || digits.get(count).is_some_and(|byte| !blank(byte)) {
        return None;
    }
    let number = digits[..count].iter().try_fold(0_u64, |number, digit| {
        number.checked_mul(10)?.checked_add(u64::from(digit - b'0'))
    })?;
    Some((negative, number))
}

/// An unsigned number. A negative one counts from 2^64 downwards where that leaves less than 2^63.
pub(super) fn parse_u64(bytes: &[u8]) -> Option<u64> {
    match parse(bytes)? {
        (false, number) => Some(number),
        (true, number) => Some(number.wrapping_neg()).filter(|number| *number <= i64::MAX as u64),
    }
}

/// A signed number of 64 bits, of which the lower 32 count: memcached parses a C `long` and keeps
/// an `int`.
pub(super) fn parse_i32(bytes: &[u8]) -> Option<i32> {
    let number = match parse(bytes)? {
        (false, number) => i64::try_from(number).ok()?,
        (true, number) => 0_i64.checked_sub_unsigned(number)?,
    };
    Some(number as i32)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_are_read_as_the_c_library_does() {
        let unsigned: [(&[u8], Option<u64>); 14] = [
            (b"0", Some(0)),
            (b"+7", Some(7)),
            (b"007", Some(7)),
            (b" 7 x", Some(7)),
            (b"7\r", Some(7)),
            (b"18446744073709551615", Some(u64::MAX)),
            (b"18446744073709551616", None),
            (b"-1", None),
            (b"-18446744073709551615", Some(1)),
            (b"-0", Some(0)),
            (b"7x", None),
            (b"", None),
            (b" ", None),
            (b"+", None),
        ];
        for (bytes, expected) in unsigned {
            assert_eq!(parse_u64(bytes), expected, "{}", bytes.escape_ascii());
        }
        let signed: [(&[u8], Option<i32>); 7] = [
            (b"-1", Some(-1)),
            (b"2147483647", Some(i32::MAX)),
            (b"2147483648", Some(i32::MIN)),
            (b"-2147483649", Some(i32::MAX)),
            (b"4294967297", Some(1)),
            (b"9223372036854775807", Some(-1)),
            (b"9223372036854775808", None),
        ];
        for (bytes, expected) in signed {
            assert_eq!(parse_i32(bytes), expected, "{}", bytes.escape_ascii());
        }
    }
}
