//! Scopes as configuration files write them, and the scopes that are meant.

use std::fmt;

use uuid::Uuid;

/// A scope that cannot be sent as written.
pub(super) struct Misspelled<'a> {
    scope: &'a str,
    fault: &'static str,
    /// The scopes to use, separated by spaces.
    meant: String,
}

impl<'a> Misspelled<'a> {
    /// Finds a fault that no provider's scope has.
    pub(super) fn find(scope: &'a str) -> Option<Self> {
        let fault = match scope {
            _ if without_name(scope) != scope => "begins with the name of its parameter",
            _ if unquoted(scope) != scope => "is in quotes or brackets",
            _ if is_encoded(scope) => "is percent-encoded",
            _ => return None,
        };
        Some(Self::new(scope, fault))
    }

    /// Finds a fault that no scope for a user's token has at Entra.
    pub(super) fn find_for_entra(scope: &'a str) -> Option<Self> {
        let fault = "names a resource and no permission";
        let resource = || match scope.split_once("://")?.1.split_once('/') {
            None | Some((_, "")) => Some(Self {
                scope,
                fault,
                meant: default_scope(scope)?,
            }),
            Some(_) => None,
        };
        Self::separators(scope)
            .or_else(|| Self::url(scope))
            .or_else(resource)
    }

    /// Finds a separator other than a space.
    pub(super) fn separators(scope: &'a str) -> Option<Self> {
        let fault = match scope {
            _ if scope.bytes().any(is_separator) => {
                "contains a comma, semicolon or bar, and spaces separate scopes"
            }
            _ if is_joined_by_plus(scope) => "contains a plus sign, and spaces separate scopes",
            _ => return None,
        };
        Some(Self::new(scope, fault))
    }

    /// Finds a URL whose start or end is written twice or in part.
    pub(super) fn url(scope: &'a str) -> Option<Self> {
        let meant = mended_url(scope)?;
        let fault = "is a URL that is not written as one";
        Some(Self {
            scope,
            fault,
            meant,
        })
    }

    fn new(scope: &'a str, fault: &'static str) -> Self {
        let meant = meant(scope);
        Self {
            scope,
            fault,
            meant,
        }
    }
}

impl fmt::Display for Misspelled<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self {
            scope,
            fault,
            meant,
        } = self;
        write!(f, "the scope {scope:?} {fault}; use '{meant}'")
    }
}

/// Removes everything that a configuration file added to a scope.
fn meant(scope: &str) -> String {
    let mut text = scope.to_owned();
    // Each form can surround another, as in `scope="https%3A%2F%2Fa%2F.default"`.
    for _ in 0..MAX_LAYERS {
        let mut plain = unquoted(without_name(&text)).to_owned();
        if is_encoded(&plain) {
            plain = decoded(&plain);
        }
        if plain == text {
            break;
        }
        text = plain;
    }
    if is_joined_by_plus(&text) {
        text = text.replace('+', " ");
    }
    let splits = |c: char| u8::try_from(c).is_ok_and(is_separator) || c.is_whitespace();
    let scopes = text
        .split(splits)
        .map(unquoted)
        .filter(|scope| !scope.is_empty());
    scopes.collect::<Vec<_>>().join(" ")
}

/// Returns the scope for all permissions of a resource, if the resource is unambiguous.
///
/// A slash at the end belongs to the resource: the token's audience has the slash, too.
pub(super) fn default_scope(scope: &str) -> Option<String> {
    let scope = scope
        .strip_suffix('/')
        .filter(|scope| ends_in_default(scope))
        .unwrap_or(scope);
    let resource = match ends_in_default(scope) {
        true => {
            let resource = scope.get(..scope.len().checked_sub(DEFAULT.len())?)?;
            resource.strip_suffix('/').unwrap_or(resource)
        }
        false => scope,
    };
    if Uuid::try_parse(resource).is_ok() {
        return Some(format!("{resource}/{DEFAULT}"));
    }
    let (scheme, rest) = resource.split_once("://")?;
    let (host, path) = rest.split_once('/').unwrap_or((rest, ""));
    if host.is_empty() {
        return None;
    }
    if path.is_empty() || ends_in_default(scope) {
        return Some(format!("{resource}/{DEFAULT}"));
    }
    // A permission such as `User.Read`, without a path before the permission.
    let is_permission = path.starts_with(|c: char| c.is_ascii_uppercase()) && path.contains('.');
    (is_permission && !path.contains('/')).then(|| format!("{scheme}://{host}/{DEFAULT}"))
}

fn ends_in_default(scope: &str) -> bool {
    let start = scope.len().saturating_sub(DEFAULT.len());
    scope
        .get(start..)
        .is_some_and(|end| end.eq_ignore_ascii_case(DEFAULT))
}

/// Returns `true` for scopes of a form, where a plus sign stands for a space.
fn is_joined_by_plus(scope: &str) -> bool {
    // Nearly every scope has no plus sign, and every cache hit by a scope's text comes here.
    let mut joins = ["/.default+", "+https://", "+api://", "+offline_access"].iter();
    scope.contains('+') && joins.any(|join| scope.contains(join))
}

/// Mends the scheme of a resource, and a `/.default` that was appended twice.
///
/// Returns `None` for a scope without such a fault.
fn mended_url(scope: &str) -> Option<String> {
    let mut rest = scope;
    let mut scheme = "";
    for (name, known) in SCHEMES {
        while let Some(behind) = rest
            .strip_prefix(name)
            .filter(|behind| behind.starts_with(":/") || behind.starts_with("//"))
        {
            scheme = known;
            let signs = behind
                .bytes()
                .take_while(|byte| matches!(byte, b':' | b'/'));
            rest = behind.get(signs.count()..).unwrap_or_default();
        }
    }
    while let Some(before) = rest.strip_suffix("/.default/.default") {
        rest = rest
            .get(..before.len().saturating_add("/.default".len()))
            .unwrap_or(rest);
    }
    (scope.strip_prefix(scheme) != Some(rest)).then(|| format!("{scheme}{rest}"))
}

/// Returns `true` for the signs that configuration files write between scopes.
fn is_separator(byte: u8) -> bool {
    matches!(byte, b',' | b';' | b'|')
}

/// Removes `scope=`, as in a query or a properties file.
fn without_name(scope: &str) -> &str {
    let names = ["scope", "scopes", "resource"];
    let named = scope.split_once('=').filter(|(name, value)| {
        !value.is_empty() && names.iter().any(|known| known.eq_ignore_ascii_case(name))
    });
    named.map_or(scope, |(_, value)| value)
}

/// Removes quotes and brackets around a scope.
fn unquoted(scope: &str) -> &str {
    let inner = scope.trim_start_matches(['[', '(', '"', '\'', '`']);
    let inner = inner.trim_end_matches([']', ')', '"', '\'', '`', ',']);
    match inner.is_empty() {
        true => scope,
        false => inner,
    }
}

/// Returns `true` for an encoded URL or an encoded list of scopes.
///
/// A percent sign alone is allowed in a scope.
fn is_encoded(scope: &str) -> bool {
    if !scope.contains('%') {
        return false;
    }
    let lower = scope.to_ascii_lowercase();
    ["%3a%2f%2f", "%3a//", "%2f.default", "%20", "%252f"]
        .iter()
        .any(|code| lower.contains(code))
}

/// Decodes percent-encoding ([RFC 3986 section 2.1]). A percent sign without two digits stays.
///
/// [RFC 3986 section 2.1]: https://www.rfc-editor.org/rfc/rfc3986#section-2.1
fn decoded(scope: &str) -> String {
    let mut bytes = Vec::with_capacity(scope.len());
    let mut rest = scope.as_bytes();
    while let Some((&first, behind)) = rest.split_first() {
        let digits = behind.get(..2).filter(|_| first == b'%');
        let byte = digits
            .and_then(|digits| std::str::from_utf8(digits).ok())
            .and_then(|digits| u8::from_str_radix(digits, 16).ok());
        bytes.push(byte.unwrap_or(first));
        rest = match byte {
            Some(_) => behind.get(2..).unwrap_or_default(),
            None => behind,
        };
    }
    String::from_utf8_lossy(&bytes).into_owned()
}

const DEFAULT: &str = ".default";
const SCHEMES: [(&str, &str); 3] = [
    ("https", "https://"),
    ("http", "http://"),
    ("api", "api://"),
];
const MAX_LAYERS: usize = 4;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_scope_of_a_configuration_file_is_refused_with_the_scope_to_use() {
        let graph = "https://graph.microsoft.com/.default";
        for (scope, expected) in [
            ("https%3A%2F%2Fgraph.microsoft.com%2F.default", graph),
            ("https%3a%2f%2fgraph.microsoft.com%2f.default", graph),
            (
                "https%253A%252F%252Fgraph.microsoft.com%252F.default",
                graph,
            ),
            ("https://graph.microsoft.com%2F.default", graph),
            ("https%3A//graph.microsoft.com/.default", graph),
            ("scope=https://graph.microsoft.com/.default", graph),
            ("SCOPES=https://graph.microsoft.com/.default", graph),
            ("scope=https%3A%2F%2Fgraph.microsoft.com%2F.default", graph),
            ("\"https://graph.microsoft.com/.default\"", graph),
            ("'https://graph.microsoft.com/.default'", graph),
            ("[\"https://graph.microsoft.com/.default\"]", graph),
            (
                "scope=\"https%3A%2F%2Fgraph.microsoft.com%2F.default\"",
                graph,
            ),
            ("openid%20profile", "openid profile"),
            ("['openid','profile']", "openid profile"),
        ] {
            let text = Misspelled::find(scope).unwrap().to_string();
            assert!(text.ends_with(&format!("; use '{expected}'")), "{text}");
        }
        for (scope, expected) in [
            ("User.Read,Mail.Read", "User.Read Mail.Read"),
            ("openid;profile", "openid profile"),
            ("a,b,,c,", "a b c"),
            ("User.Read|Mail.Read", "User.Read Mail.Read"),
            (
                "api://a/.default+offline_access",
                "api://a/.default offline_access",
            ),
        ] {
            let text = Misspelled::separators(scope).unwrap().to_string();
            assert!(text.ends_with(&format!("; use '{expected}'")), "{text}");
        }
    }

    #[test]
    fn a_url_that_is_not_written_as_one_is_not_sent() {
        let graph = "https://graph.microsoft.com/.default";
        for (scope, expected) in [
            ("https:/graph.microsoft.com/.default", Some(graph)),
            ("https//graph.microsoft.com/.default", Some(graph)),
            ("https:///graph.microsoft.com/.default", Some(graph)),
            ("https://https://graph.microsoft.com/.default", Some(graph)),
            ("https://graph.microsoft.com/.default/.default", Some(graph)),
            ("api:/orders/.default", Some("api://orders/.default")),
            (graph, None),
            ("https://database.windows.net//.default", None),
            ("api://a/b/.default", None),
            ("httpsx/.default", None),
            ("User.Read", None),
        ] {
            let found = Misspelled::url(scope).map(|misspelled| misspelled.meant);
            assert_eq!(found.as_deref(), expected, "{scope}");
        }
    }

    #[test]
    fn a_resource_is_not_taken_for_a_users_permission() {
        for (scope, expected) in [
            (
                "https://database.windows.net/",
                Some("https://database.windows.net//.default"),
            ),
            (
                "https://graph.microsoft.com",
                Some("https://graph.microsoft.com/.default"),
            ),
            ("api://orders", Some("api://orders/.default")),
            ("api://orders/read", None),
            ("https://database.windows.net//.default", None),
            ("https://database.windows.net//user_impersonation", None),
            ("User.Read", None),
            ("openid", None),
        ] {
            let found = Misspelled::find_for_entra(scope).map(|misspelled| misspelled.meant);
            assert_eq!(found.as_deref(), expected, "{scope}");
        }
    }

    #[test]
    fn a_scope_that_a_provider_may_have_is_not_refused() {
        for scope in [
            "https://graph.microsoft.com/.default",
            "https://database.windows.net//.default",
            "api://a/.default",
            "orders:read",
            "100%",
            "urn%3Aorders",
            "resource:orders",
            "scope=",
            "read(own)x",
            "a=b",
            "''",
        ] {
            let found = Misspelled::find(scope).map(|misspelled| misspelled.to_string());
            assert_eq!(found, None, "{scope}");
        }
    }
}
