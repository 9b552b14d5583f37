use std::borrow::Cow;
use std::fmt;

use serde::de::{Deserialize, Deserializer, IgnoredAny, MapAccess, SeqAccess, Visitor};
use serde_json::Value;
use serde_json::value::RawValue;

use super::additional_parameters::AdditionalParameters;

/// The members of a successful token response ([RFC 6749 section 5.1]).
///
/// A text member that is `null` or no text is absent. A number may be written as a text. Of two
/// members with one name, the last counts. Texts without escapes are borrowed from the body.
///
/// [RFC 6749 section 5.1]: https://www.rfc-editor.org/rfc/rfc6749#section-5.1
#[derive(Default)]
pub(super) struct Members<'a> {
    pub(super) access_token: Option<Cow<'a, str>>,
    pub(super) token_type: Option<Cow<'a, str>>,
    pub(super) expires_in: Value,
    pub(super) refresh_in: Value,
    /// The type of an exchanged token ([RFC 8693 section 2.2.1]).
    ///
    /// [RFC 8693 section 2.2.1]: https://www.rfc-editor.org/rfc/rfc8693#section-2.2.1
    pub(super) issued_token_type: Value,
    pub(super) scope: Option<Cow<'a, str>>,
    pub(super) refresh_token: Option<Cow<'a, str>>,
    pub(super) id_token: Option<Cow<'a, str>>,
    pub(super) client_info: Option<Cow<'a, str>>,
    pub(super) additional: AdditionalParameters<'a>,
}

impl<'a> Members<'a> {
    /// Parses a JSON object. Returns `None` for any other body.
    pub(super) fn parse(body: &'a [u8]) -> Option<Self> {
        // One check of the whole text is faster than serde_json's check of each string.
        let body = std::str::from_utf8(body).ok()?;
        let body = body.strip_prefix('\u{feff}').unwrap_or(body);
        // serde's message quotes the body, which holds a token.
        serde_json::from_str(body).ok()
    }
}

impl<'de> Deserialize<'de> for Members<'de> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_map(MembersVisitor)
    }
}

struct MembersVisitor;

impl<'de> Visitor<'de> for MembersVisitor {
    type Value = Members<'de>;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("an object")
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Self::Value, A::Error> {
        let mut members = Members::default();
        while let Some(Text(name)) = map.next_key()? {
            let text = match name.as_deref().unwrap_or_default() {
                "access_token" => &mut members.access_token,
                "token_type" => &mut members.token_type,
                "scope" => &mut members.scope,
                "refresh_token" => &mut members.refresh_token,
                "id_token" => &mut members.id_token,
                "client_info" => &mut members.client_info,
                "expires_in" => {
                    members.expires_in = map.next_value()?;
                    continue;
                }
                "refresh_in" => {
                    members.refresh_in = map.next_value()?;
                    continue;
                }
                "issued_token_type" => {
                    members.issued_token_type = map.next_value()?;
                    continue;
                }
                // Entra's lifetime for an outage, which is in every response.
                "ext_expires_in" => {
                    map.next_value::<IgnoredAny>()?;
                    continue;
                }
                _ => {
                    let value: &RawValue = map.next_value()?;
                    if let Some(name) = name {
                        members.additional.set(name, value.get());
                    }
                    continue;
                }
            };
            Text(*text) = map.next_value()?;
        }
        Ok(members)
    }
}

/// A text, or `None` for a value of another type.
struct Text<'a>(Option<Cow<'a, str>>);

impl<'de> Deserialize<'de> for Text<'de> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_any(TextVisitor)
    }
}

struct TextVisitor;

impl<'de> Visitor<'de> for TextVisitor {
    type Value = Text<'de>;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("any value")
    }

    fn visit_borrowed_str<E>(self, text: &'de str) -> Result<Self::Value, E> {
        Ok(Text(Some(Cow::Borrowed(text))))
    }

    fn visit_str<E>(self, text: &str) -> Result<Self::Value, E> {
        Ok(Text(Some(Cow::Owned(text.to_owned()))))
    }

    fn visit_bool<E>(self, _: bool) -> Result<Self::Value, E> {
        Ok(Text(None))
    }

    fn visit_i64<E>(self, _: i64) -> Result<Self::Value, E> {
        Ok(Text(None))
    }

    fn visit_u64<E>(self, _: u64) -> Result<Self::Value, E> {
        Ok(Text(None))
    }

    fn visit_f64<E>(self, _: f64) -> Result<Self::Value, E> {
        Ok(Text(None))
    }

    fn visit_unit<E>(self) -> Result<Self::Value, E> {
        Ok(Text(None))
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut seq: A) -> Result<Self::Value, A::Error> {
        while seq.next_element::<IgnoredAny>()?.is_some() {}
        Ok(Text(None))
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Self::Value, A::Error> {
        while map.next_entry::<IgnoredAny, IgnoredAny>()?.is_some() {}
        Ok(Text(None))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_last_of_two_members_counts_and_other_types_are_absent() {
        for (name, value, expected) in [
            ("a text", r#""a""#, Some("a")),
            ("an escape", r#""\u0061\n""#, Some("a\n")),
            ("the last of two", r#""b","scope":"a""#, Some("a")),
            ("null at last", r#""a","scope":null"#, None),
            ("null at first", r#"null,"scope":"a""#, Some("a")),
            (
                "an escape in the name",
                r#"null,"s\u0063ope":"a""#,
                Some("a"),
            ),
            ("null", "null", None),
            ("a boolean", "true", None),
            ("a number", "7", None),
            ("a negative number", "-7", None),
            ("a fraction", "7.5", None),
            ("an array", r#"[["a"],{}]"#, None),
            ("an object", r#"{"scope":"a","b":[1]}"#, None),
        ] {
            let body = format!(r#"{{"scope":{value}}}"#);
            let members = Members::parse(body.as_bytes()).unwrap();
            assert_eq!(members.scope.as_deref(), expected, "{name}");
        }
    }

    #[test]
    fn only_a_json_object_has_members() {
        for body in [
            "",
            "[]",
            "7",
            r#""a""#,
            "null",
            "{",
            r#"{"a":1} b"#,
            r#"{"a":[}"#,
        ] {
            assert!(Members::parse(body.as_bytes()).is_none(), "{body}");
        }
        assert!(Members::parse(b"{\"scope\":\"\xff\"}").is_none());
        let members = Members::parse(br#"{"access_token":"a.b","expires_in":7}"#).unwrap();
        assert!(matches!(members.access_token, Some(Cow::Borrowed("a.b"))));
        assert_eq!(members.expires_in, 7);
    }
}
