use std::fmt;
use std::sync::Arc;

use crate::error::Error;

/// Extra parameters of a token request: part of what the token is for. None, for nearly all.
#[derive(Clone, Default, PartialEq, Eq, Hash)]
pub(crate) struct Parameters(Option<Arc<Vec<Parameter>>>);

#[derive(Clone, PartialEq, Eq, Hash)]
struct Parameter {
    location: ParameterLocation,
    name: String,
    value: String,
}

/// Where a parameter goes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(crate) enum ParameterLocation {
    Form,
    Query,
}

impl Parameters {
    /// Adds one. Their order is that of their names, and one name's values keep theirs.
    pub(crate) fn add(&mut self, location: ParameterLocation, name: String, value: String) {
        let parameters = Arc::make_mut(self.0.get_or_insert_default());
        let parameter = Parameter {
            location,
            name,
            value,
        };
        let at = parameters.partition_point(|other| {
            (other.location, &other.name) <= (parameter.location, &parameter.name)
        });
        parameters.insert(at, parameter);
    }

    pub(crate) fn of(&self, location: ParameterLocation) -> impl Iterator<Item = (&str, &str)> {
        self.iter()
            .filter(move |parameter| parameter.location == location)
            .map(|parameter| (&*parameter.name, &*parameter.value))
    }

    /// Checks that none is another way to say what the library says.
    pub(crate) fn check(&self) -> Result<(), Error> {
        for Parameter { name, .. } in self.iter() {
            if name.is_empty() {
                return Err(Error::config("an extra parameter has no name; give it one"));
            }
            if OURS.iter().any(|ours| ours.eq_ignore_ascii_case(name)) {
                return Err(Error::config(format!(
                    "the parameter '{name}' is the library's own to send; leave it out, and say it with the builder or the request"
                )));
            }
        }
        Ok(())
    }

    fn iter(&self) -> impl Iterator<Item = &Parameter> {
        self.0.iter().flat_map(|parameters| parameters.iter())
    }
}

/// The names alone: a value may be anything.
impl fmt::Debug for Parameters {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_list()
            .entries(self.iter().map(|parameter| &parameter.name))
            .finish()
    }
}

/// What the library sends itself, in one grant or another.
const OURS: [&str; 22] = [
    "assertion",
    "claims",
    "client_assertion",
    "client_assertion_type",
    "client_id",
    "client_info",
    "client_secret",
    "code",
    "code_challenge",
    "code_challenge_method",
    "code_verifier",
    "grant_type",
    "nonce",
    "password",
    "redirect_uri",
    "refresh_token",
    "requested_token_use",
    "response_mode",
    "response_type",
    "scope",
    "state",
    "username",
];

#[cfg(test)]
mod tests {
    use super::*;

    fn parameters(all: &[(ParameterLocation, &str, &str)]) -> Parameters {
        let mut parameters = Parameters::default();
        for (location, name, value) in all {
            parameters.add(*location, (*name).to_owned(), (*value).to_owned());
        }
        parameters
    }

    #[test]
    fn they_are_the_same_in_any_order_of_their_names() {
        use ParameterLocation::{Form, Query};
        let one = parameters(&[(Form, "b", "1"), (Form, "a", "2"), (Form, "a", "1")]);
        let same = parameters(&[(Form, "a", "2"), (Form, "b", "1"), (Form, "a", "1")]);
        assert!(one == same);
        let sent: Vec<_> = one.of(Form).collect();
        assert_eq!(sent, [("a", "2"), ("a", "1"), ("b", "1")]);
        for other in [
            parameters(&[]),
            parameters(&[(Form, "b", "1"), (Form, "a", "1"), (Form, "a", "2")]),
            parameters(&[(Form, "b", "1"), (Form, "a", "2")]),
            parameters(&[(Query, "b", "1"), (Form, "a", "2"), (Form, "a", "1")]),
        ] {
            assert!(one != other, "{other:?}");
        }
        assert_eq!(format!("{one:?}"), r#"["a", "a", "b"]"#);
    }

    #[test]
    fn what_the_library_sends_cannot_be_sent_again() {
        parameters(&[(ParameterLocation::Form, "audience", "x")])
            .check()
            .unwrap();
        for (name, text) in [
            ("", "no name"),
            ("scope", "own to send"),
            ("Grant_Type", "own to send"),
        ] {
            let error = parameters(&[(ParameterLocation::Query, name, "x")])
                .check()
                .unwrap_err();
            assert!(error.to_string().contains(text), "{error}");
        }
    }
}
