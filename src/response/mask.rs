use crate::request::Proof;

/// Makes a server's text fit to be kept in an error: of bounded length, and without the credential
/// that we sent, should the server repeat it.
///
/// What stands there as we sent it is masked. A text that then still holds a piece of it, because
/// the server encoded or cut it, is withheld altogether.
pub(super) fn presentable(text: &str, proof: &Proof) -> String {
    let (Proof::Secret(own) | Proof::Assertion(own)) = proof;
    let own = own.expose();
    let encoded: String = url::form_urlencoded::byte_serialize(own.as_bytes()).collect();
    let text: String = text.chars().take(LONGEST).collect();
    let text = text.replace(own, MASK).replace(&encoded, MASK);
    if pieces(own).any(|piece| text.contains(piece)) {
        return WITHHELD.to_owned();
    }
    text
}

/// Pieces of a credential that no encoding changes: eight letters or digits in a row. What could
/// be a word of any text is none.
fn pieces(own: &str) -> impl Iterator<Item = &str> {
    let runs = || own.split(|c: char| !c.is_ascii_alphanumeric());
    let longest = runs().map(str::len).max().unwrap_or_default();
    let length = longest.clamp(SHORTEST_PIECE, PIECE);
    runs()
        .flat_map(move |run| (0..run.len()).filter_map(move |at| run.get(at..at + length)))
        .filter(|piece| !piece.bytes().all(|byte| byte.is_ascii_lowercase()))
}

const MASK: &str = "[redacted]";
const WITHHELD: &str = "[withheld: it repeats a part of the credential]";
/// The longest text of a server that an error keeps, in characters.
const LONGEST: usize = 4096;
const PIECE: usize = 8;
const SHORTEST_PIECE: usize = 6;

#[cfg(test)]
mod tests {
    use super::*;
    use crate::secret::Secret;

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
                "a JSON escape",
                "Abc8Q~dE.f3kLmN0pQrStUvWx-yZ \\u00e4".to_owned(),
                WITHHELD,
            ),
            (
                "not at all",
                "got something else".to_owned(),
                "got something else",
            ),
        ] {
            let proof = Proof::Secret(Secret::from(secret));
            assert_eq!(presentable(&text, &proof), expected, "{name}");
        }
    }

    #[test]
    fn an_assertion_is_masked_too() {
        let proof = Proof::Assertion(Secret::from("eyJhbGci.eyJhdWQi.c2lnbmF0dXJl"));
        let masked = presentable("x eyJhbGci.eyJhdWQi.c2lnbmF0dXJl", &proof);
        assert_eq!(masked, "x [redacted]");
        assert_eq!(presentable("x eyJhbGci.eyJ", &proof), WITHHELD);
    }

    #[test]
    fn a_word_of_a_pass_phrase_does_not_withhold_a_text() {
        let proof = Proof::Secret(Secret::from("correct horse battery staple"));
        let text = "use the correct tenant";
        assert_eq!(presentable(text, &proof), text);
    }

    #[test]
    fn a_short_secret_is_found_by_its_longest_piece() {
        let proof = Proof::Secret(Secret::from("s3cret-Value~1"));
        assert_eq!(presentable("s3cret&#45;Value", &proof), WITHHELD);
        assert_eq!(presentable("secret Value", &proof), "secret Value");
    }

    #[test]
    fn a_text_is_cut_before_it_fills_a_log() {
        let proof = Proof::Secret(Secret::from("s3cret"));
        let kept = presentable(&"ä".repeat(LONGEST + 1), &proof);
        assert_eq!(kept.chars().count(), LONGEST);
    }
}
