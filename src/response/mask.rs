use std::borrow::Cow;

use crate::error::Escaped;
use crate::secret::Secret;

/// Prepares a server's text for an error: bounds the length and removes the secrets of the request.
///
/// A secret in plain or form-encoded text is masked. If the text then still holds the secret in
/// another encoding, or a piece of the secret, the whole text is withheld.
pub(super) fn without_secrets(text: &str, secrets: &[&Secret]) -> String {
    let mut text = Cow::Borrowed(text);
    for secret in secrets {
        match mask(&text, secret.expose()) {
            Some(masked) => text = masked.into(),
            None => return WITHHELD.to_owned(),
        }
    }
    text.chars().take(MAX_LENGTH).collect()
}

/// Masks the secret in the text. Returns `None` if a piece of the secret would remain.
fn mask(text: &str, secret: &str) -> Option<String> {
    let encoded: String = url::form_urlencoded::byte_serialize(secret.as_bytes()).collect();
    // Masked before the text is cut, so that no head of the secret remains at the cut.
    let text: String = text
        .chars()
        .take(MAX_LENGTH.saturating_add(encoded.len()))
        .collect();
    let text = text.replace(secret, MASK).replace(&encoded, MASK);
    let letters: String = secret.chars().filter(char::is_ascii_alphanumeric).collect();
    let repeats = letters.len() >= MIN_PIECE && letters_of_encoded(&text).contains(&letters);
    let repeats = repeats || pieces(secret).any(|piece| text.contains(piece));
    (!repeats).then_some(text)
}

/// Returns the first characters of a server's text on one line, without the request's secrets.
///
/// A text that may hold a token is withheld.
pub(super) fn excerpt(text: &[u8], secrets: &[&Secret]) -> String {
    let text = without_secrets(&String::from_utf8_lossy(text), secrets);
    if text.contains("_token\"") || text.contains("_token\\\"") || text.contains("eyJ") {
        return "[withheld: the text may hold a token]".to_owned();
    }
    let text: String = text.trim().chars().take(EXCERPT).collect();
    Escaped(&text).to_string()
}

/// Returns the letters and digits of a text that may be encoded.
///
/// Percent-encoding, HTML and JSON leave ASCII letters and digits unchanged. Their escape sequences
/// for other characters are dropped.
fn letters_of_encoded(text: &str) -> String {
    let mut letters = String::with_capacity(text.len());
    let mut rest = text.chars();
    while let Some(c) = rest.next() {
        let ahead = rest.as_str();
        let digits = |count: usize| {
            let code = ahead.get(..count);
            code.filter(|code| code.bytes().all(|byte| byte.is_ascii_hexdigit()))
        };
        let escape = match c {
            '%' => digits(2).map(str::len),
            '&' => ahead
                .find(';')
                .filter(|length| *length <= 8)
                .map(|at| at.saturating_add(1)),
            '\\' if ahead.starts_with('u') => Some(5.min(ahead.len())),
            '\\' => Some(1.min(ahead.len())),
            _ => None,
        };
        if let Some(length) = escape {
            rest = ahead.get(length..).unwrap_or_default().chars();
        } else if c.is_ascii_alphanumeric() {
            letters.push(c);
        }
    }
    letters
}

/// Returns the pieces of a secret that no encoding changes: six to eight letters or digits in a
/// row.
///
/// A piece of lower-case letters alone is skipped, because ordinary text may hold the same word.
fn pieces(secret: &str) -> impl Iterator<Item = &str> {
    let runs = || secret.split(|c: char| !c.is_ascii_alphanumeric());
    let longest = runs().map(str::len).max().unwrap_or_default();
    let length = longest.clamp(MIN_PIECE, MAX_PIECE);
    runs()
        .flat_map(move |run| {
            (0..run.len()).filter_map(move |at| run.get(at..at.saturating_add(length)))
        })
        .filter(|piece| !piece.bytes().all(|byte| byte.is_ascii_lowercase()))
}

const MASK: &str = "[redacted]";
const WITHHELD: &str = "[withheld: the text repeats a part of the credential]";
/// The length of an excerpt, in characters.
pub(super) const EXCERPT: usize = 200;
/// The length of the longest server text in an error, in characters.
const MAX_LENGTH: usize = 4096;
const MAX_PIECE: usize = 8;
/// The fewest letters and digits that identify a secret. Shorter runs occur in any text.
const MIN_PIECE: usize = 6;

#[cfg(test)]
mod tests {
    use super::*;
    use crate::secret::Secret;

    fn shown(text: &str, secret: &str) -> String {
        without_secrets(text, &[&Secret::from(secret)])
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
                WITHHELD,
            ),
            (
                "cut",
                format!("got {}", secret.get(..20).unwrap()),
                WITHHELD,
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
            ("s3cret-Value~1", "s3cret&#45;Value"),
        ] {
            assert_eq!(
                shown(&format!("you sent {text}, no"), secret),
                WITHHELD,
                "{text}"
            );
        }
    }

    #[test]
    fn an_assertion_is_masked_too() {
        let assertion = Secret::from("eyJhbGci.eyJhdWQi.c2lnbmF0dXJl");
        let masked = without_secrets("x eyJhbGci.eyJhdWQi.c2lnbmF0dXJl", &[&assertion]);
        assert_eq!(masked, "x [redacted]");
        assert_eq!(without_secrets("x eyJhbGci.eyJ", &[&assertion]), WITHHELD);
    }

    #[test]
    fn a_word_of_a_pass_phrase_does_not_withhold_a_text() {
        let text = "use the correct tenant";
        assert_eq!(shown(text, "correct horse battery staple"), text);
        assert_eq!(shown("secret Value", "s3cret-Value~1"), "secret Value");
        assert_eq!(
            shown("a b c", "abc"),
            "a b c",
            "three letters are in any text"
        );
    }

    #[test]
    fn a_long_text_is_cut_after_masking() {
        let kept = shown(&"ä".repeat(MAX_LENGTH + 1), "s3cret");
        assert_eq!(kept.chars().count(), MAX_LENGTH);
        let straddling = format!("{}my pass phrase", "x".repeat(MAX_LENGTH - 3));
        assert!(!shown(&straddling, "my pass phrase").contains("my"));
    }
}
