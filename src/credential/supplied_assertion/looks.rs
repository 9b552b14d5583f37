use std::fmt;

use serde_json::{Map, Value};
use uuid::Uuid;

use super::has_form_of_jwt;
use crate::credential::pasted::{is_placeholder, trimmed, unquoted};
use crate::error::Escaped;

/// The likely content of a text that should be a token.
///
/// `Display` completes the sentence "the file is not a token but ..", with advice and without any
/// part of the text.
pub(super) enum Looks {
    Word(String),
    Placeholder,
    Html,
    Xml,
    Pem,
    Path,
    Url,
    Guid,
    EmptyQuotes,
    BrokenJson,
    JsonList,
    /// The name of the member.
    EmptyMember(String),
    TwoTokens(String, String),
    JsonWithoutToken(Vec<String>),
    Unsigned,
    Damaged,
    SeveralLines,
    Text {
        characters: usize,
        has_space: bool,
    },
}

impl Looks {
    pub(super) fn of(text: &str) -> Self {
        let folded: String = text.chars().take(64).collect();
        let folded = folded.to_ascii_lowercase();
        let is_path = || {
            text.starts_with(['/', '~'])
                || text.starts_with("./")
                || text
                    .get(1..3)
                    .is_some_and(|drive| drive == ":\\" || drive == ":/")
        };
        if text.is_empty() || unquoted(text) == Some("") {
            Self::EmptyQuotes
        } else if EMPTY_WORDS.contains(&folded.as_str()) {
            Self::Word(text.to_owned())
        } else if folded.starts_with("<?xml") || folded.starts_with("<saml") {
            Self::Xml
        } else if is_html(&folded) {
            Self::Html
        } else if is_placeholder(text) {
            Self::Placeholder
        } else if folded.starts_with('<') {
            Self::Xml
        } else if folded.starts_with("-----begin") {
            Self::Pem
        } else if folded.starts_with('[') {
            Self::JsonList
        } else if folded.contains("://") && !text.contains(char::is_whitespace) {
            Self::Url
        } else if is_path() && !text.contains(char::is_whitespace) {
            Self::Path
        } else if Uuid::try_parse(text).is_ok() {
            Self::Guid
        } else if text
            .lines()
            .filter(|line| !trimmed(line).is_empty())
            .count()
            > 1
        {
            Self::SeveralLines
        } else if is_part_of_jwt(text) {
            Self::Damaged
        } else {
            Self::Text {
                characters: text.chars().count(),
                has_space: text.contains(char::is_whitespace),
            }
        }
    }

    pub(super) fn json_without_token(members: &Map<String, Value>) -> Self {
        let names = members.keys().take(MOST_NAMES);
        let names = names.map(|name| name.chars().take(LONGEST_NAME).collect());
        Self::JsonWithoutToken(names.collect())
    }
}

/// Returns whether the first part of a JWT begins like an encoded JSON object.
pub(super) fn begins_like_jwt(text: &str) -> bool {
    ["ey", "ew"].iter().any(|begin| text.starts_with(begin))
}

fn is_html(folded: &str) -> bool {
    [
        "<!doctype",
        "<html",
        "<head",
        "<body",
        "<!--",
        "<p>",
        "<h1",
        "<div",
        "<title",
        "<meta",
    ]
    .iter()
    .any(|begin| folded.starts_with(begin))
}

fn is_part_of_jwt(text: &str) -> bool {
    let is_plain = |byte: u8| byte.is_ascii_alphanumeric() || b"-_.".contains(&byte);
    let text = text.trim_end_matches('…');
    begins_like_jwt(text) && text.bytes().all(is_plain) && !has_form_of_jwt(text)
}

impl fmt::Display for Looks {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Word(word) => write!(
                f,
                "the word '{word}'; check the step that writes it, which had no token"
            ),
            Self::Placeholder => f.write_str("a placeholder that nothing replaced; check the step that fills it in"),
            Self::Html => f.write_str(
                "an HTML page; check the URL that it was fetched from, and look for a sign-in page or a proxy in between",
            ),
            Self::Xml => f.write_str("XML; a SAML assertion is not accepted, so supply a JWT"),
            Self::Pem => f.write_str("PEM; a certificate or a key belongs in certificate(..) or AZURE_CLIENT_CERTIFICATE_PATH"),
            Self::Path => f.write_str("a path; supply the content of that file"),
            Self::Url => f.write_str("a URL; supply the token that the URL returns"),
            Self::Guid => f.write_str("a GUID; supply the token and not an id"),
            Self::EmptyQuotes => f.write_str("nothing in quotation marks; check the step that writes it, which had no token"),
            Self::BrokenJson => f.write_str("JSON that is cut off or damaged; check that it is written completely"),
            Self::JsonList => f.write_str("a JSON list; supply the token alone"),
            Self::EmptyMember(name) => write!(
                f,
                "JSON whose '{name}' is empty; check the request for the token, and whether the job may request one"
            ),
            Self::TwoTokens(one, other) => write!(
                f,
                "JSON with two tokens, {one} and {other}; supply the one that the federated credential expects"
            ),
            Self::JsonWithoutToken(names) => {
                f.write_str("JSON without a token")?;
                let names: Vec<String> = names.iter().map(|name| Escaped(name).to_string()).collect();
                match names.as_slice() {
                    [] => Ok(()),
                    [one] => write!(f, " (its member is {one})"),
                    [names @ .., last] => {
                        write!(f, " (its members are {} and {last})", names.join(", "))
                    }
                }?;
                f.write_str("; it may be an error of the server that was asked for the token")
            }
            Self::Unsigned => f.write_str("a token without a signature; an assertion must be signed"),
            Self::Damaged => f.write_str("a token that is cut off or damaged; check that it is copied or written completely"),
            Self::SeveralLines => f.write_str("several lines; supply one token alone"),
            Self::Text { characters, has_space } => {
                write!(f, "a text of {characters} characters")?;
                f.write_str(if *has_space {
                    " with white space; it may be an error message, so look at it"
                } else {
                    "; a JWT has three parts between dots, and begins with 'ey'"
                })
            }
        }
    }
}

const EMPTY_WORDS: [&str; 8] = [
    "null",
    "undefined",
    "none",
    "nil",
    "nan",
    "true",
    "false",
    "nothing",
];
const MOST_NAMES: usize = 5;
const LONGEST_NAME: usize = 40;
