use std::hash::{Hash, Hasher};
use std::sync::Arc;

use crate::error::Error;

/// A tenant ID or domain, checked to be safe in a URL.
///
/// Tenants are case-insensitive. The text stays as it was requested.
#[derive(Clone, Debug)]
pub(crate) struct Tenant(Arc<str>);

impl Tenant {
    /// Parses a tenant ID or domain. Rejects characters that have a meaning in a URL.
    pub(crate) fn parse(tenant: &str) -> Result<Self, Error> {
        let plain = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'.' | b'_');
        let safe = tenant.bytes().all(plain) && tenant.bytes().any(|byte| byte != b'.');
        match safe {
            true => Ok(Self(tenant.into())),
            false => Err(Error::config(format!(
                "the tenant {tenant:?} is neither an id nor a domain; use the tenant's GUID or a domain such as 'contoso.onmicrosoft.com'"
            ))),
        }
    }

    pub(crate) fn as_str(&self) -> &str {
        &self.0
    }

    pub(crate) fn as_requested(&self) -> &Arc<str> {
        &self.0
    }

    /// Returns `true` for the names that stand for many tenants: `common` and `organizations`.
    pub(crate) fn is_multi_tenant(&self) -> bool {
        self.is("common") || self.is("organizations")
    }

    /// Compares with a name, ignoring case.
    pub(crate) fn is(&self, name: &str) -> bool {
        self.0.eq_ignore_ascii_case(name)
    }

    /// Checks that an application can get a token in this tenant.
    ///
    /// `common`, `organizations` and the tenant of personal accounts are rejected.
    pub(crate) fn check_for_application(&self) -> Result<(), Error> {
        let is_personal = self.is("consumers") || self.is(PERSONAL_ACCOUNTS);
        if self.is_multi_tenant() || is_personal {
            return Err(Error::config(format!(
                "an application cannot get a token in '{}'; use the GUID or a domain of one tenant",
                self.as_str()
            )));
        }
        Ok(())
    }
}

impl PartialEq for Tenant {
    #[inline]
    fn eq(&self, other: &Self) -> bool {
        // Nearly always the same text, which is compared faster.
        self.0 == other.0 || self.is(&other.0)
    }
}

impl Eq for Tenant {}

impl Hash for Tenant {
    #[inline]
    fn hash<H: Hasher>(&self, state: &mut H) {
        // Without an early exit, so that the compiler can vectorise the loop.
        let has_upper = (self.0.bytes()).fold(false, |has, byte| has | byte.is_ascii_uppercase());
        match has_upper {
            false => self.0.hash(state),
            true => self.0.to_ascii_lowercase().hash(state),
        }
    }
}

/// The tenant of all personal Microsoft accounts.
pub(crate) const PERSONAL_ACCOUNTS: &str = "9188040d-6c67-4c5b-b112-36a304b66dad";

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_tenant_cannot_change_the_url() {
        for tenant in [
            "contoso.onmicrosoft.com",
            "72f988bf-86f1-41af-91ab-2d7cd011db47",
            "Contoso_1.com",
        ] {
            assert_eq!(Tenant::parse(tenant).unwrap().as_str(), tenant);
        }
        for tenant in [
            "", ".", "..", " ", "a b", "a/b", "a\\b", "a?b", "a#b", "a%2fb", "a@b", "a:b", "ä.com",
            "a\n",
        ] {
            let error = Tenant::parse(tenant).unwrap_err();
            assert!(
                error.to_string().contains("neither an id nor a domain"),
                "{tenant:?}"
            );
        }
    }

    #[test]
    fn an_application_works_in_one_tenant() {
        for tenant in [
            "common",
            "Organizations",
            "CONSUMERS",
            "9188040D-6c67-4c5b-b112-36a304b66dad",
        ] {
            let error = Tenant::parse(tenant)
                .unwrap()
                .check_for_application()
                .unwrap_err();
            assert!(error.to_string().contains(tenant), "{error}");
        }
        Tenant::parse("common.example")
            .unwrap()
            .check_for_application()
            .unwrap();
    }
}
