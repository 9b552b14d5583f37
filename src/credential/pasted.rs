//! Text as variables and files have it: with white space, quotes or a placeholder around or in the
//! place of the value.

/// Removes white space, byte-order marks and other invisible characters around a text.
pub(crate) fn trimmed(text: &str) -> &str {
    text.trim_matches(|c: char| c.is_whitespace() || c.is_control() || is_invisible(c))
}

/// Returns whether a character is a byte-order mark or has no width.
pub(crate) fn is_invisible(c: char) -> bool {
    matches!(
        c,
        '\u{200b}'..='\u{200f}' | '\u{2060}' | '\u{feff}' | '\u{ad}'
    )
}

/// Returns the text inside one pair of quotation marks, straight or typographic.
///
/// A backslash before each mark counts as part of the mark.
pub(crate) fn unquoted(text: &str) -> Option<&str> {
    QUOTES.iter().find_map(|(open, close)| {
        let inside = text.strip_prefix(open)?.strip_suffix(close)?;
        Some(inside)
    })
}

/// Returns the text inside one pair of braces, brackets or parentheses.
pub(crate) fn unbraced(text: &str) -> Option<&str> {
    let pairs = [('{', '}'), ('(', ')'), ('[', ']'), ('<', '>')];
    pairs
        .iter()
        .find_map(|(open, close)| text.strip_prefix(*open)?.strip_suffix(*close))
}

/// Removes white space and quotation marks around a text, in any order.
pub(crate) fn bare(text: &str) -> &str {
    let mut text = trimmed(text);
    while let Some(inside) = unquoted(text) {
        text = trimmed(inside);
    }
    text
}

/// Returns whether a text stands in the place of a value that nobody filled in.
///
/// The text is a template such as `<your-client-id>`, `${VAR}`, `$VAR` or `{name}`, or a word such
/// as `changeme`.
pub(crate) fn is_placeholder(text: &str) -> bool {
    let is_named = |(open, close): &(&str, &str)| inside(text, open, close).is_some_and(is_name);
    let named = [("__", "__"), ("{", "}"), ("$env:", ""), ("$", "")];
    is_placeholder_secret(text) || named.iter().any(is_named)
}

/// Returns whether a text stands in the place of a secret that nobody filled in.
///
/// `$name` and `{name}` are not templates here, because a secret may have these characters.
pub(crate) fn is_placeholder_secret(text: &str) -> bool {
    let is_filled = |(open, close): &(&str, &str)| {
        inside(text, open, close).is_some_and(|inside| !inside.is_empty())
    };
    TEMPLATES.iter().any(is_filled)
        || inside(text, "%", "%").is_some_and(is_name)
        || is_placeholder_word(text)
}

/// Returns the text between the marks of a template.
fn inside<'a>(text: &'a str, open: &str, close: &str) -> Option<&'a str> {
    let inside = text.strip_prefix(open)?.strip_suffix(close)?;
    Some(inside.trim())
}

fn is_name(text: &str) -> bool {
    let is_plain = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'_' | b'.' | b'-');
    let begins = |first: u8| first.is_ascii_alphabetic() || first == b'_';
    text.bytes().next().is_some_and(begins) && text.bytes().all(is_plain)
}

/// Returns whether a text is one of the words that samples have in the place of a value.
fn is_placeholder_word(text: &str) -> bool {
    let folded: String = text
        .chars()
        .filter(char::is_ascii_alphanumeric)
        .map(|c| c.to_ascii_lowercase())
        .collect();
    let is_crossed_out = || folded.len() >= 3 && folded.bytes().all(|byte| byte == b'x');
    let has_no_letter = || !text.is_empty() && text.chars().all(|c| "*.…-_?".contains(c));
    PLACEHOLDER_WORDS.contains(&folded.as_str())
        || text.is_ascii()
            && (folded.starts_with("your") || folded.starts_with("insertyour"))
            && text.contains(['-', '_', ' '])
        || is_crossed_out()
        || has_no_letter()
}

const QUOTES: [(&str, &str); 16] = [
    ("\\\"", "\\\""),
    ("\\'", "\\'"),
    ("\"", "\""),
    ("'", "'"),
    ("`", "`"),
    ("“", "”"),
    ("„", "“"),
    ("„", "”"),
    ("”", "”"),
    ("«", "»"),
    ("»", "«"),
    ("‘", "’"),
    ("‚", "‘"),
    ("’", "’"),
    ("‹", "›"),
    ("＂", "＂"),
];

const TEMPLATES: [(&str, &str); 8] = [
    ("${", "}"),
    ("$(", ")"),
    ("{{", "}}"),
    ("${{", "}}"),
    ("#{", "}#"),
    ("#{", "}"),
    ("<", ">"),
    ("@Microsoft.KeyVault(", ")"),
];

/// Letters and digits of the words, in lower case.
const PLACEHOLDER_WORDS: &[&str] = &[
    "changeme",
    "changethis",
    "changeit",
    "replaceme",
    "replacethis",
    "placeholder",
    "fillme",
    "fillin",
    "todo",
    "tbd",
    "fixme",
    "null",
    "none",
    "nil",
    "nan",
    "undefined",
    "unset",
    "redacted",
    "clientid",
    "tenantid",
    "appid",
    "myclientid",
    "mytenantid",
];

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_template_or_a_samples_word_does_not_pass_for_a_value() {
        for text in [
            "<your-client-id>",
            "<tenant>",
            "${VAR}",
            "${{ secrets.CLIENT }}",
            "$(clientSecret)",
            "$CLIENT_ID",
            "$env:CLIENT_ID",
            "%VAR%",
            "{{ client_id }}",
            "#{ClientId}#",
            "__CLIENT_ID__",
            "{client_id}",
            "@Microsoft.KeyVault(SecretUri=https://v.vault.azure.net/secrets/s)",
            "changeme",
            "Change-Me",
            "REPLACE_ME",
            "YOUR_CLIENT_ID",
            "your tenant id",
            "insert-your-secret",
            "xxxxxxxx-xxxx-xxxx-xxxx-xxxxxxxxxxxx",
            "todo",
            "null",
            "undefined",
            "None",
            "***",
            "...",
        ] {
            assert!(is_placeholder(text), "{text}");
        }
        for text in [
            "",
            "contoso.com",
            "your.example.com",
            "yourcompany.onmicrosoft.com",
            "11111111-2222-3333-4444-555555555555",
            "daemon",
            "client",
            "$ecret and more",
            "%41",
            "a${b}c",
            "p@ss<word>",
            "s3cret-Value~1",
            "x",
        ] {
            assert!(!is_placeholder(text), "{text}");
        }
        for (text, expected) in [
            ("${VAR}", true),
            ("%VAR%", true),
            ("change-me", true),
            ("$ecret", false),
            ("{a}", false),
            ("__a__", false),
        ] {
            assert_eq!(is_placeholder_secret(text), expected, "{text}");
        }
    }

    #[test]
    fn quotes_are_removed_in_pairs_only() {
        for (text, inside) in [
            ("\"a\"", Some("a")),
            ("'a'", Some("a")),
            ("“a”", Some("a")),
            ("„a“", Some("a")),
            ("«a»", Some("a")),
            ("\\\"a\\\"", Some("a")),
            ("\"\"", Some("")),
            ("\"a", None),
            ("a\"", None),
            ("\"", None),
            ("\"a'", None),
        ] {
            assert_eq!(unquoted(text), inside, "{text}");
        }
        assert_eq!(bare("\u{feff}\" 'a b' \"\n"), "a b");
        assert_eq!(bare("\"\""), "");
        assert_eq!(trimmed("\u{feff} \u{200b}a b\u{a0}\r\n\0"), "a b");
    }
}
