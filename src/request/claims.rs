use std::borrow::Cow;

use serde_json::{Map, Value, json};

/// What the client says it can do beyond what every client can, in the claims of each of its
/// requests (`xms_cc`); nothing, unless declared.
#[derive(Clone, Debug, Default)]
pub(crate) struct Capabilities(Option<(Value, String)>);

impl Capabilities {
    pub(crate) fn new(names: &[String]) -> Self {
        Self((!names.is_empty()).then(|| {
            let declared = json!({ "access_token": { "xms_cc": { "values": names } } });
            let text = declared.to_string();
            (declared, text)
        }))
    }

    /// The claims to send: these, and those that an API asked for, which are passed on as they came
    /// where there are no capabilities. They were checked to be an object.
    pub(crate) fn with<'a>(&'a self, claims: Option<&'a str>) -> Option<Cow<'a, str>> {
        match (&self.0, claims) {
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

/// Adds what MSAL adds: objects are merged, arrays joined, and of two other values the new one
/// counts, unless it is null.
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
            Some(known) => merge(known, value),
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
                "claims as they came",
                &none,
                Some(r#"{ "a" : 1 }"#),
                Some(r#"{ "a" : 1 }"#),
            ),
            ("capabilities alone", &cp1, None, Some(declared)),
            ("an empty object", &cp1, Some("{}"), Some(declared)),
            (
                "beside each other",
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
                "null takes nothing away",
                &cp1,
                Some(r#"{"access_token":{"xms_cc":null}}"#),
                Some(declared),
            ),
            (
                "the new one counts",
                &cp1,
                Some(r#"{"access_token":7}"#),
                Some(r#"{"access_token":7}"#),
            ),
        ] {
            assert_eq!(capabilities.with(claims).as_deref(), expected, "{name}");
        }
    }
}
