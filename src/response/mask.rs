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
mod tests;
