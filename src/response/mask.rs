use std::borrow::Cow;

use crate::error::Escaped;
use crate::secret::Secret;

/// Makes a server's text fit to be kept in an error: of bounded length, and without the credential
/// that we sent, should the server repeat it.
///
/// What stands there as we sent it is masked. A text that then still holds it otherwise encoded, or
/// a piece of it, is withheld altogether.
pub(super) fn presentable(text: &str, hidden: &[&Secret]) -> String {
    let mut text = Cow::Borrowed(text);
    for own in hidden {
        match masked(&text, own.expose()) {
            Some(masked) => text = masked.into(),
            None => return WITHHELD.to_owned(),
        }
    }
    text.chars().take(LONGEST).collect()
}

/// The text without the credential; none where a piece of it would be left.
fn masked(text: &str, own: &str) -> Option<String> {
    let encoded: String = url::form_urlencoded::byte_serialize(own.as_bytes()).collect();
    // Masked before it is cut, so that no head of it is left at the end.
    let text: String = text
        .chars()
        .take(LONGEST.saturating_add(encoded.len()))
        .collect();
    let text = text.replace(own, MASK).replace(&encoded, MASK);
    let letters: String = own.chars().filter(char::is_ascii_alphanumeric).collect();
    let repeats = letters.len() >= SHORTEST && letters_of_encoded(&text).contains(&letters);
    let repeats = repeats || pieces(own).any(|piece| text.contains(piece));
    (!repeats).then_some(text)
}

/// The first characters of a server's text, on one line, without the credential we sent, and
/// nothing of it where it may hold a token.
pub(super) fn excerpt(text: &[u8], hidden: &[&Secret]) -> String {
    let text = presentable(&String::from_utf8_lossy(text), hidden);
    if text.contains("_token\"") || text.contains("_token\\\"") || text.contains("eyJ") {
        return "[withheld: it may hold a token]".to_owned();
    }
    let text: String = text.trim().chars().take(EXCERPT).collect();
    Escaped(&text).to_string()
}

/// The letters and digits of a text that may be encoded. Percent-encoding, HTML and JSON write
/// other characters in their own ways and leave these as they are, so what they put in their place
/// is left out.
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

/// Pieces of a credential that no encoding changes: eight letters or digits in a row. What could
/// be a word of any text is none.
fn pieces(own: &str) -> impl Iterator<Item = &str> {
    let runs = || own.split(|c: char| !c.is_ascii_alphanumeric());
    let longest = runs().map(str::len).max().unwrap_or_default();
    let length = longest.clamp(SHORTEST, PIECE);
    runs()
        .flat_map(move |run| {
            (0..run.len()).filter_map(move |at| run.get(at..at.saturating_add(length)))
        })
        .filter(|piece| !piece.bytes().all(|byte| byte.is_ascii_lowercase()))
}

const MASK: &str = "[redacted]";
const WITHHELD: &str = "[withheld: it repeats a part of the credential]";
/// How many characters of a server's text an error repeats.
pub(super) const EXCERPT: usize = 200;
/// The longest text of a server that an error keeps, in characters.
const LONGEST: usize = 4096;
const PIECE: usize = 8;
/// Fewer letters and digits in a row are in any text.
const SHORTEST: usize = 6;

#[cfg(test)]
mod tests {
    use super::*;
    use crate::secret::Secret;

    fn shown(text: &str, secret: &str) -> String {
        presentable(text, &[&Secret::from(secret)])
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
    fn a_secret_without_a_long_piece_is_found_however_it_is_encoded() {
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
        let masked = presentable("x eyJhbGci.eyJhdWQi.c2lnbmF0dXJl", &[&assertion]);
        assert_eq!(masked, "x [redacted]");
        assert_eq!(presentable("x eyJhbGci.eyJ", &[&assertion]), WITHHELD);
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
    fn a_text_is_cut_before_it_fills_a_log_and_after_it_was_masked() {
        let kept = shown(&"ä".repeat(LONGEST + 1), "s3cret");
        assert_eq!(kept.chars().count(), LONGEST);
        let straddling = format!("{}my pass phrase", "x".repeat(LONGEST - 3));
        assert!(!shown(&straddling, "my pass phrase").contains("my"));
    }
}
