use std::fmt;
use std::hash::{Hash, Hasher};
use std::sync::Arc;

use crate::error::Error;

/// A tenant ID or domain, checked to be safe in a URL.
///
/// Tenants are case-insensitive. The text stays as it was requested.
#[derive(Clone)]
pub(crate) struct Tenant(Text);

/// The text of a tenant. Nearly every text is short, such as an ID, and costs a cache key no
/// allocation of its own.
#[derive(Clone)]
enum Text {
    /// The first `length` octets, which are ASCII.
    Short {
        length: u8,
        octets: [u8; SHORT],
    },
    Long(Arc<str>),
}

impl Text {
    /// Creates the text of a tenant, which is ASCII.
    fn new(tenant: &str) -> Self {
        let mut octets = [0; SHORT];
        let short = octets.get_mut(..tenant.len());
        match (short, u8::try_from(tenant.len())) {
            (Some(short), Ok(length)) => {
                short.copy_from_slice(tenant.as_bytes());
                Self::Short { length, octets }
            }
            _ => Self::Long(tenant.into()),
        }
    }

    #[inline]
    fn as_bytes(&self) -> &[u8] {
        match self {
            // The length is never more than that of the array, so the default is never used.
            Self::Short { length, octets } => {
                octets.get(..usize::from(*length)).unwrap_or_default()
            }
            Self::Long(text) => text.as_bytes(),
        }
    }
}

impl Tenant {
    /// Parses a tenant ID or domain. Rejects characters that have a meaning in a URL.
    pub(crate) fn parse(tenant: &str) -> Result<Self, Error> {
        let plain = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'.' | b'_');
        let safe = tenant.bytes().all(plain) && tenant.bytes().any(|byte| byte != b'.');
        match safe {
            true => Ok(Self(Text::new(tenant))),
            false => Err(Error::config(format!(
                "the tenant {tenant:?} is neither an id nor a domain; use the tenant's GUID or a domain such as 'contoso.onmicrosoft.com'"
            ))),
        }
    }

    pub(crate) fn as_str(&self) -> &str {
        match &self.0 {
            // Short texts are ASCII, so the default is never used.
            Text::Short { .. } => std::str::from_utf8(self.0.as_bytes()).unwrap_or_default(),
            Text::Long(text) => text,
        }
    }

    /// Returns `true` for the names that stand for many tenants: `common` and `organizations`.
    pub(crate) fn is_multi_tenant(&self) -> bool {
        self.is("common") || self.is("organizations")
    }

    /// Compares with a name, ignoring case.
    pub(crate) fn is(&self, name: &str) -> bool {
        (self.0.as_bytes()).eq_ignore_ascii_case(name.as_bytes())
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
        let [text, other] = [self, other].map(|Self(text)| text.as_bytes());
        // Nearly always the same text, which is compared faster.
        text == other || text.eq_ignore_ascii_case(other)
    }
}

impl Eq for Tenant {}

impl Hash for Tenant {
    #[inline]
    fn hash<H: Hasher>(&self, state: &mut H) {
        // Without an early exit, so that the compiler can vectorise the loop.
        let text = self.0.as_bytes();
        let has_upper = (text.iter()).fold(false, |has, byte| has | byte.is_ascii_uppercase());
        match has_upper {
            false => state.write(text),
            true => state.write(&text.to_ascii_lowercase()),
        }
        // No text has this octet, so no text is the beginning of another.
        state.write_u8(0xff);
    }
}

impl fmt::Debug for Tenant {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Tenant").field(&self.as_str()).finish()
    }
}

/// The length of the longest text that is kept without an allocation: a GUID and two octets more,
/// which the alignment leaves.
const SHORT: usize = 38;

/// The tenant of all personal Microsoft accounts.
pub(crate) const PERSONAL_ACCOUNTS: &str = "9188040d-6c67-4c5b-b112-36a304b66dad";

#[cfg(test)]
mod tests {
    use std::hash::DefaultHasher;

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

    /// The text of a tenant is kept in two ways, by its length.
    #[test]
    fn a_tenant_of_any_length_keeps_its_text_and_ignores_case() {
        let hash = |tenant: &Tenant| {
            let mut state = DefaultHasher::new();
            tenant.hash(&mut state);
            state.finish()
        };
        for length in [1, 23, 36, 38, 39, 200, 255, 256, 300] {
            let text: String = "Contoso.com-".chars().cycle().take(length).collect();
            let tenant = Tenant::parse(&text).unwrap();
            assert_eq!(tenant.as_str(), text);
            assert_eq!(format!("{tenant:?}"), format!("Tenant({text:?})"));
            let lower = Tenant::parse(&text.to_lowercase()).unwrap();
            assert!(tenant == lower && tenant.is(lower.as_str()));
            assert_eq!(hash(&tenant), hash(&lower), "{length}");
            let longer = Tenant::parse(&format!("{text}x")).unwrap();
            assert!(
                tenant != longer && hash(&tenant) != hash(&longer),
                "{length}"
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
