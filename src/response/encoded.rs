//! Text in which characters may be encoded for a URL, a form, JSON or HTML.

/// Returns every reading of the first character of a text, with its length in bytes.
///
/// The first reading is the character itself. The other readings decode an escape sequence.
pub(super) fn readings(text: &str) -> Vec<(char, usize)> {
    let Some(first) = text.chars().next() else {
        return Vec::new();
    };
    let mut readings = vec![(first, first.len_utf8())];
    match first {
        '+' => readings.push((' ', 1)),
        '%' => percent(text, &mut readings),
        '\\' => {
            readings.extend(backslash(text));
            // A backslash of the text itself, before a letter such as `n`.
            if text.starts_with(r"\\") && !readings.contains(&('\\', 2)) {
                readings.push(('\\', 2));
            }
        }
        '&' => readings.extend(entity(text)),
        _ => {}
    }
    readings
}

/// Decodes a text once. A sequence that cannot be decoded stays as written.
pub(super) fn decoded(text: &str) -> String {
    let mut decoded = String::with_capacity(text.len());
    let mut rest = text;
    while let Some((c, length)) = readings(rest).into_iter().max_by_key(|(_, length)| *length) {
        decoded.push(c);
        rest = rest.get(length..).unwrap_or_default();
    }
    decoded
}

/// Returns the length of a gap, which splits a secret: a [`gap_in_word`], a line break, or the end
/// of one string of JSON with the start of the next.
pub(super) fn gap(text: &str) -> usize {
    length_of(text, |rest| {
        in_word(rest)
            .or_else(|| line_break(rest))
            .or_else(|| between_strings(rest))
    })
}

/// Returns the length of what splits a word that a reader sees whole: tags of HTML, and characters
/// without width.
pub(super) fn gap_in_word(text: &str) -> usize {
    length_of(text, in_word)
}

fn length_of(text: &str, part: impl Fn(&str) -> Option<usize>) -> usize {
    let mut end = 0_usize;
    while end < LONGEST_GAP
        && let Some(length) = part(text.get(end..).unwrap_or_default())
    {
        end = end.saturating_add(length);
    }
    end
}

fn in_word(text: &str) -> Option<usize> {
    tag(text).or_else(|| without_width(text))
}

/// Removes every [`gap`].
pub(super) fn without_gaps(text: &str) -> String {
    let mut joined = String::with_capacity(text.len());
    let mut rest = text;
    while let Some(c) = rest.chars().next() {
        let length = match gap(rest) {
            0 => {
                joined.push(c);
                c.len_utf8()
            }
            length => length,
        };
        rest = rest.get(length..).unwrap_or_default();
    }
    joined
}

fn tag(text: &str) -> Option<usize> {
    let inside = text.strip_prefix('<')?;
    if !inside.starts_with(|c: char| c.is_ascii_alphabetic() || c == '/' || c == '!') {
        return None;
    }
    let end = inside
        .bytes()
        .take(LONGEST_GAP)
        .position(|byte| byte == b'>')?;
    end.checked_add(2)
}

fn without_width(text: &str) -> Option<usize> {
    let is_without_width = |c: char| {
        matches!(
            c,
            '\0' | '\u{ad}' | '\u{200b}'..='\u{200f}' | '\u{2060}' | '\u{feff}'
        )
    };
    let mut readings = readings(text).into_iter();
    let found = readings.find(|(c, _)| is_without_width(*c));
    found.map(|(_, length)| length)
}

fn line_break(text: &str) -> Option<usize> {
    let behind = text.strip_prefix("\r\n").or(text.strip_prefix('\n'))?;
    Some(
        text.len()
            .saturating_sub(behind.trim_start_matches([' ', '\t']).len()),
    )
}

/// Reads `": "`, which joins two texts of an error, and `","` or `","name":"` of JSON.
fn between_strings(text: &str) -> Option<usize> {
    if text.starts_with(": ") {
        return Some(2);
    }
    let second = text.strip_prefix('"')?.trim_start().strip_prefix(',')?;
    let second = second.trim_start().strip_prefix('"')?;
    let value = second.split_once('"').and_then(|(_, behind)| {
        let value = behind.trim_start().strip_prefix(':')?;
        value.trim_start().strip_prefix('"')
    });
    Some(text.len().saturating_sub(value.unwrap_or(second).len()))
}

/// Decodes the entities of HTML in a text.
pub(super) fn without_entities(text: &str) -> String {
    let mut decoded = String::with_capacity(text.len());
    let mut rest = text;
    while let Some(c) = rest.chars().next() {
        let (c, length) = entity(rest).unwrap_or((c, c.len_utf8()));
        decoded.push(c);
        rest = rest.get(length..).unwrap_or_default();
    }
    decoded
}

/// Reads percent-encoded UTF-8 or Latin-1 ([RFC 3986 section 2.1]). The percent sign may be encoded
/// itself.
///
/// [RFC 3986 section 2.1]: https://www.rfc-editor.org/rfc/rfc3986#section-2.1
fn percent(text: &str, readings: &mut Vec<(char, usize)>) {
    for sign in ["%", "%25"] {
        let mut bytes = Vec::with_capacity(4);
        let mut length = 0_usize;
        while bytes.len() < 4 {
            let rest = text.get(length..).unwrap_or_default();
            let Some(byte) = rest.strip_prefix(sign).and_then(|rest| hex(rest, 2)) else {
                break;
            };
            bytes.extend(u8::try_from(byte).ok());
            length = length.saturating_add(sign.len()).saturating_add(2);
            if bytes.len() == 1 {
                readings.extend(char::from_u32(byte).map(|c| (c, length)));
            }
            if bytes.len() > 1
                && let Ok(character) = std::str::from_utf8(&bytes)
            {
                readings.extend(character.chars().next().map(|c| (c, length)));
                break;
            }
        }
    }
}

/// Reads an escape sequence of JSON or of a programming language. A sequence that was escaped twice
/// has several backslashes.
fn backslash(text: &str) -> Option<(char, usize)> {
    let slashes = text
        .bytes()
        .take(MAX_SLASHES)
        .take_while(|byte| *byte == b'\\')
        .count();
    let rest = text.get(slashes..)?;
    let of = |length: usize| slashes.saturating_add(length);
    let braced = rest.strip_prefix("u{").and_then(|rest| {
        let digits = rest.split('}').next()?;
        let code = hex(digits, digits.len())?;
        Some((code, digits.len().saturating_add(3)))
    });
    let fixed = |prefix: char, digits: usize| {
        let code = hex(rest.strip_prefix(prefix)?, digits)?;
        Some((code, digits.saturating_add(1)))
    };
    if let Some((code, length)) = braced.or_else(|| fixed('u', 4)).or_else(|| fixed('x', 2)) {
        if let Some(character) = char::from_u32(code) {
            return Some((character, of(length)));
        }
        // UTF-16 has two sequences for a character beyond the first plane.
        let second = rest.get(length..)?;
        let escape = second
            .get(..slashes)
            .filter(|escape| escape.bytes().all(|byte| byte == b'\\'))?;
        let low = second.get(escape.len()..)?.strip_prefix('u')?;
        let pair = [u16::try_from(code).ok()?, u16::try_from(hex(low, 4)?).ok()?];
        let character = char::decode_utf16(pair).next()?.ok()?;
        let after = low.get(4..).unwrap_or_default();
        return Some((character, text.len().saturating_sub(after.len())));
    }
    match rest.chars().next() {
        Some(c) if c.is_ascii_punctuation() => Some((c, of(1))),
        Some('n') => Some(('\n', of(1))),
        Some('t') => Some(('\t', of(1))),
        Some('r') => Some(('\r', of(1))),
        // An even number of backslashes stands for itself.
        _ if slashes > 1 => Some(('\\', 2)),
        _ => None,
    }
}

/// Reads an entity of HTML. The ampersand may be an entity itself.
fn entity(text: &str) -> Option<(char, usize)> {
    let body = text.strip_prefix('&')?;
    let twice = body.strip_prefix("amp;").and_then(|body| {
        let (character, length) = entity_body(body)?;
        Some((character, length.saturating_add(5)))
    });
    twice.or_else(|| {
        let (character, length) = entity_body(body)?;
        Some((character, length.saturating_add(1)))
    })
}

/// Reads the name or the number of an entity, and the semicolon.
fn entity_body(body: &str) -> Option<(char, usize)> {
    let end = body
        .bytes()
        .take(MAX_ENTITY)
        .position(|byte| byte == b';')?;
    let name = body.get(..end)?;
    let number = |digits: &str, radix| {
        let code = u32::from_str_radix(digits, radix).ok()?;
        char::from_u32(code)
    };
    let character = match name.strip_prefix('#') {
        Some(digits) => match digits.strip_prefix(['x', 'X']) {
            Some(digits) => number(digits, 16)?,
            None => number(digits, 10)?,
        },
        None => *NAMED
            .iter()
            .find(|(known, _)| *known == name)
            .map(|(_, c)| c)?,
    };
    Some((character, name.len().saturating_add(1)))
}

fn hex(text: &str, digits: usize) -> Option<u32> {
    let digits = text.get(..digits).filter(|digits| !digits.is_empty())?;
    let is_hex = digits.bytes().all(|byte| byte.is_ascii_hexdigit());
    is_hex.then(|| u32::from_str_radix(digits, 16).ok())?
}

/// The bytes of the longest tag, and of the tags after which no gap goes on.
const LONGEST_GAP: usize = 512;
/// The most backslashes of a sequence, after three times of escaping.
const MAX_SLASHES: usize = 8;
/// The bytes of the longest entity.
const MAX_ENTITY: usize = 12;
/// The entities that stand for a character of a secret or of a gateway's page.
const NAMED: [(&str, char); 41] = [
    ("amp", '&'),
    ("lt", '<'),
    ("gt", '>'),
    ("quot", '"'),
    ("apos", '\''),
    ("nbsp", ' '),
    ("shy", '\u{ad}'),
    ("zwnj", '\u{200c}'),
    ("zwj", '\u{200d}'),
    ("plus", '+'),
    ("equals", '='),
    ("sol", '/'),
    ("bsol", '\\'),
    ("colon", ':'),
    ("semi", ';'),
    ("comma", ','),
    ("period", '.'),
    ("lowbar", '_'),
    ("hyphen", '-'),
    ("excl", '!'),
    ("quest", '?'),
    ("num", '#'),
    ("dollar", '$'),
    ("percnt", '%'),
    ("lpar", '('),
    ("rpar", ')'),
    ("lsqb", '['),
    ("lbrack", '['),
    ("rsqb", ']'),
    ("rbrack", ']'),
    ("lcub", '{'),
    ("rcub", '}'),
    ("ast", '*'),
    ("commat", '@'),
    ("Hat", '^'),
    ("verbar", '|'),
    ("ndash", '–'),
    ("mdash", '—'),
    ("rsquo", '’'),
    ("hellip", '…'),
    ("copy", '©'),
];

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_character_is_read_in_every_encoding() {
        for (text, expected) in [
            ("a", ('a', 1)),
            ("+", (' ', 1)),
            ("%7e", ('~', 3)),
            ("%7E", ('~', 3)),
            ("%257E", ('~', 5)),
            ("%C3%A4", ('ä', 6)),
            ("%E4", ('ä', 3)),
            ("\\\"", ('"', 2)),
            ("\\\\\"", ('"', 3)),
            ("\\\\", ('\\', 2)),
            ("\\u007e", ('~', 6)),
            ("\\\\u007E", ('~', 7)),
            ("\\u{7e}", ('~', 6)),
            ("\\x7e", ('~', 4)),
            ("\\ud83d\\ude00", ('😀', 12)),
            ("&amp;", ('&', 5)),
            ("&amp;#39;", ('\'', 9)),
            ("&#x7E;", ('~', 6)),
            ("&#126;", ('~', 6)),
            ("&nbsp;", (' ', 6)),
        ] {
            assert!(readings(text).contains(&expected), "{text}");
        }
    }

    #[test]
    fn a_sequence_that_is_none_stays_as_written() {
        for text in [
            "%",
            "%4",
            "%zz",
            "&;",
            "&nothing;",
            "&#xFFFFFFFF;",
            "\\",
            "\\u12",
            "\\ud83d",
        ] {
            assert_eq!(decoded(text), text);
        }
        assert_eq!(decoded("a%20b&lt;\\\"+"), "a b<\" ");
        assert_eq!(
            without_entities("Don&#39;t &amp; won&rsquo;t 50%"),
            "Don't & won’t 50%"
        );
    }

    #[test]
    fn a_long_text_of_escape_characters_is_read_in_linear_time() {
        for text in ["&", "\\", "%", "&amp;", "%25", "\\u", "+"] {
            let long = text.repeat(200_000);
            assert!(decoded(&long).len() <= long.len());
            assert!(without_entities(&long).len() <= long.len());
        }
    }
}
