use zeroize::Zeroizing;

use super::kind::contains;

/// Removes what programs and people add to a PEM text, and that has one reading.
///
/// - A line break as `\n`, as JSON, YAML and environment files write it, and other escapes of JSON.
/// - Percent encoding.
/// - A byte order mark or another invisible character anywhere.
/// - A no-break space, in the place of a space.
pub(super) fn clean(text: &[u8]) -> Zeroizing<Vec<u8>> {
    let decoded = match contains(text, b"BEGIN%20") || contains(text, b"BEGIN+") {
        true => percent_decode(text),
        false => Zeroizing::new(text.to_vec()),
    };
    let mut cleaned = Zeroizing::new(Vec::with_capacity(decoded.len()));
    let mut rest = &**decoded;
    while let Some((byte, behind)) = rest.split_first() {
        if let Some((invisible, replacement)) = INVISIBLE
            .iter()
            .find(|(invisible, _)| rest.starts_with(invisible))
        {
            cleaned.extend_from_slice(replacement);
            rest = rest.get(invisible.len()..).unwrap_or_default();
        } else if *byte == b'\\' {
            let (replacement, behind) = unescape(behind);
            cleaned.push(replacement);
            rest = behind;
        } else {
            cleaned.push(*byte);
            rest = behind;
        }
    }
    cleaned
}

/// Returns the character of an escape, and the text behind.
///
/// A text may have been escaped several times, so further backslashes are skipped.
fn unescape(text: &[u8]) -> (u8, &[u8]) {
    let mut escape = text;
    while let [b'\\', rest @ ..] = escape {
        escape = rest;
    }
    match escape {
        [b'n' | b'r' | b'\n' | b'\r', rest @ ..] => (b'\n', rest),
        [b't', rest @ ..] => (b' ', rest),
        [c @ (b'/' | b'"' | b'\''), rest @ ..] => (*c, rest),
        [b'u', b'0', b'0', high, low, rest @ ..] => match hexadecimal(*high, *low) {
            Some(c) if c.is_ascii() => (c, rest),
            _ => (b'\\', text),
        },
        _ => (b'\\', text),
    }
}

fn percent_decode(text: &[u8]) -> Zeroizing<Vec<u8>> {
    let plus_is_space = contains(text, b"BEGIN+");
    let mut decoded = Zeroizing::new(Vec::with_capacity(text.len()));
    let mut rest = text;
    while let Some((byte, behind)) = rest.split_first() {
        rest = behind;
        let byte = match (byte, behind) {
            (b'%', [high, low, behind @ ..]) => match hexadecimal(*high, *low) {
                Some(byte) => {
                    rest = behind;
                    byte
                }
                None => b'%',
            },
            (b'+', _) if plus_is_space => b' ',
            (byte, _) => *byte,
        };
        decoded.push(byte);
    }
    decoded
}

fn hexadecimal(high: u8, low: u8) -> Option<u8> {
    let digit = |digit: u8| char::from(digit).to_digit(16);
    Some(((digit(high)? << 4) | digit(low)?) as u8)
}

/// Invisible characters and no-break spaces in UTF-8, with their replacements.
const INVISIBLE: [(&[u8], &[u8]); 6] = [
    (b"\xef\xbb\xbf", b""),
    (b"\xe2\x80\x8b", b""),
    (b"\xe2\x81\xa0", b""),
    (b"\xc2\xa0", b" "),
    (b"\xe2\x80\xaf", b" "),
    (b"\xe2\x80\xa8", b"\n"),
];

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn escapes_are_read_however_often_they_were_written() {
        for (text, cleaned) in [
            ("a\\nb", "a\nb"),
            ("a\\r\\nb", "a\n\nb"),
            ("a\\\\nb", "a\nb"),
            ("a\\\\\\\\nb", "a\nb"),
            ("a\\\nb", "a\nb"),
            ("a\\/b\\u002Bc\\u003d", "a/b+c="),
            ("\\\"a\\\"", "\"a\""),
            ("a\\u20acb\\x\\", "a\\u20acb\\x\\"),
            ("\u{feff}a\u{feff}b\u{a0}c\u{200b}", "ab c"),
            ("BEGIN%20A%2B%0A%3D%zz%", "BEGIN A+\n=%zz%"),
            ("BEGIN+A%2B+B", "BEGIN A+ B"),
            ("A+B%20", "A+B%20"),
        ] {
            let result = clean(text.as_bytes());
            assert_eq!(std::str::from_utf8(&result).unwrap(), cleaned, "{text}");
        }
    }
}
