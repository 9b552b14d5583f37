use std::collections::HashSet;
use std::ops::Range;

use base64::Engine;
use base64::prelude::BASE64_STANDARD_NO_PAD;
use zeroize::Zeroizing;

use super::ResponseContext;
use super::encoded::{decoded, gap, gap_in_word, readings, without_gaps};
use crate::authority::Tenant;
use crate::error::Escaped;

/// The secrets of a token request, which the texts of an error must not repeat.
///
/// Only text for people is masked. The program decides on the raw response, and codes and ids
/// stay as sent. A secret of fewer than eight characters is not masked, because ordinary text
/// contains the same word.
pub(crate) struct Mask<'a>(Vec<&'a str>);

impl<'a> Mask<'a> {
    /// Collects the secrets of the request. The ids of the request are not secret, even if the
    /// caller configured an id as the secret.
    pub(super) fn new(context: &ResponseContext<'a>) -> Self {
        let tenant = context.tenant.map(Tenant::as_str);
        let ids = [
            Some(context.client_id),
            tenant,
            Some(context.correlation_id),
        ];
        let is_id = |secret: &&str| {
            ids.iter()
                .flatten()
                .any(|id| id.eq_ignore_ascii_case(secret))
        };
        let secrets = context.secrets.iter().map(|secret| secret.expose());
        Self::of(secrets.filter(|secret| !is_id(secret)))
    }

    pub(crate) fn of(secrets: impl Iterator<Item = &'a str>) -> Self {
        let is_long = |secret: &&str| secret.chars().count() >= MIN_SECRET;
        Self(secrets.filter(is_long).collect())
    }

    /// Prepares a server's text for an error: bounds the length and masks the secrets.
    ///
    /// A secret is masked as a whole word, in any encoding. A secret of 16 characters or more, or
    /// with other characters than a word's, is masked inside a longer word, too. A text that still
    /// repeats 16 characters of a secret is withheld, except for the AADSTS code in front.
    pub(crate) fn text(&self, text: &str) -> String {
        let original = text;
        // Masked before the text is cut, so that no head of the secret remains at the cut.
        let longest = self.0.iter().map(|secret| secret.len()).max();
        let reach = longest.unwrap_or_default().saturating_mul(MAX_ENCODING);
        let mut text: String = text
            .chars()
            .take(MAX_LENGTH.saturating_add(reach))
            .collect();
        for secret in &self.0 {
            text = mask(&text, secret);
        }
        if self.0.iter().any(|secret| repeats_part(&text, secret)) {
            return withheld(original, WITHHELD);
        }
        text.chars().take(MAX_LENGTH).collect()
    }

    /// Prepares a code, such as the `error` member.
    ///
    /// The program decides on codes, so a code is never masked. Text that is no code is masked.
    pub(crate) fn code(&self, code: &str) -> String {
        let code = code.trim();
        let is_code = !code.is_empty()
            && code.len() <= MAX_CODE
            && code
                .bytes()
                .all(|byte| byte.is_ascii_lowercase() || b"_-.".contains(&byte));
        match is_code {
            true => code.to_owned(),
            false => self.text(code),
        }
    }

    /// Returns `true` if the text is a secret.
    pub(crate) fn is_secret(&self, text: &str) -> bool {
        self.0
            .iter()
            .any(|secret| secret.eq_ignore_ascii_case(text))
    }

    /// Returns `true` if the text is short and repeats no secret.
    pub(super) fn leaves(&self, text: &str) -> bool {
        self.text(text) == text
    }

    /// Returns the first characters of a server's text on one line, without the secrets.
    ///
    /// A text that may hold a token is withheld, except for the AADSTS code in front.
    pub(crate) fn excerpt(&self, text: &str) -> String {
        let text = self.text(text);
        if text.contains("_token\"") || text.contains("_token\\\"") || text.contains("eyJ") {
            return withheld(&text, "[withheld: the text may hold a token]");
        }
        let text: String = text.trim().chars().take(EXCERPT).collect();
        Escaped(&text).to_string()
    }

    /// Returns the excerpt of bytes that should be UTF-8.
    pub(crate) fn excerpt_of_bytes(&self, text: &[u8]) -> String {
        self.excerpt(&String::from_utf8_lossy(text))
    }
}

/// Returns the notice in place of a text, after the text's AADSTS code.
///
/// The code is a number of Microsoft Entra ID, which the reader needs most, and is never masked.
fn withheld(text: &str, notice: &str) -> String {
    let code = text.trim_start().strip_prefix("AADSTS").and_then(|rest| {
        let (digits, _) = rest.split_once(':')?;
        let is_number = digits.bytes().all(|byte| byte.is_ascii_digit());
        (is_number && (MIN_DIGITS..=MAX_DIGITS).contains(&digits.len())).then_some(digits)
    });
    match code {
        Some(digits) => format!("AADSTS{digits}: {notice}"),
        None => notice.to_owned(),
    }
}

/// Masks a secret in plain text, in every encoding of [`readings`], in hexadecimal and in base64.
///
/// A [`gap`] may split the secret.
fn mask(text: &str, secret: &str) -> String {
    let cores = base64_cores(secret);
    let hexadecimal = hexadecimal(secret);
    let is_word =
        secret.chars().count() < MIN_PART && secret.chars().all(|c| is_of_word(c) || c == '-');
    // Two ordinary words in two strings are not one word.
    let gap_of_secret = if is_word { gap_in_word } else { gap };
    let after_escape = ends_of_escapes(text);
    let mut masked = String::with_capacity(text.len());
    let mut rest = 0_usize;
    let mut next = 0_usize;
    for (at, c) in text.char_indices() {
        if at < next {
            continue;
        }
        let is_start = || !is_word || after_escape.contains(&at) || !ends_in_word(text.get(..at));
        let whole = end_of_match(text, at, secret, gap_of_secret, |one, other| one == other)
            .filter(|end| !is_word || !starts_with_word(text.get(*end..)))
            .filter(|_| is_start())
            .map(|end| at..end);
        let in_hexadecimal = || {
            let same = |one: char, other: char| one.eq_ignore_ascii_case(&other);
            end_of_match(text, at, &hexadecimal, gap, same).map(|end| at..end)
        };
        let found = whole.or_else(in_hexadecimal).or_else(|| {
            let end = |core: &Zeroizing<String>| end_of_match(text, at, core, gap, same_in_base64);
            let end = is_base64(c).then(|| cores.iter().find_map(end)).flatten()?;
            Some(base64_run(text, rest, at..end))
        });
        if let Some(found) = found {
            masked.push_str(text.get(rest..found.start).unwrap_or_default());
            masked.push_str(MASK);
            rest = found.end;
            next = found.end;
        }
    }
    masked.push_str(text.get(rest..).unwrap_or_default());
    masked
}

/// Returns the end of the pattern in the text from `start` on, where any character of the text may
/// be encoded.
fn end_of_match(
    text: &str,
    start: usize,
    pattern: &str,
    gap: fn(&str) -> usize,
    same: impl Fn(char, char) -> bool,
) -> Option<usize> {
    // A text can have several readings, so several positions are followed at once.
    let mut positions = vec![start];
    for (index, expected) in pattern.chars().enumerate() {
        let mut following: Vec<usize> = Vec::new();
        let gaps = positions.clone().into_iter().map(|position| {
            let rest = text.get(position..).unwrap_or_default();
            position.saturating_add(gap(rest))
        });
        let behind_gaps: Vec<usize> = match index {
            0 => Vec::new(),
            _ => gaps.filter(|end| !positions.contains(end)).collect(),
        };
        for position in positions.into_iter().chain(behind_gaps) {
            for (c, length) in readings(text.get(position..).unwrap_or_default()) {
                let end = position.saturating_add(length);
                if same(c, expected) && !following.contains(&end) {
                    following.push(end);
                }
            }
        }
        if following.is_empty() {
            return None;
        }
        positions = following;
    }
    positions.into_iter().max()
}

fn hexadecimal(secret: &str) -> Zeroizing<String> {
    let mut digits = Zeroizing::new(String::with_capacity(secret.len().saturating_mul(2)));
    for byte in secret.bytes() {
        for digit in [byte >> 4, byte & 0xf] {
            digits.extend(char::from_digit(u32::from(digit), 16));
        }
    }
    digits
}

/// Returns the characters that every base64 of a text with the secret contains, for each of the
/// three positions of the secret in a group of bytes.
fn base64_cores(secret: &str) -> [Zeroizing<String>; 3] {
    [0_usize, 1, 2].map(|before| {
        let mut bytes = Zeroizing::new(vec![0; before]);
        bytes.extend_from_slice(secret.as_bytes());
        let encoded = Zeroizing::new(BASE64_STANDARD_NO_PAD.encode(&bytes[..]));
        // The first and the last character also hold bits of the bytes around the secret.
        let first = match before {
            0 => 0,
            _ => before.saturating_add(1),
        };
        let last = match bytes.len() % 3 {
            0 => encoded.len(),
            _ => encoded.len().saturating_sub(1),
        };
        Zeroizing::new(encoded.get(first..last).unwrap_or_default().to_owned())
    })
}

/// Compares two characters of base64, of which one may be in the alphabet for URLs
/// ([RFC 4648 section 5](https://www.rfc-editor.org/rfc/rfc4648#section-5)).
fn same_in_base64(c: char, standard: char) -> bool {
    let c = match c {
        '-' => '+',
        '_' => '/',
        c => c,
    };
    c == standard
}

/// Widens a match to the whole base64 text that contains the match.
fn base64_run(text: &str, from: usize, found: Range<usize>) -> Range<usize> {
    let before = text.get(from..found.start).unwrap_or_default();
    let head = before.trim_end_matches(is_base64);
    let after = text.get(found.end..).unwrap_or_default();
    let tail = after.trim_start_matches(is_base64).trim_start_matches('=');
    from.saturating_add(head.len())..text.len().saturating_sub(tail.len())
}

fn is_base64(c: char) -> bool {
    c.is_ascii_alphanumeric() || "+/-_%".contains(c)
}

/// Returns the positions behind escape sequences, where a word begins although a letter precedes.
fn ends_of_escapes(text: &str) -> HashSet<usize> {
    let escapes = text.char_indices().filter(|(_, c)| "%\\&".contains(*c));
    let ends = escapes.flat_map(|(at, _)| {
        let readings = readings(text.get(at..).unwrap_or_default());
        let longer = readings.into_iter().filter(|(_, length)| *length > 1);
        longer.map(move |(_, length)| at.saturating_add(length))
    });
    ends.collect()
}

fn ends_in_word(text: Option<&str>) -> bool {
    text.is_some_and(|text| text.ends_with(is_of_word))
}

fn starts_with_word(text: Option<&str>) -> bool {
    text.is_some_and(|text| text.starts_with(is_of_word))
}

fn is_of_word(c: char) -> bool {
    c.is_alphanumeric() || c == '_'
}

/// Returns `true` if the text repeats a part of the secret of [`MIN_PART`] characters.
fn repeats_part(text: &str, secret: &str) -> bool {
    let windows = |text: &str| -> HashSet<Vec<char>> {
        let characters: Vec<char> = text.chars().collect();
        characters.windows(MIN_PART).map(<[char]>::to_vec).collect()
    };
    let parts = windows(secret);
    !parts.is_empty()
        && [text.to_owned(), decoded(text), decoded(&without_gaps(text))]
            .iter()
            .any(|text| !windows(text).is_disjoint(&parts))
}

const MASK: &str = "[redacted]";
const WITHHELD: &str = "[withheld: the text repeats a part of the credential]";
/// The length of an excerpt, in characters.
pub(super) const EXCERPT: usize = 200;
/// The length of the longest server text in an error, in characters.
pub(super) const MAX_LENGTH: usize = 4096;
/// The length of the longest code, in characters.
const MAX_CODE: usize = 64;
/// The fewest digits of an AADSTS code.
const MIN_DIGITS: usize = 5;
/// The most digits of an AADSTS code.
const MAX_DIGITS: usize = 8;
/// The fewest characters of a secret that is masked.
pub(crate) const MIN_SECRET: usize = 8;
/// The fewest characters of a part of a secret that gives the secret away.
const MIN_PART: usize = 16;
/// The length of the longest escape sequence of one byte.
const MAX_ENCODING: usize = 6;

#[cfg(test)]
mod tests {
    use base64::prelude::{BASE64_STANDARD, BASE64_URL_SAFE, BASE64_URL_SAFE_NO_PAD};

    use super::*;

    fn shown(text: &str, secret: &str) -> String {
        Mask::of([secret].into_iter()).text(text)
    }

    #[test]
    fn a_credential_is_masked_or_its_text_withheld() {
        let secret = "Abc8Q~dE.f3kLmN0pQrStUvWx-yZ ä";
        for (name, text, expected) in [
            ("as it is", format!("got {secret}."), "got [redacted]."),
            (
                "as a form sends it",
                "got Abc8Q%7EdE.f3kLmN0pQrStUvWx-yZ+%C3%A4.".to_owned(),
                "got [redacted].",
            ),
            (
                "otherwise encoded",
                "got Abc8Q%7edE.f3kLmN0pQrStUvWx-yZ%20%c3%a4.".to_owned(),
                "got [redacted].",
            ),
            (
                "cut",
                format!("got {}", secret.get(..20).unwrap()),
                WITHHELD,
            ),
            (
                "cut and encoded",
                "got c8Q%7EdE.f3kLmN0pQr".to_owned(),
                WITHHELD,
            ),
            (
                "inside a longer word",
                format!("gotx{secret}y"),
                "gotx[redacted]y",
            ),
            (
                "not at all",
                "got something else".to_owned(),
                "got something else",
            ),
        ] {
            assert_eq!(shown(&text, secret), expected, "{name}");
        }
    }

    #[test]
    fn the_aadsts_code_stays_in_front_of_a_withheld_text() {
        let secret = "Abc8Q~dE.f3kLmN0pQrStUvWx";
        let part = secret.get(..20).unwrap();
        let code = format!("AADSTS7000215: {WITHHELD}");
        for (text, expected) in [
            (format!("AADSTS7000215: not '{part}'"), code.as_str()),
            (format!(" AADSTS7000215: not '{part}'"), &code),
            (format!("not '{part}', AADSTS7000215: no"), WITHHELD),
            (format!("AADSTS{part}: no"), WITHHELD),
            (format!("AADSTS: {part}"), WITHHELD),
            (format!("AADSTS123456789: {part}"), WITHHELD),
        ] {
            assert_eq!(shown(&text, secret), expected, "{text}");
        }
        let mask = Mask::of([].into_iter());
        assert_eq!(
            mask.excerpt("AADSTS50013: eyJhbGci"),
            "AADSTS50013: [withheld: the text may hold a token]"
        );
    }

    #[test]
    fn a_secret_without_a_long_piece_is_found_in_any_encoding() {
        for (secret, text) in [
            (
                "correct horse battery staple",
                "correct%20horse%20battery%20staple",
            ),
            (
                "correct horse battery staple",
                "correct&#32;horse&nbsp;battery\\u0020staple",
            ),
            ("aB1~cD2~eF3~gH4", "aB1%7ecD2%7eeF3%7egH4"),
            ("pass\"phrase\\quoted", "pass\\\"phrase\\\\quoted"),
            ("domain\\new~name", r"domain\\new~name"),
            ("domain\\new~name", r"domain\new~name"),
            ("a\\u0041~secret", r"a\\u0041~secret"),
            ("{s3cret}[value]", "&lcub;s3cret&rcub;&lsqb;value&rbrack;"),
            ("s3cret-Value~1", "s3cret&#45;Value~1"),
            ("s3cret-Value~1", "s3cret%252DValue%257E1"),
            ("100%&<'\"\\/", "100%25%26%3C%27%22%5C%2F"),
            ("100%&<'\"\\/", "100%&amp;&lt;&#39;&quot;\\/"),
            ("100%&<'\"\\/", "100%&<'\\\"\\\\/"),
            ("100%25+x y", "100%25+x y"),
            ("100%25+x y", "100%2525%2Bx+y"),
        ] {
            let masked = shown(&format!("you sent {text}, no"), secret);
            assert_eq!(masked, "you sent [redacted], no", "{text}");
            let member = format!("client_secret%3D{text}\\u0026x");
            assert!(
                shown(&member, secret).starts_with("client_secret%3D[red"),
                "{text}"
            );
        }
    }

    #[test]
    fn a_secret_in_base64_is_masked_wherever_it_stands_in_the_text_that_was_encoded() {
        for secret in ["hunter2 &", "8letters", "s3cret-Value~1??>>", "ÄÖÜäöüßß"] {
            for before in ["", "a", "ab", "client:"] {
                for after in ["", "a", "ab"] {
                    let plain = format!("{before}{secret}{after}");
                    for encoded in [
                        BASE64_STANDARD.encode(&plain),
                        BASE64_STANDARD_NO_PAD.encode(&plain),
                        BASE64_URL_SAFE.encode(&plain),
                        BASE64_URL_SAFE_NO_PAD.encode(&plain),
                        BASE64_STANDARD
                            .encode(&plain)
                            .replace('+', "%2B")
                            .replace('/', "%2f"),
                    ] {
                        let masked = shown(&format!("Basic {encoded}, no"), secret);
                        assert_eq!(masked, "Basic [redacted], no", "{plain} as {encoded}");
                    }
                }
            }
        }
    }

    #[test]
    fn a_secret_is_masked_although_it_is_split_or_in_hexadecimal() {
        let secret = "s3cret-Value~1";
        for text in [
            "s3cret-<wbr>Value~1",
            "s3cret-<b class=\"x\">Value</b>~1",
            "s3cret-</p>\r\n  <p>Value~1",
            "s3cret-\r\n Value~1",
            "s3cret-&shy;Value&#8203;~1",
            "s3\u{200b}cret-Value~1",
            "s\0\x33\0c\0r\0e\0t\0-\0V\0a\0l\0u\0e\0~\0\x31",
            "s3cret-: Value~1",
            "s3cret-\",\"Value~1",
            "s3cret-\", \"detail\" : \"Value~1",
            "7333637265742d56616c75657e31",
            "7333637265742D56616C75657E31",
        ] {
            assert_eq!(
                shown(&format!("got {text}."), secret),
                "got [redacted].",
                "{text}"
            );
        }
        let secret = "Abc8Q~dE.f3kLmN0pQrStUvWx";
        assert_eq!(shown("got c8Q~dE.f3k<wbr>LmN0pQrS", secret), WITHHELD);
        for text in ["the password: is wrong", "<p>a</p>", "\",\"", "a: b"] {
            assert_eq!(shown(text, "passwordis"), text);
        }
    }

    #[test]
    fn an_assertion_is_masked_too() {
        let assertion = "eyJhbGci.eyJhdWQi.c2lnbmF0dXJl";
        assert_eq!(
            shown("x eyJhbGci.eyJhdWQi.c2lnbmF0dXJl", assertion),
            "x [redacted]"
        );
        assert_eq!(shown("x eyJhbGci.eyJhdWQ", assertion), WITHHELD);
    }

    /// docs/failures.md O3.
    #[test]
    fn a_part_of_a_credential_does_not_withhold_a_text() {
        for (text, secret) in [
            ("use the correct tenant", "correct horse battery staple"),
            ("secret Value", "s3cret-Value~1"),
            ("a b c", "abc"),
            ("s3cret-Value~", "s3cret-Value~1"),
            ("Abc8Q~dE.f3kLmN", "Abc8Q~dE.f3kLmN0pQrStUvWx"),
            ("eyJhbGci.eyJ", "eyJhbGci.eyJhdWQi.c2lnbmF0dXJl"),
            ("7000215", "AADSTS7000215"),
        ] {
            assert_eq!(shown(text, secret), text, "{secret}");
        }
    }

    /// docs/failures.md O3.
    #[test]
    fn an_ordinary_secret_is_masked_as_a_whole_word_of_eight_characters_alone() {
        for (secret, text, expected) in [
            ("client", "the client is invalid", "the client is invalid"),
            ("s", "s is no secret's", "s is no secret's"),
            ("sevenxx", "sevenxx", "sevenxx"),
            (
                "password",
                "the password is wrong",
                "the [redacted] is wrong",
            ),
            (
                "password",
                "a passwordless user_password",
                "a passwordless user_password",
            ),
            ("password", "\"password\"", "\"[redacted]\""),
            ("client-secret", "client-secret!", "[redacted]!"),
            (
                "password",
                "x%3Dpassword\\npassword",
                "x%3D[redacted]\\n[redacted]",
            ),
        ] {
            assert_eq!(shown(text, secret), expected, "{secret}");
        }
    }

    #[test]
    fn a_code_is_never_masked() {
        for code in ["invalid_client", "error", "client-secret", "a.b"] {
            assert_eq!(Mask::of([code].into_iter()).code(code), code);
        }
        assert_eq!(
            Mask::of(["Zq9~Secret"].into_iter()).code("Zq9~Secret"),
            MASK
        );
        assert_eq!(
            Mask::of([].into_iter()).code(" invalid_client\n"),
            "invalid_client"
        );
    }

    #[test]
    fn a_long_text_is_cut_after_masking() {
        let kept = shown(&"ä".repeat(MAX_LENGTH + 1), "s3cret-Value");
        assert_eq!(kept.chars().count(), MAX_LENGTH);
        let straddling = format!("{} my pass phrase", "x".repeat(MAX_LENGTH - 3));
        assert!(!shown(&straddling, "my pass phrase").contains("my"));
        let encoded = format!("{} my%20pass%20phrase", "x".repeat(MAX_LENGTH - 3));
        assert!(!shown(&encoded, "my pass phrase").contains("my"));
    }
}
