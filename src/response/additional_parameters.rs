use std::borrow::Cow;

/// The members of a token response that the client does not know, as their JSON text.
///
/// A member that is `null` is absent, and of two members with one name the last counts. Members
/// beyond the limits are left out.
#[derive(Default)]
pub(super) struct AdditionalParameters<'a> {
    members: Vec<(Cow<'a, str>, &'a str)>,
    /// The octets of all names and values.
    size: usize,
    is_cut: bool,
}

impl<'a> AdditionalParameters<'a> {
    /// Sets a member to a JSON text.
    pub(super) fn set(&mut self, name: Cow<'a, str>, json: &'a str) {
        if let Some(known) = self.members.iter().position(|(known, _)| *known == name) {
            let (name, json) = self.members.swap_remove(known);
            self.size = self.size.saturating_sub(size(&name, json));
        }
        if json == "null" {
            return;
        }
        let total = self.size.saturating_add(size(&name, json));
        if total > LARGEST_TEXT || self.members.len() >= MOST_MEMBERS {
            self.is_cut = true;
            return;
        }
        self.size = total;
        self.members.push((name, json));
    }

    /// Returns whether a member was left out.
    pub(super) fn is_cut(&self) -> bool {
        self.is_cut
    }

    /// Returns the members as a JSON object, sorted by name, or `None` without members.
    pub(super) fn into_json(mut self) -> Option<String> {
        if self.members.is_empty() {
            return None;
        }
        self.members.sort_unstable();
        let mut json = String::with_capacity(self.size);
        for (name, value) in &self.members {
            json.push(if json.is_empty() { '{' } else { ',' });
            // A text always serializes.
            json.push_str(&serde_json::to_string(name).unwrap_or_default());
            json.push(':');
            json.push_str(value);
        }
        json.push('}');
        Some(json)
    }
}

fn size(name: &str, json: &str) -> usize {
    name.len().saturating_add(json.len())
}

/// The octets of the names and the values that a token keeps.
const LARGEST_TEXT: usize = 4 * 1024;
/// The members that a token keeps. Bounds the search for a member of the same name.
const MOST_MEMBERS: usize = 64;

#[cfg(test)]
mod tests {
    use super::*;
    use crate::response::members::Members;

    fn kept(body: &str) -> (Option<String>, bool) {
        let additional = Members::parse(body.as_bytes()).unwrap().additional;
        let is_cut = additional.is_cut();
        (additional.into_json(), is_cut)
    }

    #[test]
    fn unknown_members_are_kept_as_they_are() {
        let nested = format!("{}{}", "[".repeat(500), "]".repeat(500));
        let nested_body = format!(r#"{{"deep":{nested}}}"#);
        for (body, expected) in [
            ("{}", None),
            (
                r#"{"access_token":"a","token_type":"b","expires_in":1,"ext_expires_in":2,
                    "refresh_in":3,"scope":"c","refresh_token":"d","id_token":"e",
                    "client_info":"f","issued_token_type":"g"}"#,
                None,
            ),
            (
                r#"{"b":"x\u0061","a":[1, {"c":null}]}"#,
                Some(r#"{"a":[1, {"c":null}],"b":"x\u0061"}"#),
            ),
            (r#"{"a":1,"b":2,"a":"3"}"#, Some(r#"{"a":"3","b":2}"#)),
            (r#"{"a":1,"a":null}"#, None),
            (r#"{"a\"b":true}"#, Some(r#"{"a\"b":true}"#)),
            (&nested_body, Some(&*nested_body)),
        ] {
            assert_eq!(kept(body), (expected.map(str::to_owned), false), "{body}");
        }
    }

    #[test]
    fn what_is_too_large_is_left_out() {
        let long = "x".repeat(LARGEST_TEXT - 3);
        let (json, is_cut) = kept(&format!(r#"{{"c":"{long}x","b":1}}"#));
        assert_eq!((json.as_deref(), is_cut), (Some(r#"{"b":1}"#), true));
        let (json, is_cut) = kept(&format!(r#"{{"a":"{}"}}"#, long));
        assert_eq!(
            (json.map(|json| json.len()), is_cut),
            (Some(LARGEST_TEXT + 5), false)
        );
        let many: Vec<_> = (0..100).map(|number| format!(r#""{number}":1"#)).collect();
        let (json, is_cut) = kept(&format!("{{{}}}", many.join(",")));
        assert_eq!(json.unwrap().matches(':').count(), MOST_MEMBERS);
        assert!(is_cut);
        // The later of two values counts, even if it is shorter.
        let (json, _) = kept(&format!(
            r#"{{"a":"{}","a":1,"b":"{}"}}"#,
            "x".repeat(4000),
            "y".repeat(4000)
        ));
        assert!(json.unwrap().starts_with(r#"{"a":1,"b":"yy"#));
    }
}
