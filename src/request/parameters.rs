use std::fmt;
use std::sync::Arc;

use url::Url;

use crate::error::{Error, Escaped};

/// The parts of a token request that the caller adds to the cache key: extra parameters, claims of
/// the client assertion, and a partition. Empty for nearly all requests.
#[derive(Clone, Default, PartialEq, Eq, Hash)]
pub(crate) struct Parameters(Option<Arc<Vec<Parameter>>>);

#[derive(Clone, PartialEq, Eq, Hash)]
struct Parameter {
    location: ParameterLocation,
    name: String,
    value: String,
}

/// The location of an extra parameter.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(crate) enum ParameterLocation {
    Form,
    Query,
    /// A claim of the client assertion. The value is JSON.
    AssertionClaim,
    /// The partition of the cache, which is never sent. The parameter has no name.
    Partition,
}

impl ParameterLocation {
    /// Returns whether the parameter is sent as a parameter of the token request.
    fn is_sent(self) -> bool {
        matches!(self, Self::Form | Self::Query)
    }
}

impl Parameters {
    #[inline]
    pub(crate) fn is_empty(&self) -> bool {
        self.0.is_none()
    }

    /// Adds a parameter, sorted by name. Values of one name keep their order.
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

    /// Replaces all parameters at `location`.
    pub(crate) fn set(
        &mut self,
        location: ParameterLocation,
        pairs: impl IntoIterator<Item = (String, String)>,
    ) {
        if let Some(parameters) = &mut self.0 {
            Arc::make_mut(parameters).retain(|parameter| parameter.location != location);
        }
        for (name, value) in pairs {
            self.add(location, name, value);
        }
        if self
            .0
            .as_ref()
            .is_some_and(|parameters| parameters.is_empty())
        {
            self.0 = None;
        }
    }

    /// Returns whether a parameter is sent in the form or in the query.
    pub(crate) fn are_sent(&self) -> bool {
        self.iter().any(|parameter| parameter.location.is_sent())
    }

    /// Returns whether the client assertion has extra claims.
    pub(crate) fn has_assertion_claims(&self) -> bool {
        self.of(ParameterLocation::AssertionClaim).next().is_some()
    }

    /// Returns the partition of the cache.
    pub(crate) fn partition(&self) -> Option<&str> {
        let mut partition = self.of(ParameterLocation::Partition);
        partition.next().map(|(_, partition)| partition)
    }

    /// Returns the names and values at `location`.
    pub(crate) fn of(&self, location: ParameterLocation) -> impl Iterator<Item = (&str, &str)> {
        self.iter()
            .filter(move |parameter| parameter.location == location)
            .map(|parameter| (&*parameter.name, &*parameter.value))
    }

    /// Returns the names and values of the parameters that name an API: `audience`, and `resource`
    /// ([RFC 8707 section 2]).
    ///
    /// [RFC 8707 section 2]: https://www.rfc-editor.org/rfc/rfc8707#section-2
    pub(crate) fn resource_indicators(&self) -> impl Iterator<Item = (&str, &str)> {
        self.of(ParameterLocation::Form)
            .filter(|(name, _)| is_named(name, AUDIENCE) || is_named(name, RESOURCE))
    }

    /// Returns the path of a federated identity, which Microsoft Entra ID alone has.
    pub(crate) fn fmi_path(&self) -> Option<&str> {
        let mut sent = self.iter().filter(|parameter| parameter.location.is_sent());
        let path = sent.find(|parameter| is_named(&parameter.name, FMI_PATH))?;
        Some(&path.value)
    }

    /// Removes the form parameters of a name.
    pub(super) fn remove(&mut self, removed: &str) {
        let Some(parameters) = &mut self.0 else {
            return;
        };
        let parameters = Arc::make_mut(parameters);
        parameters.retain(|parameter| {
            parameter.location != ParameterLocation::Form || !is_named(&parameter.name, removed)
        });
        if parameters.is_empty() {
            self.0 = None;
        }
    }

    /// Validates that every parameter has a name, and not a name that the client sends itself.
    pub(crate) fn check(&self) -> Result<(), Error> {
        let sent = self.iter().filter(|parameter| parameter.location.is_sent());
        for Parameter { name, .. } in sent {
            if name.is_empty() {
                return Err(Error::config(
                    "an extra parameter has no name; give the parameter a name",
                ));
            }
            if RESERVED.iter().any(|reserved| is_named(name, reserved)) {
                return Err(Error::config(format!(
                    "the parameter '{name}' is reserved, because the client sends the parameter itself; remove it, and use the methods of the builder or of the request"
                )));
            }
        }
        let paths = self.of(ParameterLocation::Form);
        if paths.filter(|(name, _)| is_named(name, FMI_PATH)).count() > 1 {
            return Err(Error::config(
                "the request has two values of the parameter 'fmi_path', and a token has one path; call fmi_path(..) once",
            ));
        }
        Ok(())
    }

    fn iter(&self) -> impl Iterator<Item = &Parameter> {
        self.0.iter().flat_map(|parameters| parameters.iter())
    }
}

/// Shows the names alone, because a value may be a secret.
impl fmt::Debug for Parameters {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_list()
            .entries(self.iter().map(|parameter| match parameter.location {
                ParameterLocation::Partition => "(partition)",
                _ => &parameter.name,
            }))
            .finish()
    }
}

/// Returns whether `name` is a known name. Microsoft's providers ignore the case of names.
fn is_named(name: &str, known: &str) -> bool {
    name.eq_ignore_ascii_case(known)
}

/// Checks the value of a parameter whose method has a check, however the caller adds the parameter.
pub(super) fn check_value(name: &str, value: &str) -> Result<(), Error> {
    match name {
        _ if is_named(name, AUDIENCE) => check_audience(value),
        _ if is_named(name, RESOURCE) => check_resource(value),
        _ if is_named(name, FMI_PATH) => check_fmi_path(value),
        _ => Ok(()),
    }
}

/// Checks the name of an API.
fn check_audience(audience: &str) -> Result<(), Error> {
    match audience.is_empty() || audience.trim() != audience {
        true => Err(Error::config(format!(
            "the audience {audience:?} is empty or surrounded by white space; pass the API's identifier at the identity provider"
        ))),
        false => Ok(()),
    }
}

/// Checks the path of a federated identity.
fn check_fmi_path(path: &str) -> Result<(), Error> {
    match Escaped(path).is_visible_word() {
        false => Err(Error::config(format!(
            "the fmi_path {path:?} is empty or contains white space or an invisible character; pass the path of a federated identity, such as the client id of an agent identity"
        ))),
        true => Ok(()),
    }
}

/// Checks that a resource indicator is an absolute URI without a fragment ([RFC 8707 section 2]).
///
/// [RFC 8707 section 2]: https://www.rfc-editor.org/rfc/rfc8707#section-2
fn check_resource(uri: &str) -> Result<(), Error> {
    let invalid = |why: &str| {
        Err(Error::config(format!(
            "the resource {uri:?} cannot be used: {why} (RFC 8707 section 2)"
        )))
    };
    match Url::parse(uri) {
        Err(_) => invalid(
            "a resource is an absolute URI, such as 'https://orders.example.org'; pass the API's URI, or its name to audience(..)",
        ),
        Ok(_) if uri.contains(|c: char| c.is_whitespace() || c.is_control()) => {
            invalid("a URI contains no white space; trim the value")
        }
        Ok(url) if url.fragment().is_some() => {
            invalid("a resource has no fragment; remove '#' and the text after it")
        }
        Ok(_) => Ok(()),
    }
}

/// The parameter with the name of an API, as of Auth0 and of [RFC 8693 section 2.1].
///
/// [RFC 8693 section 2.1]: https://www.rfc-editor.org/rfc/rfc8693#section-2.1
pub(super) const AUDIENCE: &str = "audience";
/// Entra's parameter with the path of a federated identity.
pub(super) const FMI_PATH: &str = "fmi_path";
/// The parameter with the URI of an API ([RFC 8707 section 2]).
///
/// [RFC 8707 section 2]: https://www.rfc-editor.org/rfc/rfc8707#section-2
pub(super) const RESOURCE: &str = "resource";

/// The parameters that the client sends itself, in any grant.
const RESERVED: [&str; 32] = [
    "actor_token",
    "actor_token_type",
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
    "dpop_jkt",
    "grant_type",
    "max_age",
    "nonce",
    "password",
    "redirect_uri",
    "refresh_token",
    "request_uri",
    "requested_token_use",
    "response_mode",
    "response_type",
    "scope",
    "state",
    "subject_token",
    "subject_token_type",
    "token_type",
    "user_federated_identity_credential",
    "user_id",
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
    fn parameters_are_equal_in_any_order_of_names() {
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
    fn a_resource_is_an_absolute_uri_without_a_fragment() {
        for (uri, expected) in [
            ("https://orders.example.org", Ok(())),
            ("https://orders.example.org/v1?tenant=a", Ok(())),
            ("api://orders", Ok(())),
            ("urn:example:orders", Ok(())),
            ("orders", Err("absolute URI")),
            ("/orders", Err("absolute URI")),
            ("//orders.example.org", Err("absolute URI")),
            ("", Err("absolute URI")),
            ("https://orders.example.org#v1", Err("no fragment")),
            ("https://orders.example.org#", Err("no fragment")),
            (" https://orders.example.org", Err("no white space")),
            ("https://orders.example.org/a\nb", Err("no white space")),
        ] {
            match (check_resource(uri), expected) {
                (Ok(()), Ok(())) => {}
                (Err(error), Err(text)) => {
                    let error = error.to_string();
                    assert!(
                        error.contains(text) && error.contains(&format!("{uri:?}")),
                        "{error}"
                    );
                }
                (result, _) => panic!("{uri}: {result:?}"),
            }
        }
    }

    #[test]
    fn a_request_has_one_fmi_path_without_white_space() {
        use ParameterLocation::{Form, Query};
        for (path, is_accepted) in [
            ("f47ac10b-58cc-4372-a567-0e02b2c3d479", true),
            ("eid1/c/pub/t/7/a/9", true),
            ("", false),
            (" a", false),
            ("a\nb", false),
            ("a\u{7}b", false),
            ("a\u{200b}b", false),
            ("a\u{202e}b", false),
        ] {
            assert_eq!(check_fmi_path(path).is_ok(), is_accepted, "{path:?}");
        }
        let mut two = parameters(&[(Form, FMI_PATH, "a"), (Form, FMI_PATH, "b")]);
        let error = two.check().unwrap_err();
        assert!(error.to_string().contains("call fmi_path(..) once"));
        two.remove(FMI_PATH);
        assert!(two.is_empty() && two == Parameters::default());
        let mut mixed = parameters(&[(Form, FMI_PATH, "a"), (Query, FMI_PATH, "b")]);
        assert_eq!((mixed.check().is_ok(), mixed.fmi_path()), (true, Some("a")));
        mixed.remove(FMI_PATH);
        assert!(mixed == parameters(&[(Query, FMI_PATH, "b")]));
    }

    #[test]
    fn reserved_parameters_are_rejected() {
        parameters(&[(ParameterLocation::Form, "audience", "x")])
            .check()
            .unwrap();
        for (name, text) in [
            ("", "no name"),
            ("scope", "is reserved"),
            ("Grant_Type", "is reserved"),
            ("token_type", "is reserved"),
        ] {
            let error = parameters(&[(ParameterLocation::Query, name, "x")])
                .check()
                .unwrap_err();
            assert!(error.to_string().contains(text), "{error}");
        }
    }
}
