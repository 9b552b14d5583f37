use std::borrow::Cow;
use std::sync::Arc;

use serde_json::{Map, Value, json};

/// The declared client capabilities, sent in the claims of each token request (`xms_cc`).
///
/// Empty by default. Holds the claims as a JSON value and as text.
#[derive(Clone, Debug, Default)]
pub(crate) struct Capabilities {
    names: Arc<[String]>,
    claims: Option<(Value, String)>,
}

impl Capabilities {
    pub(crate) fn new(names: &[String]) -> Self {
        let claims = (!names.is_empty()).then(|| {
            let declared = json!({ "access_token": { "xms_cc": { "values": names } } });
            let text = declared.to_string();
            (declared, text)
        });
        let names = names.into();
        Self { names, claims }
    }

    pub(crate) fn names(&self) -> &Arc<[String]> {
        &self.names
    }

    /// Returns the claims to send: the capabilities merged with an API's `claims`.
    ///
    /// Without capabilities, `claims` is passed on unchanged. [`TokenRequest`] has validated that
    /// `claims` is a JSON object.
    ///
    /// [`TokenRequest`]: crate::TokenRequest
    pub(crate) fn with<'a>(&'a self, claims: Option<&'a str>) -> Option<Cow<'a, str>> {
        match (&self.claims, claims) {
            (None, claims) => claims.map(Cow::Borrowed),
            (Some((_, text)), None) => Some(Cow::Borrowed(text)),
            (Some((declared, _)), Some(claims)) => {
                let mut merged = declared.clone();
                merge(
                    &mut merged,
                    serde_json::from_str(claims).unwrap_or_default(),
                );
                Some(Cow::Owned(merged.to_string()))
            }
        }
    }
}

/// Merges JSON as MSAL does.
///
/// Objects are merged and arrays are joined. Any other value is replaced, unless the new value is
/// null.
fn merge(into: &mut Value, new: Value) {
    match (into, new) {
        (Value::Object(into), Value::Object(new)) => merge_members(into, new),
        (Value::Array(into), Value::Array(new)) => into.extend(new),
        (_, Value::Null) => {}
        (into, new) => *into = new,
    }
}

fn merge_members(into: &mut Map<String, Value>, new: Map<String, Value>) {
    for (name, value) in new {
        match into.get_mut(&name) {
            Some(existing) => merge(existing, value),
            None => drop(into.insert(name, value)),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn capabilities_and_a_challenge_are_merged_as_msal_merges_them() {
        let none = Capabilities::default();
        let cp1 = Capabilities::new(&["cp1".to_owned(), "cp2".to_owned()]);
        let declared = r#"{"access_token":{"xms_cc":{"values":["cp1","cp2"]}}}"#;
        for (name, capabilities, claims, expected) in [
            ("neither", &none, None, None),
            (
                "claims unchanged",
                &none,
                Some(r#"{ "a" : 1 }"#),
                Some(r#"{ "a" : 1 }"#),
            ),
            ("capabilities alone", &cp1, None, Some(declared)),
            ("an empty object", &cp1, Some("{}"), Some(declared)),
            (
                "distinct members are kept",
                &cp1,
                Some(
                    r#"{"id_token":{"a":null},"access_token":{"nbf":{"essential":true,"value":"1"}}}"#,
                ),
                Some(
                    r#"{"access_token":{"nbf":{"essential":true,"value":"1"},"xms_cc":{"values":["cp1","cp2"]}},"id_token":{"a":null}}"#,
                ),
            ),
            (
                "arrays are joined",
                &cp1,
                Some(r#"{"access_token":{"xms_cc":{"values":["cp3"]}}}"#),
                Some(r#"{"access_token":{"xms_cc":{"values":["cp1","cp2","cp3"]}}}"#),
            ),
            (
                "null changes nothing",
                &cp1,
                Some(r#"{"access_token":{"xms_cc":null}}"#),
                Some(declared),
            ),
            (
                "the new value wins",
                &cp1,
                Some(r#"{"access_token":7}"#),
                Some(r#"{"access_token":7}"#),
            ),
        ] {
            assert_eq!(capabilities.with(claims).as_deref(), expected, "{name}");
        }
    }
}
