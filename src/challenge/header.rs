#![warn(clippy::arithmetic_side_effects, reason = "it parses untrusted input")]

use super::Challenge;

/// A parser of `WWW-Authenticate` values ([RFC 9110 section 11.6.1]), over the unread text.
///
/// [RFC 9110 section 11.6.1]: https://www.rfc-editor.org/rfc/rfc9110#section-11.6.1
pub(super) struct HeaderParser<'a>(pub(super) &'a str);

impl<'a> HeaderParser<'a> {
    /// Parses every challenge in the text.
    pub(super) fn challenges(mut self) -> Vec<Challenge> {
        let mut challenges: Vec<Challenge> = Vec::new();
        loop {
            self.skip(|c| c == ',' || is_space(c));
            if self.0.is_empty() {
                return challenges;
            }
            let token = self.take(is_token);
            if token.is_empty() {
                self.skip_element();
                continue;
            }
            let spaces = self.skip(is_space);
            if self.0.starts_with('=') {
                self.skip(|c| c == '=');
                self.skip(is_space);
                // A parameter before the first scheme, or without a closing quote, is skipped.
                if let (Some(value), Some(challenge)) = (self.value(), challenges.last_mut()) {
                    let name = token.to_ascii_lowercase();
                    challenge.parameters.push((name, value));
                }
                continue;
            }
            challenges.push(Challenge {
                scheme: token.to_owned(),
                token68: if spaces { self.token68() } else { None },
                parameters: Vec::new(),
            });
        }
    }

    /// Parses a `token68` that ends at a comma or at the end of the text.
    fn token68(&mut self) -> Option<String> {
        let mut ahead = HeaderParser(self.0);
        let text = ahead.take(|c| c.is_ascii_alphanumeric() || "-._~+/".contains(c));
        let rest = ahead.0;
        ahead.skip(|c| c == '=');
        let padding = rest.len().checked_sub(ahead.0.len())?;
        let whole = self.0.get(..text.len().checked_add(padding)?)?;
        ahead.skip(is_space);
        if text.is_empty() || !(ahead.0.is_empty() || ahead.0.starts_with(',')) {
            return None;
        }
        self.0 = ahead.0;
        Some(whole.to_owned())
    }

    /// Parses a parameter's value, which is a quoted string or ends at a space or comma.
    ///
    /// Returns `None` for a quoted string without a closing quote.
    fn value(&mut self) -> Option<String> {
        let Some(quoted) = self.0.strip_prefix('"') else {
            let value = self.take(|c| c != ',' && !is_space(c));
            return Some(value.to_owned());
        };
        let mut value = String::new();
        let mut characters = quoted.char_indices();
        while let Some((_, c)) = characters.next() {
            match c {
                '"' => {
                    self.0 = characters.as_str();
                    return Some(value);
                }
                '\\' => value.extend(characters.next().map(|(_, c)| c)),
                c => value.push(c),
            }
        }
        self.0 = "";
        None
    }

    /// Skips invalid text up to the next comma or quote.
    fn skip_element(&mut self) {
        match self.0.starts_with('"') {
            true => drop(self.value()),
            false => drop(self.take(|c| c != ',' && c != '"')),
        }
    }

    /// Returns the longest prefix of matching characters.
    fn take(&mut self, matches: impl Fn(char) -> bool) -> &'a str {
        let end = self.0.find(|c| !matches(c)).unwrap_or(self.0.len());
        let (taken, rest) = self.0.split_at_checked(end).unwrap_or((self.0, ""));
        self.0 = rest;
        taken
    }

    /// Skips the longest prefix of matching characters. Returns `true` if the prefix is not empty.
    fn skip(&mut self, matches: impl Fn(char) -> bool) -> bool {
        !self.take(matches).is_empty()
    }
}

fn is_space(c: char) -> bool {
    c == ' ' || c == '\t'
}

/// Returns `true` for `tchar` of [RFC 9110 section 5.6.2](https://www.rfc-editor.org/rfc/rfc9110#section-5.6.2).
fn is_token(c: char) -> bool {
    c.is_ascii_alphanumeric() || "!#$%&'*+-.^_`|~".contains(c)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// `scheme[token68]{name=value;..}`, one for each challenge.
    fn read(value: &str) -> String {
        let challenges = Challenge::parse(value).into_iter().map(|challenge| {
            let token68 = challenge.token68.map(|text| format!("[{text}]"));
            let parameters = challenge.parameters.iter();
            let parameters: Vec<_> = parameters
                .map(|(name, value)| format!("{name}={value}"))
                .collect();
            format!(
                "{}{}{{{}}}",
                challenge.scheme,
                token68.unwrap_or_default(),
                parameters.join(";")
            )
        });
        challenges.collect::<Vec<_>>().join(" ")
    }

    /// docs/failures.md M15.
    #[test]
    fn headers_are_parsed_by_the_rfc_with_leniency_for_common_mistakes() {
        for (name, value, expected) in [
            ("nothing", "", ""),
            ("white space", " \t ", ""),
            ("a scheme", "Negotiate", "Negotiate{}"),
            (
                "a token68",
                "Negotiate YII+/-._~==",
                "Negotiate[YII+/-._~==]{}",
            ),
            (
                "signs right behind a scheme",
                "Negotiate/abc, Basic a=1",
                "Negotiate{} Basic{a=1}",
            ),
            (
                "a token68 and another",
                "Negotiate abc==, Basic realm=x",
                "Negotiate[abc==]{} Basic{realm=x}",
            ),
            ("one parameter", r#"Bearer realm="a""#, "Bearer{realm=a}"),
            (
                "a name in any case",
                r#"bearer REALM="a""#,
                "bearer{realm=a}",
            ),
            (
                "no comma but a space",
                r#"Bearer a="1" b="2""#,
                "Bearer{a=1;b=2}",
            ),
            (
                "no space behind the comma",
                r#"Bearer a="1",b="2""#,
                "Bearer{a=1;b=2}",
            ),
            (
                "bad white space",
                "Bearer a = \"1\" ,\tb\t=\t2",
                "Bearer{a=1;b=2}",
            ),
            (
                "empty elements",
                r#", ,Bearer ,a=1,, ,b=2,"#,
                "Bearer{a=1;b=2}",
            ),
            (
                "a quoted pair",
                r#"Bearer a="x\"y\\z", b=2"#,
                r#"Bearer{a=x"y\z;b=2}"#,
            ),
            (
                "a comma in quotes",
                r#"Bearer a="x, Basic y=z", b=2"#,
                "Bearer{a=x, Basic y=z;b=2}",
            ),
            (
                "an empty value",
                r#"Bearer realm="", a=1"#,
                "Bearer{realm=;a=1}",
            ),
            (
                "an equals sign in a value",
                "Bearer a=b=c, d=e",
                "Bearer{a=b=c;d=e}",
            ),
            (
                "two challenges",
                r#"Bearer a="1", PoP nonce="n", c=3"#,
                "Bearer{a=1} PoP{nonce=n;c=3}",
            ),
            (
                "two without a comma",
                r#"Bearer a="1" Basic realm="x""#,
                "Bearer{a=1} Basic{realm=x}",
            ),
            (
                "the same scheme twice",
                "Bearer a=1, Bearer a=2",
                "Bearer{a=1} Bearer{a=2}",
            ),
            (
                "a URL without quotes",
                "Bearer authorization_uri=https://login.windows.net/t, Basic realm=\"x\"",
                "Bearer{authorization_uri=https://login.windows.net/t} Basic{realm=x}",
            ),
            (
                "letters beyond ASCII",
                "Bearer a=\"\u{e4}\", b=\u{e4}",
                "Bearer{a=\u{e4};b=\u{e4}}",
            ),
            (
                "a parameter of no challenge",
                "a=1, Bearer b=2",
                "Bearer{b=2}",
            ),
            (
                "quotes without an end",
                r#"Bearer a=1, b="2, c=3"#,
                "Bearer{a=1}",
            ),
            ("a pair without an end", r#"Bearer a="1\"#, "Bearer{}"),
            (
                "quotes where a name belongs",
                r#"Bearer "a, b" c=1"#,
                "Bearer{c=1}",
            ),
            (
                "signs that belong nowhere",
                "Bearer (a), {b}, c=1, =2, @",
                "Bearer{c=1}",
            ),
            ("no more than a comma", ",,,,", ""),
        ] {
            assert_eq!(read(value), expected, "{name}: {value}");
        }
    }
}
