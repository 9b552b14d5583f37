use std::sync::Arc;

use crate::error::Error;

/// A tenant that is safe to put into a URL: an id or a domain, and as the key of a cache, folded.
#[derive(Clone, Debug)]
pub(crate) struct Tenant {
    as_asked: Arc<str>,
    folded: Arc<str>,
}

impl Tenant {
    pub(crate) fn parse(tenant: &str) -> Result<Self, Error> {
        let plain = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'.' | b'_');
        let safe = tenant.bytes().all(plain) && tenant.bytes().any(|byte| byte != b'.');
        if !safe {
            return Err(Error::config(format!(
                "the tenant {tenant:?} is neither an id nor a domain; use the directory's GUID or a domain such as 'contoso.onmicrosoft.com'"
            )));
        }
        let as_asked = Arc::<str>::from(tenant);
        let folded = tenant.to_ascii_lowercase();
        Ok(Self {
            folded: if folded == tenant {
                Arc::clone(&as_asked)
            } else {
                folded.into()
            },
            as_asked,
        })
    }

    pub(crate) fn as_str(&self) -> &str {
        &self.as_asked
    }

    pub(crate) fn as_asked(&self) -> &Arc<str> {
        &self.as_asked
    }

    /// Tenants are case-insensitive; this is the spelling that all others share.
    pub(crate) fn folded(&self) -> &Arc<str> {
        &self.folded
    }

    /// Whether it stands for the tenants of others, and not for one.
    pub(crate) fn is_multi_tenant(&self) -> bool {
        matches!(&**self.folded(), "common" | "organizations")
    }

    /// Checks that an application can have a token here: in one tenant, never with personal
    /// accounts.
    pub(crate) fn check_for_application(&self) -> Result<(), Error> {
        let is_of_persons = matches!(&**self.folded(), "consumers" | PERSONAL_ACCOUNTS);
        if self.is_multi_tenant() || is_of_persons {
            return Err(Error::config(format!(
                "an application has no token in '{}'; name the tenant it is to work in, by its GUID or a domain",
                self.as_str()
            )));
        }
        Ok(())
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
