use std::sync::{Arc, OnceLock};

use crate::error::Error;

mod spelling;

use spelling::Misspelled;

/// The scopes of a token request, in the caller's order and as a normalized set.
///
/// Scopes are case-sensitive ([RFC 6749 section 3.3]), so the case is kept. The double slash in
/// `//.default` is kept, too, because some resources need two slashes.
///
/// [RFC 6749 section 3.3]: https://www.rfc-editor.org/rfc/rfc6749#section-3.3
#[derive(Clone, Debug, Default)]
pub(crate) struct Scopes {
    as_requested: Arc<str>,
    set: ScopeSet,
    /// Result of the check for an application. Cached, because every call needs the result.
    for_application: OnceLock<Result<(), Error>>,
    /// Result of the check of the characters. Cached, because every call needs the result.
    characters: OnceLock<Result<(), Error>>,
    /// Result of the check of Entra's form. Cached, because every call needs the result.
    form: OnceLock<Result<(), Error>>,
    /// Scopes of a user's token. Cached, because every call needs the scopes.
    for_user: OnceLock<Result<UserScopes, Error>>,
}

/// The scopes of a user's token.
///
/// Each token request adds the OpenID Connect scopes, because the refresh token and the ID token
/// need these scopes. The cache key leaves the OpenID Connect scopes out, unless the caller
/// requested no other scope.
#[derive(Clone, Debug)]
pub(crate) struct UserScopes {
    /// Scopes for the token request, with the OpenID Connect scopes.
    pub(crate) to_send: Arc<str>,
    /// Scopes for the cache key.
    pub(crate) set: ScopeSet,
}

/// A sorted, space-separated list of scopes without duplicates.
///
/// A scope contains no space, so two sets are equal exactly if the two texts are equal.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
pub(crate) struct ScopeSet(Arc<str>);

impl ScopeSet {
    pub(crate) fn as_str(&self) -> &str {
        &self.0
    }

    /// Returns the resource of the first scope, which is the scope without its last segment.
    ///
    /// A scope without a resource, such as `files:read`, is returned whole.
    pub(crate) fn resource(&self) -> &str {
        let first = self.0.split(' ').next().unwrap_or_default();
        match first.rsplit_once('/') {
            // `api://orders` and `https://orders.example` have slashes before the resource's name.
            Some((resource, _)) if !resource.is_empty() && !resource.ends_with(":/") => resource,
            _ => first,
        }
    }
}

impl Scopes {
    /// Adds one or more scopes, separated by spaces. Duplicates are ignored.
    pub(crate) fn add(&mut self, scopes: &str) {
        let mut all: Vec<&str> = self.iter().collect();
        for scope in scopes.split_ascii_whitespace() {
            if !all.contains(&scope) {
                all.push(scope);
            }
        }
        let as_requested = Arc::<str>::from(all.join(" "));
        all.sort_unstable();
        let sorted = all.join(" ");
        // Most requests have one scope, so the order and the set can share one allocation.
        self.set = ScopeSet(if *sorted == *as_requested {
            Arc::clone(&as_requested)
        } else {
            sorted.into()
        });
        self.as_requested = as_requested;
        self.for_application = OnceLock::new();
        self.characters = OnceLock::new();
        self.form = OnceLock::new();
        self.for_user = OnceLock::new();
    }

    /// Returns the scopes in the caller's order.
    pub(crate) fn as_requested(&self) -> &Arc<str> {
        &self.as_requested
    }

    /// Returns the normalized set of scopes.
    pub(crate) fn set(&self) -> &ScopeSet {
        &self.set
    }

    /// Returns the set of a resource's `/.default` scope alone.
    pub(crate) fn of_resource(&self, resource: &str) -> ScopeSet {
        match self.set.as_str().strip_suffix(DEFAULT) == Some(resource) {
            true => self.set.clone(),
            false => ScopeSet([resource, DEFAULT].concat().into()),
        }
    }

    fn iter(&self) -> impl Iterator<Item = &str> {
        self.as_requested.split_ascii_whitespace()
    }

    /// Checks that the scopes have only characters of [RFC 6749 section 3.3], and that none is
    /// encoded, quoted or preceded by the name of its parameter.
    ///
    /// [RFC 6749 section 3.3]: https://www.rfc-editor.org/rfc/rfc6749#section-3.3
    pub(crate) fn check_characters(&self) -> Result<(), Error> {
        let checked = self.characters.get_or_init(|| self.validate_characters());
        checked.clone()
    }

    fn validate_characters(&self) -> Result<(), Error> {
        for scope in self.iter() {
            if let Some(misspelled) = Misspelled::find(scope) {
                return Err(Error::config(misspelled.to_string()));
            }
            if !scope.bytes().all(is_scope_char) {
                return Err(Error::config(format!(
                    "the scope {scope:?} contains a character that no scope may contain (RFC 6749 section 3.3); remove the character"
                )));
            }
        }
        Ok(())
    }

    /// Checks that spaces separate the scopes, and that each scope names a permission.
    ///
    /// Microsoft's scopes contain no comma and no semicolon, unlike the scopes of some other
    /// providers.
    pub(crate) fn check_form(&self) -> Result<(), Error> {
        let checked = self.form.get_or_init(|| {
            let mut misspelled = self.iter().filter_map(Misspelled::find_for_entra);
            match misspelled.next() {
                Some(misspelled) => Err(Error::config(misspelled.to_string())),
                None => Ok(()),
            }
        });
        checked.clone()
    }

    /// Checks Entra's rule for application tokens.
    ///
    /// The application's registration declares the permissions, so the only valid scope is a
    /// resource's `/.default`.
    pub(crate) fn check_for_application(&self) -> Result<(), Error> {
        let checked = self
            .for_application
            .get_or_init(|| self.validate_for_application());
        checked.clone()
    }

    /// Returns the scopes for a user's token.
    pub(crate) fn for_user(&self) -> Result<&UserScopes, Error> {
        let checked = self.for_user.get_or_init(|| self.validate_for_user());
        checked.as_ref().map_err(Error::clone)
    }

    /// Returns the scopes of a user's token request without the OpenID Connect scopes in
    /// `left_out`, unless the caller requested them.
    pub(crate) fn for_user_without(&self, left_out: &[String]) -> Result<Arc<str>, Error> {
        let to_send = &self.for_user()?.to_send;
        if left_out.is_empty() {
            return Ok(Arc::clone(to_send));
        }
        let is_kept = |scope: &&str| {
            !left_out.iter().any(|left_out| left_out == scope)
                || self.iter().any(|requested| requested == *scope)
        };
        let kept: Vec<&str> = to_send.split(' ').filter(is_kept).collect();
        Ok(kept.join(" ").into())
    }

    /// Returns the scopes of a request without an ID token, in the caller's order.
    pub(crate) fn without_openid(&self) -> Result<&Arc<str>, Error> {
        self.check_characters()?;
        match self
            .iter()
            .find(|scope| scope.eq_ignore_ascii_case("openid"))
        {
            Some(scope) => Err(Error::config(format!(
                "the scope '{scope}' requests an ID token, and without_id_token() requests none; leave one of the two out"
            ))),
            None => Ok(&self.as_requested),
        }
    }

    fn validate_for_user(&self) -> Result<UserScopes, Error> {
        if self.as_requested.is_empty() {
            return Err(Error::config(
                "the request has no scope; add a scope that the API publishes, such as 'https://graph.microsoft.com/User.Read' for Microsoft Graph",
            ));
        }
        self.check_characters()?;
        let mut without_reserved: Vec<&str> =
            self.iter().filter(|scope| !is_reserved(scope)).collect();
        if without_reserved.is_empty() {
            without_reserved = self.iter().collect();
        }
        without_reserved.sort_unstable();
        let is_missing = |reserved: &&str| {
            !self
                .iter()
                .any(|scope| scope.eq_ignore_ascii_case(reserved))
        };
        let missing = RESERVED.into_iter().filter(is_missing);
        let to_send: Vec<&str> = self.iter().chain(missing).collect();
        Ok(UserScopes {
            to_send: to_send.join(" ").into(),
            set: ScopeSet(without_reserved.join(" ").into()),
        })
    }

    fn validate_for_application(&self) -> Result<(), Error> {
        if self.as_requested.is_empty() {
            return Err(Error::config(
                "the request has no scope; add '{application ID URI}/.default', such as 'https://graph.microsoft.com/.default' for Microsoft Graph",
            ));
        }
        self.check_characters()?;
        let mut first_resource = None;
        for scope in self.iter() {
            let is_bare = |resource: &str| resource.trim_end_matches('/').ends_with(':');
            if scope
                .strip_suffix("/.default")
                .is_some_and(|resource| resource.is_empty() || is_bare(resource))
            {
                return Err(Error::config(format!(
                    "the scope '{scope}' names no resource; add an application ID URI in front, as in 'https://graph.microsoft.com/.default'"
                )));
            }
            if let Some(misspelled) =
                Misspelled::separators(scope).or_else(|| Misspelled::url(scope))
            {
                return Err(Error::config(misspelled.to_string()));
            }
            if scope.contains(['{', '}', '<', '>']) {
                return Err(Error::config(format!(
                    "the scope '{scope}' contains a placeholder; replace the placeholder, as in 'https://graph.microsoft.com/.default'"
                )));
            }
            let Some(resource) = scope.strip_suffix("/.default") else {
                let meant = spelling::default_scope(scope);
                let meant = meant.as_deref().unwrap_or("{application ID URI}/.default");
                return Err(Error::config(format!(
                    "the scope '{scope}' does not end in '/.default' (in lower case); an application gets all permissions of its registration at once, so use '{meant}'"
                )));
            };
            match first_resource {
                None => first_resource = Some(resource),
                Some(first) if first != resource => {
                    return Err(Error::config(format!(
                        "the scopes belong to two resources, '{first}' and '{resource}'; a token is valid for one resource, so make one request per resource"
                    )));
                }
                Some(_) => {}
            }
        }
        Ok(())
    }
}

/// Returns `true` for a scope of OpenID Connect.
fn is_reserved(scope: &str) -> bool {
    RESERVED
        .iter()
        .any(|reserved| reserved.eq_ignore_ascii_case(scope))
}

/// Returns `true` if the provider's list `granted` contains `scope`.
///
/// A scope can include the resource or omit the resource. The comparison ignores case, because
/// Entra changes the case of scopes. A resource's `/.default` and the OpenID Connect scopes always
/// count as granted.
pub(crate) fn is_granted(scope: &str, granted: &str) -> bool {
    if is_reserved(scope) || scope.ends_with("/.default") {
        return true;
    }
    let name = |scope: &str| scope.rsplit('/').next().map(str::to_ascii_lowercase);
    granted.split_ascii_whitespace().any(|granted| {
        let both_whole = granted.contains('/') && scope.contains('/');
        match both_whole {
            true => granted.eq_ignore_ascii_case(scope),
            false => name(granted) == name(scope),
        }
    })
}

/// The end of a scope that stands for all permissions of a resource.
pub(crate) const DEFAULT: &str = "/.default";
/// The scopes that the client adds to a sign-in and that a provider may not have.
pub(crate) const OPTIONAL: [&str; 2] = ["profile", "offline_access"];
/// The OpenID Connect scopes that MSAL adds to every request for a user's token.
const RESERVED: [&str; 3] = ["openid", "profile", "offline_access"];

/// Returns `true` for a character of `scope-token` in [RFC 6749 section 3.3](https://www.rfc-editor.org/rfc/rfc6749#section-3.3).
fn is_scope_char(byte: u8) -> bool {
    matches!(byte, 0x21 | 0x23..=0x5b | 0x5d..=0x7e)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn scopes(parts: &[&str]) -> Scopes {
        let mut scopes = Scopes::default();
        for part in parts {
            scopes.add(part);
        }
        scopes
    }

    #[test]
    fn the_set_ignores_order_and_repetition_and_nothing_else() {
        let set = |parts: &[&str]| scopes(parts).set;
        assert_eq!(set(&["a b"]), set(&["b", "a", "b"]));
        assert_eq!(set(&[" a  b "]), set(&["a b"]));
        assert_ne!(set(&["a"]), set(&["A"]), "scopes are case-sensitive");
        assert_ne!(set(&["ab"]), set(&["a b"]));
        assert_ne!(
            set(&["https://vault.azure.net//.default"]),
            set(&["https://vault.azure.net/.default"]),
        );
    }

    #[test]
    fn the_log_names_the_resource_of_the_first_scope() {
        for (requested, resource) in [
            (
                "https://graph.microsoft.com/.default",
                "https://graph.microsoft.com",
            ),
            (
                "https://vault.azure.net//.default",
                "https://vault.azure.net/",
            ),
            (
                "api://drive/Files.Read api://drive/Files.Write",
                "api://drive",
            ),
            ("api://contoso/drive/Files.Read", "api://contoso/drive"),
            (
                "0a1b2c3d-0000-4000-8000-000000000001/.default",
                "0a1b2c3d-0000-4000-8000-000000000001",
            ),
            ("https://orders.example", "https://orders.example"),
            ("orders.read", "orders.read"),
            ("/.default", "/.default"),
            ("", ""),
        ] {
            assert_eq!(
                scopes(&[requested]).set.resource(),
                resource,
                "{requested:?}"
            );
        }
    }

    #[test]
    fn the_callers_order_is_kept() {
        assert_eq!(&**scopes(&["b", "a", "b c"]).as_requested(), "b a c");
    }

    #[test]
    fn an_application_can_request_only_one_resources_default() {
        for (parts, expected) in [
            (&["https://graph.microsoft.com/.default"][..], Ok(())),
            (&["https://vault.azure.net//.default"], Ok(())),
            (&["11111111-2222-3333-4444-555555555555/.default"], Ok(())),
            (&["api://a/.default api://a/.default"], Ok(())),
            (&[], Err("no scope")),
            (&[""], Err("no scope")),
            (&["  "], Err("no scope")),
            (&["/.default"], Err("names no resource")),
            (&["api:///.default"], Err("names no resource")),
            (&["https:/a/.default"], Err("use 'https://a/.default'")),
            (&["User.Read"], Err("does not end in '/.default'")),
            (
                &["api://a/.default", "api://a/Files.Read"],
                Err("'api://a/Files.Read' does not end"),
            ),
            (&["api://a/.Default"], Err("does not end in '/.default'")),
            (
                &["api://a/.default", "api://b/.default"],
                Err("two resources, 'api://a' and 'api://b'"),
            ),
            (&["api://a\"/.default"], Err("character that no scope")),
            (&["api://ä/.default"], Err("character that no scope")),
            (
                &["https://database.windows.net/"],
                Err("use 'https://database.windows.net//.default'"),
            ),
            (
                &["https://graph.microsoft.com"],
                Err("use 'https://graph.microsoft.com/.default'"),
            ),
            (
                &["https://graph.microsoft.com.default"],
                Err("use 'https://graph.microsoft.com/.default'"),
            ),
            (
                &["https://graph.microsoft.com/.default/"],
                Err("use 'https://graph.microsoft.com/.default'"),
            ),
            (
                &["https://graph.microsoft.com/User.Read"],
                Err("use 'https://graph.microsoft.com/.default'"),
            ),
            (
                &["https://graph.microsoft.com/.DEFAULT"],
                Err("use 'https://graph.microsoft.com/.default'"),
            ),
            (
                &["api://a/.default,openid"],
                Err("use 'api://a/.default openid'"),
            ),
            (&["api://orders"], Err("use 'api://orders/.default'")),
            (
                &["11111111-2222-3333-4444-555555555555"],
                Err("use '11111111-2222-3333-4444-555555555555/.default'"),
            ),
            (
                &["https://contoso.com/orders"],
                Err("use '{application ID URI}/.default'"),
            ),
            (
                &["{application ID URI}/.default"],
                Err("'{application' contains a placeholder"),
            ),
            (&["api://<client-id>/.default"], Err("a placeholder")),
        ] {
            match (scopes(parts).check_for_application(), expected) {
                (Ok(()), Ok(())) => {}
                (Err(error), Err(text)) => {
                    assert!(error.to_string().contains(text), "{parts:?}: {error}");
                }
                (result, _) => panic!("{parts:?}: {result:?}"),
            }
        }
    }
}
