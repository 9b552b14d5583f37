use crate::error::Error;
use crate::scope::{DEFAULT, ScopeSet, Scopes};

/// The resource of a token request, which is the scope without `/.default`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Resource(String);

impl Resource {
    /// Reads the scopes of a request, which name one resource.
    ///
    /// A resource without `/.default` is accepted, too.
    ///
    /// # Errors
    ///
    /// [`Error::Config`] for no scope, for scopes of two resources, and for a scope that is
    /// misspelled.
    pub(crate) fn of_scopes(scopes: &str) -> Result<Self, Error> {
        let mut parsed = Scopes::default();
        parsed.add(scopes);
        parsed.check_characters()?;
        let mut resources = scopes.split_ascii_whitespace().map(resource);
        let Some(first) = resources.next().transpose()? else {
            return Err(Error::config(
                "the request has no scope; add a resource and '/.default', such as 'https://vault.azure.net/.default'",
            ));
        };
        for other in resources {
            let other = other?;
            if other != first {
                return Err(Error::config(format!(
                    "the scopes belong to two resources, '{first}' and '{other}'; a token is valid for one resource, so make one request per resource"
                )));
            }
        }
        Ok(Self(first.to_owned()))
    }

    /// Returns the resource of a cache key, whose scope is the resource's `/.default`.
    pub(crate) fn of_key(scopes: &ScopeSet) -> Self {
        let scope = scopes.as_str();
        Self(scope.strip_suffix(DEFAULT).unwrap_or(scope).to_owned())
    }

    pub(crate) fn as_str(&self) -> &str {
        &self.0
    }
}

/// Returns the resource of one scope.
fn resource(scope: &str) -> Result<&str, Error> {
    let resource = scope.strip_suffix(DEFAULT).unwrap_or(scope);
    if resource.trim_end_matches('/').is_empty() || resource.trim_end_matches('/').ends_with(':') {
        return Err(Error::config(format!(
            "the scope '{scope}' names no resource; add one in front, as in 'https://vault.azure.net/.default'"
        )));
    }
    if resource.to_ascii_lowercase().ends_with(".default") {
        return Err(Error::config(format!(
            "the scope '{scope}' is not spelled right: it must be the resource alone or end in '/.default' (in lower case)"
        )));
    }
    Ok(resource)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_resource_is_the_scope_without_default() {
        for (scopes, expected) in [
            (
                "https://vault.azure.net/.default",
                Ok("https://vault.azure.net"),
            ),
            (
                "https://vault.azure.net//.default",
                Ok("https://vault.azure.net/"),
            ),
            ("https://vault.azure.net", Ok("https://vault.azure.net")),
            ("https://vault.azure.net/", Ok("https://vault.azure.net/")),
            (
                "api://AzureADTokenExchange/.default",
                Ok("api://AzureADTokenExchange"),
            ),
            (
                "11111111-2222-3333-4444-555555555555",
                Ok("11111111-2222-3333-4444-555555555555"),
            ),
            (" api://a/.default  api://a ", Ok("api://a")),
            ("", Err("no scope")),
            ("  ", Err("no scope")),
            ("/.default", Err("names no resource")),
            ("https:///.default", Err("names no resource")),
            (
                "api://a/.default api://b/.default",
                Err("two resources, 'api://a' and 'api://b'"),
            ),
            ("https://vault.azure.net/.Default", Err("not spelled right")),
            ("https://vault.azure.net.default", Err("not spelled right")),
            ("\"api://a/.default\"", Err("in quotes")),
            ("scope=api://a/.default", Err("name of its parameter")),
        ] {
            match (Resource::of_scopes(scopes), expected) {
                (Ok(resource), Ok(expected)) => assert_eq!(resource.as_str(), expected),
                (Err(error @ Error::Config(_)), Err(text)) => {
                    assert!(error.to_string().contains(text), "{error}");
                }
                other => panic!("{scopes}: {other:?}"),
            }
        }
    }
}
