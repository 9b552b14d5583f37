use std::sync::{Arc, OnceLock};

use crate::error::Error;

/// The scopes of a request: as the caller wrote them, and as a set that equals every other
/// spelling of itself.
///
/// Case is kept (scopes are case-sensitive, [RFC 6749 section 3.3]), and so is a double slash in
/// `//.default`, which some resources need.
///
/// [RFC 6749 section 3.3]: https://www.rfc-editor.org/rfc/rfc6749#section-3.3
#[derive(Clone, Debug, Default)]
pub(crate) struct Scopes {
    as_requested: Arc<str>,
    set: ScopeSet,
    /// Whether an application may ask for them: looked at once, and asked at every call.
    for_application: OnceLock<Result<(), Error>>,
    /// The same for a user.
    for_user: OnceLock<Result<UserScopes, Error>>,
}

/// The scopes of a user's token. Those of OpenID Connect are always asked for, since they bring the
/// refresh token and tell who the user is, and no token is told from another by them.
#[derive(Clone, Debug)]
pub(crate) struct UserScopes {
    pub(crate) to_send: Arc<str>,
    pub(crate) set: ScopeSet,
}

/// Scopes sorted and without duplicates, separated by single spaces. A scope holds no space, so
/// two sets are equal exactly if their texts are.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
pub(crate) struct ScopeSet(Arc<str>);

impl ScopeSet {
    pub(crate) fn as_str(&self) -> &str {
        &self.0
    }
}

impl Scopes {
    /// Adds a scope, or several with spaces between them; one that is there already stays once.
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
        // One text for both, as there mostly is one scope.
        self.set = ScopeSet(if *sorted == *as_requested {
            Arc::clone(&as_requested)
        } else {
            sorted.into()
        });
        self.as_requested = as_requested;
        self.for_application = OnceLock::new();
        self.for_user = OnceLock::new();
    }

    /// What goes over the wire: the caller's order.
    pub(crate) fn as_requested(&self) -> &Arc<str> {
        &self.as_requested
    }

    pub(crate) fn set(&self) -> &ScopeSet {
        &self.set
    }

    fn iter(&self) -> impl Iterator<Item = &str> {
        self.as_requested.split_ascii_whitespace()
    }

    /// Checks what every provider asks of a scope.
    pub(crate) fn check_characters(&self) -> Result<(), Error> {
        match self.iter().find(|scope| !scope.bytes().all(is_scope_char)) {
            Some(scope) => Err(Error::config(format!(
                "the scope {scope:?} holds a character that no scope may hold (RFC 6749 section 3.3)"
            ))),
            None => Ok(()),
        }
    }

    /// Checks Entra's rule for application access: permissions are declared at registration, so
    /// the one thing to ask for is a resource's `/.default`.
    pub(crate) fn check_for_application(&self) -> Result<(), Error> {
        let checked = self
            .for_application
            .get_or_init(|| self.look_for_application());
        checked.clone()
    }

    /// What to ask for on behalf of a user.
    pub(crate) fn for_user(&self) -> Result<&UserScopes, Error> {
        let checked = self.for_user.get_or_init(|| self.look_for_user());
        checked.as_ref().map_err(Error::clone)
    }

    fn look_for_user(&self) -> Result<UserScopes, Error> {
        if self.as_requested.is_empty() {
            return Err(Error::config(
                "no scope; ask for what the API publishes, for Microsoft Graph such as 'https://graph.microsoft.com/User.Read'",
            ));
        }
        self.check_characters()?;
        let mut own: Vec<&str> = self.iter().filter(|scope| !is_reserved(scope)).collect();
        if own.is_empty() {
            own = self.iter().collect();
        }
        own.sort_unstable();
        let asked = |reserved: &&str| {
            !self
                .iter()
                .any(|scope| scope.eq_ignore_ascii_case(reserved))
        };
        let missing = RESERVED.into_iter().filter(asked);
        let to_send: Vec<&str> = self.iter().chain(missing).collect();
        Ok(UserScopes {
            to_send: to_send.join(" ").into(),
            set: ScopeSet(own.join(" ").into()),
        })
    }

    fn look_for_application(&self) -> Result<(), Error> {
        if self.as_requested.is_empty() {
            return Err(Error::config(
                "no scope; ask for '{application ID URI}/.default', for Microsoft Graph 'https://graph.microsoft.com/.default'",
            ));
        }
        self.check_characters()?;
        let mut first = None;
        for scope in self.iter() {
            if scope == "/.default" {
                return Err(Error::config(
                    "the scope '/.default' names no resource; put an application ID URI before it, as in 'https://graph.microsoft.com/.default'",
                ));
            }
            let Some(resource) = scope.strip_suffix("/.default") else {
                return Err(Error::config(format!(
                    "the scope '{scope}' does not end in '/.default' (in lower case); an application gets the permissions declared in its registration, all at once, so ask for '{{application ID URI}}/.default'"
                )));
            };
            match first {
                None => first = Some(resource),
                Some(first) if first != resource => {
                    return Err(Error::config(format!(
                        "the scopes are of two resources, '{first}' and '{resource}'; a token is for one, so make a request for each"
                    )));
                }
                Some(_) => {}
            }
        }
        Ok(())
    }
}

fn is_reserved(scope: &str) -> bool {
    RESERVED
        .iter()
        .any(|reserved| reserved.eq_ignore_ascii_case(scope))
}

/// Whether `granted`, as a provider writes scopes, has `scope`: each may have its resource before it
/// or leave it out, and Entra's case is its own. A resource's `/.default` and the scopes of OpenID
/// Connect are never missing.
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

/// What MSAL asks for with every scope of a user.
const RESERVED: [&str; 3] = ["openid", "profile", "offline_access"];

/// `scope-token` of [RFC 6749 section 3.3](https://www.rfc-editor.org/rfc/rfc6749#section-3.3).
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
    fn the_wire_keeps_the_callers_order() {
        assert_eq!(&**scopes(&["b", "a", "b c"]).as_requested(), "b a c");
    }

    #[test]
    fn an_application_asks_for_one_resources_default() {
        for (parts, expected) in [
            (&["https://graph.microsoft.com/.default"][..], Ok(())),
            (&["https://vault.azure.net//.default"], Ok(())),
            (&["11111111-2222-3333-4444-555555555555/.default"], Ok(())),
            (&["api://a/.default api://a/.default"], Ok(())),
            (&[], Err("no scope")),
            (&[""], Err("no scope")),
            (&["  "], Err("no scope")),
            (&["/.default"], Err("names no resource")),
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
